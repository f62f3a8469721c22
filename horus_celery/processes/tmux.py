"""A process manager by tmux: a window for each process, which one can attach to."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import horus_celery
from horus_celery import locks
from horus_celery.errors import ConfigurationError, UnavailableError
from horus_celery.processes import tree
from horus_celery.processes.base import (
    GRACE,
    LOOK,
    ManagedProcess,
    ProcessStatus,
    stopping,
)
from horus_celery.processes.lines import clean

PREFIX: Final = "tmux:"
#: What a tmux that starts a server is given: its windows would all inherit more.
_KEPT: Final = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "TZ")
_KEPT_PREFIXES: Final = ("LC_", "XDG_", "TMUX_TMPDIR")
_PATIENCE: Final = timedelta(seconds=10)
#: How long others may open windows: who asked for one is told before he gives up.
_OTHERS: Final = timedelta(seconds=8)
#: Longer than the process in a window needs to kill what does not end by itself.
_KILLED: Final = timedelta(seconds=1.5)
_STEP: Final = timedelta(milliseconds=10)
#: Wide enough that a line of a log is seldom broken.
_SIZE: Final = ("-x", "200", "-y", "50")
#: Rows of a screen into which nothing was written.
_BLANKS: Final = 500
#: Options of a pane: whose it is; and that it was ended by us.
_MARK: Final = "@horus"
_STOPPED: Final = "@horus_stopped"
_FORMAT: Final = (
    f"#{{pane_id}}|#{{pane_dead}}|#{{pane_pid}}|#{{{_STOPPED}}}|#{{{_MARK}}}"
)


def require_tmux() -> None:
    """See that there is a tmux.

    Raises:
        ConfigurationError: if there is none, with the remedy.
    """
    if shutil.which("tmux") is None:
        raise ConfigurationError(
            "tmux, which is to manage a runner, is not installed: apt-get install tmux,"
            ' or set process_manager = "simple"'
        )


def servers() -> frozenset[int]:
    """Return the servers of tmux that this process has started, or inherited.

    They are the user's, too: sessions of his may be in them.
    """
    return tree.children_called("tmux: server")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pane:
    """A window's only pane, as tmux tells of it."""

    pane_id: str
    name: str
    pid: int
    is_dead: bool
    #: Whether somebody had it ended.
    is_stopped: bool

    @property
    def has_ended(self) -> bool:
        # Now and then tmux does not hear of the end of a process.
        return self.is_dead or not tree.is_running(self.pid)


