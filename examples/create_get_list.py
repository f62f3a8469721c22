"""The flow of the newer names: create, result, logs, get, list, delete.

    python examples/create_get_list.py

Needs a running `horus up` of this user; HORUS_URL and HORUS_STATE_DIR name another.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from horus_celery.statements import dsse
from horus_celery.statements.job import make_job
from horus_celery.statements.keys import read_key_file

url = os.environ.get("HORUS_URL", "http://127.0.0.1:3030")
state = Path(os.environ.get("HORUS_STATE_DIR", "~/.horus")).expanduser()
secret = (state / "secrets" / "user").read_text().strip()
key = read_key_file(state / "keys" / "default.key")


def call(method: str, **params: Any) -> Any:  # noqa: ANN401 - any JSON
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    headers = {"Authorization": f"Bearer {secret}"}
    answer = httpx.post(url, json=request, headers=headers, timeout=90).json()
    return answer.get("result", answer.get("error"))


who = {"aud": "hero", "caller_id": "default", "context_id": "default"}
job = make_job(**who, executor="system", payload="echo done", now=datetime.now(UTC))
job_id = call("create_job", job=dsse.to_wire(dsse.sign(dsse.JOB, job.body(), [key])))
print("result:", call("get_job_result", job_id=job_id, wait=60))
lines = call("get_job_logs", job_id=job_id)["lines"]
print("logs:", [(one["stream"], one["text"]) for one in lines])
print("status:", call("get_job_status", job_id=job_id)["status"])
print("ran on:", call("get_job", job_id=job_id)["ran_on"])
listed = call("list_jobs", context_id="default", status="completed", limit=1000)
print("listed:", job_id in {one["id"] for one in listed})
print("deleted:", call("delete_job", job_id=job_id))
