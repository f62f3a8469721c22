"""Where the programs of a deployment have their temporary files.

What is killed leaves some behind: they lie in the state directory, for this user alone,
and the next start removes them. A program that is started by itself has a folder of its
own among them, and holds a lock on it: whoever starts meanwhile lets it be.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from horus_celery import removal
from horus_celery.errors import ConfigurationError

#: The variable by which programs find the place.
VARIABLE: Final = "TMPDIR"
#: How the name of a folder begins that one program has for itself.
_OWN: Final = "own-"
#: Why what has a name is no empty folder.
_MORE: Final = frozenset({errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST})


def make_empty(folder: Path) -> tuple[str, ...]:
    """Make the place, or empty it; return what a person should know of that.

    The caller knows that no program of an earlier run is at work there but those that
    have a folder of their own.

    Raises:
        ConfigurationError: if something else is in its place, naming the remedy.
        OSError: if it cannot be made.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    place = _open(folder)
    try:
        os.fchmod(place, 0o700)
        return tuple(_emptied(folder, place))
    finally:
        os.close(place)


def make_own(folder: Path) -> Path:
    """Make a folder in the place for this process, and for what it becomes.

    What others of its kind have left there is removed.

    Raises:
        ConfigurationError: if something else is in its place, naming the remedy.
        OSError: if it cannot be made.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    place = _open(folder)
    try:
        _remove_abandoned(place)
        while True:
            own = Path(tempfile.mkdtemp(prefix=_OWN, dir=folder))
            if _hold(own.name, place):
                return own
    finally:
        os.close(place)


def _remove_abandoned(place: int) -> None:
    for name in os.listdir(place):
        if name.startswith(_OWN) and not _is_held(name, place):
            # What cannot be removed is told by who empties the whole place.
            with suppress(OSError):
                removal.remove(name, within=place)


def _hold(name: str, place: int) -> bool:
    """Hold a folder until the process ends; False if somebody has just removed it."""
    try:
        held = os.open(name, removal.FOLDER, dir_fd=place)
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError):
        return False
    os.set_inheritable(held, True)  # noqa: FBT003 - its signature
    return os.fstat(held).st_nlink > 0


def _is_held(name: str, place: int) -> bool:
    """Whether a program is at work in a folder of its own."""
    try:
        folder = os.open(name, removal.FOLDER, dir_fd=place)
    except OSError:
        return False
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(folder)
    return False


def _open(folder: Path) -> int:
    try:
        place = os.open(folder, removal.FOLDER)
    except NotADirectoryError:
        raise ConfigurationError(f"{folder} is no directory: remove it") from None
    if os.fstat(place).st_uid != os.geteuid():
        os.close(place)
        raise ConfigurationError(f"{folder} belongs to another user: remove it")
    return place


def _emptied(folder: Path, place: int) -> Iterator[str]:
    for name in os.listdir(place):
        if name.startswith(_OWN) and _is_held(name, place):
            continue
        try:
            _remove(name, place)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            yield f"cannot remove the temporary {folder / name}: {why}"


def _remove(name: str, place: int) -> None:
    try:
        # Most are empty folders; and one where something is mounted says that here,
        # before anything of that is touched.
        os.rmdir(name, dir_fd=place)
    except OSError as error:
        if error.errno not in _MORE:
            raise
        removal.remove(name, within=place)
