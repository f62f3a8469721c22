"""Sign a few jobs, hand them in, and fetch the proven results later.

    python examples/fire_and_forget.py

Needs a running `horus up` of this user; HORUS_URL and HORUS_STATE_DIR name another.
"""

from __future__ import annotations

import os
from pathlib import Path

from horus_celery.client import Horus
from horus_celery.statements.keys import read_key_file, read_public_key_file

SCRIPT = "import sys; print(int(sys.argv[1]) ** 2)"

state = Path(os.environ.get("HORUS_STATE_DIR", "~/.horus")).expanduser()
with Horus(
    os.environ.get("HORUS_URL", "http://127.0.0.1:3030"),
    (state / "secrets" / "user").read_text().strip(),
    key=read_key_file(state / "keys" / "default.key"),
    root=read_public_key_file(state / "root.pub"),
) as horus:
    # `submit` returns as soon as the job is recorded; from then on it is not lost.
    jobs = {number: horus.submit(SCRIPT, args=[str(number)]) for number in range(1, 4)}
    for number, job in jobs.items():
        # `result` waits for the end and raises unless a trusted runner's receipt
        # proves that the job was completed with just this result.
        print(f"{number} squared is {horus.result(job)}", end="")
