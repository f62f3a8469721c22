"""The Celery application, found by `celery -A horus_celery`.

Whatever Celery starts from it, a worker above all, gets the locks of `screening`; what
is wrong with the configuration is said in one line.
"""

from __future__ import annotations

import os
from typing import Any, Final

from celery import Celery
from celery.signals import celeryd_init

from horus_celery import diary, screening
from horus_celery.application import make_app, own_module
from horus_celery.errors import HorusError
from horus_celery.news import take_texts_only
from horus_celery.settings import Settings, load_settings

_COLUMNS: Final = "name,args,state,received,started,runtime,worker"


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
    diary.for_libraries()
    screening.be_prompt()
    take_texts_only()
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
