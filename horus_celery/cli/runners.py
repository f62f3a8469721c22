"""`horus runners`: who runs jobs, and starting and stopping those managed here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from horus_celery.cli import output
from horus_celery.cli.connection import call_options, reach
from horus_celery.instants import from_ms


@click.group()
def command() -> None:
    """Look at runners; start and stop those that the supervisor manages."""


@command.command(name="list")
@call_options
def list_runners(*, url: str | None, state_dir: Path | None, as_json: bool) -> None:
    """List the runners and how they do."""
    with reach("user", url=url, state_dir=state_dir) as client:
        runners = client.call("list_runners")
    if as_json:
        output.data(runners)
        return
    told = [_told(runner) for runner in runners]
    output.table(
        ["name", "status", "executor", "contexts", "running", "queued", "last seen"],
        [
            [
                *(one["name"], one["status"], one["executor"], one["contexts"]),
                f"{one['running']}/{one['concurrency']}",
                *(one["queued"], one["last seen"]),
            ]
            for one in told
        ],
    )


@command.command()
@click.argument("name")
@call_options
def status(
    *, name: str, url: str | None, state_dir: Path | None, as_json: bool
) -> None:
    """Show how the runner NAME does."""
    with reach("user", url=url, state_dir=state_dir) as client:
        runner = client.call("get_runner_status", name=name)
    _show(runner, as_json=as_json)


@command.command()
@click.argument("name")
@call_options
def start(*, name: str, url: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Start the runner NAME, which the supervisor manages."""
    with reach("admin", url=url, state_dir=state_dir) as client:
        runner = client.call("start_runner", name=name)
    _show(runner, as_json=as_json)


@command.command()
@click.argument("name")
@call_options
def stop(*, name: str, url: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Stop the runner NAME once it has finished what it runs."""
    with reach("admin", url=url, state_dir=state_dir) as client:
        runner = client.call("stop_runner", name=name)
    _show(runner, as_json=as_json)


@command.command()
@click.argument("name")
@click.option("--lines", type=click.IntRange(1, 10_000), default=200, show_default=True)
@call_options
def logs(
    *, name: str, lines: int, url: str | None, state_dir: Path | None, as_json: bool
) -> None:
    """Show the last lines of the log of the runner NAME."""
    with reach("admin", url=url, state_dir=state_dir) as client:
        found = client.call("get_runner_logs", name=name, lines=lines)
    if as_json:
        output.data(found)
        return
    for one in found:
        output.line(output.printable(one, keep="\t"))


@command.command()
@click.argument("name")
@call_options
def remove(
    *, name: str, url: str | None, state_dir: Path | None, as_json: bool
) -> None:
    """Take the runner NAME off the list; one that is managed is stopped first."""
    with reach("admin", url=url, state_dir=state_dir) as client:
        runner = client.call("remove_runner", name=name)
    _show(runner, as_json=as_json)


def _show(runner: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.data(runner)
    else:
        output.fields(_told(runner).items())


def _told(runner: Mapping[str, Any]) -> dict[str, Any]:
    """Return a runner as a person reads it."""
    seen = runner["last_seen"]
    return {
        "name": runner["name"],
        "status": runner["status"],
        "executor": runner["executor"],
        "contexts": ",".join(runner["contexts"]),
        "concurrency": runner["concurrency"],
        "running": runner["running"],
        "queued": runner["queued"],
        "last seen": None if seen is None else f"{from_ms(seen):%Y-%m-%d %H:%M:%S} UTC",
        "managed by": runner["process_manager"],
    }
