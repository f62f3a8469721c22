"""`horus secret`: who may call the API."""

from __future__ import annotations

from pathlib import Path

import click

from horus_celery.cli import output
from horus_celery.cli.connection import call_options, reach


@click.group()
def command() -> None:
    """Add, remove and list the secrets that open the API."""


@command.command()
@click.option(
    "--scope",
    type=click.Choice(["user", "admin", "register"]),
    required=True,
    help="What it opens: jobs; everything; announcing a runner.",
)
@click.option(
    "--context",
    "contexts",
    metavar="CONTEXT",
    multiple=True,
    help="Bind a user secret to this context; may be given again. Without it, to none.",
)
@call_options
def add(
    *,
    scope: str,
    contexts: tuple[str, ...],
    url: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Make a secret and print it, this once, alone on standard output."""
    with reach("admin", url=url, state_dir=state_dir) as client:
        made = client.call("add_secret", scope=scope, contexts=list(contexts) or ["*"])
    if as_json:
        output.data(made)
        return
    output.line(made["secret"])
    output.note(
        f"this is {made['id']}; it is not shown again. `horus secret remove"
        f" {made['id']}` takes it back"
    )


@command.command()
@click.argument("secret_id", metavar="ID")
@call_options
def remove(
    *, secret_id: str, url: str | None, state_dir: Path | None, as_json: bool
) -> None:
    """Have the secret of this ID open nothing any more; `list` shows the ids."""
    with reach("admin", url=url, state_dir=state_dir) as client:
        removed = client.call("remove_secret", id=secret_id)
    if as_json:
        output.data(removed)
    else:
        output.note(f"removed {output.printable(secret_id)}")


@command.command(name="list")
@call_options
def list_secrets(*, url: str | None, state_dir: Path | None, as_json: bool) -> None:
    """List the secrets: their ids, scopes and contexts, never themselves."""
    with reach("admin", url=url, state_dir=state_dir) as client:
        known = client.call("list_secrets")
    if as_json:
        output.data(known)
        return
    output.table(
        ["id", "scope", "contexts"],
        [[one["id"], one["scope"], ",".join(one["contexts"])] for one in known],
    )
