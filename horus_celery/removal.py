"""How what has a name in a folder is removed, whatever somebody has put into it.

All is done from the folder's descriptor down, and no link is followed.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from typing import Final

#: How a folder is opened that is to be changed, and that may be no link to one.
FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Characters that are kept of a name: with more, what comes after could be too much.
_BEGINNING: Final = 48


def remove(name: str, *, within: int) -> None:
    """Remove a file, a link or a folder, whatever modes, depth and names it has in it.

    Nothing may be at work in it any more. Of a folder that cannot be removed whole a
    part may lie beside it, under names that begin as its own does.

    Args:
        name: What it is called.
        within: The descriptor of the folder that it lies in.

    Raises:
        OSError: if it is not there, or something in it cannot be removed.
    """
    pending = [name]
    while pending:
        each = pending.pop()
        folder = _open_to_change(each, within)
        if folder is None:
            os.unlink(each, dir_fd=within)
            continue
        try:
            pending += _empty(folder, name, within)
        finally:
            os.close(folder)
        os.rmdir(each, dir_fd=within)


def _empty(folder: int, top: str, beside: int) -> list[str]:
    """Unlink a folder's files; return by which names its folders lie beside the top.

    They are moved to the side, so that depth costs neither stack nor descriptors nor
    names that are too long.
    """
    moved: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
                continue
            with suppress(OSError):
                # Most are empty.
                os.rmdir(entry.name, dir_fd=folder)
                continue
            # A folder must be writable to be moved.
            within = _open_to_change(entry.name, folder)
            if within is not None:
                os.close(within)
            name = f"{top[:_BEGINNING]}-{uuid.uuid4().hex}"
            os.rename(entry.name, name, src_dir_fd=folder, dst_dir_fd=beside)
            moved.append(name)
    return moved


def _open_to_change(name: str, parent: int) -> int | None:
    """Open a folder to be listed and changed; None if it is no folder, but a link, say.

    What a script allows itself there does not count.
    """
    try:
        place = os.open(name, FOLDER | os.O_PATH, dir_fd=parent)
    except NotADirectoryError:
        return None
    try:
        # The way to change the mode of the very folder that was found, and no other.
        os.chmod(f"/proc/self/fd/{place}", 0o700)  # noqa: PTH101
        return os.open(".", FOLDER, dir_fd=place)
    finally:
        os.close(place)
