"""The engine that the tests run; where it was not built, they are skipped."""

from __future__ import annotations

import pytest

horus_rhai = pytest.importorskip(
    "horus_rhai", reason="needs cargo once: pip install ./workers/rhai_engine"
)

#: How long a script of a test may run, in seconds: far longer than any takes.
PATIENCE = 20.0


def run(script, functions=None, *, variables=None, limits=None, names=None, **how):
    """Run a script on an engine of its own."""
    engine = horus_rhai.Engine(functions or {}, names=names, **(limits or {}))
    return engine.run(engine.compile(script), variables, **{"timeout": PATIENCE} | how)


def place_of(error):
    """Return the line and the column that an error has: of Rhai, or raised for it."""
    if isinstance(error, horus_rhai.RhaiError):
        return error.line, error.column
    return vars(error)["rhai_line"], vars(error)["rhai_column"]
