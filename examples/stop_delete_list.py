"""The classic flow, call by call: list jobs, stop one that runs, delete it.

    python examples/stop_delete_list.py

Needs a running `horus up` of this user; HORUS_URL and HORUS_STATE_DIR name another.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx

from horus_celery.client import Horus
from horus_celery.statements.keys import read_key_file, read_public_key_file

url = os.environ.get("HORUS_URL", "http://127.0.0.1:3030")
state = Path(os.environ.get("HORUS_STATE_DIR", "~/.horus")).expanduser()
secret = (state / "secrets" / "user").read_text().strip()


def call(method: str, **params: Any) -> Any:  # noqa: ANN401 - any JSON
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    headers = {"Authorization": f"Bearer {secret}"}
    answer = httpx.post(url, json=request, headers=headers, timeout=90).json()
    return answer.get("result", answer.get("error"))


key = read_key_file(state / "keys" / "default.key")
root = read_public_key_file(state / "root.pub")
with Horus(url, secret, key=key, root=root) as horus:
    job = horus.submit("echo ready; sleep 600", executor="system")
    next(iter(horus.logs(job.id)))  # it runs: it has said something
listed = call("jobs.list", context_id="default", status="running")
print("listed:", job.id in {one["id"] for one in listed})
call("job.stop", job_id=job.id)
print("ended:", call("job.result", job_id=job.id)["error"].splitlines()[0])
print("deleted:", call("job.delete", job_id=job.id))
print("gone:", call("job.status", job_id=job.id)["message"])
