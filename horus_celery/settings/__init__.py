"""Every setting, read once: flags over `HORUS_*` variables over `horus.toml`."""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from horus_celery.errors import ConfigurationError
from horus_celery.settings.files import missing, unusable
from horus_celery.settings.kinds import Name, NameOrAll, Port
from horus_celery.settings.lines import Place
from horus_celery.settings.sources import (
    FILE_NAME,
    OTHER_VARIABLES,
    PREFIX,
    Given,
    Origin,
    Source,
    find_file,
    from_environment,
    from_file,
    from_flags,
)
from horus_celery.settings.values import (
    DEFAULT_STATE_DIR,
    OUR_EXECUTORS,
    PROGRAMS,
    REDIS_ADDRESSES,
    Actor,
    GivenSecret,
    OwnExecutor,
    Settings,
)
from horus_celery.settings.words import complaint, shown

__all__ = [
    "DEFAULT_STATE_DIR",
    "FILE_NAME",
    "OTHER_VARIABLES",
    "OUR_EXECUTORS",
    "PREFIX",
    "PROGRAMS",
    "REDIS_ADDRESSES",
    "Actor",
    "GivenSecret",
    "Name",
    "NameOrAll",
    "Origin",
    "OwnExecutor",
    "Port",
    "Settings",
    "Source",
    "find_file",
    "load_settings",
    "load_with_origins",
]


def load_settings(
    *,
    env: Mapping[str, str] | None = None,
    config: Path | None = None,
    **flags: object,
) -> Settings:
    """Read file, environment and flags; a flag that is None is absent.

    The file is `config`, else the one that `HORUS_CONFIG` names, else `horus.toml` in
    the working directory, else `horus.toml` in the state directory, else none.

    Raises:
        ConfigurationError: naming the setting, where it stands, and what is wrong.
    """
    return load_with_origins(env=env, config=config, **flags)[0]


def load_with_origins(
    *,
    env: Mapping[str, str] | None = None,
    config: Path | None = None,
    **flags: object,
) -> tuple[Settings, Mapping[str, Origin]]:
    """Read the settings as `load_settings` does, and where each of them was chosen.

    Raises:
        ConfigurationError: naming the setting, where it stands, and what is wrong.
    """
    env = os.environ if env is None else env
    told = from_flags(flags)
    named = from_environment(env)
    path = config or find_file(env=env, state_dir=told.values.get("state_dir"))
    written = from_file(path) if path is not None else Given(source=Source.FILE)
    strongest_first = (told, named, written)

    def origin(place: Place) -> Origin:
        for given in strongest_first:
            if place[0] in given.values:
                return given.origin(place)
        return Origin()

    chosen = ChainMap(*(dict(given.values) for given in strongest_first))
    try:
        settings = Settings.model_validate(dict(chosen))
    except ValidationError as error:
        raise ConfigurationError(complaint(error, origin)) from None
    # What is handed on to the programs of a deployment stands in variables: one that
    # needs it says so, and all others go on without.
    chosen_here = (
        found
        for found in missing(settings)
        if origin(found[0]).source is not Source.VARIABLE
    )
    for place, text in chain(unusable(settings), chosen_here):
        raise ConfigurationError(f"{origin(place)}: {shown(place)} {text}")
    return settings, {name: origin((name,)) for name in Settings.model_fields}
