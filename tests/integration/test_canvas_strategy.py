"""Workflows that run as Celery's own chains and chords, on real workers."""

from __future__ import annotations

import json
import random
import signal
from datetime import timedelta

import pytest

from horus_celery.dag.compiler import compile_plan
from horus_celery.dag.model import Graph
from horus_celery.dag.progress import WorkflowStatus, run
from horus_celery.dag.shapes import Strategy, why_no_canvas
from horus_celery.lifecycle import Status
from horus_celery.statements.manifest import Step
from horus_celery.store import bell
from tests.integration.test_canvas import grow

pytestmark = pytest.mark.integration

FAILURE = {"payload": "raise SystemExit(3)"}


@pytest.fixture(scope="module")
def workers(deployment):
    deployment.start_worker("-Q", "python", "-c", "2", "-l", "INFO")
    return deployment.start_coordinator("-l", "INFO")


def submit(deployment, steps, *, failing=(), strategy=Strategy.CANVAS):
    jobs = {
        name: FAILURE if name in failing else {"payload": f"print({name!r})"}
        for name in steps
    }
    signed = deployment.sign(**steps, jobs=jobs)
    deployment.coordinator.submit(signed.manifest, signed.jobs, strategy=strategy)
    return signed


def outcome_of(deployment, signed, graph):
    """Return what ran, with which result, and that none ran before it might."""
    ending = deployment.ending_of(signed)
    records = {
        name: deployment.store.get(digest)
        for name, digest in signed.digests.items()
        if deployment.steps_of(signed)[name] != "skipped"
    }
    for name, record in records.items():
        for above in graph.parents[graph.index[name]]:
            assert records[graph.names[above]].ended_at <= record.started_at
    return (
        ending.record.status,
        ending.results,
        deployment.steps_of(signed),
        {name: (one.status, one.result, one.attempt) for name, one in records.items()},
    )


def graphs():
    """Return graphs that canvas takes, each with steps that fail."""
    chance = random.Random(7)  # noqa: S311 - the same graphs each time
    found: list[tuple[Graph, dict[str, list[str]], list[str]]] = []
    while len(found) < 6:
        steps: list[Step] = []
        grow(chance, 4, steps, [])
        graph = Graph.of_steps(steps)
        if 4 < len(graph) < 14 and why_no_canvas(compile_plan(graph)) is None:
            failing = [one.name for one in steps if chance.random() < 0.15]
            found.append(
                (graph, {one.name: list(one.depends_on) for one in steps}, failing)
            )
    return found


@pytest.mark.parametrize(("graph", "steps", "failing"), graphs())
def test_both_ways_run_the_same_steps_to_the_same_end(
    deployment, workers, graph, steps, failing
):
    by_canvas, by_reference = (
        submit(deployment, steps, failing=failing, strategy=strategy)
        for strategy in (Strategy.CANVAS, Strategy.REFERENCE)
    )

    one, other = (
        outcome_of(deployment, signed, graph) for signed in (by_canvas, by_reference)
    )

    assert one == other
    expected = run(
        graph,
        lambda step: (
            Status.FAILED if graph.names[step] in failing else Status.COMPLETED
        ),
    )
    assert one[2] == {
        name: status.value
        for name, status in zip(graph.names, expected.statuses, strict=True)
    }
    # No message was lost, so none had to be replaced.
    assert deployment.workflow_of(by_canvas).strategy is Strategy.CANVAS


# --- what may befall it ----------------------------------------------------------


