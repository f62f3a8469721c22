"""Send many malformed requests to the API, and count what they came to.

    python bench/fuzz.py [--requests N] [--seed N]

The requests, and what is wrong with an answer, are those of
`tests/integration/test_fuzz_api.py`, which sends fewer of them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "integration"))

from test_fuzz_api import fuzz


def main() -> None:
    """Send the requests; exit code 1 if one was answered as none may be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    findings = fuzz(requests=given.requests, seed=given.seed)
    print(f"{findings.requests:,} requests, {len(findings.faults)} faults")
    for answer, count in sorted(findings.answers.items()):
        print(f"  {answer}: {count:,}")
    print("\n".join(findings.faults[:10]))
    sys.exit(1 if findings.faults else 0)


if __name__ == "__main__":
    main()
