"""Which level of containment a machine gives, found by trying.

`namespaces` shows a script a machine of its own: no other process, no network unless
its job has one, nothing of the node but its system, read-only. `bwrap` has the program
bubblewrap do that for each script anew. `plain` gives it a session, a directory and
limits of its own, and keeps nothing of the runner's user from it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from workers import bubblewrap
from workers.bubblewrap import Bubblewrap
from workers.launch import SYSTEM_PATH
from workers.order import Shelter, Start

NAMESPACES: Final = "namespaces"
BWRAP: Final = "bwrap"
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
    #: The filter of its system calls, in base64; None is none.
    filter: str | None = None
    #: What does it for each script, where that is not its zygote.
    program: Bubblewrap | None = None

    @property
    def is_apart(self) -> bool:
        """Whether it has namespaces of its own."""
        return self.level != PLAIN

    @property
    def company(self) -> int:
        """How many processes below its keeper are none of a script's."""
        return 0 if self.program is None else bubblewrap.COMPANY

    def start(self, *, has_network: bool, host: str | None = None) -> Start:
        """Return what a zygote is that bears such scripts.

        Args:
            has_network: Whether they have the machine's network.
            host: The module that runs them; None has Python itself run them.
        """
        if self.level == BWRAP:
            # Which loads the filter by itself.
            return Start(shelter=None)
        if self.level == PLAIN:
            return Start(shelter=None, filter=self.filter, host=host)
        shelter = Shelter(
            shown=self.shown,
            hidden=self.hidden,
            has_network=has_network,
            user=self.user,
        )
        return Start(shelter=shelter, filter=self.filter, host=host)


def plain() -> Containment:
    """Return what every machine gives."""
    return Containment(level=PLAIN)


def boxed(*, shown: tuple[str, ...], hidden: tuple[str, ...]) -> Containment:
    """Return the level of bubblewrap, as this process could have it.

    Raises:
        FileNotFoundError: if a program for it is not there; names it.
    """
    program = bubblewrap.prepared(shown=shown, hidden=hidden, path=SYSTEM_PATH)
    return Containment(level=BWRAP, program=program)


def apart(*, shown: tuple[str, ...], hidden: tuple[str, ...]) -> Containment:
    """Return the level of namespaces, as this process could have it."""
    return Containment(
        level=NAMESPACES,
        shown=shown,
        hidden=hidden,
        user=SCRIPT_USER if os.geteuid() == 0 else None,
    )
