"""What time it is: the one reader of the wall clock, handed to whoever needs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

#: How far two clocks may come apart between two looks at both.
_TOLERANCE: Final = timedelta(seconds=30)


class Clock(Protocol):
    """Tells the time; read once per request, so that one request has one time."""

    def now(self) -> datetime:
        """Return the present as an aware UTC datetime."""
        ...


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class Steadiness:
    """For how long a clock has only gone on, and was not set.

    What a clock is asked for that was set by a year cannot be taken back.
    """

    def __init__(
        self, clock: Clock, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin to watch a clock; `monotonic` tells seconds that nobody can set."""
        self._clock = clock
        self._monotonic = monotonic
        self._latest = clock.now(), monotonic()
        self._since = self._latest[1]

    def lasts(self) -> timedelta:
        """Look at the clock, and return how long it has been steady."""
        then, before = self._latest
        now, after = self._latest = self._clock.now(), self._monotonic()
        passed = timedelta(seconds=after - before)
        if abs((now - then) - passed) > _TOLERANCE:
            self._since = after
        return timedelta(seconds=after - self._since)

    def begin_anew(self) -> None:
        """Count from now."""
        self._since = self._monotonic()
