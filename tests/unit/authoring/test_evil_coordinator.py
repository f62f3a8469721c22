"""Whoever carries a signed workflow can hold it up, and can bend nothing of it.

The coordinator here has everything that a real one has: every envelope, the store, and
all receipts. The runner is asked, since it decides.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from horus_celery.admission import Gate, admit, admit_manifest
from horus_celery.authoring import Workflow
from horus_celery.errors import RefusedError, WorkflowError
from horus_celery.journal import Journal
from horus_celery.statements import dsse
from horus_celery.statements.job import WorkflowRef
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.manifest import Manifest, make_step
from horus_celery.workflows.submission import read_jobs, read_manifest
from tests.coordinator import ALICE, NOW, make_signer, make_trust

EVIL = KeyPair.from_seed(b"\x66" * 32)


def signed():
    with Workflow("transfer") as flow:
        amount = flow.step("amount", run="print(10)")
        check = flow.step("check", run="…", inputs={"AMOUNT": amount})
        flow.step("pay", run="…", after=[check], inputs={"AMOUNT": amount})
    return flow.sign(make_signer(), now=NOW)


def reason_of(call, *arguments):
    with pytest.raises(RefusedError) as refusal:
        call(*arguments)
    return refusal.value.reason


def gate():
    return Gate(aud="hero", name="r1", trust=make_trust(), now=NOW)


def complete(node, submission, **results):
    for name, result in results.items():
        node.complete(submission.jobs[name], result)


# --- the order ---------------------------------------------------------------------


def test_a_step_cannot_be_started_before_those_that_it_waits_for(node):
    submission = signed()
    complete(node, submission, amount="10")
    pay = submission.jobs["pay"].envelope
    assert reason_of(node.start, pay) == "input.missing"


def test_a_check_that_failed_cannot_be_passed_over(node):
    submission = signed()
    complete(node, submission, amount="10")
    node.complete(submission.jobs["check"], "no", status="failed")
    pay = submission.jobs["pay"].envelope
    assert reason_of(node.start, pay) == "input.receipt"


def test_an_edge_cannot_be_dropped(node):
    submission = signed()
    job = submission.jobs["pay"].job.model_copy(update={"needs": ()})
    loose = replace(submission.jobs["pay"].envelope, body=job.body())
    assert reason_of(node.start, loose) == "sig.none"
    own = dsse.sign(dsse.JOB, job.body(), [EVIL])
    assert reason_of(node.start, own) == "sig.none"


# --- the results -------------------------------------------------------------------


def test_the_results_of_two_runs_cannot_be_swapped(node):
    one, two = signed(), signed()
    complete(node, one, amount="10", check="yes")
    complete(node, two, amount="1000000", check="yes")
    ours, theirs = (run.jobs["amount"].envelope.digest for run in (one, two))
    node.over[ours] = node.over[theirs]
    assert reason_of(node.start, one.jobs["pay"].envelope) == "input.receipt"


def test_a_result_cannot_be_given_for_another_with_the_right_receipt(node):
    one, two = signed(), signed()
    complete(node, one, amount="10", check="yes")
    complete(node, two, amount="1000000", check="yes")
    ours, theirs = (run.jobs["amount"].envelope.digest for run in (one, two))
    node.over[ours] = replace(node.over[ours], result=node.over[theirs].result)
    assert reason_of(node.start, one.jobs["pay"].envelope) == "input.hash"


def test_a_receipt_cannot_be_forged(node):
    submission = signed()
    complete(node, submission, amount="10", check="yes")
    node.complete(submission.jobs["check"], "yes", key=EVIL)
    pay = submission.jobs["pay"].envelope
    assert reason_of(node.start, pay) == "input.receipt"


# --- time --------------------------------------------------------------------------


def test_a_step_of_yesterday_cannot_be_played_again(node):
    submission = signed()
    complete(node, submission, amount="10", check="yes")
    pay = submission.jobs["pay"]
    node.start(pay.envelope)
    journal = Journal(":memory:")

    def claim():
        return journal.claim(
            digest=pay.envelope.digest,
            context_id=pay.job.context_id,
            job_id=pay.job.id,
            attempts=pay.job.attempts,
            expires_at=pay.job.expires_at,
            now=NOW,
            process=None,
        )

    assert claim() == 1
    assert reason_of(claim) == "claim.replay"


def test_a_step_cannot_be_kept_for_later():
    submission = signed()
    late = replace(gate(), now=submission.manifest.expires_at)
    envelopes = [one.envelope for one in submission.jobs.values()]
    assert {reason_of(admit, one, late) for one in envelopes} == {"time.expired"}
    assert reason_of(admit_manifest, submission.envelope, late) == "time.expired"


# --- the manifest ------------------------------------------------------------------


def changed(submission, *steps):
    """Return the manifest with other steps, under the signature that it had."""
    body = Manifest.from_wire({**submission.manifest.to_wire(), "steps": list(steps)})
    return replace(submission.envelope, body=body.body())


@pytest.mark.parametrize("change", ["drop an edge", "add a step", "leave one out"])
def test_a_manifest_cannot_be_changed(change):
    submission = signed()
    amount, check, pay = (step.to_wire() for step in submission.manifest.steps)
    steps = {
        "drop an edge": [amount, check, {**pay, "depends_on": ["amount"]}],
        "add a step": [amount, check, pay, make_step("more").to_wire()],
        "leave one out": [amount, {**pay, "depends_on": ["amount"]}],
    }[change]
    forged = changed(submission, *steps)
    assert reason_of(admit_manifest, forged, gate()) == "sig.none"


def test_a_manifest_of_the_same_caller_does_not_take_the_jobs_of_another():
    one, two = signed(), signed()
    taken = read_manifest(dsse.to_wire(two.envelope), gate(), supervisors=())
    jobs = {name: dsse.to_wire(job.envelope) for name, job in one.jobs.items()}
    with pytest.raises(WorkflowError) as refusal:
        read_jobs(taken, jobs, gate())
    assert refusal.value.reason == "workflow.job_mismatch"


def test_a_job_cannot_be_moved_to_another_step():
    submission = signed()
    taken = read_manifest(dsse.to_wire(submission.envelope), gate(), supervisors=())
    jobs = {
        "amount": dsse.to_wire(submission.jobs["amount"].envelope),
        "check": dsse.to_wire(submission.jobs["pay"].envelope),
    }
    assert reason_of(read_jobs, taken, jobs, gate()) == "workflow.job_mismatch"


def test_a_job_cannot_be_given_to_another_workflow(node):
    submission = signed()
    job = submission.jobs["amount"].job
    ref = WorkflowRef(id=submission.id, step="amount", manifest="0" * 64)
    moved = job.model_copy(update={"workflow": ref})
    forged = replace(submission.jobs["amount"].envelope, body=moved.body())
    assert reason_of(node.start, forged) == "sig.none"


def test_the_very_workflow_is_taken(node):
    submission = signed()
    taken = read_manifest(dsse.to_wire(submission.envelope), gate(), supervisors=())
    jobs = {name: dsse.to_wire(job.envelope) for name, job in submission.jobs.items()}
    assert len(read_jobs(taken, jobs, gate())) == 3
    assert dsse.signers(submission.envelope, {ALICE.keyid: ALICE.public})
    complete(node, submission, amount="10", check="yes")
    (amount,) = node.start(submission.jobs["pay"].envelope)
    assert amount.data == b"10"
