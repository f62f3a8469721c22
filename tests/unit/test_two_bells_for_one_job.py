"""A late bell signs nothing against the first; a claim that failed is given back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from horus_celery import admission
from horus_celery.errors import UnavailableError
from horus_celery.execution import execute
from horus_celery.instants import to_ms
from horus_celery.journal import Journal
from horus_celery.lifecycle import Event, Status
from horus_celery.record import Record
from horus_celery.runner.node import Node, Outcome
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import make_job
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.receipt import Receipt
from horus_celery.statements.trust import Trust
from horus_celery.store.memory import MemoryLogs, MemoryStore, MemoryWakes

ALICE, RUNNER = (KeyPair.from_seed(bytes([n]) * 32) for n in (1, 2))


class Given:
    """A trust source with one caller and one runner."""

    def __init__(self, now):
        grant = {
            "context_id": "billing",
            "caller_id": "alice",
            "keys": [ALICE.keyid],
            "threshold": 1,
            "executors": ["*"],
            "nets": ["none"],
            "max_timeout": 3600,
            "secrets": [],
        }
        runner = {"name": "first", "key": RUNNER.keyid}
        self.trust = Trust.from_wire(
            {
                "v": 1,
                "aud": "hero",
                "version": 1,
                "issued_at": to_ms(now),
                "expires_at": to_ms(now + timedelta(days=30)),
                "keys": {one.keyid: one.public.hex() for one in (ALICE, RUNNER)},
                "grants": [grant],
                "runners": [{**runner, "executors": ["python"], "contexts": ["*"]}],
            }
        )

    def current(self):
        return self.trust


class Counting:
    """An executor that counts what it runs."""

    def __init__(self):
        self.count = 0

    def check(self, job):
        """Take every job."""

    def run(self, assignment, node, behind):
        self.count += 1
        return Outcome(event=Event.COMPLETED, exit_code=0)


class Store(MemoryStore):
    """A store that may show what was, and may go away between two calls."""

    stale: tuple[Record, ...] = ()
    is_away_for_claims = False

    def named(self, job_id, *, contexts=None):
        return self.stale or super().named(job_id, contexts=contexts)

    def apply(self, digest, change):
        if self.is_away_for_claims and change.event is Event.CLAIMED:
            raise UnavailableError("no answer")
        return super().apply(digest, change)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def node(clock, store):
    journal = Journal(":memory:")
    wakes = MemoryWakes()
    yield Node(
        name="first",
        aud="hero",
        executors={"python": Counting()},
        key=RUNNER,
        trust=Given(clock.at),
        journal=journal,
        store=store,
        logs=MemoryLogs(wakes),
        wakes=wakes,
        clock=clock,
        lease_clock=clock,
        rooms=Path("/nowhere"),
        software="test",
    )
    journal.close()


@pytest.fixture
def queue(clock, store):
    """Queue a job that may start once; return its record."""

    def add():
        job = make_job(
            aud="hero",
            caller_id="alice",
            context_id="billing",
            executor="python",
            payload="print(1)",
            now=clock.at,
        )
        signed = dsse.sign(dsse.JOB, job.body(), [ALICE])
        admitted = admission.Admitted(
            job=job, digest=signed.digest, envelope="", signed_by=(ALICE.keyid,)
        )
        return store.add(
            admission.summary(admitted),
            dsse.to_json(signed),
            at=clock.at,
            priority=4,
            not_before=None,
            queue="python",
        )

    return add


def number_of(record):
    """Return the number of a record's receipt among those that its runner signed."""
    body = dsse.read(record.receipt, dsse.RECEIPT).body
    return Receipt.from_wire(canonical.parse(body)).seq


def test_a_bell_that_was_late_signs_no_refusal_of_what_has_run(node, store, queue):
    queued = queue()
    digest = queued.summary.digest
    execute(queued.summary.id, node)
    done = store.get(digest)
    assert done.status is Status.COMPLETED
    store.stale = (queued,)  # as it was read before the first bell was answered
    execute(queued.summary.id, node)
    assert store.get(digest) == done
    assert node.executors["python"].count == 1
    store.stale = ()
    other = queue()
    execute(other.summary.id, node)
    numbers = [number_of(store.get(one.summary.digest)) for one in (queued, other)]
    assert numbers == [1, 2], "the late bell signed something"


def test_a_store_that_goes_away_at_the_claim_costs_no_attempt(node, store, queue):
    queued = queue()
    store.is_away_for_claims = True
    with pytest.raises(UnavailableError):
        execute(queued.summary.id, node)
    assert node.executors["python"].count == 0
    assert node.journal.undelivered("first") == []
    store.is_away_for_claims = False
    execute(queued.summary.id, node)
    assert store.get(queued.summary.digest).status is Status.COMPLETED
    assert node.executors["python"].count == 1
