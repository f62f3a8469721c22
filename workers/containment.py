"""Which level of containment a machine gives, found by trying.

`namespaces` shows a script a machine of its own: no other process, no network unless
its job has one, nothing of the node but its system, read-only. `bwrap` has the program
bubblewrap do that for each script anew. `landlock` shows it the machine, and has the
kernel refuse what is not its own. `plain` gives it a session, a directory and limits of
its own, and keeps nothing of the runner's user from it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from workers import bubblewrap
from workers.bubblewrap import Bubblewrap
from workers.launch import SYSTEM_PATH
from workers.order import Fence, Shelter, Start
from workers.seccomp import Sockets

NAMESPACES: Final = "namespaces"
BWRAP: Final = "bwrap"
LANDLOCK: Final = "landlock"
PLAIN: Final = "plain"
#: The user that scripts become where the runner is root: the first of those that no
#: system gives to anybody for long.
SCRIPT_USER: Final = 61_184
_NO_FILTERS: Final[Mapping[Sockets, str | None]] = MappingProxyType({})


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
    #: The same by the sockets that a script may make, where there are no namespaces to
    #: cut the network.
    filters: Mapping[Sockets, str | None] = field(default_factory=lambda: _NO_FILTERS)
    #: What does it for each script, where that is not its zygote.
    program: Bubblewrap | None = None

    @property
    def is_apart(self) -> bool:
        """Whether it has namespaces of its own."""
        return self.level in {NAMESPACES, BWRAP}

    @property
    def cuts_network(self) -> bool:
        """Whether a script that is to have no network has none."""
        return self.is_apart or self.filters.get(Sockets.NONE) is not None

    @property
    def company(self) -> int:
        """How many processes below its keeper are none of a script's."""
        return 0 if self.program is None else bubblewrap.COMPANY

    def sockets(self, *, has_network: bool, has_herodb: bool) -> Sockets:
        """Return which sockets of the machine's the zygote of a script has for it.

        Args:
            has_network: Whether the script has the machine's network.
            has_herodb: Whether it has the socket of HeroDB.
        """
        if has_network or self.level in {BWRAP, PLAIN}:
            # At these it is nothing of the zygote's.
            return Sockets.ANY
        if has_herodb or self.level == NAMESPACES:
            return Sockets.LOCAL
        return Sockets.NONE

    def start(self, sockets: Sockets, *, host: str | None, rooms: Path) -> Start:
        """Return what a zygote is that bears such scripts.

        Args:
            sockets: Which sockets of the machine's it has for them.
            host: The module that runs them; None has Python itself run them.
            rooms: Where the directories of jobs are.
        """
        has_network = sockets is Sockets.ANY
        if self.level == BWRAP:
            # Which loads the filter by itself.
            return Start(shelter=None)
        if self.level == PLAIN:
            return Start(shelter=None, filter=self.filter, host=host)
        if self.level == LANDLOCK:
            fence = Fence(shown=self.shown, hidden=self.hidden, has_network=has_network)
            filtered = self.filters.get(sockets)
            return Start(shelter=None, filter=filtered, host=host, fence=fence)
        shelter = Shelter(
            shown=self.shown,
            hidden=self.hidden,
            has_network=has_network,
            user=self.user,
            rooms=str(rooms),
        )
        return Start(shelter=shelter, filter=self.filter, host=host)


def plain() -> Containment:
    """Return what every machine gives."""
    return Containment(level=PLAIN)


def fenced(*, shown: tuple[str, ...], hidden: tuple[str, ...]) -> Containment:
    """Return the level of Landlock, as this process could have it."""
    return Containment(level=LANDLOCK, shown=shown, hidden=hidden)


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
