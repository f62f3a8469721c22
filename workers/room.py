"""Where a job's files are: a private directory that goes when the job is over.

A script may put a link anywhere in its room, or in the room's own place. So all that is
done here is done from the descriptor of the rooms' directory down, and follows none.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import structlog

from horus_celery import removal
from horus_celery.errors import HorusError
from horus_celery.journal import is_alive, process_mark
from horus_celery.processes.tree import kill_told_of

_logger: Final = structlog.get_logger(__name__)

_RESULT: Final = "result"
_OUT: Final = "out"
_INPUTS: Final = "inputs"
_NOTHING: Final[Mapping[str, bytes]] = MappingProxyType({})
_SECRETS: Final = "secrets"
#: The rooms that could not be removed, each of which is worth one word.
_left_behind: Final[set[Path]] = set()


class BadResult(HorusError):
    """What stands where the result should be is no result."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, reason="executor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The private directory of one job."""

    path: Path
    #: Descriptors of the room and, if it has that, of its directory for the result, as
    #: they were made.
    folder: int
    out: int | None
    #: Whether it has the directory for inputs: a script that works elsewhere and is
    #: given none has an empty one there.
    has_inputs: bool
    #: What the name of the script's file ends in.
    suffix: str = ""

    @property
    def script(self) -> Path:
        """The script itself."""
        return self.path / f"script{self.suffix}"

    @property
    def work(self) -> Path:
        """The script's working directory, home and place for temporary files."""
        return self.path / "work"

    @property
    def inputs(self) -> Path:
        """One read-only file per input."""
        return self.path / _INPUTS

    @property
    def secrets(self) -> Path:
        """One read-only file per secret, if it was given any."""
        return self.path / _SECRETS

    @property
    def herodb(self) -> Path:
        """The socket of HeroDB, if its job has that."""
        return self.path / "herodb"

    @property
    def result(self) -> Path:
        """Where the script may write its result."""
        return self.path / _OUT / _RESULT

    def read_result(self, out: int, *, limit: int) -> bytes | None:
        """Return what the script wrote as its result; None if it wrote nothing.

        Args:
            out: The directory that the script had for it.
            limit: The most bytes that it may have.

        Raises:
            BadResult: if it is no plain file, larger than the limit, or not in the
                directory that it was given.
        """
        if out == self.out:
            self._require_same_out(out)
        # Whatever the script put there, opening it neither waits nor follows.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(_RESULT, flags, dir_fd=out)
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

    def _require_same_out(self, out: int) -> None:
        with suppress(FileNotFoundError):
            found = os.stat(_OUT, dir_fd=self.folder, follow_symlinks=False)
            if not os.path.samestat(found, os.fstat(out)):
                raise BadResult("the result is not in the directory that was made")


@contextmanager
def private_room(
    parent: Path,
    script: str,
    inputs: Mapping[str, bytes] = _NOTHING,
    *,
    values: Mapping[str, bytes] = _NOTHING,
    suffix: str = "",
    owner: int | None = None,
    is_written_to: bool = True,
) -> Iterator[Room]:
    """Make a room with a script and its inputs in it, and remove it after the block.

    Args:
        parent: Where the rooms are.
        script: The text of the script.
        inputs: The content of each input's file, by its name.
        values: Those of the secrets that it is given, by their names.
        suffix: What the name of the script's file ends in.
        owner: The user to whom it is to belong, if that is not the runner's.
        is_written_to: Whether the script works in it, and leaves its result there.

    Raises:
        OSError: if it cannot be made.
    """
    # The name tells whose it is, should this process not get to remove it.
    mark = process_mark()
    name = f"{mark.pid}-{mark.started}-{secrets.token_hex(4)}"
    path = parent / name
    with ExitStack() as open_folders:

        def enter(name: str, *, within: int) -> int:
            descriptor = os.open(name, removal.FOLDER, dir_fd=within)
            open_folders.callback(os.close, descriptor)
            return descriptor

        rooms = os.open(parent, removal.FOLDER)
        open_folders.callback(os.close, rooms)
        os.mkdir(name, 0o700, dir_fd=rooms)
        try:
            folder = enter(name, within=rooms)
            has_inputs = bool(inputs) or is_written_to
            if has_inputs:
                os.mkdir(_INPUTS, 0o700, dir_fd=folder)
                _write_files(inputs, enter(_INPUTS, within=folder))
            out = None
            if is_written_to:
                os.mkdir("work", 0o700, dir_fd=folder)
                os.mkdir(_OUT, 0o700, dir_fd=folder)
                out = enter(_OUT, within=folder)
            room = Room(
                path=path,
                folder=folder,
                out=out,
                has_inputs=has_inputs,
                suffix=suffix,
            )
            _write(script, room)
            if values:
                _write_secrets(values, folder)
            if owner is not None:
                _hand_to(owner, folder)
            yield room
        finally:
            _remove(path, rooms)


def remove_abandoned(parent: Path) -> int:
    """Remove the rooms of processes that are gone, and end who is left in them.

    Returns how many processes that were.

    Raises:
        OSError: if there is no such directory, or a link is in its place.
    """
    killed = 0
    rooms = os.open(parent, removal.FOLDER)
    try:
        for name in os.listdir(rooms):  # noqa: PTH208 - of a descriptor
            if not has_owner(name):
                killed += kill_told_of(parent / name)
                _remove(parent / name, rooms)
    finally:
        os.close(rooms)
    return killed


def has_owner(name: str) -> bool:
    """Whether the process is there that a room was made by, as the name tells."""
    pid, _, rest = name.partition("-")
    started = rest.partition("-")[0]
    try:
        mark = replace(process_mark(), pid=int(pid), started=int(started))
    except ValueError:
        return False
    return is_alive(mark)


def _write(script: str, room: Room) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(room.script.name, flags, 0o600, dir_fd=room.folder)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(script.encode())


def _hand_to(owner: int, folder: int) -> None:
    """Let a room and what was put into it belong to a user."""
    for _, folders, files, place in os.fwalk(".", dir_fd=folder):
        os.chown(place, owner, owner)
        for name in (*folders, *files):
            os.chown(name, owner, owner, dir_fd=place, follow_symlinks=False)


def _write_secrets(values: Mapping[str, bytes], folder: int) -> None:
    os.mkdir(_SECRETS, 0o700, dir_fd=folder)
    within = os.open(_SECRETS, removal.FOLDER, dir_fd=folder)
    try:
        _write_files(values, within)
    finally:
        os.close(within)


def _write_files(contents: Mapping[str, bytes], folder: int) -> None:
    """Write files into a folder; then nothing there is for writing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    for name, data in contents.items():
        descriptor = os.open(name, flags, 0o400, dir_fd=folder)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(data)
    os.fchmod(folder, 0o500)


def _read(descriptor: int, size: int) -> bytes:
    """Read up to so many bytes."""
    parts: list[bytes] = []
    while size > 0 and (part := os.read(descriptor, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _remove(path: Path, rooms: int) -> None:
    """Remove a room, whatever permissions, depth, names and links a script gave it.

    Nothing of the script may be running any more.
    """
    try:
        removal.remove(path.name, within=rooms)
    except FileNotFoundError:
        pass  # the script did it
    except OSError as error:
        # Such as a file that was made immutable; the next round tries again.
        if path not in _left_behind:
            _left_behind.add(path)
            _logger.warning("room left behind", room=path.name, error=error.strerror)
        return
    _left_behind.discard(path)
