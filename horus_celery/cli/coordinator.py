"""`horus coordinator`: the API, and what moves workflows on, in the foreground."""

from __future__ import annotations

from typing import Any

import click

from horus_celery.cli.serving import serve, serving_options
from horus_celery.processes.lineup import Extent


@click.command()
@serving_options
def command(**given: Any) -> None:  # noqa: ANN401 - values of options
    """Start the API, the worker of workflows, and the actors.

    Any number of them may serve the same Redis: what one has done is nothing to do for
    the others.
    """
    serve(Extent.COORDINATOR, **given)
