"""`horus key`: make and show the keys that sign jobs."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from horus_celery.cli import output
from horus_celery.cli.connection import (
    existing_state,
    json_option,
    read_key,
    state_option,
)
from horus_celery.statements.keys import KeyPair, write_key_file

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}")


@click.group()
def command() -> None:
    """Make and show the keys that sign jobs."""


@command.command()
@click.argument("name")
@state_option
@json_option
def new(*, name: str, state_dir: Path | None, as_json: bool) -> None:
    """Make the key NAME; nobody believes it before it is granted something."""
    if not _NAME.fullmatch(name):
        raise click.UsageError("a key's name is made of letters, digits and ._@:-")
    state = existing_state(state_dir)
    pair = KeyPair.generate()
    with suppress(OSError):  # what is wrong is told where the file is written
        state.keys.mkdir(mode=0o700, exist_ok=True)
    write_key_file(state.key_file(name), pair)
    _show(name, pair, as_json=as_json)
    if not as_json:
        output.note(
            f"to let it sign: horus trust grant --context {name} --caller {name}"
            f" --key {name}"
        )


@command.command(name="list")
@state_option
@json_option
def list_keys(*, state_dir: Path | None, as_json: bool) -> None:
    """List the keys of the state directory."""
    state = existing_state(state_dir)
    names = sorted(path.stem for path in state.keys.glob("*.key"))
    values = [_told(name, read_key(state, name)) for name in names]
    if as_json:
        output.data(values)
        return
    output.table(
        ["name", "keyid", "public"],
        [[value["name"], value["keyid"], value["public"]] for value in values],
    )


@command.command()
@click.argument("name")
@state_option
@json_option
def show(*, name: str, state_dir: Path | None, as_json: bool) -> None:
    """Show the public part of the key NAME."""
    _show(name, read_key(existing_state(state_dir), name), as_json=as_json)


def _told(name: str, pair: KeyPair) -> dict[str, Any]:
    return {"name": name, "keyid": pair.keyid, "public": pair.public.hex()}


def _show(name: str, pair: KeyPair, *, as_json: bool) -> None:
    values = _told(name, pair)
    if as_json:
        output.data(values)
    else:
        output.fields(values.items())
