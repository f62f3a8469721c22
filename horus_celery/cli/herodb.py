"""`horus herodb`: the contexts of HeroDB, who is let in, and keys of encryption."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import click

from horus_celery.cli import output
from horus_celery.cli.connection import call_options, reach

_UNKNOWN: Final = "-"


def _limit(_context: click.Context, _option: click.Parameter, given: str) -> int | None:
    if given == "none":
        return None
    if given.isascii() and given.isdecimal():
        return int(given)
    raise click.BadParameter("it is a whole number, or none")


#: Both have to be said: who looks with half a command must not take a limit away.
_LIMIT: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "required": True,
        "callback": _limit,
        "metavar": "N|none",
        "help": "How many; none is no limit.",
    }
)


@click.group()
def command() -> None:
    """Look after HeroDB: contexts, who is let in, keys of encryption."""


@command.command()
@call_options
def contexts(*, url: str | None, state_dir: Path | None, as_json: bool) -> None:
    """List the contexts: what each holds, and what it may."""
    with reach("admin", url=url, state_dir=state_dir) as client:
        known = client.call("herodb.list_contexts")
    if as_json:
        output.data(known)
        return
    columns = ["context", "bytes", "max_bytes", "keys", "max_keys", "users"]
    output.table(columns, [[_shown(one[name]) for name in columns] for one in known])
    for one in known:
        if one["over_quota"]:
            name = output.printable(one["context"])
            output.note(f"{name} holds more than it may: it can be read and deleted")


@command.command()
@click.argument("context")
@click.option("--max-bytes", **_LIMIT)
@click.option("--max-keys", **_LIMIT)
@call_options
def quota(
    *,
    context: str,
    max_bytes: int | None,
    max_keys: int | None,
    url: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Set what a context may hold."""
    asked = {"context": context, "max_bytes": max_bytes, "max_keys": max_keys}
    with reach("admin", url=url, state_dir=state_dir) as client:
        changed = client.call("herodb.set_quota", **asked)
    if as_json:
        output.data(changed)
    else:
        output.note(f"the quota of {output.printable(context)} is set")


@command.command()
@click.argument("context")
@call_options
def users(
    *, context: str, url: str | None, state_dir: Path | None, as_json: bool
) -> None:
    """List those who were let into a context."""
    with reach("admin", url=url, state_dir=state_dir) as client:
        known = client.call("herodb.list_users", context=context)
    if as_json:
        output.data(known)
        return
    columns = ["name", "role", "login"]
    output.table(columns, [[one[name] for name in columns] for one in known])


@command.command(name="let-in")
@click.argument("context")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["read", "write", "admin"]),
    required=True,
    help="What he may do to the data; admin also declares object models.",
)
@call_options
def let_in(
    *,
    context: str,
    name: str,
    role: str,
    url: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Let a program in and print its password, this once, alone on standard output."""
    with reach("admin", url=url, state_dir=state_dir) as client:
        made = client.call("herodb.add_user", context=context, name=name, role=role)
    if as_json:
        output.data(made)
        return
    output.line(made["password"])
    output.note(
        f"he logs in as {output.printable(made['login'])} at"
        f" {output.printable(made['address'])}; his keys begin with"
        f" {output.printable(made['prefix'])}"
    )


@command.command(name="let-out")
@click.argument("context")
@click.argument("name")
@call_options
def let_out(
    *, context: str, name: str, url: str | None, state_dir: Path | None, as_json: bool
) -> None:
    """Let a program in no longer; its connections end."""
    with reach("admin", url=url, state_dir=state_dir) as client:
        removed = client.call("herodb.remove_user", context=context, name=name)
    if as_json:
        output.data(removed)
    else:
        output.note(f"{output.printable(name)} is let in no longer")


@command.command()
@click.argument("context")
@call_options
def keys(
    *, context: str, url: str | None, state_dir: Path | None, as_json: bool
) -> None:
    """List the keys of encryption that a context has on the supervisor's node."""
    with reach("admin", url=url, state_dir=state_dir) as client:
        known = client.call("herodb.list_keys", context=context)
    if as_json:
        output.data(known)
        return
    rows = [[one["kind"], one["name"], one["ids"][0], *_newest(one)] for one in known]
    output.table(["kind", "name", "id", "public half"], rows)


def _add_key_command(name: str, method: str, does: str) -> None:
    """Add a command whose method of the API gives a key a form."""

    @command.command(name=name, help=does)
    @click.argument("context")
    @click.argument("name")
    @click.option(
        "--kind",
        type=click.Choice(["secret", "age", "sign"]),
        default="secret",
        show_default=True,
        help="What it is for: values, messages, signatures.",
    )
    @call_options
    def run(
        *, url: str | None, state_dir: Path | None, as_json: bool, **asked: str
    ) -> None:
        with reach("admin", url=url, state_dir=state_dir) as client:
            key = client.call(method, **asked)
        if as_json:
            output.data(key)
        else:
            output.line(*_newest(key))
            output.note(f"its id is {output.printable(key['ids'][0])}")


_add_key_command(
    "make-key",
    "herodb.create_key",
    "Make a key of encryption; it never leaves the supervisor's node.",
)
_add_key_command(
    "rotate-key",
    "herodb.rotate_key",
    "Give a key a new form; what its old ones did can still be read.",
)


def _newest(key: dict[str, Any]) -> list[str]:
    """Return the public half that is used from now on."""
    return [*key["publics"][:1]] or [_UNKNOWN]


def _shown(value: str | int | None) -> str:
    return _UNKNOWN if value is None else str(value)
