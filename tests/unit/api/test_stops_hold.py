"""What was stopped or deleted never starts, whatever is done to its record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api.codes import Code
from horus_celery.errors import ClaimError, ConfigurationError, UnavailableError
from horus_celery.journal import Journal
from horus_celery.lifecycle import Event, Status
from horus_celery.store.memory import MemoryStore
from horus_celery.supervisor import Supervisor


class Written(MemoryStore):
    """A store that others write to."""

    def put(self, digest, **facts):
        entry = self._entries[digest]
        entry.record = replace(entry.record, **facts)

    def lose_stops(self):
        self._stopped.clear()

    def lose_all(self):
        """Forget everything, as FLUSHALL does."""
        vars(self).update(vars(Written()))


class FailingJournal(Journal):
    """A journal that cannot be written now, or not at all."""

    def __init__(self, error):
        super().__init__(":memory:")
        self._error = error

    def stop_all(self, digests, expires_at):
        raise self._error


@pytest.fixture
def world(make_world):
    return make_world(store=Written)


def stopped_in_both(world, digest):
    return (
        world.journal.is_stopped(digest),
        digest in world.store.stops(after=None, limit=9).digests,
    )


def test_a_stop_is_in_the_journal_and_in_the_store_when_it_is_answered(world, client):
    record = world.submit()
    answer = client.call("job.stop", job_id=record.summary.id)
    assert answer["status"] == "stopped"
    assert stopped_in_both(world, record.summary.digest) == (True, True)


def test_a_record_that_was_put_back_cannot_be_claimed(world):
    record = world.submit()
    world.supervisor.stop(record.summary.id)
    world.store.put(record.summary.digest, status=Status.QUEUED, ended_at=None)
    with pytest.raises(ClaimError) as refusal:
        world.claim(record)
    assert refusal.value.reason == "claim.stopped"


def test_a_stop_holds_although_the_record_pretended_to_be_over(world):
    record = world.submit()
    world.store.put(
        record.summary.digest, status=Status.COMPLETED, ended_at=world.clock.at
    )
    told = world.supervisor.stop(record.summary.id)
    assert (told.status, told.reason) == (Status.FAILED, "receipt_mismatch")
    assert stopped_in_both(world, record.summary.digest) == (True, True)


def test_a_stop_holds_although_the_envelope_is_another_one(world):
    record = world.submit()
    world.store.put(record.summary.digest, envelope="{}")
    world.supervisor.stop(record.summary.id)
    assert stopped_in_both(world, record.summary.digest) == (True, True)


@pytest.mark.parametrize("how", ["stop", "delete"])
def test_the_same_envelope_again_is_the_same_job_and_stays_stopped(world, client, how):
    envelope = world.envelope()
    job_id = client.call("create_job", job=envelope)
    client.call(f"job.{how}", job_id=job_id)
    rings = len(world.dispatcher.bells)
    assert client.call("create_job", job=envelope) == job_id
    assert client.call("job.status", job_id=job_id)["status"] == "stopped"
    assert len(world.dispatcher.bells) == rings
    assert "error" in client.call("job.run", job=envelope, wait=0)


def test_a_node_remembers_what_the_store_has_lost(world, client):
    envelope = world.envelope()
    job_id = client.call("create_job", job=envelope)
    client.call("job.stop", job_id=job_id)
    world.store.lose_all()
    assert client.call("create_job", job=envelope) == job_id
    assert client.call("job.status", job_id=job_id)["status"] == "stopped"


def test_a_job_that_was_put_back_before_its_start_is_not_queued(world, client):
    job_id = client.call("jobs.create", job=world.envelope())
    client.call("job.stop", job_id=job_id)
    (record,) = world.store.named(job_id)
    world.store.put(record.summary.digest, status=Status.CREATED, ended_at=None)
    world.store.lose_stops()
    failed = client.error("job.start", job_id=job_id)
    assert failed["data"]["reason"] == "illegal_transition"
    assert client.call("job.status", job_id=job_id)["status"] == "stopped"


@pytest.mark.parametrize("event", [Event.COMPLETED, Event.FAILED])
def test_what_was_deleted_after_its_end_does_not_start_again_either(
    world, client, event
):
    record = world.submit(attempts=3)
    reason = None if event is Event.COMPLETED else "timeout"
    world.settle(world.claim(record), event=event, reason=reason)
    client.call("job.delete", job_id=record.summary.id)
    assert stopped_in_both(world, record.summary.digest) == (True, True)


@pytest.mark.parametrize(
    "error", [UnavailableError("the disk is full"), ConfigurationError("mend it")]
)
@pytest.mark.parametrize("method", ["job.stop", "job.delete"])
def test_a_stop_that_the_journal_cannot_keep_is_made_and_not_answered_as_done(
    world, make_client, error, method
):
    record = world.submit()
    world.supervisor = Supervisor(
        store=world.store,
        logs=world.logs,
        wakes=world.wakes,
        dispatcher=world.dispatcher,
        registry=world.registry,
        trust=world.trust,
        journal=FailingJournal(error),
        clock=world.clock,
        namespace="hero",
    )
    world.services = replace(world.services, supervisor=world.supervisor)
    failed = make_client(world).error(method, job_id=record.summary.id)
    assert failed["code"] == Code.UNAVAILABLE
    assert failed["data"]["retryable"]
    assert world.store.get(record.summary.digest).status is Status.STOPPED
    assert record.summary.digest in world.store.stops(after=None, limit=9).digests


def test_a_stop_that_the_store_cannot_keep_is_not_answered_as_done(world, client):
    record = world.submit()
    world.store.is_away = True
    failed = client.error("job.stop", job_id=record.summary.id)
    assert failed["code"] == Code.UNAVAILABLE
