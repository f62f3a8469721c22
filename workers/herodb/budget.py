"""How much of this process's memory what one job sends and asks for may take."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Bytes of requests and answers that are under way, of all connections of a job. While
#: an answer is read there are some copies of it.
UNDER_WAY: Final = 48 * 1024 * 1024


class TooMuch(Exception):
    """All connections of the job together would hold too much; says so."""

    def __init__(self) -> None:
        super().__init__(
            f"ERR all connections of this job together hold more than {UNDER_WAY} bytes"
            " of requests and answers: do less at a time"
        )


class Budget:
    """Counts the bytes that a job's connections hold."""

    def __init__(self, limit: int = UNDER_WAY) -> None:
        self._limit = limit
        self._held = 0
        self._lock = threading.Lock()

    def open(self) -> Account:
        """Return what counts for one purpose."""
        return Account(self)

    def change(self, by: int) -> None:
        """Hold more, or less.

        Raises:
            TooMuch: if that cannot be; nothing is changed then.
        """
        with self._lock:
            if by > 0 and self._held + by > self._limit:
                raise TooMuch
            self._held += by


class Account:
    """What one connection holds for one purpose; for one thread."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0

    def hold(self, size: int) -> None:
        """Hold so much from now on, whatever it was before.

        Raises:
            TooMuch: if that cannot be; it stays as it was then.
        """
        if size != self._held:
            self._budget.change(size - self._held)
            self._held = size

    @contextmanager
    def released(self) -> Iterator[None]:
        """Hold nothing any more after the block."""
        try:
            yield
        finally:
            self.hold(0)
