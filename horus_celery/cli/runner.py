"""`horus runner`: one runner in the foreground, in place of this process."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click

from horus_celery import redis_server
from horus_celery.bundle import WantedRunner
from horus_celery.cli import output
from horus_celery.cli.connection import state_option
from horus_celery.crew import runner_name
from horus_celery.errors import ConfigurationError
from horus_celery.executors import require
from horus_celery.processes import temporary
from horus_celery.processes.programs import environment, worker_command
from horus_celery.settings import Settings, load_settings
from horus_celery.statedir import StateDirectory


@click.command()
@click.argument("executors", metavar="EXECUTOR[,EXECUTOR]")
@click.option("--name", help="The runner's; by default EXECUTOR_runner_1.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1024),
    help="Jobs at a time; by default one for each processor.",
)
@state_option
@click.option(
    "--redis-url",
    metavar="URL",
    help="The Redis to use; by default the one of what is up on the state directory."
    " One with a password is safer in the variable HORUS_REDIS_URL: everybody may read"
    " a command line.",
)
def command(
    *,
    executors: str,
    name: str | None,
    concurrency: int | None,
    state_dir: Path | None,
    redis_url: str | None,
) -> NoReturn:
    """Start one runner in the foreground, and end it with Ctrl-C.

    Its key and its entry in the trust bundle are made where the root key lies; bring
    both to any other machine.
    """
    settings = load_settings(
        state_dir=state_dir, redis_url=redis_url, concurrency=concurrency
    )
    served = [word.strip() for word in executors.split(",") if word.strip()]
    if not served:
        raise click.UsageError("name an EXECUTOR")
    require(settings, served)
    name = name or runner_name(served[0])
    worker = worker_command(name, served, concurrency=concurrency)
    state = StateDirectory(settings.state_dir)
    _require_redis(settings, state)
    notes = state.initialise(
        namespace=settings.namespace,
        runners=[_wanted(settings, name, served)],
        now=datetime.now(UTC),
    )
    for note in notes:
        output.note(note)
    _become(worker, settings, state)


def _wanted(settings: Settings, name: str, executors: Sequence[str]) -> WantedRunner:
    """Return what its entry must say: an actor's contexts, else whatever it says."""
    bound = {actor.name: actor.contexts for actor in settings.actors}
    return WantedRunner(name=name, executors=tuple(executors), contexts=bound.get(name))


def _require_redis(settings: Settings, state: StateDirectory) -> None:
    if settings.redis_url is not None:
        redis_server.require_usable(settings.redis_url, namespace=settings.namespace)
    elif not redis_server.answers(state.redis_socket):
        raise ConfigurationError(
            f"nothing is up on {state.path} whose Redis could be used: name one with"
            f" --redis-url, or start {state.command('up')} first"
        )


def _become(worker: list[str], settings: Settings, state: StateDirectory) -> NoReturn:
    given = environment(settings)
    try:
        given[temporary.VARIABLE] = str(temporary.make_own(state.temporary))
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {state.temporary}: {error.strerror}; mend that, or choose"
            " another state directory with --state-dir"
        ) from None
    program = shutil.which(worker[0], path=given["PATH"])
    if program is None:
        raise ConfigurationError("Celery is missing: install Horus again")
    sys.stdout.flush()
    os.chdir(state.path)
    os.execve(program, worker, given)  # noqa: S606 - argv is a list that we built
