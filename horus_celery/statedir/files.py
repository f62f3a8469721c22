"""How a file of the state directory is looked for, read, and written whole."""

from __future__ import annotations

import os
import secrets
import shlex
import stat
from contextlib import suppress
from pathlib import Path

from horus_celery.errors import ConfigurationError


def exists(path: Path) -> bool:
    """Whether there is something under this name, through links.

    Raises:
        ConfigurationError: if that cannot be told.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigurationError(f"cannot look at {path}: {words(error)}") from None
    return True


def is_named(path: Path) -> bool:
    """Whether something has this name, be it a link to what is not there."""
    return exists(path) or path.is_symlink()


def require_private(path: Path) -> None:
    if exists(path) and path.is_file() and path.stat().st_mode & 0o077:
        raise ConfigurationError(
            f"others may read {path}: chmod 600 {shlex.quote(str(path))}"
        )


def read(path: Path, *, limit: int, remedy: str) -> str:
    """Return the text of a file; what is none is told with the remedy."""
    try:
        # Looked at first, so that a pipe under this name does not hold us up.
        is_file = stat.S_ISREG(path.stat().st_mode)
        with (path if is_file else Path(os.devnull)).open("rb") as file:
            raw = file.read(limit + 1)
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"cannot read {path}: {words(error)}; {remedy}"
        ) from None
    if not is_file or len(raw) > limit:
        what = f"is larger than {limit} bytes" if is_file else "is not a file"
        raise ConfigurationError(f"{path} {what}: {remedy}")
    return text


def write(path: Path, text: str, *, replace: bool = False) -> None:
    """Write a private file whole or not at all, and so that it survives a power cut."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            draft.replace(path)
        else:
            os.link(draft, path)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {words(error)}") from None
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()


def words(error: Exception) -> str:
    """Say what the system said, without a path or content in it."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return "it is no text"
