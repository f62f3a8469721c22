"""Whether the files that settings name can be used by this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from horus_celery.settings.lines import Place
from horus_celery.settings.values import Settings


def unusable(settings: Settings) -> Iterator[tuple[Place, str]]:
    """Yield each setting whose file cannot be used, and what is said of it."""
    for name in ("tls_cert", "tls_key"):
        path = getattr(settings, name)
        if path is not None and (why := _why_unreadable(path)):
            yield (name,), f"names {path}, which cannot be read: {why}"
    for index, actor in enumerate(settings.actors):
        path = actor.binary_path
        if path is not None and not _is_program(path):
            yield (
                ("actors", index, "binary_path"),
                f"names {path}, which is no file that this user may execute",
            )


def _why_unreadable(path: Path) -> str:
    try:
        with path.open("rb"):
            return ""
    except OSError as error:
        return os.strerror(error.errno or 0)


def _is_program(path: Path) -> bool:
    try:
        return path.is_file() and os.access(path, os.X_OK)
    except OSError:
        return False