class TmuxManager:
    """A `ProcessManager` by windows of one session of tmux, which is made when needed.

    What ends by itself is not started again: its window stays, with what it said. All
    it needs of a process is that somebody has written a `WindowProgram` under its name.
    """

    def __init__(
        self,
        session: str,
        folder: Path,
        processes: Mapping[str, ManagedProcess],
        *,
        socket: str | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            session: The session's name.
            folder: Where what the windows run is written down; windows of others, which
                have another folder, are left alone.
            processes: What it manages, by name.
            socket: The name of a server other than the user's own.
        """
        self._session = session
        self._folder = folder
        self._processes = processes
        self._server = ("-L", socket) if socket else ()
        self._whose = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]

    @property
    def names(self) -> tuple[str, ...]:
        """The processes that it manages."""
        return tuple(self._processes)

    # --- the promise ----------------------------------------------------------

    def start(self, name: str) -> None:
        program = self._processes[name].program
        require_tmux()
        with self._alone():
            pane = self._find(program)
            if pane is None:
                self._open(program)
            elif pane.has_ended:
                self._reopen(program, pane)
            elif pane.is_stopped:
                raise stopping(name)

    def stop(self, name: str) -> None:
        process = self._processes[name]
        pane = self._find(process.program)
        if pane is None or pane.has_ended:
            return
        self._ask([pane], signal.SIGTERM)
        self._await_end([pane], within=process.stop_timeout)

    def statuses(self) -> Mapping[str, ProcessStatus]:
        panes = {pane.name: pane for pane in self._panes(within=LOOK)}
        return {
            name: _status(panes.get(process.program))
            for name, process in self._processes.items()
        }

    def logs(self, name: str, *, lines: int) -> tuple[str, ...]:
        pane = self._find(self._processes[name].program)
        if pane is None or lines < 1:
            return ()
        since = str(-lines - _BLANKS)
        shown = ["capture-pane", "-p", "-J", "-t", pane.pane_id, "-S", since]
        told = self._run(shown, may_fail=True)
        found = [line.rstrip() for line in told.splitlines()]
        return clean(_without_blanks(found)[-lines:])

    # --- the end ---------------------------------------------------------------

    def begin_to_end(self) -> None:
        """Ask every process for its end within `GRACE`, without waiting for it."""
        self._ask(self._panes(within=LOOK), signal.SIGHUP)

    def end(self) -> None:
        """End every process, also those of an earlier run, and close their windows."""
        panes = self._panes(within=LOOK)
        self._ask(panes, signal.SIGHUP)
        self._await_end(panes, within=GRACE)
        for pane in panes:
            self._run(["kill-pane", "-t", pane.pane_id], may_fail=True)

    # --- private ----------------------------------------------------------------

    def _open(self, program: str) -> None:
        """Open a window, in a session that is made if there is none.

        All in one command, so that a program which ends at once finds its window as it
        must be.
        """
        session = f"={self._session}"
        if self._has_session():
            made = ["new-window", "-d", "-a", "-t", f"{session}:{{end}}"]
        else:
            made = ["new-session", "-d", *_SIZE, "-s", self._session]
        option = ["set-option", "-p", "-t", f"{session}:{{end}}"]
        self._run(
            [*made, "-n", program, *self._command(program)],
            [*option, "remain-on-exit", "on"],
            [*option, _MARK, f"{self._whose} {program}"],
        )

    def _reopen(self, program: str, pane: _Pane) -> None:
        self._run(
            ["respawn-pane", "-k", "-t", pane.pane_id, *self._command(program)],
            ["set-option", "-p", "-u", "-t", pane.pane_id, _STOPPED],
        )

    def _command(self, program: str) -> Sequence[str]:
        path = str(self._folder / f"{program}.json")
        module = "horus_celery.processes.window"
        # A server of tmux need not find what this process finds.
        imports = f"PYTHONPATH={Path(horus_celery.__file__).parent.parent}"
        # Whatever lies in the server's working directory is not imported (-P).
        return ["env", imports, sys.executable, "-P", "-m", module, path]

    def _ask(self, panes: Sequence[_Pane], number: signal.Signals) -> None:
        for pane in panes:
            if pane.has_ended:
                continue
            # Noted first: nobody shall ever see it as one that ended by itself.
            note = ["set-option", "-p", "-t", pane.pane_id, _STOPPED, "1"]
            self._run(note, may_fail=True)
            tree.signal_all([pane.pid], number)

    def _await_end(self, panes: Sequence[_Pane], *, within: timedelta) -> None:
        """Wait for the end of processes, and kill those who do not come to it."""
        deadline = time.monotonic() + (within + _KILLED).total_seconds()
        for pane in panes:
            if not pane.has_ended and not _ends(pane.pid, deadline):
                # It ends its program itself, unless it hangs or was stopped.
                left = [*tree.descendants(pane.pid), pane.pid]
                tree.signal_all(left, signal.SIGKILL)
        deadline = time.monotonic() + _KILLED.total_seconds()
        # tmux takes note of an end a moment later.
        while not all(pane.has_ended for pane in panes):
            if time.monotonic() > deadline:
                raise UnavailableError("a window of tmux does not end")
            time.sleep(_STEP.total_seconds())

    def _find(self, program: str) -> _Pane | None:
        for pane in self._panes():
            if pane.name == program:
                return pane
        return None

    def _panes(self, *, within: timedelta = _PATIENCE) -> tuple[_Pane, ...]:
        """Return the panes of this folder, whatever session somebody moved them to."""
        shown = ["list-panes", "-a", "-F", _FORMAT]
        told = self._run(shown, may_fail=True, within=within)
        panes = []
        for line in told.splitlines():
            pane_id, dead, pid, stopped, mark = line.split("|", 4)
            whose, _, name = mark.partition(" ")
            if whose == self._whose:
                panes.append(
                    _Pane(
                        pane_id=pane_id,
                        name=name,
                        pid=int(pid),
                        is_dead=dead == "1",
                        is_stopped=stopped == "1",
                    )
                )
        return tuple(panes)

    def _has_session(self) -> bool:
        names = self._run(["list-sessions", "-F", "#{session_name}"], may_fail=True)
        return self._session in names.splitlines()

    def _run(
        self,
        *commands: Sequence[str],
        may_fail: bool = False,
        within: timedelta = _PATIENCE,
    ) -> str:
        """Have tmux do something, and return what it says.

        What may fail is what there need not be anything for: a server, a window.
        """
        words = list(commands[0])
        for command in commands[1:]:
            words += [";", *command]
        try:
            done = subprocess.run(  # noqa: S603 - argv is a list that we built
                ["tmux", "-u", *self._server, *words],  # noqa: S607 - whichever there is
                capture_output=True,
                timeout=within.total_seconds(),
                check=False,
                env=_environment(),
            )
        except FileNotFoundError:
            return ""
        except (OSError, subprocess.TimeoutExpired):
            raise UnavailableError("tmux does not answer") from None
        if done.returncode and not may_fail:
            raise UnavailableError(f"tmux refuses to {words[0]}")
        return "" if done.returncode else done.stdout.decode("utf-8", "replace")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only one who opens windows here: two would open two.

        Raises:
            ConfigurationError: if somebody else does it, and does not end.
        """
        path = self._folder / "lock"
        with path.open("ab") as file:
            locks.take(file, path, what="opening windows of tmux", within=_OTHERS)
            yield


def _environment() -> dict[str, str]:
    # Without TMUX, which names the server that this process may have been started in:
    # the windows are where `tmux attach` looks.
    return {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }


def _status(pane: _Pane | None) -> ProcessStatus:
    if pane is None:
        return "stopped"
    if not pane.has_ended:
        return "running"
    return "stopped" if pane.is_stopped else "crashed"


def _without_blanks(rows: Sequence[str]) -> list[str]:
    """Return rows without the empty ones at the end, and one where there are many."""
    kept: list[str] = []
    for row in rows:
        if row or (kept and kept[-1]):
            kept.append(row)
    return kept[:-1] if kept and not kept[-1] else kept


def _ends(pid: int, deadline: float) -> bool:
    """Wait for the end of a process; False if it is not there in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        left = max(0.0, deadline - time.monotonic())
        return bool(poll.poll(left * 1000))
    finally:
        os.close(descriptor)
