"""How a runner is told that there may be work: a ready-made Celery message."""

from __future__ import annotations

import os
import re
import socket
from base64 import b64encode
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import uuid4

import orjson
import redis

from horus_celery.clock import Clock
from horus_celery.instants import from_ms, to_ms
from horus_celery.store import keys
from horus_celery.store.connection import ask, ask_all

#: The one task that a runner has.
TASK: Final = "horus.run_job"
#: All that a message may say: the id of a job.
JOB_ID: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The message of a queue that is taken next."""

    #: When it was put there, or None if it does not say.
    rung_at: datetime | None


class Dispatcher(Protocol):
    """Rings for jobs; a bell is no fact, so one too many does no harm.

    Every method raises `UnavailableError` as `RecordStore` does.
    """

    def ring(self, job_id: str, executor: str, priority: int) -> None:
        """Tell the runners of an executor that this job may be run."""
        ...

    def queue_lengths(self, executors: Sequence[str]) -> Mapping[str, int]:
        """Return how many bells wait for each executor."""
        ...

    def front(self, executor: str, priority: int) -> Front | None:
        """Look at the oldest bell of that executor and step of priority."""
        ...


class RedisDispatcher:
    """A `Dispatcher` that writes into Celery's queues on Redis.

    Publishing through Celery takes ten times as long and asks for a connection of its
    own; the tests keep this message equal to what Celery would write.
    """

    def __init__(self, client: redis.Redis, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def ring(self, job_id: str, executor: str, priority: int) -> None:
        made = message(job_id, executor, priority, at=self._clock.now())
        ask(self._client, "LPUSH", keys.queue(executor, priority), made)

    def queue_lengths(self, executors: Sequence[str]) -> Mapping[str, int]:
        queues = [
            keys.queue(executor, priority)
            for executor in executors
            for priority in keys.STEPS
        ]
        lengths = ask_all(self._client, "LLEN", queues)
        return {
            executor: sum(next(lengths) for _ in keys.STEPS) for executor in executors
        }

    def front(self, executor: str, priority: int) -> Front | None:
        oldest = ask(self._client, "LINDEX", keys.queue(executor, priority), -1)
        return None if oldest is None else Front(rung_at=_rung_at(oldest))


class MemoryDispatcher:
    """A `Dispatcher` that only collects."""

    def __init__(self, clock: Clock) -> None:
        #: Every bell so far: job id, executor, priority.
        self.bells: list[tuple[str, str, int]] = []
        self._clock = clock
        self._queues: defaultdict[str, deque[tuple[str, datetime]]]
        self._queues = defaultdict(deque)

    def ring(self, job_id: str, executor: str, priority: int) -> None:
        self.bells.append((job_id, executor, priority))
        waiting = self._queues[keys.queue(executor, priority)]
        waiting.append((job_id, self._clock.now()))

    def queue_lengths(self, executors: Sequence[str]) -> Mapping[str, int]:
        return {
            executor: sum(
                len(self._queues[keys.queue(executor, priority)])
                for priority in keys.STEPS
            )
            for executor in executors
        }

    def front(self, executor: str, priority: int) -> Front | None:
        waiting = self._queues[keys.queue(executor, priority)]
        return Front(rung_at=waiting[0][1]) if waiting else None

    def take(self, executor: str) -> str | None:
        """Take the next bell as a runner does and return its job id."""
        for priority in keys.STEPS:
            waiting = self._queues[keys.queue(executor, priority)]
            if waiting:
                return waiting.popleft()[0]
        return None


def message(job_id: str, executor: str, priority: int, *, at: datetime) -> bytes:
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
                "delivery_info": {"exchange": "", "routing_key": executor},
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


def _rung_at(raw: bytes) -> datetime | None:
    """Read when a message was put there; anybody may have written it."""
    try:
        return from_ms(int(orjson.loads(raw)["headers"]["rung_at"]))
    except (ValueError, TypeError, KeyError):
        return None
