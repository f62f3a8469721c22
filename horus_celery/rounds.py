"""How something is done again and again beside all else, until it is told to end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta


class Rounds:
    """A thread that makes a round every so often."""

    def __init__(
        self,
        make_round: Callable[[], None],
        *,
        name: str,
        every: timedelta,
        begins_at_once: bool = False,
    ) -> None:
        """Take what to do.

        Args:
            make_round: One round; what it raises ends the thread.
            name: The thread's name.
            every: The pause between two rounds.
            begins_at_once: Whether there is none before the first.
        """
        self._make_round = make_round
        self._every = every
        self._begins_at_once = begins_at_once
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; call it once, in the process that is to make the rounds."""
        self._thread.start()

    def close(self) -> None:
        """End, after the round that is being made."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        if self._begins_at_once:
            self._make_round()
        while not self._closed.wait(self._every.total_seconds()):
            self._make_round()
