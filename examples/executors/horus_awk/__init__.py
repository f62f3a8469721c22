"""The executor `awk`: the payload is a program for awk."""

from __future__ import annotations

from horus_celery.settings import Settings
from workers.kinds import Kind, by_program


def kind(_: Settings) -> Kind:
    """Return how its scripts are run: `awk -f SCRIPT ARGS`."""
    return by_program(("awk", "-f"), suffix=".awk")
