"""What runs in a window of tmux: one program, until it or its deployment ends.

A server of tmux goes on when the deployment ends. So between the two stands this
process: it ends its program, and whatever that left behind, when it is told to, when
the window is closed, and when the deployment is gone, however that came about.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, NoReturn

from horus_celery.journal import ProcessMark, is_alive
from horus_celery.processes import tree
from horus_celery.processes.base import GRACE

#: What a shell adds to the number of the signal that ended a program.
_BY_SIGNAL: Final = 128
#: How long what was killed may take to be gone.
_KILLED: Final = timedelta(seconds=1)
#: Variables that a window has, and its deployment has not.
_TERMINAL: Final = ("TERM", "COLORTERM", "TMUX", "TMUX_PANE")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowProgram:
    """What a window is to run."""

    command: Sequence[str]
    #: All of it but what the terminal adds.
    environment: Mapping[str, str]
    #: Its working directory.
    folder: Path
    #: How long it may take to end by itself when it is stopped.
    stop_timeout: timedelta
    #: It ends with this process.
    owner: ProcessMark


def write(path: Path, program: WindowProgram) -> None:
    """Write down what a window is to run, for this user alone: it may hold secrets."""
    values = {
        "command": list(program.command),
        "environment": dict(program.environment),
        "folder": str(program.folder),
        "stop_timeout": program.stop_timeout.total_seconds(),
        "owner": asdict(program.owner),
    }
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(values, file)
    draft.replace(path)


def read(path: Path) -> WindowProgram:
    """Return what was written down."""
    values = json.loads(path.read_text("utf-8"))
    return WindowProgram(
        command=values["command"],
        environment=values["environment"],
        folder=Path(values["folder"]),
        stop_timeout=timedelta(seconds=values["stop_timeout"]),
        owner=ProcessMark(**values["owner"]),
    )


def main(path: str) -> NoReturn:
    """Run what is written down there, and exit as it does."""
    program = read(Path(path))
    try:
        owner = os.pidfd_open(program.owner.pid)
    except ProcessLookupError:
        sys.exit("its deployment has ended")
    if not is_alive(program.owner):
        sys.exit("its deployment has ended")
    # Orphans of what runs here come to this process, which ends them.
    tree.become_subreaper()
    asked = _when_asked()
    try:
        child = _begin(program)
    except OSError as error:
        sys.exit(f"cannot run {program.command[0]}: {error.strerror}")
    code = _attend(child, asked=asked, owner=owner, patience=program.stop_timeout)
    tree.kill_descendants(within=_KILLED)
    if not is_alive(program.owner):
        _close()
    sys.exit(code if code >= 0 else _BY_SIGNAL - code)


def _when_asked() -> socket.socket:
    """Return what the numbers of the signals that come in can be read from."""
    heard, told = socket.socketpair()
    told.settimeout(0)
    # Kept open by the wakeup descriptor alone.
    signal.set_wakeup_fd(told.detach())
    # The terminal's own are for the program; a handler does not outlive the exec.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, _take_note)
    return heard


def _take_note(_number: int, _frame: object) -> None:
    """Have nothing interrupted: the signal is read from the socket."""


def _begin(program: WindowProgram) -> subprocess.Popen[bytes]:
    terminal = {name: os.environ[name] for name in _TERMINAL if name in os.environ}
    child = subprocess.Popen(  # noqa: S603 - what the configuration lists
        program.command,
        cwd=program.folder,
        env={**program.environment, **terminal},
        process_group=0,
    )
    with suppress(OSError):  # there is no terminal
        os.tcsetpgrp(sys.stdin.fileno(), child.pid)
        # It may have been stopped for reading before the terminal was its own.
        os.killpg(child.pid, signal.SIGCONT)
    return child


def _attend(
    child: subprocess.Popen[bytes],
    *,
    asked: socket.socket,
    owner: int,
    patience: timedelta,
) -> int:
    """Wait for the end of a program, asking for it when that is due.

    Return its status.
    """
    end = os.pidfd_open(child.pid)
    poll = select.poll()
    for readable in (end, owner, asked.fileno()):
        poll.register(readable, select.POLLIN)
    deadline: float | None = None
    while True:
        found = {descriptor for descriptor, _ in poll.poll(_left(deadline))}
        if end in found:
            return child.wait()
        if asked.fileno() in found:
            due = _due(asked.recv(64), patience)
        else:
            due = GRACE if owner in found else None
        if owner in found:
            poll.unregister(owner)
        if due is not None:
            if deadline is None:
                child.terminate()
            until = time.monotonic() + due.total_seconds()
            deadline = until if deadline is None else min(deadline, until)
        if deadline is not None and time.monotonic() >= deadline:
            _kill(child)


def _due(numbers: bytes, patience: timedelta) -> timedelta | None:
    """Return how long the program has, by the signals that came in; None: no end.

    A window that is closed (HUP) shall be gone soon, as at the end of all.
    """
    if signal.SIGHUP in numbers:
        return GRACE
    return patience if signal.SIGTERM in numbers else None


def _close() -> None:
    """Have the window go with this process: nobody is left who would close it."""
    pane = os.environ.get("TMUX_PANE")
    if pane is None:
        return
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run(  # noqa: S603 - argv is a list that we built
            ["tmux", "set-option", "-p", "-t", pane, "remain-on-exit", "off"],  # noqa: S607 - as it was found for the start
            timeout=_KILLED.total_seconds(),
            check=True,
        )


def _left(deadline: float | None) -> float | None:
    """Return for how many milliseconds there is nothing to be done."""
    if deadline is None:
        return None
    return max(1.0, (deadline - time.monotonic()) * 1000)


def _kill(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
