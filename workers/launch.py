"""How a command becomes a process that is kept apart: the seam for containment.

A level of containment is one `Launcher`. What it really keeps apart is said by its
`level`, which goes into the receipt.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

import structlog

from horus_celery.processes.tree import (
    descendants,
    kill_descendants,
    reap,
    signal_all,
)

_logger: Final = structlog.get_logger(__name__)

#: Where a script's commands are looked up; nothing of the node's own PATH.
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: How long killed processes may take to go.
_GRACE: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What is to be executed, and all that it is given."""

    argv: tuple[str, ...]
    #: The whole environment.
    env: Mapping[str, str]
    #: The working directory.
    cwd: Path


class Process(Protocol):
    """A command that was started, with everything that it starts in turn."""

    #: Descriptors of the two pipes, to be read without waiting.
    stdout: int
    stderr: int
    #: A descriptor that becomes readable when the command itself has ended.
    ended: int

    def terminate(self) -> None:
        """Ask all of it to end."""
        ...

    def kill(self) -> None:
        """End all of it, whatever it does."""
        ...

    def tidy(self) -> None:
        """Take away what has ended, but for the command itself."""
        ...

    def exit_code(self) -> int:
        """Return the exit code after `kill`: 128 + N if signal N ended it."""
        ...

    def close(self) -> None:
        """Close the descriptors."""
        ...


class Launcher(Protocol):
    """Starts commands at one level of containment."""

    @property
    def level(self) -> str:
        """The word for it in receipts."""
        ...

    def start(self, command: Command) -> Process:
        """Start a command.

        Raises:
            OSError: if it cannot be started.
        """
        ...


class PlainLauncher:
    """A session of its own, nothing inherited, and death with the runner.

    It keeps no script from reading what the runner's user may read. One process at a
    time, because everything below this process counts as the command's.
    """

    level: Final = "plain"

    def __init__(self) -> None:
        self._guard = _guard()

    def start(self, command: Command) -> PlainProcess:
        # No preexec_fn: it would force a fork of this whole process. UTF-8, whatever
        # the runner's own locale is.
        return PlainProcess(
            subprocess.Popen(  # noqa: S603 - argv is a list that we built
                [word.encode() for word in (*self._guard, *command.argv)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={
                    name.encode(): value.encode() for name, value in command.env.items()
                },
                cwd=command.cwd,
                start_new_session=True,
                umask=0o077,
                bufsize=0,
            )
        )


class PlainProcess:
    """A process of this one, and all its descendants."""

    def __init__(self, leader: subprocess.Popen[bytes]) -> None:
        self._leader = leader
        assert leader.stdout is not None  # noqa: S101 - they were asked for
        assert leader.stderr is not None  # noqa: S101
        self.stdout = leader.stdout.fileno()
        self.stderr = leader.stderr.fileno()
        self.ended = os.pidfd_open(leader.pid)
        os.set_blocking(self.stdout, False)
        os.set_blocking(self.stderr, False)

    def terminate(self) -> None:
        signal_all(descendants(), signal.SIGTERM)

    def kill(self) -> None:
        # The leader's status is taken before its remains are reaped with the others'.
        if self._leader.poll() is None:
            self._leader.kill()
            with suppress(subprocess.TimeoutExpired):
                self._leader.wait(_GRACE.total_seconds())
        if left := kill_descendants(within=_GRACE):
            _logger.error("processes cannot be killed", count=left)

    def tidy(self) -> None:
        reap(but=self._leader.pid)

    def exit_code(self) -> int:
        status = self._leader.returncode
        if status is None:
            return 128 + signal.SIGKILL
        return status if status >= 0 else 128 - status

    def close(self) -> None:
        os.close(self.ended)
        for pipe in (self._leader.stdout, self._leader.stderr):
            if pipe is not None:
                pipe.close()


def _guard() -> tuple[str, ...]:
    """Return the words that let a command die with its parent, if they work here."""
    setpriv = shutil.which("setpriv", path=SYSTEM_PATH)
    if setpriv is None:
        return ()
    guard = (setpriv, "--pdeathsig", "KILL", "--no-new-privs", "--")
    tried = subprocess.run(  # noqa: S603 - a command of the system's own path
        [*guard, "true"],
        env={"PATH": SYSTEM_PATH},
        capture_output=True,
        check=False,
    )
    return guard if tried.returncode == 0 else ()
