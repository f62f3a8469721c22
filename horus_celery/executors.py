"""Which executors there can be here: ours, the settings' own, and installed ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from typing import Final

from horus_celery.errors import ConfigurationError
from horus_celery.settings import OUR_EXECUTORS, PROGRAMS, Settings

#: The group of entry points by which an installed package adds executors.
GROUP: Final = "horus.executors"


def names(settings: Settings) -> tuple[str, ...]:
    """Return the names of all executors that a runner of this machine may serve."""
    return tuple(dict.fromkeys(_names(settings)))


def require(settings: Settings, executors: Iterable[str]) -> None:
    """See that there are such executors.

    Raises:
        ConfigurationError: naming one that there is not, with those that there are.
    """
    known = names(settings)
    for executor in executors:
        if executor not in known:
            close = difflib.get_close_matches(executor, known, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ConfigurationError(
                f"there is no executor {executor!r} here{hint}; there are:"
                f" {', '.join(known)}"
            )


def _names(settings: Settings) -> Iterator[str]:
    yield from OUR_EXECUTORS
    yield from (one.name for one in settings.executor_commands)
    yield from sorted(entry_points(group=GROUP).names - {*PROGRAMS})
