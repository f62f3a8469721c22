"""An end without a receipt is believed only where nobody could have signed one.

Neither by the supervisor, of what stands in Redis, nor by the client, of what the
supervisor says.
"""

from __future__ import annotations

import json
from datetime import timedelta

import httpx
import pytest

from horus_celery.client import Horus
from horus_celery.errors import ConfigurationError, ReceiptError
from horus_celery.lifecycle import Event, Status
from horus_celery.record import Change

UNBELIEVED = (Status.FAILED, "receipt_mismatch", None)


def shown(world, record):
    """Return what is shown of a record, alone and in a list."""
    name = record.summary.digest
    alone = world.supervisor.get(name).record
    ended = world.supervisor.result(name, wait=timedelta(0)).record
    assert (ended.status, ended.reason) == (alone.status, alone.reason)
    return alone.status, alone.reason, alone.result


def forge(world, record, event, **facts):
    """Write an end into the store, as whoever can write to Redis might."""
    change = Change(event=event, at=world.clock.at, **facts)
    return world.store.apply(record.summary.digest, change)


HAD_TO_BE_SIGNED = pytest.mark.parametrize(
    ("event", "facts"),
    [
        (Event.COMPLETED, {"exit_code": 0}),
        (Event.COMPLETED, {"exit_code": 0, "result": ""}),
        # Reasons that need no receipt are those of a failure only.
        (Event.COMPLETED, {"reason": "expired"}),
        (Event.COMPLETED, {"reason": "worker_lost"}),
        (Event.FAILED, {"reason": "exit_code", "exit_code": 1}),
        (Event.FAILED, {"reason": "timeout"}),
        (Event.FAILED, {"reason": "executor"}),
        (Event.FAILED, {"reason": None}),
        (Event.FAILED, {"reason": "worker_lost", "result": ""}),
    ],
    ids=str,
)


@HAD_TO_BE_SIGNED
def test_an_end_that_a_runner_had_to_sign_is_not_believed(world, event, facts):
    record = world.claim(world.submit())
    forge(world, record, event, **facts)
    assert shown(world, record) == UNBELIEVED


def test_a_refusal_that_no_runner_signed_is_not_believed(world):
    record = world.submit()
    forge(world, record, Event.REFUSED, reason="sig.none")
    assert shown(world, record) == UNBELIEVED


@pytest.mark.parametrize("reason", ["expired", "worker_lost"])
def test_a_receipt_that_is_there_has_to_verify_whatever_the_reason(world, reason):
    record = world.claim(world.submit())
    signed = world.receipt(record, key=world.stranger, status="failed", reason=reason)
    forge(world, record, Event.FAILED, reason=reason, receipt=signed)
    assert shown(world, record) == UNBELIEVED


def test_a_job_that_was_stopped_before_it_started_is_shown_as_stopped(world):
    record = world.submit()
    world.supervisor.stop(record.summary.id)
    assert shown(world, record) == (Status.STOPPED, None, None)


# --- the client, of a supervisor that lies -----------------------------------------


@pytest.fixture
def client_of(world):
    """Make a client whose supervisor answers with a given record."""

    def make(record, **options):
        def answer(request):
            method = json.loads(request.content)["method"]
            answers = {
                "job.result": {"success": ""},
                "job.get": record,
                "trust.get": json.loads(world.trust.envelope()),
            }
            body = {"jsonrpc": "2.0", "id": 1, "result": answers[method]}
            return httpx.Response(200, json=body)

        given = {"root": world.root.public, **options}
        transport = httpx.MockTransport(answer)
        return Horus("http://localhost", "secret", transport=transport, **given)

    return make


def told(world, record, **lies):
    """Return a job's record as a supervisor may tell it."""
    job = record.summary
    at = int(world.clock.at.timestamp() * 1000)
    times = dict.fromkeys(("created_at", "queued_at", "started_at", "ended_at"), at)
    said = {"attempt": 1, "ran_on": "r1", "exit_code": None, "reason": None}
    named = {"id": job.id, "digest": job.digest, "context_id": job.context_id}
    asked = {"executor": job.executor, "runner": job.runner, "signed_by": []}
    return {**named, **asked, **times, **said, "result": None, "receipt": None, **lies}


@HAD_TO_BE_SIGNED
def test_a_client_believes_no_end_that_a_runner_had_to_sign(
    world, client_of, event, facts
):
    lie = told(world, world.submit(), status=event.value, **facts)
    with client_of(lie) as client, pytest.raises(ReceiptError, match="without a rec"):
        client.outcome(lie["id"])


@pytest.mark.parametrize("status", ["rejected", "running", "created"])
def test_a_client_believes_no_other_status_without_a_receipt(world, client_of, status):
    lie = told(world, world.submit(), status=status)
    with client_of(lie) as client, pytest.raises(ReceiptError):
        client.outcome(lie["id"])


@pytest.mark.parametrize(
    ("status", "reason"),
    [("stopped", None), ("failed", "expired"), ("failed", "worker_lost")],
)
def test_what_nobody_can_have_signed_is_told_as_unverified(
    world, client_of, status, reason
):
    lie = told(world, world.submit(), status=status, reason=reason)
    with client_of(lie) as client:
        outcome = client.outcome(lie["id"])
    assert (outcome.status, outcome.reason) == (status, reason)
    assert not outcome.is_verified
    assert not outcome.succeeded


def test_a_client_that_verifies_nothing_cannot_show_whom_it_trusts(world, client_of):
    with (
        client_of(None, root=None, verify=False) as client,
        pytest.raises(ConfigurationError, match="root key"),
    ):
        client.trust()
