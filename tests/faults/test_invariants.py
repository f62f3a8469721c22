"""The checks of what holds whatever breaks: none of them is decoration."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from horus_celery.lifecycle import Status
from horus_celery.proof import MISMATCH
from horus_celery.record import Record, Summary
from horus_celery.statements import dsse
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.receipt import OutputDigest, Receipt, ResultDigest
from tests.faults.invariants import INVARIANTS, Accepted, Seen, require
from tests.faults.witness import Run, Witness, mark_of, text_of

KEY = KeyPair.from_seed(bytes(32))
DIGEST = "a" * 64
JOB_ID = str(uuid.UUID(int=1))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def receipt(seq=1, prev=None):
    nothing = dict(OutputDigest.of(b""))
    body = {
        "v": 1,
        "aud": "test",
        "runner": "r",
        "seq": seq,
        "prev": prev,
        "job": DIGEST,
        "job_id": JOB_ID,
        "attempt": seq,
        "status": "completed",
        "reason": None,
        "exit_code": 0,
        "started_at": 1,
        "ended_at": 2,
        "inputs": [],
        "stdout": nothing,
        "stderr": nothing,
        "result": dict(ResultDigest.of(b"7")),
        "sandbox": "plain",
        "software": "test",
    }
    return dsse.sign(dsse.RECEIPT, Receipt.from_wire(body).body(), [KEY])


FIRST = receipt()
SECOND = receipt(2, FIRST.digest)
TEXTS = (dsse.to_json(FIRST), dsse.to_json(SECOND))
SUMMARY = Summary(
    digest=DIGEST,
    id=JOB_ID,
    caller_id="alice",
    context_id="billing",
    executor="python",
    runner=None,
    attempts=2,
    expires_at=NOW + timedelta(hours=1),
    workflow_id=None,
    signed_by=(),
)
RECORD = Record(
    summary=SUMMARY,
    envelope="{}",
    status=Status.COMPLETED,
    created_at=NOW,
    result="7",
    receipt=TEXTS[1],
)
RUN = Run(
    mark="m",
    text="t",
    began=1.0,
    ended=2.0,
    is_alone=True,
    result=hashlib.sha256(b"7").hexdigest(),
)
KILLED = replace(RUN, began=0.0, ended=None, result=None)
GOOD = Seen(
    accepted={"m": Accepted(mark="m", text="t", digest=DIGEST, attempts=2)},
    runs=(KILLED, RUN),
    records={DIGEST: RECORD},
    shown={DIGEST: RECORD},
    told={DIGEST: frozenset({Status.COMPLETED})},
    starts={DIGEST: 2},
    receipts={"r": TEXTS},
    undelivered=0,
    stops={"m": 3.0},
    left=(),
)


def showing(**changes) -> Seen:
    return replace(GOOD, shown={DIGEST: replace(RECORD, **changes)})


def running(*runs) -> Seen:
    return replace(GOOD, runs=runs)


#: What each check is there for.
BROKEN: dict[str, tuple[Seen, ...]] = {
    "every_accepted_job_is_over": (
        showing(status=Status.RUNNING),
        replace(GOOD, shown={}),
    ),
    "no_end_has_changed": (
        replace(GOOD, told={DIGEST: frozenset({Status.FAILED})}),
        replace(GOOD, told={DIGEST: frozenset({Status.FAILED, Status.COMPLETED})}),
    ),
    "no_job_runs_too_often_or_beside_itself": (
        running(KILLED, RUN, RUN),
        running(replace(RUN, is_alone=False)),
        running(RUN, replace(RUN, began=1.5, ended=3.0)),
    ),
    "what_completed_is_what_a_run_said": (
        showing(result="8"),
        showing(result=None),
        showing(status=Status.FAILED, reason=MISMATCH),
        running(KILLED),
    ),
    "nothing_begins_after_its_stop": (replace(GOOD, stops={"m": 0.5}),),
    "nothing_of_a_job_is_left": (replace(GOOD, left=("1: sleep",)),),
    "nothing_runs_that_nobody_signed": (
        running(replace(RUN, mark="forged")),
        running(replace(RUN, text="forged")),
    ),
    "the_journal_has_every_run": (
        replace(GOOD, starts={}),
        replace(GOOD, starts={DIGEST: 1}),
        replace(GOOD, starts={DIGEST: 3}),
    ),
    "receipts_are_a_chain": (
        replace(GOOD, receipts={"r": TEXTS[::-1]}),
        replace(GOOD, receipts={"other": TEXTS}),
        replace(GOOD, receipts={"r": (TEXTS[0], dsse.to_json(receipt(2)))}),
    ),
    "the_store_knows_every_receipt": (
        replace(GOOD, undelivered=1),
        replace(GOOD, receipts={"r": TEXTS[:1]}),
        replace(
            GOOD,
            receipts={"r": ()},
            records={DIGEST: replace(RECORD, receipt=None)},
        ),
    ),
}


def test_what_keeps_all_promises_passes():
    require(GOOD)


def test_every_check_has_something_that_breaks_it():
    assert {check.__name__ for check in INVARIANTS} == BROKEN.keys()


@pytest.mark.parametrize("check", INVARIANTS, ids=lambda check: check.__name__)
def test_a_check_fails_for_what_it_is_there_for(check: Callable[[Seen], None]):
    for seen in BROKEN[check.__name__]:
        with pytest.raises((AssertionError, KeyError)):
            check(seen)


def test_a_script_names_its_mark_and_is_known_by_its_text(tmp_path):
    payload = Witness(tmp_path).payload(mark="m")
    assert mark_of(payload) == "m"
    assert text_of(payload) != text_of(payload + " ")
    assert Witness(tmp_path).runs() == ()
