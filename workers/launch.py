"""How a script becomes a process that is kept apart: the seam for containment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from horus_celery.statements.job import Limits
from workers.meter import Metered
from workers.room import Room

#: Where a script's commands are looked up; nothing of the node's own PATH.
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a script finds its things, by the names that it sees."""

    script: str
    work: str
    inputs: str
    secrets: str
    herodb: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A script to be executed, and all that it is given."""

    #: The interpreter's command line; None is the Python that runs the runner.
    interpreter: tuple[str, ...] | None
    #: The module that runs the script in that Python; None is Python itself.
    host: str | None = None
    places: Places
    args: tuple[str, ...]
    #: The whole environment.
    env: Mapping[str, str]
    room: Room
    limits: Limits
    has_network: bool
    #: Whether it has the socket of HeroDB, if that is all it has of a network.
    has_herodb: bool = False
    #: None if it may have things in common with scripts of every context.
    context_id: str | None
    #: A descriptor by which its processes move into a cgroup; None is no cgroup.
    group: int | None = None


class Process(Metered, Protocol):
    """A script that was started, with everything that it starts in turn."""

    #: Descriptors of the two pipes, to be read without waiting.
    stdout: int
    stderr: int
    #: A descriptor that is readable when `has_ended` may have another answer.
    reports: int

    @property
    def out(self) -> int:
        """The directory of the script's result, as it was made."""
        ...

    def has_ended(self, *, within: timedelta = timedelta(0)) -> bool:
        """Whether the script itself has ended or never began, waiting that long."""
        ...

    def terminate(self) -> None:
        """Ask all of it to end."""
        ...

    def kill(self) -> None:
        """End all of it, whatever it does."""
        ...

    def fault(self) -> OSError | None:
        """Return after `kill` why the script could not be started, if that is so."""
        ...

    def is_lost(self) -> bool:
        """Whether somebody else than `kill` ended all of it: nobody saw how."""
        ...

    def exit_code(self) -> int:
        """Return the exit code after `kill`: 128 + N if signal N ended it."""
        ...

    def had_no_memory(self) -> bool:
        """Whether the script ended, as it said itself, because it got no more."""
        ...

    def cpu_time(self) -> timedelta:
        """Return the processor time of all that ended with the script or before."""
        ...

    def close(self) -> None:
        """Close the descriptors."""
        ...


class Launcher(Protocol):
    """Starts scripts at one level of containment."""

    @property
    def level(self) -> str:
        """The word for it in receipts."""
        ...

    @property
    def cuts_network(self) -> bool:
        """Whether a script without `has_network` really has none."""
        ...

    @property
    def owner(self) -> int | None:
        """The user that a script's files have to belong to; None is the runner's."""
        ...

    @property
    def has_own_files(self) -> bool:
        """Whether a script writes its files to where they are gone with it."""
        ...

    def places(self, room: Room) -> Places:
        """Return how a script sees its room."""
        ...

    def start(self, command: Command) -> Process:
        """Start a script.

        Raises:
            OSError: if it cannot be started.
        """
        ...
