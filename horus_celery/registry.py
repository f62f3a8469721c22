"""Which runners there are, what they serve and whether they are alive."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import orjson
import redis

from horus_celery.instants import from_ms, to_ms
from horus_celery.store.connection import ask
from horus_celery.store.keys import Keys

#: How often a runner says that it is alive.
BEAT: Final = timedelta(seconds=2)
#: How long it may be silent and still counts as alive.
PATIENCE: Final = timedelta(seconds=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerBeat:
    """What a runner says of itself; it is shown, and nothing is decided on it."""

    name: str
    executors: tuple[str, ...]
    #: Names, or "*" for all.
    contexts: tuple[str, ...]
    concurrency: int
    host: str
    pid: int
    at: datetime


class Registry(Protocol):
    """Keeps the latest beat of every runner.

    Every method raises `UnavailableError` as `RecordStore` does.
    """

    def beat(self, beat: RunnerBeat) -> None:
        """Keep this beat in place of the runner's latest."""
        ...

    def list(self) -> tuple[RunnerBeat, ...]:
        """Return the latest beat of every runner that has not left, by name."""
        ...

    def leave(self, name: str) -> None:
        """Forget a runner; forgetting it twice is fine."""
        ...


def is_alive(beat: RunnerBeat, now: datetime) -> bool:
    """Whether the runner was heard recently enough."""
    return now - beat.at <= PATIENCE


class RedisRegistry:
    """A `Registry` on Redis: one hash."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        self._key = Keys.of(namespace).runners

    def beat(self, beat: RunnerBeat) -> None:
        ask(self._client, "HSET", self._key, beat.name, _to_json(beat))

    def list(self) -> tuple[RunnerBeat, ...]:
        texts = ask(self._client, "HVALS", self._key)
        beats = (_from_json(text) for text in texts)
        known = [beat for beat in beats if beat is not None]
        return tuple(sorted(known, key=lambda beat: beat.name))

    def leave(self, name: str) -> None:
        ask(self._client, "HDEL", self._key, name)


class MemoryRegistry:
    """A `Registry` within this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._beats: dict[str, RunnerBeat] = {}

    def beat(self, beat: RunnerBeat) -> None:
        with self._lock:
            self._beats[beat.name] = beat

    def list(self) -> tuple[RunnerBeat, ...]:
        with self._lock:
            return tuple(beat for _, beat in sorted(self._beats.items()))

    def leave(self, name: str) -> None:
        with self._lock:
            self._beats.pop(name, None)


def _to_json(beat: RunnerBeat) -> bytes:
    return orjson.dumps(
        {
            "name": beat.name,
            "executors": beat.executors,
            "contexts": beat.contexts,
            "concurrency": beat.concurrency,
            "host": beat.host,
            "pid": beat.pid,
            "at": to_ms(beat.at),
        }
    )


def _from_json(text: bytes) -> RunnerBeat | None:
    """Read a beat; what is none shows no runner, whoever wrote it."""
    try:
        said = orjson.loads(text)
        return RunnerBeat(
            name=str(said["name"]),
            executors=tuple(str(each) for each in said["executors"]),
            contexts=tuple(str(each) for each in said["contexts"]),
            concurrency=int(said["concurrency"]),
            host=str(said["host"]),
            pid=int(said["pid"]),
            at=from_ms(int(said["at"])),
        )
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