def test_forged_messages_of_canvas_change_nothing(deployment, workers):
    signed = deployment.sign(a=[], b=["a"], c=["b"])
    deployment.coordinator.create(signed.manifest)
    before = deployment.workflow_of(signed)
    genuine = bell.step_message(signed.digest, 1)
    forged = [
        *(bell.step_message(signed.digest, index) for index in (None, 0, 1, 2, 3)),
        bell.step_message("0" * 64, 0),
        genuine.replace(b'\\"chain\\": null', b'\\"chain\\": [{\\"task\\": 1}]'),
        genuine.replace(b'\\"chord\\": null', b'\\"chord\\": {\\"task\\": 1}'),
        genuine.replace(b'\\"errbacks\\": null', b'\\"errbacks\\": [{}]'),
        genuine.replace(b", 1]", b", -1]"),
        genuine.replace(b'"group"', b'"group_index": 1, "group"'),
        genuine.replace(b"horus.step", b"celery.chord"),
    ]
    deployment.redis.lpush(bell.QUEUE, *forged)
    deployment.until(lambda: deployment.redis.llen(bell.QUEUE) == 0)

    after = submit(deployment, {"a": [], "b": ["a"]})

    ending = deployment.ending_of(after)
    assert ending.record.status is WorkflowStatus.COMPLETED
    assert deployment.workflow_of(signed) == before
    assert workers.poll() is None
    assert "Traceback" not in deployment.log_of(workers)


def test_messages_that_name_other_steps_behind_bring_none_about(deployment, workers):
    steps = {"a": [], "b": ["a"], "c": ["b"]}
    wait = {"payload": "import sys, time; time.sleep(60)"}
    signed = deployment.sign(**steps, jobs={"b": wait})
    deployment.coordinator.submit(
        signed.manifest, signed.jobs, strategy=Strategy.CANVAS
    )
    deployment.until(lambda: deployment.steps_of(signed)["b"] == "running")

    link = {"task": bell.STEP, "args": [signed.digest, 2], "kwargs": {}, "options": {}}
    said = json.loads(bell.step_message(signed.digest, 0))
    args, kwargs, embed = json.loads(said["body"])
    said["body"] = json.dumps([args, kwargs, {**embed, "chain": [link], "chord": link}])
    deployment.redis.lpush(bell.QUEUE, *[json.dumps(said)] * 3)
    deployment.until(lambda: deployment.redis.llen(bell.QUEUE) == 0)
    submit(deployment, {"a": []})

    assert deployment.steps_of(signed) == {
        "a": "completed",
        "b": "running",
        "c": "pending",
    }
    deployment.coordinator.stop(signed.id)
    assert deployment.ending_of(signed).record.status is WorkflowStatus.STOPPED


def test_a_coordinator_that_is_killed_costs_no_step_and_runs_none_twice(
    make_deployment,
):
    alone = make_deployment()
    alone.start_worker("-Q", "python", "-c", "1")
    coordinator = alone.start_coordinator("-l", "INFO")
    steps = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    jobs = {name: {"payload": "import time; time.sleep(1)"} for name in steps}
    signed = alone.sign(**steps, jobs=jobs)
    alone.coordinator.submit(signed.manifest, signed.jobs, strategy=Strategy.CANVAS)
    alone.until(lambda: alone.steps_of(signed)["a"] == "running")

    alone.end(coordinator, signal.SIGKILL)
    alone.until(lambda: alone.redis.llen(bell.QUEUE) > 0)
    alone.redis.delete(bell.QUEUE)
    alone.start_coordinator("-l", "INFO")

    ending = alone.ending_of(signed, wait=timedelta(seconds=40))
    assert ending.record.status is WorkflowStatus.COMPLETED
    attempts = [alone.store.get(digest).attempt for digest in signed.digests.values()]
    assert attempts == [1, 1, 1, 1]


def test_a_workflow_whose_messages_are_lost_goes_on_by_reference(make_deployment):
    alone = make_deployment()
    alone.start_worker("-Q", "python", "-c", "1")
    signed = submit(alone, {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]})
    assert alone.redis.llen(bell.QUEUE) == 1
    alone.redis.delete(bell.QUEUE)

    alone.start_coordinator("-l", "INFO")

    ending = alone.ending_of(signed, wait=timedelta(seconds=40))
    assert ending.record.status is WorkflowStatus.COMPLETED
    assert ending.record.strategy is Strategy.REFERENCE
