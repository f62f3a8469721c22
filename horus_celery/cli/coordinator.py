"""`horus coordinator`: the API, and what moves workflows on, in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from horus_celery.cli.connection import state_option
from horus_celery.cli.supervisor import serve
from horus_celery.processes.lineup import Extent
from horus_celery.settings import load_settings


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), help="The API's; 0 takes a free one."
)
@click.option("--bind-address", metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--redis-url",
    metavar="URL",
    help="The Redis to use; without one a Redis of our own is started. One with a"
    " password is safer in the variable HORUS_REDIS_URL: everybody may read a command"
    " line.",
)
@state_option
@click.option(
    "--config", type=click.Path(path_type=Path), help="The configuration file."
)
@click.option("--namespace", help="The deployment's name.")
def command(
    *,
    port: int | None,
    bind_address: str | None,
    redis_url: str | None,
    state_dir: Path | None,
    config: Path | None,
    namespace: str | None,
) -> None:
    """Start the API, the worker of workflows, and the actors.

    Any number of them may serve the same Redis: what one has done is nothing to do for
    the others.
    """
    settings = load_settings(
        config=config,
        port=port,
        bind_address=bind_address,
        redis_url=redis_url,
        state_dir=state_dir,
        namespace=namespace,
    )
    serve(settings, Extent.COORDINATOR, config=config)
