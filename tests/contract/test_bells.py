"""The end of a workflow's job is told to its coordinator, whatever ended it."""

from __future__ import annotations

import json

import pytest
from kombu.connection import Connection
from kombu.transport import redis as kombu_redis

from horus_celery.lifecycle import TERMINAL, Event
from horus_celery.record import Change, Summary
from horus_celery.store import bell
from horus_celery.store.connection import connect
from horus_celery.store.memory import MemoryStore

WORKFLOW = "ab" * 32


@pytest.fixture
def rung(store, request):
    """Return what was rung so far: workflow and job, in order."""

    def read():
        if isinstance(store, MemoryStore):
            return store.bells
        with connect(request.getfixturevalue("redis_url")) as client:
            messages = client.lrange(bell.QUEUE, 0, -1)
        bodies = [json.loads(json.loads(one)["body"]) for one in reversed(messages)]
        return [tuple(args) for args, *_ in bodies]

    return read


def claim(store, record, clock):
    change = Change(event=Event.CLAIMED, at=clock.at, attempt=1, ran_on="r1")
    store.apply(record.summary.digest, change)


@pytest.mark.parametrize(
    "events",
    [
        (Event.REFUSED,),
        (Event.CLAIMED, Event.COMPLETED),
        (Event.CLAIMED, Event.FAILED),
        (Event.CLAIMED, Event.STOP_ASKED, Event.STOPPED),
        (Event.STOP_ASKED,),
    ],
)
def test_every_end_rings_once(store, record, clock, rung, events):
    added = record(manifest=WORKFLOW)
    digest = added.summary.digest
    last = None
    for event in events:
        assert rung() == []
        attempt = 1 if event is Event.CLAIMED else None
        last = Change(event=event, at=clock.at, attempt=attempt, ran_on="r1")
        store.apply(digest, last)
    store.apply(digest, last)

    assert store.get(digest).status in TERMINAL
    assert rung() == [(WORKFLOW, digest)]


def test_a_job_that_is_stopped_for_good_rings(store, record, clock, rung):
    waiting = record(manifest=WORKFLOW)
    store.stop(waiting.summary.digest, at=clock.at, expires_at=clock.at)
    store.stop(waiting.summary.digest, at=clock.at, expires_at=clock.at)

    assert rung() == [(WORKFLOW, waiting.summary.digest)]


def test_a_job_that_was_stopped_before_it_came_rings(
    store, record, clock, rung, make_summary
):
    summary = make_summary(manifest=WORKFLOW)
    store.stop(summary.digest, at=clock.at, expires_at=clock.at)

    record(id=summary.id, digest=summary.digest, manifest=WORKFLOW)

    assert rung() == [(WORKFLOW, summary.digest)]


def test_a_job_that_starts_once_more_rings_nobody(store, record, clock, rung):
    added = record(manifest=WORKFLOW, attempts=2)
    claim(store, added, clock)

    store.apply(added.summary.digest, Change(event=Event.REQUEUED, at=clock.at))

    assert rung() == []


def test_a_job_without_a_workflow_rings_nobody(store, record, clock, rung):
    added = record()
    claim(store, added, clock)

    store.apply(added.summary.digest, Change(event=Event.COMPLETED, at=clock.at))

    assert rung() == []


def test_the_manifest_is_kept_with_the_record(store, record):
    assert record(manifest=WORKFLOW).summary.manifest == WORKFLOW
    added = record(manifest=WORKFLOW)
    assert store.get(added.summary.digest).summary.manifest == WORKFLOW


@pytest.mark.integration
@pytest.mark.parametrize(
    "forged", ["", "short", "g" * 64, 'x","y":"' + "a" * 57, "A" * 64]
)
def test_what_is_no_digest_rings_nobody(redis_adapters, redis_url, forged, clock):
    # Redis is written to by many: such a summary was never one of ours.
    store = redis_adapters.store
    digest = end_a_job(store, clock, manifest=forged)

    with connect(redis_url) as client:
        assert client.llen(bell.QUEUE) == 0
    assert store.get(digest).is_over


@pytest.mark.integration
def test_a_queue_that_is_none_keeps_no_job_from_its_end(
    redis_adapters, redis_url, clock
):
    with connect(redis_url) as client:
        client.set(bell.QUEUE, "something else")
        assert redis_adapters.store.get(end_a_job(redis_adapters.store, clock)).is_over
        client.delete(bell.QUEUE)


@pytest.mark.integration
def test_bells_that_nobody_hears_are_no_flood(redis_adapters, redis_url, clock):
    with connect(redis_url) as client:
        client.lpush(bell.QUEUE, *range(bell.MOST))

        end_a_job(redis_adapters.store, clock)

        assert client.llen(bell.QUEUE) == bell.MOST


@pytest.mark.integration
@pytest.mark.parametrize("make", ["in a script", "in Python", "without a job"])
def test_stock_kombu_reads_a_bell(redis_adapters, redis_url, clock, make):
    if make == "in a script":
        job = end_a_job(redis_adapters.store, clock)
    else:
        job = "cd" * 32 if make == "in Python" else None
        with connect(redis_url) as client:
            client.lpush(bell.QUEUE, bell.message(WORKFLOW, job))

    url = redis_url.replace("unix://", "redis+socket://")
    with Connection(url, transport=kombu_redis.Transport) as connection:
        queue = connection.SimpleQueue(bell.QUEUE, no_ack=True)
        message = queue.get(timeout=5)
        queue.close()
    args, kwargs, _ = message.payload
    assert (args, kwargs) == ([WORKFLOW, job], {})
    assert message.headers["task"] == bell.TASK
    assert message.headers["id"] == message.properties["correlation_id"]
    assert len(bell.message(WORKFLOW, "cd" * 32)) < 1000


def end_a_job(store, clock, **facts):
    """End a job in the store, and return its digest."""
    digest = facts.pop("digest", "ef" * 32)
    summary = Summary(
        **{
            "digest": digest,
            "id": "00000000-0000-4000-8000-000000000001",
            "caller_id": "alice",
            "context_id": "billing",
            "executor": "python",
            "runner": None,
            "attempts": 1,
            "expires_at": clock.at,
            "workflow_id": None,
            "signed_by": (),
            "manifest": WORKFLOW,
            **facts,
        }
    )
    store.add(summary, "{}", at=clock.at, priority=4, not_before=None, queue="python")
    store.apply(digest, Change(event=Event.REFUSED, at=clock.at))
    return digest
