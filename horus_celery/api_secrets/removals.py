"""Which added secrets never count again, as far as this node remembers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol


class Removals(Protocol):
    """Remembers the serials of added secrets that were removed, for good.

    Every method raises `HorusError` if it cannot be used at the moment, or until
    somebody mends it.
    """

    def remember_removed(self, serials: Collection[str]) -> None:
        """Remember these; doing so twice is fine."""
        ...

    def removed_among(self, serials: Collection[str]) -> frozenset[str]:
        """Return which of these are remembered."""
        ...


class MemoryRemovals:
    """`Removals` that last as long as this process."""

    def __init__(self) -> None:
        self._serials: set[str] = set()

    def remember_removed(self, serials: Collection[str]) -> None:
        self._serials.update(serials)

    def removed_among(self, serials: Collection[str]) -> frozenset[str]:
        return frozenset(self._serials.intersection(serials))
