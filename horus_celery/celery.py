"""The Celery application, found by `celery -A horus_celery`.

Whatever Celery starts from it, a worker above all, gets the locks of `screening`; what
is wrong with the configuration is said in one line.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from celery import Celery
from celery.signals import celeryd_init

from horus_celery import screening
from horus_celery.errors import ConfigurationError, HorusError
from horus_celery.news import News
from horus_celery.settings import Settings, load_settings

#: Where the top-level modules of this distribution lie.
_HOME: Final = Path(__file__).resolve().parent.parent
_COLUMNS: Final = "name,args,state,received,started,runtime,worker"


def own_module(name: str) -> ModuleType:
    """Import a top-level module of ours, and nothing else that has its name.

    Celery looks into the working directory first, where anything may lie.

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


def make_app() -> Celery:
    """Make the application from our own `celeryconfig`.

    Raises:
        ConfigurationError: if it, or a setting, is not as it must be.
    """
    configuration = own_module("celeryconfig")
    made = Celery("horus", fixups=[], events=News)
    made.config_from_object(configuration)
    return made


def flower_defaults(settings: Settings) -> dict[str, str]:
    """Return Flower's options as the variables by which it takes them.

    Its pages show what runs, and it could call tasks: so it is read-only, and listens
    on loopback unless it asks for a password.
    """
    defaults = {
        "FLOWER_ADDRESS": settings.flower_address,
        "FLOWER_PORT": str(settings.flower_port),
        "FLOWER_READ_ONLY": "true",
        # Runners send them anyway, and nobody would hear Flower asking for them.
        "FLOWER_ENABLE_EVENTS": "false",
        "FLOWER_TASKS_COLUMNS": _COLUMNS,
    }
    if settings.flower_basic_auth is not None:
        login = settings.flower_basic_auth.get_secret_value()
        return {**defaults, "FLOWER_BASIC_AUTH": login}
    return defaults


@celeryd_init.connect(weak=False)
def _lock_worker(**_: Any) -> None:  # noqa: ANN401 - whatever the signal carries
    # In worker processes only: Flower knows no other transport than kombu's.
    screening.install()


def _start() -> Celery:
    screening.be_prompt()
    try:
        own_module("workers")
        made = make_app()
        defaults = flower_defaults(load_settings())
    except HorusError as error:
        # Celery's command line shows the traceback of any other exception.
        raise SystemExit(f"horus: {error}") from None
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    return made


app = _start()
