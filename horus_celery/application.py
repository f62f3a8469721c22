"""How a Celery application of ours is made: from our own settings alone.

Celery looks into the working directory first, where anything may lie.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from celery import Celery

from horus_celery.errors import ConfigurationError
from horus_celery.news import News

#: Where the top-level modules of this distribution lie.
_HOME: Final = Path(__file__).resolve().parent.parent


def own_module(name: str) -> ModuleType:
    """Import a top-level module of ours, and nothing else that has its name.

    Raises:
        ConfigurationError: if another module of that name was imported before.
    """
    sys.path.insert(0, str(_HOME))
    try:
        module = importlib.import_module(name)
    finally:
        sys.path.remove(str(_HOME))
    found = Path(module.__file__ or "").resolve()
    if found not in (_HOME / f"{name}.py", _HOME / name / "__init__.py"):
        raise ConfigurationError(
            f"{found} took the place of the {name} of Horus: start this in another"
            " directory, such as the state directory"
        )
    return module


def make_app(**changes: Any) -> Celery:  # noqa: ANN401 - settings of Celery
    """Make an application from our own `celeryconfig`.

    Args:
        changes: Settings that are others for this application.

    Raises:
        ConfigurationError: if it, or a setting, is not as it must be.
    """
    configuration = own_module("celeryconfig")
    made = Celery("horus", fixups=[], events=News)
    made.config_from_object(configuration)
    made.conf.update(changes)
    return made
