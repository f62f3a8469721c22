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


class Quiet:
    """Makes a call once, when nothing was heard for a time."""

    def __init__(self, call: Callable[[], None] | None) -> None:
        self._call = call
        self._at = time.monotonic() + QUIET.total_seconds()

    def wait(self) -> float:
        """Return how many seconds one may wait now."""
        wait = WAIT.total_seconds()
        if self._call is None:
            return wait
        return min(wait, max(0.0, self._at - time.monotonic()))

    def end(self) -> None:
        """Something was heard: nobody need be called."""
        self._call = None

    def pass_on(self) -> None:
        """Make the call, if it is time for it."""
        call = self._call
        if call is not None and time.monotonic() >= self._at:
            self._call = None
            call()
