"""Which processes stand below one, and how they all end, wherever they hide.

A process that detached itself (setsid, double fork) leaves its group and its parent,
but it cannot leave a subreaper: its orphans become that process's children.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from horus_celery import kernel

#: Whether the kernel tells a process's children at once (CONFIG_PROC_CHILDREN).
_HAS_FILES: Final = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists()
#: What the kernel says of a process that only waits to be taken away.
_ENDED: Final = (b"Z", b"X")
#: What is said to be the parent of who has none that can be seen.
_NONE: Final = 0
#: How long processes that are killed may take to go, while somebody waits for it.
_PATIENCE: Final = timedelta(seconds=2)
_MS: Final = timedelta(milliseconds=1)
#: Between two looks at processes that were killed and are not gone yet.
_STEP: Final = timedelta(milliseconds=2)


@dataclass(frozen=True, slots=True)
class Facts:
    """What one process uses, as the kernel counts it."""

    #: Processor time of its own, and of its children that were taken away, in ticks.
    ticks: int
    reaped_ticks: int
    threads: int
    #: Pages of memory.
    pages: int
    parent: int
    #: Whether it only waits for its parent to take it away.
    has_ended: bool


def facts(pid: int) -> Facts | None:
    """Return what a process uses; None if it is gone."""
    try:
        fields = _fields(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Facts(
        ticks=int(fields[11]) + int(fields[12]),
        reaped_ticks=int(fields[13]) + int(fields[14]),
        threads=int(fields[17]),
        pages=int(fields[21]),
        parent=int(fields[1]),
        has_ended=fields[0] in _ENDED,
    )


def become_subreaper() -> None:
    """Let orphans below this process become its children instead of init's."""
    kernel.become_subreaper()


def become_unreadable() -> None:
    """Keep processes of the same user out of this one's memory and environment."""
    kernel.set_readable(False)


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that only waits to be reaped has ended."""
    return _status(pid) not in (b"", *_ENDED)


def descendants(pid: int | None = None) -> list[int]:
    """Return every process below one, this one by default, parents first."""
    children = _lookup()
    found: list[int] = []
    pending = [os.getpid() if pid is None else pid]
    while pending:
        below = children(pending.pop())
        found += below
        pending += below
    return found


def stands_below(pid: int, top: int) -> bool:
    """Whether a process is one that stands below another, or that one itself."""
    at = pid
    while at != top:
        found = facts(at)
        if found is not None:
            at = found.parent
        elif at in (pid, _NONE):
            return False
        else:
            # That one has ended meanwhile; who stood below it stands elsewhere now.
            at = pid
    return True


def children_by_file(pid: int) -> list[int]:
    """Return the children of a process; none if it is gone."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - twice as fast
            with suppress(FileNotFoundError, ProcessLookupError):
                listed = Path(f"/proc/{pid}/task/{task}/children").read_bytes()
                found += map(int, listed.split())
    return found


def children_by_parent() -> Callable[[int], list[int]]:
    """Return the same, by a look at every process, for kernels without that file."""
    found: dict[int, list[int]] = {}
    for pid in _pids():
        with suppress(FileNotFoundError, ProcessLookupError):
            found.setdefault(int(_fields(pid)[1]), []).append(pid)
    return lambda pid: found.get(pid, [])


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to processes, some of which may be gone."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def kill_descendants(*, within: timedelta, but: frozenset[int] = frozenset()) -> int:
    """End everything below this process; return how many are left after that time.

    The dead are reaped, so a caller that wants the status of a child of its own asks
    for it before. Children named in `but` are left alone, and what stands below them.
    """
    return _kill(os.getpid(), within=within, but=but)


def kill_below(pid: int, *, within: timedelta, is_over: Callable[[], bool]) -> None:
    """End everything below another process until it says that it is over.

    It is a subreaper, and takes away what ends. Who comes after that is somebody else.
    """
    _kill(pid, within=within, but=frozenset(), is_over=is_over)


