"""`horus supervisor`: the API and the runners that it manages, in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from horus_celery.cli import output
from horus_celery.cli.connection import state_option
from horus_celery.cli.up import running, until_asked, watch, with_config
from horus_celery.processes.lineup import Extent
from horus_celery.processes.platform import Platform
from horus_celery.settings import Settings, load_settings


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
    """Start the API and the actors of the configuration, and no more.

    Runners may be elsewhere, and so may more supervisors of the same Redis.
    """
    settings = load_settings(
        config=config,
        port=port,
        bind_address=bind_address,
        redis_url=redis_url,
        state_dir=state_dir,
        namespace=namespace,
    )
    serve(settings, Extent.SUPERVISOR, config=config)


def serve(settings: Settings, extent: Extent, *, config: Path | None) -> None:
    """Run so much of a deployment until somebody asks for the end."""
    given = with_config(config)
    with (
        until_asked(),
        running(settings, tell=output.note, extent=extent, base=given) as platform,
    ):
        _tell_ready(platform)
        watch(platform)
    output.note("ended")


def _tell_ready(platform: Platform) -> None:
    names = [one.name for one in platform.lineup.runners]
    output.fields(
        [
            ("API", platform.addresses.api),
            ("State directory", platform.state.path),
            ("Actors", ", ".join(names) or "none"),
        ]
    )
