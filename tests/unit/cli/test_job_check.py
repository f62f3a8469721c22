"""`horus job check` gives the verdicts of the protocol's vectors."""

from __future__ import annotations

import json
from pathlib import Path

VECTORS = Path(__file__).parents[2] / "vectors" / "job_cases.json"
CASES = json.loads(VECTORS.read_text())


def test_job_check_says_what_the_vectors_say(horus, tmp_path):
    trust = tmp_path / "trust.json"
    trust.write_text(json.dumps(CASES["trust"]))
    said = {}
    for case in CASES["cases"]:
        runner = case["runner"]
        journal = case["journal"]
        told = horus(
            *("job", "check", "--trust", trust, "--runner", runner["name"]),
            *("--executors", ",".join(runner["executors"]), "--aud", runner["aud"]),
            *("--contexts", ",".join(runner["contexts"]), "--at", case["now_ms"]),
            *(("--journal", tmp_path / journal) if journal else ()),
            stdin=_text(case["envelope"]),
        )
        assert told.code == (0 if told.out == "accept\n" else 3)
        said[case["name"]] = told.out.strip()
    assert said == {case["name"]: case["expect"] for case in CASES["cases"]}


def _text(envelope):
    return (envelope if isinstance(envelope, str) else json.dumps(envelope)).encode()
