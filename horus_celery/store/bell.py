"""The messages by which a coordinator hears that there may be something to do.

They follow one pattern: a message of Celery's protocol 2 whose body is plain JSON, so
that the script that ends a job can make one, too.
"""

from __future__ import annotations

from typing import Final
from uuid import uuid4

import orjson

from horus_celery.admission import COORDINATORS

#: The task of a bell.
TASK: Final = "horus.advance"
#: The task that is one step of a workflow, where Celery's canvas brings word.
STEP: Final = "horus.step"
#: The queue that carries its bells.
QUEUE: Final = COORDINATORS
#: Bells that wait at most; whatever comes then is left to the sweep.
MOST: Final = 10_000

#: Between two @ what a message is about, and what makes it another one.
PATTERN: Final = orjson.dumps(
    {
        # Text inside of text, so its quotation marks are written twice over.
        "body": '[["@WORKFLOW@", @JOB@], {}, {"callbacks": null, "errbacks": null,'
        ' "chain": null, "chord": null}]',
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": TASK,
            "id": "@ID@",
            "root_id": "@ID@",
            "parent_id": None,
            "group": None,
            "retries": 0,
            "eta": None,
            "expires": None,
            "timelimit": [None, None],
            "origin": "horus",
            "ignore_result": True,
        },
        "properties": {
            "correlation_id": "@ID@",
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
            "delivery_tag": "@ID@",
        },
    }
).decode()


def message(workflow: str, job: str | None = None) -> bytes:
    """Return a message that asks to look at a workflow.

    Args:
        workflow: The digest of its manifest.
        job: The digest of a job of it that is over.
    """
    return _filled(PATTERN, workflow, "null" if job is None else f'\\"{job}\\"')


def step_message(workflow: str, index: int | None = None) -> bytes:
    """Return a message of canvas: a step may start, or go on to what is behind it.

    Args:
        workflow: The digest of its manifest.
        index: The step; None asks for the beginning.
    """
    return _filled(_OF_STEP, workflow, "null" if index is None else str(index))


_OF_STEP: Final = PATTERN.replace(f'"{TASK}"', f'"{STEP}"')


def _filled(pattern: str, workflow: str, job: str) -> bytes:
    text = pattern.replace("@WORKFLOW@", workflow).replace("@JOB@", job)
    return text.replace("@ID@", str(uuid4())).encode()
