"""What time it is for all who share a Redis, whatever their own clocks say."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Final

import redis

from horus_celery.errors import UnavailableError
from horus_celery.store.connection import ask

#: How long an answer of Redis counts; from then on the monotonic clock goes on.
_FRESH: Final = timedelta(seconds=5)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class RedisClock:
    """A `Clock` by which leases and beats are given and judged, and nothing else.

    Who sets a machine's clock moves none of them: in between this one goes by what
    nobody can set.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._lock = threading.Lock()
        #: What Redis showed when the monotonic clock showed 0.
        self._zero: datetime | None = None
        #: By the monotonic clock.
        self._fresh_until = 0.0

    def now(self) -> datetime:
        """Return the present.

        Raises:
            UnavailableError: if Redis does not answer, and never did.
        """
        with self._lock:
            if self._zero is None or time.monotonic() >= self._fresh_until:
                self._zero = self._ask()
                self._fresh_until = time.monotonic() + _FRESH.total_seconds()
            return self._zero + timedelta(seconds=time.monotonic())

    def _ask(self) -> datetime:
        before = time.monotonic()
        try:
            seconds, microseconds = ask(self._client, "TIME")
        except UnavailableError:
            if self._zero is None:
                raise
            return self._zero
        shown = timedelta(seconds=seconds, microseconds=microseconds)
        # Half of the way there and back is behind it.
        return _EPOCH + shown - timedelta(seconds=(before + time.monotonic()) / 2)
