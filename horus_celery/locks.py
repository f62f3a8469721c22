"""How a lock on a file is taken: within a limit, or it is told who holds it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Final

from horus_celery import kernel
from horus_celery.errors import ConfigurationError

#: What is locked takes milliseconds. A runner that waited for longer than its beats
#: keep would count as dead.
PATIENCE: Final = timedelta(seconds=3)
_STEP: Final = timedelta(milliseconds=10)
#: Every lock on a file of this machine, as far as this process may see who holds it.
_LOCKS: Final = Path("/proc/locks")


def take(
    file: BinaryIO, path: Path, *, what: str, within: timedelta | None = None
) -> None:
    """Take the lock on an open file; it is let go as the file is closed.

    Args:
        file: The file.
        path: Its path, for a person.
        what: What its holder does, as in "changing keys".
        within: Who holds it for longer has been stopped, and may be for ever; by
            default `PATIENCE`.

    Raises:
        ConfigurationError: if somebody else does not let it go; it names the file, the
            holder as far as it can be known, and the remedy.
    """
    within = PATIENCE if within is None else within
    deadline = time.monotonic() + within.total_seconds()
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise _held(file, path, what, within) from None
            time.sleep(_STEP.total_seconds())
        else:
            return


def _held(
    file: BinaryIO, path: Path, what: str, within: timedelta
) -> ConfigurationError:
    told = f"somebody has been {what} for longer than {within.total_seconds():g} s"
    holder = next(_holders(file), None)
    if holder is None:
        return ConfigurationError(
            f"{told}: see who holds {path} (fuser names it), let that go on or end it,"
            " and try again"
        )
    name, is_stopped = kernel.look_at(holder) or ("gone by now", False)
    remedy = f"end it (kill {holder})"
    if is_stopped:
        remedy = f"let it go on (kill -CONT {holder}) or {remedy}"
    held = f"{path} is held by process {holder} ({name})"
    return ConfigurationError(
        f"{told}: {held}{', which was stopped' * is_stopped}; {remedy}, and try again"
    )


def _holders(file: BinaryIO) -> Iterator[int]:
    """Yield the processes that hold the lock, of those that may be seen."""
    status = os.fstat(file.fileno())
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    place = f"{device}:{status.st_ino}"
    try:
        lines = _LOCKS.read_text("ascii").splitlines()
    except OSError:
        return
    for line in lines:
        match line.split():
            case [_, "FLOCK", _, _, pid, where, *_] if where == place and int(pid) > 0:
                yield int(pid)
