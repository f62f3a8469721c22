"""`horus config`: the settings as they count here, and where each was chosen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import click
from pydantic import SecretStr

from horus_celery.cli import output
from horus_celery.cli.connection import json_option, state_option
from horus_celery.settings import (
    REDIS_ADDRESSES,
    GivenSecret,
    Origin,
    Settings,
    load_with_origins,
)
from horus_celery.store.address import read_address

#: What is shown in place of a secret.
MASK: Final = "***"


@click.group()
def command() -> None:
    """Show the settings, and where each of them comes from."""


@command.command()
@click.option(
    "--config", type=click.Path(path_type=Path), help="The configuration file."
)
@state_option
@json_option
def show(*, config: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Show every setting as it counts here; secrets are masked.

    A flag wins over a variable, a variable over horus.toml, and that over the default.
    """
    settings, origins = load_with_origins(config=config, state_dir=state_dir)
    values = masked(settings)
    if as_json:
        output.data(
            {
                name: {"value": value, **_origin(origins[name])}
                for name, value in values.items()
            }
        )
        return
    output.table(
        ["setting", "value", "origin"],
        [[name, _written(value), origins[name]] for name, value in values.items()],
    )


def masked(settings: Settings) -> dict[str, Any]:
    """Return the settings by name as JSON values, without a secret."""
    return {
        name: _masked(name, getattr(settings, name)) for name in Settings.model_fields
    }


def _masked(name: str, value: Any) -> Any:  # noqa: ANN401 - whatever a setting is
    match value:
        case str() if name in REDIS_ADDRESSES:
            return _without_password(value)
        case SecretStr():
            # The name of a login is none of its secrets.
            user, colon, _ = value.get_secret_value().partition(":")
            return f"{user}:{MASK}" if colon else MASK
        case GivenSecret():
            return {"secret": MASK, "contexts": list(value.contexts)}
        case Mapping():
            return {key: _masked(name, one) for key, one in value.items()}
        case tuple():
            return [_masked(name, item) for item in value]
        case Path():
            return str(value)
        case None | bool() | int() | str():
            return value
        case _:
            return value.model_dump(mode="json")


def _without_password(redis_url: str) -> str:
    address = read_address(redis_url)
    login = address.login
    if login.username is None and login.password is None:
        return str(address)
    return str(address).replace("://", f"://{login.username or ''}:{MASK}@", 1)


def _origin(origin: Origin) -> dict[str, Any]:
    return {"source": origin.source.value, "name": origin.name, "line": origin.line}


def _written(value: object) -> str:
    """Write a value for a person, much as a variable would hold it."""
    match value:
        case None:
            return ""
        case str():
            return value
        case list() if _are_words(value):
            return ",".join(value)
        case _:
            return json.dumps(value, ensure_ascii=False)


def _are_words(items: Iterable[object]) -> bool:
    return all(isinstance(item, str) for item in items)
