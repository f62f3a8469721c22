"""A job that is recorded is accepted, although its bell could not be rung."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from horus_celery.errors import UnavailableError
from horus_celery.lifecycle import Status
from horus_celery.store.memory import MemoryStore
from horus_celery.sweep import GRACE, Sweep


def fail(*args, **kwargs):
    raise UnavailableError("Redis does not take it")


@pytest.fixture
def mute(world, monkeypatch):
    """Let no bell be rung until the test is over with it."""
    with monkeypatch.context() as patch:
        patch.setattr(world.dispatcher, "ring", fail)
        yield patch


def test_a_bell_that_cannot_be_rung_does_not_fail_the_call(world, client, mute):
    with capture_logs() as said:
        job_id = client.call("create_job", job=world.envelope())
    assert world.supervisor.status(job_id).status is Status.QUEUED
    (line,) = said
    assert (line["log_level"], line["job_id"]) == ("warning", job_id)
    assert line["detail"] == "Redis does not take it"


def test_a_job_that_was_created_is_queued_without_its_bell(world, mute):
    record = world.supervisor.create(world.envelope(), priority=4, not_before=None)
    queued = world.supervisor.start(record.summary.id)
    assert queued.status is Status.QUEUED


def test_the_sweep_rings_for_it(world, mute):
    record = world.submit()
    mute.undo()
    world.clock.at += GRACE + timedelta(seconds=1)
    assert Sweep(world.store, world.dispatcher, world.clock).once().rung_again == 1
    assert world.dispatcher.bells == [(record.summary.id, "python", 4)]


def test_a_bell_that_cannot_be_noted_does_not_fail_the_call(make_world):
    class Forgetful(MemoryStore):
        rung = fail

    world = make_world(store=Forgetful)
    record = world.supervisor.create_and_queue(
        world.envelope(), priority=4, not_before=world.clock.at
    )
    assert record.status is Status.QUEUED
    assert len(world.dispatcher.bells) == 1


def test_a_job_that_cannot_be_recorded_is_refused_and_not_rung(make_world):
    class Away(MemoryStore):
        add = fail

    world = make_world(store=Away)
    with pytest.raises(UnavailableError):
        world.submit()
    assert world.dispatcher.bells == []
