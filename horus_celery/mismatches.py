"""What was found in the store that no runner signed: each counted and logged once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import structlog

_logger: Final = structlog.get_logger(__name__)

#: Findings that are remembered; what was forgotten is counted again when it is met.
REMEMBERED: Final = 10_000


class Place(StrEnum):
    """Where something else stands than what was signed."""

    RECORD = "record"
    LOG = "log"


class Mismatches:
    """The findings of one process; its methods may be called by many threads."""

    def __init__(self, *, remembered: int = REMEMBERED) -> None:
        self._lock = threading.Lock()
        self._remembered = remembered
        self._known: dict[tuple[str, Place], None] = {}
        self._counts = dict.fromkeys(Place, 0)

    def note(self, digest: str, place: Place) -> None:
        """Note that a job's record or log is not what its runner signed."""
        with self._lock:
            if (digest, place) in self._known:
                return
            if len(self._known) >= self._remembered:
                del self._known[next(iter(self._known))]
            self._known[digest, place] = None
            self._counts[place] += 1
        # Nothing of what it says: whoever wrote it chose that.
        _logger.error("receipt mismatch", what=place.value, digest=digest)

    def counts(self) -> Mapping[Place, int]:
        """Return how many were found so far, by where."""
        with self._lock:
            return dict(self._counts)
