"""Which requests take so much memory that only a few of them have their turn at a time.

A value takes a hundred bytes and more once it is read, and three on its way here. So
what is dense is told by its bytes, before any of it is read.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Final

from horus_celery.errors import TooLargeError, UnavailableError

#: A request with more bytes or values is bulky: a single job of the largest size and a
#: hundred usual calls are not.
MANY_BYTES: Final = 1536 * 1024
MANY_VALUES: Final = 4096
#: Of the bytes that a request may have, so many for each value: those of a workflow's
#: jobs have a hundred.
_BYTES_PER_VALUE: Final = 32
#: So many are taken of everybody.
_LEAST_VALUES: Final = 65_536
#: Seconds that one waits for its turn: where Redis hangs, so does who has a place.
_PATIENCE: Final = 2.0
#: Bulky requests, and those with long answers, that are served at a time.
_PLACES: Final = 8


class Turns:
    """Lets bulky requests have their turn; the others do not wait for them."""

    def __init__(self, places: int = _PLACES) -> None:
        self._places = threading.BoundedSemaphore(places)

    def turn(self) -> Turn:
        """Return what one request waits with."""
        return Turn(self._places)


class Turn(ExitStack):
    """What one request may take; leaving it lets others have their turn."""

    def __init__(self, places: threading.BoundedSemaphore) -> None:
        super().__init__()
        self._places = places
        #: Whether it has one of the places; then it waits for nothing else.
        self.is_bulky = False

    def take(self) -> None:
        """Wait for a place, and keep it until this is left.

        Raises:
            UnavailableError: if none is free in time.
        """
        if self.is_bulky:
            return
        if not self._places.acquire(timeout=_PATIENCE):
            raise UnavailableError(
                "many large requests, or such with large answers, are being served:"
                " ask again in a second"
            )
        self.callback(self._places.release)
        self.is_bulky = True

    def give_back(self) -> None:
        """Let others have the place, if it has one."""
        self.close()
        self.is_bulky = False


def is_bulky(raw: bytes) -> bool:
    """Say whether a body may take much memory once it is read."""
    return len(raw) > MANY_BYTES or _separators(raw) > MANY_VALUES


def require_few_values(raw: bytes, limit: int) -> None:
    """Refuse a body that has more values than any use for them.

    Args:
        raw: The body.
        limit: The bytes that it might have had.

    Raises:
        TooLargeError: if it is such a one.
    """
    most = max(limit // _BYTES_PER_VALUE, _LEAST_VALUES)
    # What stands in texts is none, and what is escaped in a text does not end it.
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    if _separators(b"".join(unescaped.split(b'"')[::2])) > most:
        raise TooLargeError(f"a request has at most {most} values, this has more")


def _separators(raw: bytes) -> int:
    return sum(map(raw.count, (b",", b":", b"[", b"{"))) + 1
