"""What of a record may be shown as true: no more than the signed bytes prove."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final

from horus_celery.errors import ReceiptError, RefusedError
from horus_celery.lifecycle import Status
from horus_celery.record import Record
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import Job
from horus_celery.statements.receipt import Expected, Receipt, check_receipt
from horus_celery.statements.trust import Trust

#: The reason of a record whose signed bytes do not prove what it says.
MISMATCH: Final = "receipt_mismatch"
#: Ends of `failed` that no runner is there to sign.
UNSIGNED_REASONS: Final = frozenset({"worker_lost", "expired"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A record as it may be shown."""

    record: Record
    #: None if the stored envelope is not the one that the record is about.
    job: Job | None
    #: The ids of the callers' keys that signed it and are trusted now.
    signed_by: tuple[str, ...]


def prove(record: Record, trust: Trust) -> Shown:
    """Return the record as it is, or as failed if its signed bytes say otherwise."""
    try:
        envelope = _envelope_of(record)
        job = Job.from_wire(canonical.parse(envelope.body))
    except RefusedError:
        return Shown(record=_disbelieved(record), job=None, signed_by=())
    signed_by = tuple(sorted(dsse.signers(envelope, trust.caller_keys())))
    return Shown(record=_proven(record, job, trust), job=job, signed_by=signed_by)


def _proven(record: Record, job: Job, trust: Trust) -> Record:
    if not record.is_over or _needs_no_receipt(record):
        return record
    try:
        receipt = _receipt_of(record, job, trust)
    except ReceiptError:
        return _disbelieved(record)
    return replace(record, attempt=receipt.attempt, ran_on=receipt.runner)


def _envelope_of(record: Record) -> dsse.Envelope:
    """Read the envelope that was admitted.

    Raises:
        RefusedError: if it is not the envelope of the record's digest any more.
    """
    envelope = dsse.read(record.envelope, dsse.JOB)
    if envelope.digest != record.summary.digest:
        raise RefusedError("env.shape", "the stored envelope is that of another job")
    return envelope


def _needs_no_receipt(record: Record) -> bool:
    """Say whether it may have ended without a runner; then it has no result either."""
    silent = record.status is Status.STOPPED or (
        record.status is Status.FAILED and record.reason in UNSIGNED_REASONS
    )
    return silent and record.receipt is None and record.result is None


def _receipt_of(record: Record, job: Job, trust: Trust) -> Receipt:
    """Read the receipt that proves how a record ended.

    Raises:
        ReceiptError: if it has none, or one that says something else.
    """
    if record.receipt is None:
        raise ReceiptError(f"job {job.id} is {record.status} without a receipt")
    expected = Expected.of(job, digest=record.summary.digest)
    receipt = check_receipt(record.receipt, trust=trust, expected=expected)
    said = (record.status.value, record.reason, record.exit_code)
    if said != (receipt.status, receipt.reason, receipt.exit_code):
        raise ReceiptError(f"job {job.id} ended otherwise than its record says")
    result = (record.result or "").encode()
    if hashlib.sha256(result).hexdigest() != receipt.result.sha256:
        raise ReceiptError(f"the result of job {job.id} is not the signed one")
    return receipt


def _disbelieved(record: Record) -> Record:
    return replace(
        record,
        status=Status.FAILED,
        reason=MISMATCH,
        exit_code=None,
        result=None,
        ended_at=record.ended_at or record.queued_at or record.created_at,
    )
