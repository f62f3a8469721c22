"""The message by which a runner hears that there may be a job, as Celery writes it."""

from __future__ import annotations

import os
import re
import socket
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import uuid4

import orjson
import structlog

from horus_celery.instants import to_ms

_logger: Final = structlog.get_logger(__name__)

#: The one task that a runner has.
TASK: Final = "horus.run_job"
#: All that a message may say: the id of a job.
JOB_ID: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
)


def message(job_id: str, queue: str, priority: int, *, at: datetime) -> bytes:
    """Return a message of Celery's protocol 2 that asks for `horus.run_job(job_id)`."""
    task_id = str(uuid4())
    return orjson.dumps(
        {
            "body": b64encode(orjson.dumps([[job_id], {}, _EMBED])).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                **_HEADERS,
                "id": task_id,
                "root_id": task_id,
                "argsrepr": f"['{job_id}']",
                # Ours: it tells the sweep how old a queue's front is.
                "rung_at": to_ms(at),
            },
            "properties": {
                "correlation_id": task_id,
                "reply_to": "",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": priority,
                "body_encoding": "base64",
                "delivery_tag": str(uuid4()),
            },
        }
    )


_EMBED: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_HEADERS: Final[Mapping[str, object]] = {
    "lang": "py",
    "task": TASK,
    "shadow": None,
    "eta": None,
    "expires": None,
    "group": None,
    "group_index": None,
    "retries": 0,
    "timelimit": [None, None],
    "parent_id": None,
    "kwargsrepr": "{}",
    "origin": f"horus{os.getpid()}@{socket.gethostname()}",
    "ignore_result": True,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}


def note_put_off(job_id: str, why: str) -> None:
    """Write down that a job is recorded, and its message comes from the sweep."""
    _logger.warning("bell put off", job_id=job_id, detail=why)
