"""Where a job's files are: a private directory that goes when the job is over."""

from __future__ import annotations

import os
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from horus_celery.errors import HorusError
from horus_celery.journal import process_mark
from horus_celery.processes.tree import kill_told_of

_logger: Final = structlog.get_logger(__name__)


class BadResult(HorusError):
    """What stands where the result should be is no result."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, reason="executor")


@dataclass(frozen=True, slots=True)
class Room:
    """The private directory of one job."""

    path: Path

    @property
    def script(self) -> Path:
        """The script itself."""
        return self.path / "script"

    @property
    def work(self) -> Path:
        """The script's working directory, home and place for temporary files."""
        return self.path / "work"

    @property
    def inputs(self) -> Path:
        """One read-only file per input."""
        return self.path / "inputs"

    @property
    def result(self) -> Path:
        """Where the script may write its result."""
        return self.path / "out" / "result"

    def read_result(self, *, limit: int) -> bytes | None:
        """Return what the script wrote as its result; None if it wrote nothing.

        Raises:
            BadResult: if it is no plain file, or larger than the limit.
        """
        # Whatever the script put there, opening it neither waits nor follows.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self.result, flags)
        except FileNotFoundError:
            return None
        except OSError:
            raise BadResult("the result is no file that can be read") from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise BadResult("the result is no plain file")
            data = _read(descriptor, limit + 1)
        finally:
            os.close(descriptor)
        if len(data) > limit:
            raise BadResult(f"the result is larger than {limit} bytes")
        return data


@contextmanager
def private_room(parent: Path, script: str) -> Iterator[Room]:
    """Make a room with a script in it, and remove it after the block.

    Raises:
        OSError: if it cannot be made.
    """
    # The name tells whose it is, should this process not get to remove it.
    mark = process_mark()
    prefix = f"{mark.pid}-{mark.started}-"
    room = Room(Path(tempfile.mkdtemp(prefix=prefix, dir=parent)))
    try:
        for folder in (room.work, room.inputs, room.result.parent):
            folder.mkdir(mode=0o700)
        room.inputs.chmod(0o500)
        room.script.write_text(script, "utf-8")
        yield room
    finally:
        remove(room.path)


def remove_abandoned(parent: Path) -> int:
    """Remove the rooms of processes that are gone, and end who is left in them.

    Returns how many processes that were.
    """
    killed = 0
    for path in parent.iterdir():
        if not _has_owner(path.name):
            killed += kill_told_of(path)
            remove(path)
    return killed


def remove(path: Path) -> None:
    """Remove a folder, whatever permissions, depth and names a script gave it.

    Nothing of the script may be running any more.
    """
    try:
        _remove(path)
    except FileNotFoundError:
        return  # the script did it
    except OSError as error:
        # Such as a file that was made immutable; the next start tries again.
        _logger.warning("room left behind", error=error.strerror)


def _has_owner(name: str) -> bool:
    pid, _, rest = name.partition("-")
    started = rest.partition("-")[0]
    try:
        return process_mark(int(pid)).started == int(started)
    except (ValueError, ProcessLookupError):
        return False


def _read(descriptor: int, size: int) -> bytes:
    """Read up to so many bytes."""
    parts: list[bytes] = []
    while size > 0 and (part := os.read(descriptor, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _remove(top: Path) -> None:
    pending = [top]
    while pending:
        folder = pending.pop()
        folder.chmod(0o700)
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)  # noqa: PTH108 - an entry has a path already
                    continue
                # Moved to the side, so that depth costs neither stack nor names that
                # are too long. A folder must be writable to be moved.
                beside = top.with_name(f"{top.name}-{uuid.uuid4().hex}")
                os.chmod(entry.path, 0o700)  # noqa: PTH101
                os.rename(entry.path, beside)  # noqa: PTH104
                pending.append(beside)
        folder.rmdir()
