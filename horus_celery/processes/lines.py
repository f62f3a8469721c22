"""The last lines of what a program wrote, as text that can be shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

#: Bytes that are read at most, however many lines are asked for.
MAX_BYTES: Final = 1024 * 1024
#: Characters of a line that are kept.
MAX_LINE: Final = 4096
#: What a terminal takes as a command: colours, titles, movements.
_ESCAPES: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-Z\\-_]"
)


def last_lines(path: Path, *, lines: int) -> tuple[str, ...]:
    """Return the last lines of a file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_BYTES))
            text = file.read(MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ()
    found = text.split("\n")
    # The first may have lost its beginning, and behind the last newline is no line.
    found = found[1 if size > MAX_BYTES else 0 : None if found[-1] else -1]
    return clean(found[-lines:] if lines > 0 else ())


def clean(lines: Iterable[str]) -> tuple[str, ...]:
    """Return lines with nothing in them that a terminal would act on."""
    return tuple(_clean(line) for line in lines)


def _clean(line: str) -> str:
    text = _ESCAPES.sub("", line).replace("\t", "    ").rstrip("\r")
    return "".join(char if char.isprintable() else "\ufffd" for char in text)[:MAX_LINE]
