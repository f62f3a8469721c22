from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from horus_celery import admission
from horus_celery.instants import to_ms
from horus_celery.lifecycle import Status
from horus_celery.proof import MISMATCH, Proofs, prove
from horus_celery.record import Record
from horus_celery.statements import dsse
from horus_celery.statements.job import make_job
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.receipt import OutputDigest, Receipt, ResultDigest
from horus_celery.statements.trust import Trust

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CALLER, RUNNER, OTHER = (KeyPair.generate() for _ in range(3))


def make_trust(runner=RUNNER):
    return Trust.from_wire(
        {
            "v": 1,
            "aud": "hero",
            "version": 1,
            "issued_at": to_ms(NOW),
            "expires_at": to_ms(NOW) + 10**9,
            "keys": {key.keyid: key.public.hex() for key in (CALLER, runner)},
            "grants": [],
            "runners": [
                {
                    "name": "r",
                    "key": runner.keyid,
                    "executors": ["python"],
                    "contexts": ["*"],
                }
            ],
        }
    )


def make_receipt(job, digest, *, key=RUNNER, result="7"):
    nothing = OutputDigest.of(b"")
    receipt = Receipt.from_wire(
        {
            "v": 1,
            "aud": "hero",
            "runner": "r",
            "seq": 1,
            "prev": None,
            "job": digest,
            "job_id": job.id,
            "attempt": 1,
            "status": "completed",
            "reason": None,
            "exit_code": 0,
            "started_at": to_ms(NOW),
            "ended_at": to_ms(NOW),
            "inputs": [],
            "stdout": dict(nothing),
            "stderr": dict(nothing),
            "result": dict(ResultDigest.of(result.encode())),
            "sandbox": "plain",
            "software": "test",
        }
    )
    return dsse.to_json(dsse.sign(dsse.RECEIPT, receipt.body(), [key]))


def make_record(payload="print(7)"):
    job = make_job(
        aud="hero",
        caller_id="alice",
        context_id="billing",
        executor="python",
        payload=payload,
        now=NOW,
    )
    envelope = dsse.sign(dsse.JOB, job.body(), [CALLER])
    admitted = admission.Admitted(
        job=job, digest=envelope.digest, envelope="", signed_by=(CALLER.keyid,)
    )
    return Record(
        summary=admission.summary(admitted),
        envelope=dsse.to_json(envelope),
        status=Status.COMPLETED,
        created_at=NOW,
        ended_at=NOW,
        exit_code=0,
        result="7",
        receipt=make_receipt(job, envelope.digest),
    )


RECORD = make_record()
TRUST = make_trust()


@pytest.fixture
def proofs():
    """Proofs that have seen the honest record before."""
    proofs = Proofs()
    assert proofs.prove(RECORD, TRUST).record.status is Status.COMPLETED
    return proofs


def test_what_is_in_mind_is_what_is_proven(proofs):
    proven = prove(RECORD, TRUST)
    assert proofs.prove(RECORD, TRUST) == proven
    assert (proven.record.ran_on, proven.signed_by) == ("r", (CALLER.keyid,))


OTHER_RECORD = make_record("print(8)")
FORGED = {
    "another result": {"result": "8"},
    "no result": {"result": None},
    "another end": {"status": Status.FAILED, "reason": "exit_code"},
    "another exit code": {"exit_code": 1},
    "no receipt": {"receipt": None},
    "a receipt that is none": {"receipt": "{}"},
    "a receipt of another job": {"receipt": OTHER_RECORD.receipt},
    "another envelope": {"envelope": OTHER_RECORD.envelope},
    "another digest": {
        "summary": replace(RECORD.summary, digest=hashlib.sha256().hexdigest())
    },
    "another id": {"summary": replace(RECORD.summary, id=OTHER_RECORD.summary.id)},
    "another context": {"summary": replace(RECORD.summary, context_id="lab")},
    "another caller": {"summary": replace(RECORD.summary, caller_id="mallory")},
    "another executor": {"summary": replace(RECORD.summary, executor="system")},
    "another runner": {"summary": replace(RECORD.summary, runner="r")},
}


@pytest.mark.parametrize("facts", FORGED.values(), ids=FORGED)
def test_what_is_in_mind_covers_no_forgery(proofs, facts):
    forged = replace(RECORD, **facts)
    shown = proofs.prove(forged, TRUST)
    assert (shown.record.status, shown.record.reason) == (Status.FAILED, MISMATCH)
    assert shown == prove(forged, TRUST)
    assert proofs.prove(RECORD, TRUST).record.status is Status.COMPLETED


def test_nothing_of_a_job_is_shown_to_those_of_a_context_that_it_was_put_into(proofs):
    summary = replace(RECORD.summary, context_id="lab")
    shown = proofs.prove(replace(RECORD, summary=summary), TRUST)
    assert (shown.job, shown.record.result, shown.signed_by) == (None, None, ())


def test_a_new_bundle_puts_everything_out_of_mind(proofs):
    other = make_trust(OTHER)
    assert proofs.prove(RECORD, other).record.reason == MISMATCH
    assert proofs.prove(RECORD, TRUST).record.reason is None


def test_a_record_is_proven_anew_when_it_ends():
    proofs = Proofs()
    running = replace(RECORD, status=Status.RUNNING, receipt=None, result=None)
    assert proofs.prove(running, TRUST).record == running
    assert proofs.prove(RECORD, TRUST).record.result == "7"


def test_large_texts_are_proven_without_being_kept():
    large = make_record("#" * 100_000)
    proofs = Proofs()
    for _ in range(2):
        assert proofs.prove(large, TRUST) == prove(large, TRUST)
