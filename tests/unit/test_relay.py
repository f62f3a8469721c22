"""Workflows by canvas: whatever becomes of its messages, they end as by reference."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from horus_celery.dag.progress import StepStatus, WorkflowStatus, run
from horus_celery.dag.shapes import Beside, Strategy, shape_of
from horus_celery.errors import NotFoundError
from horus_celery.lifecycle import Event, Status
from horus_celery.store.workflows import GRACE
from horus_celery.workflows.relay import Relay
from tests.unit.api.conftest import World

#: Steps by their names, and those before each: a chain, a chord, groups at the ends.
GRAPHS = {
    "row": {"a": [], "b": ["a"], "c": ["b"]},
    "chord": {"a": [], "b": [], "c": ["b"], "d": ["a", "c"], "e": ["d"]},
    "diamonds": {
        "a": [],
        "b": ["a"],
        "c": ["a"],
        "d": ["b", "c"],
        "e": ["d"],
        "f": ["d"],
        "g": ["e", "f"],
    },
    "group at the end": {"a": [], "b": ["a"], "c": ["a"], "d": ["b"], "e": ["b"]},
    "apart": {"a": [], "b": ["a"], "c": [], "d": ["c"]},
}


class CanvasWorker:
    """Passes messages as Celery does, in any order; some are lost, some come twice."""

    def __init__(self, world, dice, *, lost=0.0, doubled=0.0):
        self.world = world
        self.relay = Relay(world.workflows, world.conductor)
        self._dice = dice
        self._lost = lost
        self._doubled = doubled
        self._queue = []

    def send(self, workflow, index):
        if self._dice.random() >= self._lost:
            twice = self._dice.random() < self._doubled
            self._queue += [(workflow, index)] * (2 if twice else 1)

    def work(self):
        """Answer messages and bells until there is none."""
        while True:
            self.world.hear()
            for message in self.world.doorbell.steps:
                self.send(*message)
            self.world.doorbell.steps.clear()
            if not self._queue:
                return
            self.answer(*self._queue.pop(self._dice.randrange(len(self._queue))))

    def answer(self, workflow, index):
        if index is None:
            plan = self.relay.begin(workflow)
            if plan is not None:
                self._apply(workflow, shape_of(plan))
            return
        place = self.relay.reach(workflow, index)
        if place is None:
            return
        if place.rest:
            self._apply(workflow, place.rest[0])
        if place.body is not None and self.relay.is_last_part(workflow, index):
            self.send(workflow, place.body)

    def _apply(self, workflow, shape):
        """Send what comes first of a shape."""
        if isinstance(shape, int):
            self.send(workflow, shape)
        elif isinstance(shape, Beside):
            for part in shape.parts:
                self._apply(workflow, part)
        else:
            self._apply(workflow, shape.parts[0])


def submit(world, steps):
    signed = world.workflow(**steps)
    world.coordinator.submit(signed.manifest, signed.jobs, strategy=Strategy.CANVAS)
    return signed


def end(world, signed, name, status):
    """Be the runner of a step."""
    record = world.claim(world.store.get(signed.digests[name]))
    if status is Status.COMPLETED:
        world.settle(record)
    else:
        world.settle(record, event=Event.FAILED, reason="exit_code", exit_code=3)


def finish(world, worker, signed, graph, outcome, dice):
    """Run a workflow to its end; return the steps in the order in which they ran."""
    started = []
    worker.work()
    while not world.workflows.get(signed.digest).is_over:
        queued = [name for name, at in world.statuses(signed).items() if at == "queued"]
        if queued:
            name = dice.choice(queued)
            started.append(graph.index[name])
            end(world, signed, name, outcome(graph.index[name]))
        else:
            world.clock.at += GRACE
            world.conductor.sweep()
        worker.work()
    return started


@given(
    steps=st.sampled_from(list(GRAPHS.values())),
    failing=st.sets(st.integers(0, 6)),
    lost=st.sampled_from([0.0, 0.3, 1.0]),
    doubled=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_it_ends_as_by_reference_whatever_becomes_of_messages(
    steps, failing, lost, doubled, seed
):
    world, dice = World(), random.Random(seed)  # noqa: S311 - the same run each time
    worker = CanvasWorker(world, dice, lost=lost, doubled=doubled)
    signed = submit(world, steps)
    graph = world.coordinator.status(signed.id).graph

    def outcome(step):
        return Status.FAILED if step in failing else Status.COMPLETED

    started = finish(world, worker, signed, graph, outcome, dice)

    expected = run(graph, outcome)
    overview = world.coordinator.status(signed.id)
    assert overview.record.status is expected.status
    assert tuple(step.status for step in overview.steps) == expected.statuses
    assert sorted(started) == sorted(expected.started)
    at = {step: moment for moment, step in enumerate(started)}
    for step in started:
        assert all(at[one] < at[step] for one in graph.parents[step])
    if not lost:
        assert overview.record.strategy is Strategy.CANVAS


@pytest.fixture
def world():
    return World()


@pytest.fixture
def worker(world):
    return CanvasWorker(world, random.Random(1))  # noqa: S311 - the same run each time


def test_the_sweep_leaves_steps_to_canvas_for_a_while(world):
    signed = submit(world, GRAPHS["row"])
    world.clock.at += GRACE - timedelta(milliseconds=1)
    world.conductor.sweep()
    assert world.statuses(signed)["a"] == "pending"

    world.clock.at += timedelta(milliseconds=1)
    world.conductor.sweep()

    assert world.statuses(signed)["a"] == "queued"
    assert world.workflows.get(signed.digest).strategy is Strategy.REFERENCE


@pytest.mark.parametrize("steps", GRAPHS.values(), ids=GRAPHS)
def test_undisturbed_each_step_is_told_twice(world, worker, steps):
    signed = submit(world, steps)
    graph = world.coordinator.status(signed.id).graph
    told: Counter[int | None] = Counter()
    send = worker.send

    def count(workflow, index):
        told[index] += 1
        send(workflow, index)

    worker.send = count
    dice = random.Random(2)  # noqa: S311 - the same run each time

    finish(world, worker, signed, graph, lambda step: Status.COMPLETED, dice)

    # Once when it may start, and once when it is over; and where all began.
    assert told.pop(None) == 1
    assert told == dict.fromkeys(range(len(graph)), 2)


@pytest.mark.parametrize("name", ["row", "chord"])
def test_forged_messages_start_nothing_and_send_nothing(world, worker, name):
    signed = submit(world, GRAPHS[name])
    worker.work()
    end(world, signed, "a", Status.COMPLETED)
    worker.work()
    before = world.statuses(signed)

    sent = []
    worker.send = lambda workflow, index: sent.append(index)
    for index in (*range(len(before)), None):
        worker.answer(signed.digest, index)
    with pytest.raises(NotFoundError):
        worker.answer(signed.digest, len(before))
    with pytest.raises(NotFoundError):
        worker.answer("0" * 64, 0)

    assert sent == []
    assert world.statuses(signed) == before


def test_no_message_moves_a_workflow_that_runs_by_reference(world, worker):
    signed = world.workflow(**GRAPHS["row"])
    world.coordinator.submit(signed.manifest, signed.jobs)

    for index in (None, 0):
        worker.answer(signed.digest, index)

    assert world.statuses(signed)["a"] == "pending"
    assert world.doorbell.bells == [(signed.digest, None)]


def test_no_message_starts_a_step_of_a_stopped_workflow(world, worker):
    signed = submit(world, GRAPHS["row"])
    worker.work()
    world.coordinator.stop(signed.id)

    worker.answer(signed.digest, 1)
    worker.work()

    assert world.statuses(signed) == {"a": "stopped", "b": "skipped", "c": "skipped"}


def test_a_step_that_is_refused_when_it_starts_ends_the_workflow(world, worker):
    signed = submit(world, GRAPHS["row"])
    world.clock.at += timedelta(days=30)

    worker.work()

    record = world.workflows.get(signed.digest)
    assert record.status is WorkflowStatus.FAILED
    steps = world.workflows.steps(signed.digest)
    assert [step.status for step in steps] == [
        StepStatus.REJECTED,
        StepStatus.SKIPPED,
        StepStatus.SKIPPED,
    ]


def test_what_is_no_canvas_runs_by_reference(world):
    signed = submit(world, {"a": [], "b": [], "c": ["a"], "d": ["a", "b"]})

    assert world.workflows.get(signed.digest).strategy is Strategy.REFERENCE
    assert world.doorbell.steps == []
    assert world.doorbell.bells == [(signed.digest, None)]
