"""What every process manager promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, Protocol, TypeAlias

from horus_celery.errors import ConflictError

#: `running` is a process that is there, whatever it says of itself; `starting` is one
#: that ended and is to be started again; `crashed` is given up.
ProcessStatus: TypeAlias = Literal["starting", "running", "stopped", "crashed"]

#: How long a process has after TERM before it is killed, when all that a deployment
#: runs ends.
GRACE: Final = timedelta(seconds=3)
#: How long what does the work may take to say how its processes do: it knows.
LOOK: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedProcess:
    """A process as its manager knows it."""

    #: What the manager calls it.
    program: str
    #: How long it may take to end by itself when it is stopped.
    stop_timeout: timedelta


class ProcessManager(Protocol):
    """Starts and ends processes that it was told of beforehand, by name.

    A name that it was not told of is a `KeyError`. Every method raises
    `UnavailableError` if what does the work does not answer, and `ConfigurationError`
    if that is not installed.
    """

    def start(self, name: str) -> None:
        """Start it; one that runs goes on.

        It begins anew: earlier ends do not count, and it waits no longer after them.

        Raises:
            ConflictError: if it is being stopped.
        """
        ...

    def stop(self, name: str) -> None:
        """End it, and return when it has ended; one that does not run stays so.

        It is told by TERM; what is left of it after its time, and all that is below
        it, is killed.
        """
        ...

    def statuses(self) -> Mapping[str, ProcessStatus]:
        """Return how each of them does, at one look that takes `LOOK` at most."""
        ...

    def logs(self, name: str, *, lines: int) -> tuple[str, ...]:
        """Return the last lines that it wrote, oldest first, as text to be shown.

        Those before its latest start may be gone.
        """
        ...


def stopping(name: str) -> ConflictError:
    """Say that what is to be started has not ended yet."""
    return ConflictError(
        f"{name} is being stopped, and finishes what it runs: start it when it has"
        " ended",
        reason="runner_stopping",
    )