def _kill(
    top: int,
    *,
    within: timedelta,
    but: frozenset[int],
    is_over: Callable[[], bool] = lambda: False,
) -> int:
    deadline = time.monotonic() + within.total_seconds()
    before: list[int] | None = None
    while not is_over():
        # Its own children only, so that a round is short: processes that fork faster
        # than they are listed are never caught. What they leave behind is next.
        left = _others(_adopted(top), but) or _others(_lookup()(top), but)
        signal_all(left, signal.SIGKILL)
        _reap()
        # Twice empty, because the list is a snapshot.
        if not left and before == left:
            return 0
        if time.monotonic() > deadline:
            return len(_others(descendants(top), but))
        if left and before == left:
            time.sleep(_STEP.total_seconds())
        before = left
    return 0


def kill_strays() -> int:
    """End what was left to this process by a dead child of it; return how many.

    It tells them by their session: children of its own share the one that it is in.
    """
    session = os.getsid(0)
    found = 0
    for pid in _lookup()(os.getpid()):
        with suppress(ProcessLookupError):
            if os.getsid(pid) == session:
                continue
            signal_all([pid, *descendants(pid)], signal.SIGKILL)
            found += 1
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return found


def children_called(name: str) -> frozenset[int]:
    """Return the children of this process that the kernel knows by a name."""
    called = name.encode()
    return frozenset(pid for pid in _lookup()(os.getpid()) if _name(pid) == called)


def stopped_children() -> frozenset[int]:
    """Return the children of this process that a signal has stopped."""
    return frozenset(pid for pid in _lookup()(os.getpid()) if _status(pid) == b"T")


def wake(pid: int) -> None:
    """Let a process go on that a signal has stopped."""
    if _status(pid) == b"T":
        signal_all([pid], signal.SIGCONT)


def kill_told_of(folder: Path) -> int:
    """End every process that works in a folder, or was told of it; return how many.

    So is found what a runner that was killed has left to nobody, unless it hides. They
    have ended when this returns, or do not go at all.
    """
    mark = os.fsencode(folder) + b"/"
    found = [
        pid
        for pid in _pids()
        if mark in _environment(pid) or _working_directory(pid).startswith(mark)
    ]
    with ExitStack() as watched:
        ends = [end for pid in found if (end := _end_of(pid, watched)) is not None]
        signal_all(found, signal.SIGKILL)
        deadline = time.monotonic() + _PATIENCE.total_seconds()
        for end in ends:
            ending = select.poll()
            ending.register(end, select.POLLIN)
            left = timedelta(seconds=max(0.0, deadline - time.monotonic()))
            ending.poll(left / _MS)
    return len(found)


def _end_of(pid: int, watched: ExitStack) -> int | None:
    """Return a descriptor that is readable once a process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return None  # it has, or there can be no more descriptors
    watched.callback(os.close, descriptor)
    return descriptor


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - only the names matter


def _environment(pid: int) -> bytes:
    # Gone, or another user's and so none of ours.
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes()
    return b""


def _working_directory(pid: int) -> bytes:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/cwd".encode())  # noqa: PTH115 - any bytes
    return b""


def _status(pid: int) -> bytes:
    with suppress(FileNotFoundError, ProcessLookupError):
        return _fields(pid)[0]
    return b""


def _name(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_bytes().rstrip(b"\n")
    return b""


def _others(pids: list[int], but: frozenset[int]) -> list[int]:
    return [pid for pid in pids if pid not in but]


def _fields(pid: int) -> list[bytes]:
    """Return what the kernel says of a process behind its name: status, parent, ….

    The name stands in parentheses and may hold anything.
    """
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


def _lookup() -> Callable[[int], list[int]]:
    return children_by_file if _HAS_FILES else children_by_parent()


def _adopted(pid: int) -> list[int]:
    """Return the children of a main thread, which gets the orphans: one read."""
    with suppress(FileNotFoundError, ProcessLookupError):
        path = Path(f"/proc/{pid}/task/{pid}/children")
        with path.open("rb", buffering=0) as file:
            return [int(child) for child in file.read().split()]
    return []
