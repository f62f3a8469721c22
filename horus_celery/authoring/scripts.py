"""Where a script comes from: a file, whose name says what runs it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from horus_celery.errors import ConfigurationError

#: Which executor runs a file, by its name.
EXECUTORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".sh": "system",
        ".bash": "system",
        ".py": "python",
        ".v": "v",
        ".hero": "hero",
        ".heroscript": "hero",
        ".hs": "hero",
    }
)
#: Names of files that several executors could run.
_SEVERAL: Final[Mapping[str, str]] = MappingProxyType({".rhai": "osis or sal"})


def executor_for(file: Path) -> str | None:
    """Return the executor that a file's name stands for, or None."""
    return EXECUTORS.get(file.suffix)


def usual_executor(file: Path | None) -> str:
    """Return the executor of a script for which neither anybody nor its file says one.

    Raises:
        ConfigurationError: if its file is for one of several others.
    """
    if file is not None and file.suffix in _SEVERAL:
        raise ConfigurationError(
            f"the script {file} may be for {_SEVERAL[file.suffix]}: name the executor"
        )
    return "python"


def read_script(file: Path) -> str:
    """Return the text of a script.

    Raises:
        ConfigurationError: if there is no such file, or it is no text.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the script {file.absolute()}: {os.strerror(error.errno or 0)}"
        ) from None
    return text_of(raw, str(file))


def text_of(raw: bytes, name: str) -> str:
    """Return the text of a script that was read from what has this name.

    Raises:
        ConfigurationError: if it is no text.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"the script {name} is not UTF-8 text") from None
