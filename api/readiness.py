"""Whether jobs that are sent now would be taken and run, for whoever sends callers."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from horus_celery.clock import Clock
from horus_celery.errors import DamagedError, HorusError, UnavailableError
from horus_celery.registry import Roster, TrustSource, is_alive
from horus_celery.store.base import RecordStore

#: How long an answer is given again: anybody may ask, as often as he likes.
LIFETIME: Final = timedelta(seconds=1)


class Readiness:
    """Looks for what is needed; many threads may ask, and one of them looks."""

    def __init__(
        self, *, store: RecordStore, roster: Roster, trust: TrustSource, clock: Clock
    ) -> None:
        self._store = store
        self._roster = roster
        self._trust = trust
        self._clock = clock
        self._lock = threading.Lock()
        self._missing: Mapping[str, str] = {}
        self._fresh_until = 0.0

    def missing(self) -> Mapping[str, str]:
        """Return what is missing, `redis`, `trust` or `runners`, each in plain words.

        Without a name of a place: strangers read it. Whoever waits for another's look
        waits no longer than that takes, less than 2 s.
        """
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._missing = self._look()
                self._fresh_until = time.monotonic() + LIFETIME.total_seconds()
            return self._missing

    def _look(self) -> Mapping[str, str]:
        parts = {"trust": self._trust_is_missing(), "redis": self._redis_is_missing()}
        missing = {name: why for name, why in parts.items() if why}
        if missing:
            # Without these two nobody knows the runners.
            return missing
        why = self._runners_are_missing()
        return {"runners": why} if why else {}

    def _trust_is_missing(self) -> str:
        try:
            trust = self._trust.current()
        except HorusError:
            return "the trust bundle cannot be read, or is not to be believed"
        if trust.is_expired(self._clock.now()):
            return "the trust bundle has expired"
        return ""

    def _redis_is_missing(self) -> str:
        try:
            self._store.counts()
        except DamagedError:
            return "something in Redis is not what Horus wrote there"
        except UnavailableError:
            return "Redis does not answer"
        return ""

    def _runners_are_missing(self) -> str:
        now = self._clock.now()
        try:
            beats = self._roster.list()
        except HorusError:
            return "nobody knows whether a runner is alive"
        return "" if any(is_alive(b, now) for b in beats) else "no runner is alive"
