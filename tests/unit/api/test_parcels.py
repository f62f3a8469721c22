"""What a job is brought that completed elsewhere: only what a receipt proves."""

from __future__ import annotations

import json

import pytest

from horus_celery.errors import InputError, MalformedError, RefusedError
from horus_celery.lifecycle import Event, Status
from horus_celery.parcels import Parcel
from horus_celery.statements import dsse
from horus_celery.statements.job import InputRef
from horus_celery.store.base import Filter


@pytest.fixture
def north(make_world, world):
    """A supervisor elsewhere, of the same trust."""
    made = make_world()
    for name in ("root", "caller", "runner", "trust", "clock"):
        setattr(made, name, getattr(world, name))
    vars(made.supervisor).update(_trust=world.trust, _clock=world.clock)
    return made


def pack(world, **ending):
    """Have a job end, and return its digest and its parcel, as parsed JSON."""
    record = world.settle(world.claim(world.submit()), **ending)
    digest = record.summary.digest
    parcel = Parcel.of(world.supervisor.get(digest))
    assert parcel is not None
    return digest, parcel.to_wire()


def bring(north, digest, *parcels, **facts):
    """Have a job recorded that builds on another, with what is brought along."""
    source = InputRef.from_wire({"from": digest, "max_bytes": 100})
    envelope = north.envelope(inputs={"rows": source}, **facts)
    return north.supervisor.create_and_queue(
        envelope, priority=4, not_before=None, upstream=parcels
    )


def test_what_completed_elsewhere_is_as_if_it_had_completed_here(world, north):
    digest, parcel = pack(world, result="1, 2")

    bring(north, digest, parcel)
    bring(north, digest, parcel)

    shown = north.supervisor.get(digest)
    assert (shown.record.status, shown.record.result) == (Status.COMPLETED, "1, 2")
    assert shown.is_believed
    assert shown.record.ran_on == "r1"
    theirs = world.supervisor.get(digest)
    assert (shown.sealed, shown.signed_by) == (theirs.sealed, theirs.signed_by)
    [listed] = north.store.list(Filter(status=Status.COMPLETED), limit=9)
    assert listed.summary.digest == digest


def test_what_did_not_complete_is_no_parcel(world):
    record = world.claim(world.submit())
    assert Parcel.of(world.supervisor.get(record.summary.digest)) is None
    failed = world.settle(record, event=Event.FAILED, reason="timeout", exit_code=None)
    assert Parcel.of(world.supervisor.get(failed.summary.digest)) is None


def test_a_record_that_is_here_already_stays_as_it_is(world, north):
    digest, parcel = pack(world, result="1")
    own = north.supervisor.create_and_queue(parcel["job"], priority=4, not_before=None)

    bring(north, digest, parcel)

    assert north.store.get(digest) == own


SPOILT = {
    "another result": (lambda world, parcel: {**parcel, "result": "2"}, "input.hash"),
    "another job": (
        lambda world, parcel: {**parcel, "job": world.envelope()},
        "input.receipt",
    ),
    "another receipt": (
        lambda world, parcel: {**parcel, "receipt": pack(world)[1]["receipt"]},
        "input.receipt",
    ),
    "a receipt of nobody": (
        lambda world, parcel: {**parcel, "receipt": forge(world, parcel)},
        "input.receipt",
    ),
    "no receipt": (lambda world, parcel: {**parcel, "receipt": None}, "env.fields"),
    "no result": (lambda world, parcel: {**parcel, "result": None}, "schema.upstream"),
    "too much": (lambda world, parcel: {**parcel, "more": 1}, "schema.upstream"),
    "nothing": (lambda world, parcel: None, "schema.upstream"),
}


def forge(world, parcel):
    body = dsse.from_wire(parcel["receipt"], dsse.RECEIPT).body
    return dsse.to_wire(dsse.sign(dsse.RECEIPT, body, [world.stranger]))


@pytest.mark.parametrize(("spoil", "reason"), SPOILT.values(), ids=SPOILT)
def test_what_the_receipt_does_not_prove_is_refused_and_not_kept(
    world, north, spoil, reason
):
    digest, parcel = pack(world, result="1")

    with pytest.raises(RefusedError) as refusal:
        bring(north, digest, spoil(world, json.loads(json.dumps(parcel))))

    assert refusal.value.reason == reason
    assert north.store.list(Filter(), limit=1) == ()


def test_an_end_that_was_signed_as_a_failure_is_refused(world, north):
    record = world.claim(world.submit())
    over = world.settle(record, event=Event.FAILED, reason="timeout", exit_code=None)
    shown = world.supervisor.get(over.summary.digest)
    assert shown.sealed is not None
    parcel = {
        "job": json.loads(over.envelope),
        "receipt": dsse.to_wire(shown.sealed),
        "result": "",
    }

    with pytest.raises(InputError, match="was failed, not completed"):
        bring(north, over.summary.digest, parcel)


def test_nothing_is_brought_that_the_job_does_not_build_on(world, north):
    _, parcel = pack(world)
    other, _ = pack(world)

    with pytest.raises(InputError, match="does not build on"):
        bring(north, other, parcel)
    assert north.store.list(Filter(), limit=1) == ()


def test_nothing_is_brought_into_another_context(world, north):
    digest, parcel = pack(world)

    with pytest.raises(InputError, match="does not build on"):
        bring(north, digest, parcel, context_id="lab")


def test_the_api_takes_what_is_brought(world, north, make_client):
    digest, parcel = pack(world, result="1")
    source = InputRef.from_wire({"from": digest, "max_bytes": 100})
    client = make_client(north)
    envelope = north.envelope(inputs={"rows": source})

    client.call("create_job", job=envelope, upstream=[parcel])

    assert client.call("job.get", job_id=digest)["result"] == "1"
    error = client.error(
        "create_job", job=envelope, upstream=[{**parcel, "result": ""}]
    )
    assert (error["code"], error["data"]["reason"]) == (-32009, "input.hash")


def test_a_malformed_parcel_is_said_to_be_one(north):
    with pytest.raises(MalformedError, match="a job, a receipt and a result"):
        bring(north, "0" * 64, [])
