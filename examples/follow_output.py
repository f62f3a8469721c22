"""Follow what a script prints while it runs, then see how it ended.

    python examples/follow_output.py

Needs a running `horus up` of this user; HORUS_URL and HORUS_STATE_DIR name another.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from horus_celery.client import Horus
from horus_celery.statements.keys import read_key_file, read_public_key_file

SCRIPT = 'for step in 1 2 3; do echo "step $step"; done; echo "no disk" >&2; exit 7'

state = Path(os.environ.get("HORUS_STATE_DIR", "~/.horus")).expanduser()
with Horus(
    os.environ.get("HORUS_URL", "http://127.0.0.1:3030"),
    (state / "secrets" / "user").read_text().strip(),
    key=read_key_file(state / "keys" / "default.key"),
    root=read_public_key_file(state / "root.pub"),
) as horus:
    job = horus.submit(SCRIPT, executor="system", timeout=timedelta(seconds=10))
    for line in horus.logs(job.id):  # each as it is printed, until the job is over
        print(f"{line.stream}: {line.text}")
    # What was followed is the supervisor's word; the outcome is what the runner signed.
    outcome = horus.outcome(job)
    print(f"{outcome.status} with exit code {outcome.exit_code}", end=", ")
    print("verified" if outcome.is_verified else "not verified")
