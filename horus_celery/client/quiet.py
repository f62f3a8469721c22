"""How long one waits for a job in silence, and who is told of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

#: What one waiting call asks for; proxies often cut an idle request after 30 s.
WAIT: Final = timedelta(seconds=25)
#: How long nothing is heard of a job before its `on_quiet` is called.
QUIET: Final = timedelta(seconds=2)
#: How long at most until it is called again; each time it is twice as long.
LONGEST: Final = timedelta(seconds=60)


class Quiet:
    """Makes a call when nothing was heard for a time, and again, ever more seldom."""

    def __init__(
        self,
        call: Callable[[], None] | None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call = call
        self._now = now
        self.heard()

    def wait(self) -> float:
        """Return how many seconds one may wait now."""
        wait = WAIT.total_seconds()
        if self._call is None:
            return wait
        return min(wait, max(0.0, self._at - self._now()))

    def heard(self) -> None:
        """Begin again: it is not quiet."""
        self._pause = QUIET
        self._at = self._now() + self._pause.total_seconds()

    def pass_on(self) -> None:
        """Make the call, if it is time for it."""
        if self._call is None or self._now() < self._at:
            return
        self._call()
        self._pause = min(2 * self._pause, LONGEST)
        self._at = self._now() + self._pause.total_seconds()
