"""`horus supervisor`: the API and the runners that it manages, in the foreground."""

from __future__ import annotations

from typing import Any

import click

from horus_celery.cli.serving import serve, serving_options
from horus_celery.processes.lineup import Extent


@click.command()
@serving_options
def command(**given: Any) -> None:  # noqa: ANN401 - values of options
    """Start the API and the actors of the configuration, and no more.

    Runners may be elsewhere, and so may more supervisors of the same Redis.
    """
    serve(Extent.SUPERVISOR, **given)
