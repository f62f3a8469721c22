"""What is believed of a job that completed elsewhere: what its receipt proves.

A parcel brings a job's envelope, its receipt and its result to where another job builds
on it. Whoever carries it can leave it at home, and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from horus_celery.errors import InputError, MalformedError, ReceiptError
from horus_celery.lifecycle import Status
from horus_celery.proof import Shown
from horus_celery.record import Record, Summary
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import Job
from horus_celery.statements.receipt import Expected, Receipt, check_envelope
from horus_celery.statements.trust import Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A job that completed elsewhere, as it travels."""

    job: dsse.Envelope
    receipt: dsse.Envelope
    result: str

    @classmethod
    def of(cls, shown: Shown) -> Parcel | None:
        """Pack a proven record; None if it did not complete."""
        record = shown.record
        if record.status is not Status.COMPLETED or shown.sealed is None:
            return None
        return cls(
            job=dsse.read(record.envelope, dsse.JOB),
            receipt=shown.sealed,
            result=record.result or "",
        )

    def to_wire(self) -> dict[str, object]:
        """Write it as a parameter of `create_job`."""
        return {
            "job": dsse.to_wire(self.job),
            "receipt": dsse.to_wire(self.receipt),
            "result": self.result,
        }


def open_all(
    values: Iterable[object], job: Job, *, trust: Trust, max_bytes: int
) -> Iterator[Record]:
    """Yield the records of jobs that completed elsewhere, once they are proven.

    Args:
        values: Parcels as parsed JSON.
        job: The job that builds on them.
        trust: By whose keys they are proven.
        max_bytes: The largest body of a job.

    Raises:
        MalformedError: if one is no parcel.
        InputError: `input.receipt` if it is not proven that the job completed, or if
            nothing builds on it; `input.hash` if its result is another.
    """
    for value in values:
        parcel = _read(value, max_bytes)
        upstream = Job.from_wire(canonical.parse(parcel.job.body))
        digest = parcel.job.digest
        _require_wanted(digest, upstream, job)
        receipt = _proven(parcel, upstream, trust)
        yield _record(parcel, upstream, receipt)


def open_own(parcel: Parcel, *, trust: Trust) -> Record:
    """Return the record of a job that completed elsewhere, once it is proven.

    Raises:
        InputError: as `open_all`.
    """
    job = Job.from_wire(canonical.parse(parcel.job.body))
    return _record(parcel, job, _proven(parcel, job, trust))


def _read(value: object, max_bytes: int) -> Parcel:
    match value:
        case {"job": job, "receipt": receipt, "result": str(result), **more} if (
            not more
        ):
            return Parcel(
                job=dsse.from_wire(job, dsse.JOB, max_bytes=max_bytes),
                receipt=dsse.from_wire(receipt, dsse.RECEIPT),
                result=result,
            )
    raise MalformedError(
        "schema.upstream", "each of upstream has a job, a receipt and a result"
    )


def _require_wanted(digest: str, upstream: Job, job: Job) -> None:
    sources = {ref.source for ref in job.inputs.values()}
    if digest not in sources.union(job.needs) or upstream.context_id != job.context_id:
        raise InputError("input.receipt", f"the job does not build on {digest}")


def _proven(parcel: Parcel, upstream: Job, trust: Trust) -> Receipt:
    digest = parcel.job.digest
    expected = Expected.of(upstream, digest)
    try:
        receipt = check_envelope(parcel.receipt, trust=trust, expected=expected)
    except ReceiptError as error:
        raise InputError(
            "input.receipt", f"the job {digest} has not completed: {error.detail}"
        ) from None
    if receipt.status != "completed":
        raise InputError(
            "input.receipt", f"the job {digest} was {receipt.status}, not completed"
        )
    data = parcel.result.encode("utf-8", "surrogatepass")
    if hashlib.sha256(data).hexdigest() != receipt.result.sha256:
        raise InputError(
            "input.hash",
            f"the result of the job {digest} is not what its runner signed",
        )
    return receipt


def _record(parcel: Parcel, job: Job, receipt: Receipt) -> Record:
    began = receipt.started_at or receipt.ended_at
    return Record(
        summary=Summary(
            digest=parcel.job.digest,
            id=job.id,
            caller_id=job.caller_id,
            context_id=job.context_id,
            executor=job.executor,
            runner=job.runner,
            attempts=job.attempts,
            expires_at=job.expires_at,
            workflow_id=None if job.workflow is None else job.workflow.id,
            signed_by=(),
        ),
        envelope=dsse.to_json(parcel.job),
        status=Status.COMPLETED,
        created_at=began,
        queued_at=began,
        started_at=began,
        ended_at=receipt.ended_at,
        attempt=receipt.attempt,
        ran_on=receipt.runner,
        exit_code=receipt.exit_code,
        result=parcel.result,
        receipt=dsse.to_json(parcel.receipt),
    )
