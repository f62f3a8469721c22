"""Canvas on a real broker, with a real worker: what was cut as safe runs exactly."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from celery import Celery

from horus_celery.dag.compiler import compile_plan
from horus_celery.dag.model import Graph
from horus_celery.dag.progress import StepStatus, run
from horus_celery.dag.shapes import why_no_canvas
from horus_celery.lifecycle import Status
from horus_celery.statements.manifest import Step, make_step

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
#: Seconds in which something happens, or never does.
DEADLINE = 30
WORKER = (
    *(sys.executable, "-m", "celery", "-A", "tests.integration.canvas_worker"),
    *("worker", "--concurrency=2", "--loglevel=error", "--without-gossip"),
    *("--without-mingle", "--without-heartbeat"),
)


class Canvas:
    """Has a worker run graphs, one after another."""

    def __init__(self, url, client):
        self._client = client
        self._app = Celery(broker=url, set_as_current=False)

    def run(self, graph, *, failing=()):
        """Run a graph; return its name once all steps that may have run."""
        name = uuid.uuid4().hex
        steps = [
            (graph.names[step], [graph.names[one] for one in above])
            for step, above in enumerate(graph.parents)
        ]
        self._app.send_task("begin", (name, steps, list(failing)))
        for _ in range(self._expected(graph, failing)):
            assert self._client.blpop(f"{name}:over", DEADLINE), self.values(name)
        return name

    def values(self, name):
        found = self._client.hgetall(name)
        return {int(step): value.decode() for step, value in found.items()}

    def _expected(self, graph, failing):
        statuses = run(
            graph,
            lambda step: Status.FAILED if step in failing else Status.COMPLETED,
        ).statuses
        return sum(one is not StepStatus.SKIPPED for one in statuses)


@pytest.fixture(scope="module")
def canvas(redis_server):
    url = redis_server.url.replace("unix://", "redis+socket://")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CANVAS_URL": url,
        "CANVAS_SOCKET": str(redis_server.socket),
    }
    with (
        redis_server.client() as client,
        subprocess.Popen(WORKER, cwd=ROOT, env=environment) as process,  # noqa: S603 - our own command
    ):
        yield Canvas(url, client)
        process.terminate()


def grow(chance, depth, steps, above):
    """Add a part of a graph behind some steps, and return its last ones."""
    kind = chance.choice(["step", "row", "beside"] if depth else ["step"])
    if kind == "step":
        name = f"s{len(steps)}"
        steps.append(make_step(name, depends_on=above))
        return [name]
    parts = range(chance.randint(2, 3))
    if kind == "beside":
        return [last for _ in parts for last in grow(chance, depth - 1, steps, above)]
    for _ in parts:
        above = grow(chance, depth - 1, steps, above)
    return above


def graphs():
    """Return graphs that canvas takes, the same ones each time."""
    chance = random.Random(6)  # noqa: S311 - the same graphs each time
    found: list[Graph] = []
    while len(found) < 12:
        steps: list[Step] = []
        grow(chance, 4, steps, [])
        graph = Graph.of_steps(steps)
        if len(graph) > 4 and why_no_canvas(compile_plan(graph)) is None:
            found.append(graph)
    return found


@pytest.mark.parametrize("graph", graphs(), ids=lambda one: f"{len(one)} steps")
def test_a_worker_runs_what_the_reference_runs(canvas, graph):
    values: dict[int, str] = {}
    for step, above in enumerate(graph.parents):
        values[step] = f"{step}({','.join(values[one] for one in above)})"
    assert canvas.values(canvas.run(graph)) == values


def test_behind_a_failure_nothing_runs_and_beside_it_all(canvas):
    steps = [
        make_step("a"),
        make_step("b", depends_on=["a"]),
        make_step("c", depends_on=["a"]),
        make_step("d", depends_on=["c"]),
        make_step("end", depends_on=["b", "d"]),
    ]
    failed = canvas.run(Graph.of_steps(steps), failing={1})
    # Whatever was to follow would have come before this one is over.
    canvas.run(Graph.of_steps(steps))
    assert set(canvas.values(failed)) == {0, 1, 2, 3}
