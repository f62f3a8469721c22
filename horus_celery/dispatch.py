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

    def ring(self, job_id: str, queue: str, priority: int) -> None:
        """Tell whoever serves a queue that this job may be run."""
        ...

    def queue_lengths(self, queues: Sequence[str]) -> Mapping[str, int]:
        """Return how many bells wait in each queue."""
        ...

    def front(self, queue: str, priority: int) -> Front | None:
        """Look at the oldest bell of that queue and step of priority."""
        ...


class RedisDispatcher:
    """A `Dispatcher` that writes into Celery's queues on Redis.

    Publishing through Celery takes ten times as long and asks for a connection of its
    own; the tests keep this message equal to what Celery would write.
    """

    def __init__(self, client: redis.Redis, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def ring(self, job_id: str, queue: str, priority: int) -> None:
        made = message(job_id, queue, priority, at=self._clock.now())
        ask(self._client, "LPUSH", keys.queue(queue, priority), made)

    def queue_lengths(self, queues: Sequence[str]) -> Mapping[str, int]:
        lists = [keys.queue(queue, step) for queue in queues for step in keys.STEPS]
        lengths = ask_all(self._client, "LLEN", lists)
        return {queue: sum(next(lengths) for _ in keys.STEPS) for queue in queues}

    def front(self, queue: str, priority: int) -> Front | None:
        oldest = ask(self._client, "LINDEX", keys.queue(queue, priority), -1)
        return None if oldest is None else Front(rung_at=_rung_at(oldest))


class MemoryDispatcher:
    """A `Dispatcher` that only collects."""

    def __init__(self, clock: Clock) -> None:
        #: Every bell so far: job id, queue, priority.
        self.bells: list[tuple[str, str, int]] = []
        self._clock = clock
        self._queues: defaultdict[str, deque[tuple[str, datetime]]]
        self._queues = defaultdict(deque)

    def ring(self, job_id: str, queue: str, priority: int) -> None:
        self.bells.append((job_id, queue, priority))
        waiting = self._queues[keys.queue(queue, priority)]
        waiting.append((job_id, self._clock.now()))

    def queue_lengths(self, queues: Sequence[str]) -> Mapping[str, int]:
        return {
            queue: sum(
                len(self._queues[keys.queue(queue, step)]) for step in keys.STEPS
            )
            for queue in queues
        }

    def front(self, queue: str, priority: int) -> Front | None:
        waiting = self._queues[keys.queue(queue, priority)]
        return Front(rung_at=waiting[0][1]) if waiting else None

    def take(self, queue: str) -> str | None:
        """Take the next bell as a runner does and return its job id."""
        for step in keys.STEPS:
            waiting = self._queues[keys.queue(queue, step)]
            if waiting:
                return waiting.popleft()[0]
        return None


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


def _rung_at(raw: bytes) -> datetime | None:
    """Read when a message was put there; anybody may have written it."""
    try:
        return from_ms(int(orjson.loads(raw)["headers"]["rung_at"]))
    except (ValueError, TypeError, KeyError):
        return None
