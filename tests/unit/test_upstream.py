"""What a job may take from others is what their runners signed, and nothing else."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from horus_celery.errors import InputError
from horus_celery.instants import to_ms
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import InputRef, make_job
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.trust import Trust
from horus_celery.upstream import MAX_TOTAL, Found, take

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ALICE, BOTH, PYTHON, LAB, NOBODY = (
    KeyPair.from_seed(bytes([n]) * 32) for n in range(5)
)
NO_OUTPUT = {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0, "truncated": False}
TRUST = Trust.from_wire(
    {
        "v": 1,
        "aud": "hero",
        "version": 1,
        "issued_at": to_ms(NOW),
        "expires_at": to_ms(NOW + timedelta(days=30)),
        "keys": {one.keyid: one.public.hex() for one in (ALICE, BOTH, PYTHON, LAB)},
        "grants": [],
        "runners": [
            {"name": name, "key": key.keyid, "executors": executors, "contexts": of}
            for name, key, executors, of in (
                ("both", BOTH, ["python", "system"], ["*"]),
                ("python", PYTHON, ["python"], ["billing"]),
                ("lab", LAB, ["python", "system"], ["lab"]),
            )
        ],
    }
)


class Past:
    """A job that is over, as the store has it; a test may have something else there."""

    def __init__(self, result="42\n", **facts):
        usual = {
            "aud": "hero",
            "caller_id": "alice",
            "context_id": "billing",
            "executor": "system",
            "payload": "echo 42",
            "now": NOW,
        }
        self.job = make_job(**{**usual, **facts})
        signed = dsse.sign(dsse.JOB, self.job.body(), [ALICE])
        self.digest = signed.digest
        self.envelope = dsse.to_json(signed)
        self.result = result

    def receipt(self, *, key=BOTH, **changes):
        data = (self.result or "").encode()
        body = {
            "v": 1,
            "aud": "hero",
            "runner": "both",
            "seq": 1,
            "prev": None,
            "job": self.digest,
            "job_id": self.job.id,
            "attempt": 1,
            "status": "completed",
            "reason": None,
            "exit_code": 0,
            "started_at": to_ms(NOW),
            "ended_at": to_ms(NOW),
            "inputs": [],
            "stdout": NO_OUTPUT,
            "stderr": NO_OUTPUT,
            "result": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)},
            "sandbox": "none",
            "software": "test",
        }
        signed = canonical.encode({**body, **changes})
        return dsse.to_json(dsse.sign(dsse.RECEIPT, signed, [key]))

    def found(self, **changes):
        usual = {
            "envelope": self.envelope,
            "receipts": (self.receipt(),),
            "result": self.result,
        }
        return Found(**{**usual, **changes})

    def kept(self, *receipts):
        """What is there once its record was retired."""
        return Found(receipts=receipts or (self.receipt(),))

    def ref(self, max_bytes=1000):
        return InputRef.from_wire({"from": self.digest, "max_bytes": max_bytes})


@pytest.fixture
def past():
    return Past()


def taken(store, *, context_id="billing", **facts):
    """Take what a job may take from a store, which is a mapping here."""
    job = make_job(
        aud="hero",
        caller_id="alice",
        context_id=context_id,
        executor="python",
        payload="",
        now=NOW,
        **facts,
    )
    return take(job, trust=TRUST, look_up=store.get)


def refusal(past, found, **facts):
    """Return with which code a job is refused that needs what was found."""
    if not facts:
        facts = {"needs": [past.digest]}
    with pytest.raises(InputError) as caught:
        taken({past.digest: found} if found else {}, **facts)
    return caught.value.reason


# --- what is proven is given -----------------------------------------------------


def test_a_job_that_names_no_other_looks_nothing_up():
    assert taken({}) == ()


def test_a_job_that_completed_is_all_that_is_needed(past):
    assert taken({past.digest: past.found()}, needs=[past.digest]) == ()


def test_an_input_is_the_bytes_of_the_result_and_their_hash(past):
    past = Past(result="ümlaut\n")
    [given] = taken({past.digest: past.found()}, inputs={"A": past.ref()})
    assert (given.name, given.source) == ("A", past.digest)
    assert given.data == "ümlaut\n".encode()
    assert given.sha256 == hashlib.sha256(given.data).hexdigest()


def test_inputs_come_in_the_order_of_their_names_each_with_its_own_result():
    first, second = Past(result="1"), Past(result="2")
    store = {one.digest: one.found() for one in (first, second)}
    inputs = {"Z": first.ref(), "B": second.ref(), "A": first.ref()}
    given = taken(store, inputs=inputs, needs=[second.digest])
    said = {(one.name, one.source, one.data) for one in given}
    assert said == {
        ("A", first.digest, b"1"),
        ("B", second.digest, b"2"),
        ("Z", first.digest, b"1"),
    }


def test_what_is_needed_and_given_more_than_once_is_looked_up_once(past):
    looked_up = []

    class Store:
        def get(self, digest):
            looked_up.append(digest)
            return past.found()

    inputs = {"A": past.ref(), "B": past.ref()}
    assert len(taken(Store(), needs=[past.digest] * 2, inputs=inputs)) == 2
    assert looked_up == [past.digest]


def test_an_empty_result_is_an_empty_input():
    past = Past(result="")
    [given] = taken({past.digest: past.found()}, inputs={"A": past.ref(0)})
    assert given.data == b""


def test_the_data_of_an_input_is_in_no_repr():
    past = Past(result="unmistakable")
    found = past.found()
    [given] = taken({past.digest: found}, inputs={"A": past.ref()})
    assert given.data == b"unmistakable"
    assert "unmistakable" not in repr(given)
    assert "unmistakable" not in repr(found)


# --- input.missing ---------------------------------------------------------------


def test_without_a_record_or_a_receipt_it_is_missing(past):
    assert refusal(past, None) == "input.missing"
    assert refusal(past, past.found(receipts=())) == "input.missing"


@pytest.mark.parametrize("context_id", ["lab", "billing2"])
def test_a_job_of_another_context_is_missing(context_id):
    past = Past(context_id=context_id)
    assert refusal(past, past.found()) == "input.missing"
    assert refusal(past, past.found(), inputs={"A": past.ref()}) == "input.missing"


@pytest.mark.parametrize("found", ["found", "kept"])
def test_a_result_that_is_gone_is_missing_where_it_is_an_input(past, found):
    gone = past.found(result=None) if found == "found" else past.kept()
    assert refusal(past, gone, inputs={"A": past.ref()}) == "input.missing"
    assert taken({past.digest: gone}, needs=[past.digest]) == ()


def test_of_many_needs_each_counts(past):
    missing = Past(payload="other")
    needs = [past.digest, missing.digest]
    assert refusal(past, past.found(), needs=needs) == "input.missing"


# --- input.receipt ---------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "failed", "reason": "exit_code", "exit_code": 1},
        {"status": "stopped"},
        {"status": "rejected", "attempt": 0},
        {"aud": "elsewhere"},
        {"job": "0" * 64},
        {"job_id": "0b5e8d6e-6f3c-4c8f-9a53-6a7f0f6f2f11"},
        {"runner": "python", "key": PYTHON},
        {"runner": "lab", "key": LAB},
        {"runner": "both", "key": PYTHON},
        {"runner": "nobody", "key": NOBODY},
        {"key": ALICE},
        {"key": NOBODY},
    ],
    ids=str,
)
def test_a_receipt_that_proves_no_completion_is_refused(past, changes):
    found = past.found(receipts=(past.receipt(**changes),))
    assert refusal(past, found) == "input.receipt"
    assert refusal(past, found, inputs={"A": past.ref()}) == "input.receipt"


def test_a_receipt_of_another_runner_than_the_job_named_is_refused():
    past = Past(executor="python", runner="python")
    good = past.receipt(runner="python", key=PYTHON)
    assert taken({past.digest: past.found(receipts=(good,))}, needs=[past.digest]) == ()
    assert refusal(past, past.found()) == "input.receipt"


def test_a_receipt_of_another_job_is_refused(past):
    other = Past(payload="other")
    swapped = past.found(receipts=(other.receipt(),))
    assert refusal(past, swapped) == "input.receipt"


@pytest.mark.parametrize("text", ["", "{}", "null", "\ud800", "[" * 100_000])
def test_what_is_no_envelope_is_refused(past, text):
    assert refusal(past, past.found(receipts=(text,))) == "input.receipt"
    assert refusal(past, past.found(envelope=text)) == "input.receipt"


def test_the_envelope_of_another_job_is_refused(past):
    # It would let any runner of python answer for a job of system.
    other = Past(executor="python", job_id=past.job.id)
    forged = past.receipt(runner="python", key=PYTHON)
    found = past.found(envelope=other.envelope, receipts=(forged,))
    assert refusal(past, found) == "input.receipt"


def test_the_record_of_another_job_is_refused_as_a_whole(past):
    other = Past(payload="other")
    inputs = {"A": past.ref()}
    assert refusal(past, other.found(), inputs=inputs) == "input.receipt"


# --- a record that was retired ---------------------------------------------------


def test_the_receipt_of_a_retired_record_is_enough_for_what_is_needed(past):
    assert taken({past.digest: past.kept()}, needs=[past.digest]) == ()


def test_of_several_receipts_that_were_kept_one_has_to_prove_it(past):
    came_again = past.receipt(status="rejected", reason="claim.replay", attempt=0)
    kept = past.kept(came_again, "junk", past.receipt())
    assert taken({past.digest: kept}, needs=[past.digest]) == ()
    assert refusal(past, past.kept(came_again, "junk")) == "input.receipt"


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "failed"},
        {"aud": "elsewhere"},
        {"job": "0" * 64},
        {"runner": "lab", "key": LAB},
        {"key": ALICE},
    ],
    ids=str,
)
def test_a_kept_receipt_that_proves_nothing_here_is_refused(past, changes):
    assert refusal(past, past.kept(past.receipt(**changes))) == "input.receipt"


# --- input.hash and input.size ---------------------------------------------------


@pytest.mark.parametrize("result", ["43\n", "42\n\n", "42", "", "\ud800"])
def test_a_result_that_was_changed_is_refused(past, result):
    found = past.found(result=result)
    assert refusal(past, found, inputs={"A": past.ref()}) == "input.hash"


def test_a_size_that_the_runner_did_not_sign_is_refused(past):
    signed = {"sha256": hashlib.sha256(b"42\n").hexdigest(), "bytes": 4}
    found = past.found(receipts=(past.receipt(result=signed),))
    assert refusal(past, found, inputs={"A": past.ref()}) == "input.hash"


def test_the_results_of_two_jobs_cannot_be_exchanged():
    first, second = Past(result="1"), Past(result="2")
    swapped = first.found(result=second.result)
    assert refusal(first, swapped, inputs={"A": first.ref()}) == "input.hash"


def test_an_input_has_at_most_as_many_bytes_as_its_signer_allowed():
    past = Past(result="ü")
    assert taken({past.digest: past.found()}, inputs={"A": past.ref(2)})
    assert refusal(past, past.found(), inputs={"A": past.ref(1)}) == "input.size"


def test_all_inputs_together_have_at_most_as_many_bytes_as_a_runner_takes():
    past = Past(result="x" * (MAX_TOTAL // 2))
    store = {past.digest: past.found()}
    two = {name: past.ref(MAX_TOTAL) for name in "AB"}
    assert sum(len(one.data) for one in taken(store, inputs=two)) == MAX_TOTAL
    small = Past(result="x")
    with pytest.raises(InputError) as caught:
        taken({**store, small.digest: small.found()}, inputs={**two, "C": small.ref()})
    assert caught.value.reason == "input.size"
