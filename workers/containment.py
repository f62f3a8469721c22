"""Which level of containment a machine gives, found by trying.

`namespaces` shows a script a machine of its own: no other process, no network unless
its job has one, nothing of the node but its system, read-only. `plain` gives it a
session, a directory and limits of its own, and keeps nothing of the runner's user from
it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from workers.order import Shelter

NAMESPACES: Final = "namespaces"
PLAIN: Final = "plain"
#: The user that scripts become where the runner is root: the first of those that no
#: system gives to anybody for long.
SCRIPT_USER: Final = 61_184


@dataclass(frozen=True, slots=True, kw_only=True)
class Containment:
    """How far a script is kept apart."""

    level: str
    #: Paths of the machine that it sees, and which of them are covered.
    shown: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    #: The user that it becomes; None is the runner's.
    user: int | None = None

    @property
    def is_apart(self) -> bool:
        """Whether it has namespaces of its own."""
        return self.level == NAMESPACES

    def shelter(self, *, has_network: bool) -> Shelter | None:
        """Return what a zygote has to make for its scripts; None is nothing."""
        if not self.is_apart:
            return None
        return Shelter(
            shown=self.shown,
            hidden=self.hidden,
            has_network=has_network,
            user=self.user,
        )


def plain() -> Containment:
    """Return what every machine gives."""
    return Containment(level=PLAIN)


def apart(*, shown: tuple[str, ...], hidden: tuple[str, ...]) -> Containment:
    """Return the level of namespaces, as this process could have it."""
    return Containment(
        level=NAMESPACES,
        shown=shown,
        hidden=hidden,
        user=SCRIPT_USER if os.geteuid() == 0 else None,
    )
