"""How it is measured what each context holds, a little at a time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

import redis

from horus_celery.herodb.commands import escaped
from horus_celery.herodb.contexts import Usage
from horus_celery.herodb.layout import Layout

#: How long Redis is kept busy in one round of five seconds: one percent of it.
BUDGET: Final = timedelta(milliseconds=50)
#: Items of one key that are looked at, and the others taken to be like them: of fewer,
#: large ones could be hidden behind small ones.
_SAMPLES: Final = 100_000
#: Keys that it looks at in one step.
_PAGE: Final = 200


class Gauge:
    """Goes through all keys again and again, from where it was before."""

    def __init__(self, client: redis.Redis, layout: Layout) -> None:
        self._client = client
        self._layout = layout
        self._pattern = escaped(f"{layout.root}{{".encode()) + b"*"
        self._begin()

    def measure(
        self, contexts: Collection[str], *, now: datetime, within: timedelta = BUDGET
    ) -> Mapping[str, Usage] | None:
        """Go on; return what each context holds if that was the last of all keys.

        Raises:
            redis.RedisError: if Redis does not answer.
        """
        deadline = time.monotonic() + within.total_seconds()
        while True:
            self._step()
            if self._cursor == 0:
                break
            if time.monotonic() > deadline:
                return None
        found = self.counted(contexts, now=now)
        self._begin()
        return found

    def counted(
        self, contexts: Collection[str], *, now: datetime
    ) -> Mapping[str, Usage]:
        """Return what each context holds at the least, as far as that is counted."""
        return {
            name: Usage(size=self._bytes[name], keys=self._keys[name], at=now)
            for name in contexts
        }

    def _begin(self) -> None:
        self._cursor = 0
        self._bytes: Counter[str] = Counter()
        self._keys: Counter[str] = Counter()

    def _step(self) -> None:
        scan = ("SCAN", self._cursor, "MATCH", self._pattern, "COUNT", _PAGE)
        cursor, keys = self._client.execute_command(*scan)  # type: ignore[no-untyped-call]  # so is redis-py
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.execute_command("MEMORY USAGE", key, "SAMPLES", _SAMPLES)  # type: ignore[no-untyped-call]  # as above
        sizes = pipeline.execute()
        for key, size in zip(keys, sizes, strict=True):
            context = self._layout.context_of(key)
            # None is one that has gone in between.
            if context is not None and size is not None:
                self._bytes[context] += size
                self._keys[context] += 1
        self._cursor = int(cursor)
