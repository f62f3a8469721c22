"""A stock Celery application that runs graphs as canvas, and notes what ran."""

from __future__ import annotations

import os

import redis
from celery import Celery

from horus_celery.dag.canvas import to_canvas
from horus_celery.dag.compiler import compile_plan
from horus_celery.dag.model import Graph
from horus_celery.statements.manifest import make_step

app = Celery(broker=os.environ["CANVAS_URL"], backend=os.environ["CANVAS_URL"])
client = redis.Redis(
    unix_socket_path=os.environ["CANVAS_SOCKET"], decode_responses=True
)


@app.task(name="begin", ignore_result=True)
def begin(run, steps, failing):
    """Begin to run the graph of these steps."""
    graph = Graph.of_steps([make_step(name, depends_on=up) for name, up in steps])

    def made(index):
        return step.si(run, index, graph.parents[index], index in failing)

    to_canvas(compile_plan(graph), made).apply_async()


@app.task(name="step")
def step(run, index, parents, is_failing):
    """Note what a step gives, from what those before it gave."""
    given = [client.hget(run, one) for one in parents]
    client.hset(run, index, f"{index}({','.join(map(str, given))})")
    client.rpush(f"{run}:over", index)
    if is_failing:
        raise RuntimeError("as told")
