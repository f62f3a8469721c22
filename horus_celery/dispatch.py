"""How a runner is told that there may be work: a ready-made Celery message."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import orjson
import redis

from horus_celery.clock import Clock
from horus_celery.instants import from_ms
from horus_celery.store import keys
from horus_celery.store.connection import ask, ask_all
from horus_celery.store.runner_bell import message


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


def _rung_at(raw: bytes) -> datetime | None:
    """Read when a message was put there; anybody may have written it."""
    try:
        return from_ms(int(orjson.loads(raw)["headers"]["rung_at"]))
    except (ValueError, TypeError, KeyError):
        return None
