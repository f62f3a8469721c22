"""`horus sal`: the system functions that scripts may call."""

from __future__ import annotations

import subprocess
import sys

import click

from horus_celery.cli import output
from horus_celery.cli.connection import json_option
from horus_celery.errors import ConfigurationError


@click.group()
def command() -> None:
    """Look up the system functions that scripts may call."""


@command.command()
@click.argument("module", required=False)
@json_option
def docs(*, module: str | None, as_json: bool) -> None:
    """Print the functions of a module of SAL, or of all, with what they take."""
    # The core does not know the executors: what their scripts may call, they say.
    words = [sys.executable, "-m", "workers.sal.docs"]
    words += ["--json"] if as_json else []
    words += ["--", module] if module is not None else []
    asked = subprocess.run(  # noqa: S603 - our own argv
        words, cwd="/", check=False, capture_output=True, text=True
    )
    if asked.returncode:
        said = asked.stderr.strip().splitlines() or ["install Horus again"]
        raise ConfigurationError(said[-1].partition("error: ")[2] or said[-1])
    output.text(asked.stdout)
