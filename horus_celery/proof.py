"""What of a record may be shown as true: no more than the signed bytes prove."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Final, TypeAlias

from horus_celery.errors import ReceiptError, RefusedError
from horus_celery.lifecycle import Status
from horus_celery.record import UNSIGNED_REASONS, Record, Summary
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import Job
from horus_celery.statements.receipt import Expected, Receipt, check_envelope
from horus_celery.statements.trust import Trust

#: The reason of a record whose signed bytes do not prove what it says.
MISMATCH: Final = "receipt_mismatch"
#: Proofs that are kept in mind, and the characters that the texts of one may have: some
#: 25 MB where jobs are of the usual size.
_REMEMBERED: Final = 2000
_MAX_REMEMBERED: Final = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A record as it may be shown."""

    record: Record
    #: None if the stored envelope is not the one that the record is about, or if what
    #: the record repeats of it is not what was signed.
    job: Job | None
    #: The ids of the callers' keys that signed it and are trusted now.
    signed_by: tuple[str, ...]
    #: What is stored as its receipt, whether it proves anything or not; None if that is
    #: no receipt, whoever wrote it.
    sealed: dsse.Envelope | None = None
    #: What a runner signed of its end; None if it has not ended, or nobody signed that.
    receipt: Receipt | None = None
    #: Whether what is stored may be true; else it is shown as failed.
    is_believed: bool = True


class Proofs:
    """Proves records as `prove` does, and keeps in mind what it verified lately.

    What a proof is made from (envelope, receipt, trust bundle) is what it is found by:
    so nothing is believed that would not be believed without.
    """

    def __init__(self) -> None:
        self._latest: tuple[Trust, _Verify] | None = None

    def prove(self, record: Record, trust: Trust) -> Shown:
        """Return what `prove` returns."""
        latest = self._latest
        if latest is None or latest[0] is not trust:
            # A job is mostly proven before it has a receipt.
            vouch = lru_cache(_REMEMBERED)(partial(_vouch, trust))
            verify = lru_cache(_REMEMBERED)(partial(_verify, trust, vouch))
            latest = self._latest = trust, verify
        if len(record.envelope) + len(record.receipt or "") > _MAX_REMEMBERED:
            return prove(record, trust)
        return _shown(record, latest[1])


def prove(record: Record, trust: Trust) -> Shown:
    """Return the record as it is, or as failed if its signed bytes say otherwise."""
    return _shown(record, partial(_verify, trust, partial(_vouch, trust)))


def job_of(record: Record) -> Job | None:
    """Return the job that a record is about; None if the stored envelope is no such."""
    with suppress(RefusedError):
        return _job(_envelope_of(record.summary.digest, record.envelope))
    return None


@dataclass(frozen=True, slots=True)
class _Proof:
    """What the signed bytes of a record say; None where they are none."""

    job: Job | None
    signed_by: tuple[str, ...]
    receipt: Receipt | None
    #: The receipt as it is stored.
    sealed: dsse.Envelope | None


#: Verifies the envelope and the receipt that are kept for a digest.
_Verify: TypeAlias = Callable[[str, str, str | None], _Proof]
#: Verifies an envelope; returns its job and who signed it, if it is that digest's.
_Vouch: TypeAlias = Callable[[str, str], tuple[Job, tuple[str, ...]] | None]


def _vouch(
    trust: Trust, digest: str, envelope_text: str
) -> tuple[Job, tuple[str, ...]] | None:
    try:
        envelope = _envelope_of(digest, envelope_text)
        job = _job(envelope)
    except RefusedError:
        return None
    return job, tuple(sorted(dsse.signers(envelope, trust.caller_keys())))


def _verify(
    trust: Trust,
    vouch: _Vouch,
    digest: str,
    envelope_text: str,
    receipt_text: str | None,
) -> _Proof:
    sealed = None if receipt_text is None else _sealed(receipt_text)
    vouched = vouch(digest, envelope_text)
    if vouched is None:
        return _Proof(None, (), None, sealed)
    job, signed_by = vouched
    receipt = None
    if sealed is not None:
        expected = Expected.of(job, digest=digest)
        with suppress(ReceiptError):
            receipt = check_envelope(sealed, trust=trust, expected=expected)
    return _Proof(job, signed_by, receipt, sealed)


def _sealed(receipt_text: str) -> dsse.Envelope | None:
    try:
        return dsse.read(receipt_text, dsse.RECEIPT)
    except RefusedError:
        return None


def _shown(record: Record, verify: _Verify) -> Shown:
    proof = verify(record.summary.digest, record.envelope, record.receipt)
    if proof.job is None or not _repeats(record.summary, proof.job):
        # Nothing of another job is shown under its id, or to those of its context.
        return _without_belief(
            Shown(record=record, job=None, signed_by=(), sealed=proof.sealed)
        )
    as_it_is = Shown(
        record=record,
        job=proof.job,
        signed_by=proof.signed_by,
        sealed=proof.sealed,
    )
    if not record.is_over or _needs_no_receipt(record):
        return as_it_is
    receipt = proof.receipt
    if receipt is None or not _bears_out(receipt, record):
        return _without_belief(as_it_is)
    if (record.attempt, record.ran_on) != (receipt.attempt, receipt.runner):
        record = replace(record, attempt=receipt.attempt, ran_on=receipt.runner)
    return replace(as_it_is, record=record, receipt=receipt)


def _repeats(summary: Summary, job: Job) -> bool:
    """Say whether a record is found under what its job says."""
    return all(
        getattr(summary, name) == getattr(job, name)
        for name in ("id", "caller_id", "context_id", "executor", "runner")
    )


def _without_belief(shown: Shown) -> Shown:
    return replace(shown, record=disbelieved(shown.record), is_believed=False)


def _envelope_of(digest: str, text: str) -> dsse.Envelope:
    """Read the envelope that was admitted.

    Raises:
        RefusedError: if it is not the envelope of the record's digest any more.
    """
    envelope = dsse.read(text, dsse.JOB)
    if envelope.digest != digest:
        raise RefusedError("env.shape", "the stored envelope is that of another job")
    return envelope


def _job(envelope: dsse.Envelope) -> Job:
    return Job.from_wire(canonical.parse(envelope.body))


def _needs_no_receipt(record: Record) -> bool:
    """Say whether it may have ended without a runner; then it has no result either."""
    silent = record.status is Status.STOPPED or (
        record.status is Status.FAILED and record.reason in UNSIGNED_REASONS
    )
    return silent and record.receipt is None and record.result is None


def _bears_out(receipt: Receipt, record: Record) -> bool:
    """Say whether a receipt of the job tells its end as the record does."""
    said = (record.status.value, record.reason, record.exit_code)
    result = (record.result or "").encode("utf-8", "surrogatepass")
    return (*said, hashlib.sha256(result).hexdigest()) == (
        *(receipt.status, receipt.reason, receipt.exit_code),
        receipt.result.sha256,
    )


def disbelieved(record: Record) -> Record:
    """Return a record as it is shown when it says otherwise than what was signed."""
    return replace(
        record,
        status=Status.FAILED,
        reason=MISMATCH,
        exit_code=None,
        result=None,
        ended_at=record.ended_at or record.queued_at or record.created_at,
    )
