"""`horus up`: everything on one machine in the foreground, as one command."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NoReturn

import click

from horus_celery.cli import output, signals
from horus_celery.cli.connection import state_option
from horus_celery.errors import HorusError
from horus_celery.processes.lineup import Extent
from horus_celery.processes.platform import Platform
from horus_celery.settings import Settings, load_settings
from horus_celery.statements.keys import read_key_file

#: How often a person is told what happened to the programs.
_NEWS: Final = timedelta(seconds=1)
#: How often the state directory is looked at: a trust bundle ends some day.
_MENDING: Final = timedelta(hours=1)


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), help="The API's; 0 takes a free one."
)
@state_option
@click.option(
    "--redis-url",
    metavar="URL",
    help="A Redis to use instead of our own. One with a password is safer in the"
    " variable HORUS_REDIS_URL: everybody may read a command line.",
)
@click.option("--executors", metavar="A,B", help="Those that get a runner.")
@click.option("--namespace", help="The deployment's name.")
@click.option("--bind-address", metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--config", type=click.Path(path_type=Path), help="The configuration file."
)
def command(
    *,
    port: int | None,
    state_dir: Path | None,
    redis_url: str | None,
    executors: str | None,
    namespace: str | None,
    bind_address: str | None,
    config: Path | None,
) -> None:
    """Start everything on this machine, and end it with Ctrl-C.

    Redis (if none is named), the API, the coordinator of workflows, one runner for
    each executor, and Flower.
    """
    settings = load_settings(
        config=config,
        port=port,
        state_dir=state_dir,
        redis_url=redis_url,
        executors=executors,
        namespace=namespace,
        bind_address=bind_address,
    )
    base = with_config(config)
    with (
        signals.until_asked(),
        running(settings, tell=output.note, base=base) as platform,
    ):
        _tell_ready(platform)
        watch(platform)
    output.note("ended")


def with_config(config: Path | None) -> Mapping[str, str]:
    """Return our environment, in which all programs find the file that was named."""
    if config is None:
        return os.environ
    return {**os.environ, "HORUS_CONFIG": str(config.absolute())}


@contextmanager
def running(
    settings: Settings,
    *,
    tell: Callable[[str], None],
    extent: Extent = Extent.WHOLE,
    base: Mapping[str, str] | None = None,
) -> Iterator[Platform]:
    """Have everything running within a block; it ends as the block does.

    Args:
        settings: What the deployment chose.
        tell: Told what was made or mended at the start.
        extent: How much of it there is to be.
        base: The environment of the programs, before the settings; ours by default.
    """
    platform = Platform(settings, extent=extent, base=base)
    try:
        for note in platform.prepare(now=datetime.now(UTC)):
            tell(note)
        platform.start()
        platform.wait_until_ready()
        yield platform
    finally:
        signals.ignore()
        platform.stop()


@dataclass(slots=True)
class Caretaker:
    """Keeps a state directory valid while everything runs: a bundle ends some day."""

    mend: Callable[..., tuple[str, ...]]
    #: When it looks again; the start has just looked.
    looks_at: datetime

    def look(self, now: datetime) -> tuple[str, ...]:
        """Mend what is due once an hour, and return what a person should know."""
        # A clock that was set back must not put it off for as long.
        if self.looks_at - _MENDING <= now < self.looks_at:
            return ()
        self.looks_at = now + _MENDING
        try:
            return self.mend(now=now)
        except HorusError as error:
            # What runs goes on; the same would not let the next start through.
            return (error.detail,)


def watch(platform: Platform) -> NoReturn:
    """Tell what happens, and keep the state directory valid, until the end."""
    caretaker = Caretaker(platform.mend, datetime.now(UTC) + _MENDING)
    while not signals.is_end_asked():
        time.sleep(_NEWS.total_seconds())
        for note in (*platform.news(), *caretaker.look(datetime.now(UTC))):
            output.note(note)
    raise signals.EndAsked


def _tell_ready(platform: Platform) -> None:
    state = platform.state
    addresses = platform.addresses
    default = state.key_file("default")
    keyid = read_key_file(default).keyid if default.exists() else "none"
    output.fields(
        [
            ("Flower", addresses.flower or "none"),
            ("API", addresses.api),
            ("Key id", keyid),
            ("Try", _first_command(platform)),
        ]
    )


def _first_command(platform: Platform) -> str:
    """Return a line to paste: it finds this deployment from any directory."""
    words = ["horus", "run"]
    if platform.state.path != load_settings(env={}, config=Path(os.devnull)).state_dir:
        words += ["--state-dir", str(platform.state.path)]
    return shlex.join([*words, "-c", 'print("hello")'])
