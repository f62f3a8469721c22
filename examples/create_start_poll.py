"""The classic flow, call by call: create a job, start it, poll its status, fetch it.

    python examples/create_start_poll.py

Needs a running `horus up` of this user; HORUS_URL and HORUS_STATE_DIR name another.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from horus_celery.statements import dsse
from horus_celery.statements.job import make_job
from horus_celery.statements.keys import read_key_file

OVER = {"completed", "failed", "stopped", "rejected"}
url = os.environ.get("HORUS_URL", "http://127.0.0.1:3030")
state = Path(os.environ.get("HORUS_STATE_DIR", "~/.horus")).expanduser()
secret = (state / "secrets" / "user").read_text().strip()
key = read_key_file(state / "keys" / "default.key")


def call(method: str, *params: Any) -> Any:  # noqa: ANN401 - any JSON
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.post(url, json=request, headers=headers, timeout=90).json()["result"]


who = {"aud": "hero", "caller_id": "default", "context_id": "default"}
job = make_job(**who, executor="python", payload="print(6 * 7)", now=datetime.now(UTC))
job_id = call("jobs.create", dsse.to_wire(dsse.sign(dsse.JOB, job.body(), [key])))
print(call("job.status", job_id)["status"])
call("job.start", job_id)
while (status := call("job.status", job_id)["status"]) not in OVER:
    time.sleep(0.05)  # `job.result` waits without asking again and again
print(status, call("job.result", job_id))
