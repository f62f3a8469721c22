"""Measure how long the largest workflows take to be read, planned and refused.

    python bench/graphs.py [--rounds N] [--steps N]

No process, no Redis and no signature: from the bytes of a manifest's body to its plan,
or to the cycle that is shown of it. Every figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from table import Table

from horus_celery.dag.compiler import compile_plan
from horus_celery.dag.model import Graph
from horus_celery.dag.progress import run
from horus_celery.errors import WorkflowError
from horus_celery.lifecycle import Status
from horus_celery.statements import canonical
from horus_celery.statements.manifest import Manifest

#: Parents of each step, as many as 500,000 edges allow.
PARENTS: Final = 5
#: Of the graph whose cycles all have as many steps: there is no short one to be found.
LAYERS: Final = 300

Edges = Sequence[Sequence[int]]
_T = TypeVar("_T")


def chain(steps: int, _: random.Random) -> Edges:
    """Each step depends on the one before."""
    return [[number - 1] if number else [] for number in range(steps)]


def ring(steps: int, _: random.Random) -> Edges:
    """A chain whose first step depends on the last."""
    return [[(number - 1) % steps] for number in range(steps)]


def acyclic(steps: int, chance: random.Random) -> Edges:
    """Each step depends on five before it."""
    return [
        chance.sample(range(number), min(PARENTS, number)) for number in range(steps)
    ]


def one_back(steps: int, chance: random.Random) -> Edges:
    """The same, but for one step near the start that depends on one near the end."""
    edges = list(acyclic(steps, chance))
    edges[PARENTS] = [steps - 1]
    return edges


def tangle(steps: int, chance: random.Random) -> Edges:
    """Each step depends on any five."""
    return [chance.sample(range(steps), PARENTS) for _ in range(steps)]


def wheel(steps: int, chance: random.Random) -> Edges:
    """Layers, each of which depends on the one before, the first on the last."""
    width = steps // LAYERS
    return [
        [
            (number // width - 1) % LAYERS * width + one
            for one in chance.sample(range(width), PARENTS)
        ]
        for number in range(LAYERS * width)
    ]


VALID: Final[Mapping[str, Callable[[int, random.Random], Edges]]] = {
    "chain": chain,
    "random, five parents each": acyclic,
}
CYCLIC: Final[Mapping[str, Callable[[int, random.Random], Edges]]] = {
    "ring": ring,
    "random, one edge back": one_back,
    "any five parents each": tangle,
    "layers in a ring": wheel,
}


def body_of(edges: Edges) -> bytes:
    """Return the body of a manifest with these edges."""
    steps = [
        {
            "name": f"step-{number:06}",
            "depends_on": [f"step-{one:06}" for one in above],
            "when": "all_success",
            "supervisor": None,
            "on_failure": "fail",
        }
        for number, above in enumerate(edges)
    ]
    return canonical.encode(
        {
            "v": 1,
            "id": "0198f3a0-7c1e-7d55-9f6b-0d4c8a3b1e77",
            "aud": "hero",
            "caller_id": "default",
            "context_id": "default",
            "name": "bench",
            "steps": steps,
            "max_parallel": None,
            "created_at": 0,
            "expires_at": 0,
        }
    )


def read(body: bytes) -> Manifest:
    """Read a manifest as a supervisor does once its signature was verified."""
    return Manifest.from_wire(canonical.parse(body))


def plan(manifest: Manifest) -> None:
    """Make the graph of a manifest, and its plan."""
    compile_plan(Graph.of(manifest))


def run_in_memory(graph: Graph) -> None:
    """Run every step, a hundred at a time, as if each took no time."""
    run(graph, lambda _: Status.COMPLETED, slots=100)


def refuse(manifest: Manifest) -> None:
    """Find the cycle that is there.

    Raises:
        RuntimeError: if there is none.
    """
    try:
        Graph.of(manifest)
    except WorkflowError:
        return
    raise RuntimeError("the graph has no cycle")


def median(rounds: int, measured: Callable[[_T], object], value: _T) -> float:
    """Return the median of the seconds that a call takes."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        measured(value)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100_000)
    options = parser.parse_args()
    chance = random.Random(1)  # noqa: S311 - the same graphs in every run
    table = Table(options.rounds)

    def add(what: str, goal: str, measured: Callable[[_T], object], value: _T) -> None:
        took = median(options.rounds, measured, value)
        table.add(f"{options.steps:,} steps, {what}", goal, took, None, "s")

    for name, shape in VALID.items():
        body = body_of(shape(options.steps, chance))
        manifest = read(body)
        add(f"{name}: read", "-", read, body)
        add(f"{name}: graph and plan", "≤ 5 s", plan, manifest)
        add(f"{name}: run in memory", "-", run_in_memory, Graph.of(manifest))
    for name, shape in CYCLIC.items():
        manifest = read(body_of(shape(options.steps, chance)))
        add(f"{name}: cycle", "≤ 5 s", refuse, manifest)
    table.show()


if __name__ == "__main__":
    main()
