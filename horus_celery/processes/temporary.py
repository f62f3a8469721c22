"""Where the programs of a deployment have their temporary files.

What is killed leaves some behind: they lie in the state directory, for this user alone,
and the next start removes them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from horus_celery import removal
from horus_celery.errors import ConfigurationError

#: The variable by which programs find the place.
VARIABLE: Final = "TMPDIR"
#: Why what has a name is no empty folder.
_MORE: Final = frozenset({errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST})


def make_empty(folder: Path) -> tuple[str, ...]:
    """Make the place, or empty it; return what a person should know of that.

    The caller knows that no program of an earlier run is at work there.

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
