"""Graphs that tests write down in a line."""

from __future__ import annotations

import pytest

from horus_celery.dag.model import Graph
from horus_celery.statements.manifest import make_step


def graph_of(text, **rules):
    """Read a graph: `"a b c:a,b"` are three steps, of which c depends on a and b.

    `rules` are further fields of a step by its name, as in `c={"when": "all_done"}`.
    """
    steps = []
    for word in text.split():
        name, _, above = word.partition(":")
        depends_on = above.split(",") if above else []
        steps.append(make_step(name, depends_on=depends_on, **rules.get(name, {})))
    return Graph.of_steps(steps)


@pytest.fixture(name="graph_of", scope="session")
def _graph_of():
    return graph_of
