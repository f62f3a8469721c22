"""How a part of a deployment is served in the foreground: its options, and its run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from horus_celery.cli import output
from horus_celery.cli.connection import state_option
from horus_celery.cli.signals import until_asked
from horus_celery.cli.up import running, watch, with_config
from horus_celery.processes.lineup import Extent
from horus_celery.processes.platform import Platform
from horus_celery.settings import load_settings

_F = TypeVar("_F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--port", type=click.IntRange(0, 65535), help="The API's; 0 takes a free one."
    ),
    click.option("--bind-address", metavar="ADDRESS", help="Where to listen."),
    click.option(
        "--redis-url",
        metavar="URL",
        help="The Redis to use; without one a Redis of our own is started. One with a"
        " password is safer in the variable HORUS_REDIS_URL: everybody may read a"
        " command line.",
    ),
    state_option,
    click.option(
        "--config", type=click.Path(path_type=Path), help="The configuration file."
    ),
    click.option("--namespace", help="The deployment's name."),
)


def serving_options(function: _F) -> _F:
    """Add the options that `serve` takes to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def serve(extent: Extent, *, config: Path | None, **given: Any) -> None:  # noqa: ANN401 - values of options
    """Run so much of a deployment until somebody asks for the end."""
    settings = load_settings(config=config, **given)
    base = with_config(config)
    with (
        until_asked(),
        running(settings, tell=output.note, extent=extent, base=base) as platform,
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
