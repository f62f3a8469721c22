"""`horus init`: make the state directory without starting anything."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from horus_celery.cli import output
from horus_celery.cli.connection import state_option
from horus_celery.crew import whole_crew
from horus_celery.settings import load_settings
from horus_celery.statedir import StateDirectory


@click.command()
@state_option
@click.option("--executors", metavar="A,B", help="The executors that get a runner.")
def command(*, state_dir: Path | None, executors: str | None) -> None:
    """Make the state directory: keys, secrets, trust bundle.

    What is there is kept; a trust bundle that ends soon is signed again.
    """
    settings = load_settings(state_dir=state_dir, executors=executors)
    state = StateDirectory(settings.state_dir)
    notes = state.initialise(
        namespace=settings.namespace,
        runners=whole_crew(settings).wanted,
        now=datetime.now(UTC),
    )
    for note in notes:
        output.line(note)
    if not notes:
        output.line(f"{state.path} is as it must be")
