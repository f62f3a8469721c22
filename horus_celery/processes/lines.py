"""The last lines of what a program wrote, as text that can be shown.

A log that has become too long is put aside under its name and `.1`, in the middle of a
line as well; what stands there comes before what stands in the new one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

#: Bytes that are read at most, however many lines are asked for.
MAX_BYTES: Final = 1024 * 1024
#: Characters of a line that are kept.
MAX_LINE: Final = 4096
#: What a terminal takes as a command: colours, titles, movements.
_ESCAPES: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-Z\\-_]"
)


def last_lines(path: Path, *, lines: int) -> tuple[str, ...]:
    """Return the last lines of a log; none if it cannot be read."""
    latest = _end_of(path, MAX_BYTES)
    room = MAX_BYTES - len(latest.read)
    earlier = _end_of(path.with_name(f"{path.name}.1"), room)
    if earlier.inode == latest.inode:
        # It was put aside between the two looks.
        earlier = _End()
    read = earlier.read + latest.read
    found = read.decode("utf-8", "replace").split("\n")
    # The first may have lost its beginning, and behind the last newline is no line.
    is_cut = earlier.is_cut or latest.is_cut
    found = found[1 if is_cut else 0 : None if found[-1] else -1]
    return clean(found[-lines:] if lines > 0 else ())


def clean(lines: Iterable[str]) -> tuple[str, ...]:
    """Return lines with nothing in them that a terminal would act on."""
    return tuple(_clean(line) for line in lines)


class _End(NamedTuple):
    """The end of a file, or of one that cannot be read."""

    read: bytes = b""
    #: Whether there is more before it.
    is_cut: bool = False
    inode: int = 0


def _end_of(path: Path, most: int) -> _End:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most))
            inode = os.fstat(file.fileno()).st_ino
            return _End(file.read(most), is_cut=size > most, inode=inode)
    except OSError:
        return _End()


def _clean(line: str) -> str:
    text = _ESCAPES.sub("", line).replace("\t", "    ").rstrip("\r")
    return "".join(char if char.isprintable() else "\ufffd" for char in text)[:MAX_LINE]
