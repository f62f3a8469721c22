"""Count words in parts of a text beside each other, then add up: a workflow in Python.

    python examples/map_reduce.py     # or: horus workflow run examples/map_reduce.py

Needs a running `horus up` of this user; HORUS_URL and HORUS_STATE_DIR name another.
"""

from __future__ import annotations

import os
from pathlib import Path

from horus_celery.authoring import Workflow
from horus_celery.client import Horus
from horus_celery.runs import run_workflow
from horus_celery.statements.keys import read_key_file, read_public_key_file

LINES = ["to be or not", "to be", "that is the question"]
READ = "import os, sys; folder = os.environ['HORUS_INPUTS']\n"
COUNT = (
    READ + "print(len(open(folder + '/TEXT').readlines()[int(sys.argv[1])].split()))"
)
ADD = READ + "print(sum(int(open(f'{folder}/{n}').read()) for n in os.listdir(folder)))"

with Workflow("map-reduce", max_parallel=2) as flow:
    text = flow.step("text", run=f"print({chr(10).join(LINES)!r})")
    counts = {
        f"N{n}": flow.step(
            f"count-{n}", run=COUNT, args=[str(n)], inputs={"TEXT": text}
        )
        for n in range(len(LINES))
    }
    flow.step("add", run=ADD, inputs=counts)

if __name__ == "__main__":
    state = Path(os.environ.get("HORUS_STATE_DIR", "~/.horus")).expanduser()
    with Horus(
        os.environ.get("HORUS_URL", "http://127.0.0.1:3030"),
        (state / "secrets" / "user").read_text().strip(),
        key=read_key_file(state / "keys" / "default.key"),
        root=read_public_key_file(state / "root.pub"),
    ) as horus:
        outcome = run_workflow(horus, flow.draft())
        print(outcome.view.status, "with", outcome.results["add"].strip(), "words")
