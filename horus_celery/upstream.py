"""What a job may take from the jobs before it: only what their runners signed.

Whoever signed a job named those before it by their digests. So of what the store has
about a digest only three things count: the bytes that have this digest, a receipt about
it, and a result whose hash the receipt holds. Its status is not even looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from horus_celery.errors import InputError, ReceiptError, RefusedError
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import InputRef, Job
from horus_celery.statements.receipt import (
    Expected,
    Receipt,
    check_receipt,
    read_receipt,
)
from horus_celery.statements.trust import Trust, is_listed

#: Bytes of all inputs of one job together: the runner holds them until they are files.
MAX_TOTAL: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the store has about a digest, before anything of it is believed."""

    #: The job's envelope as JSON text; None if only receipts were kept of it.
    envelope: str | None = None
    #: Receipts' envelopes as JSON text.
    receipts: tuple[str, ...] = ()
    result: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One input: the very bytes that were proven, and what a receipt says of them."""

    name: str
    #: The digest of the job whose result it is.
    source: str
    sha256: str
    data: bytes = field(repr=False)


#: Reads what the store has about a digest; None if that is nothing.
LookUp: TypeAlias = Callable[[str], Found | None]


def take(job: Job, *, trust: Trust, look_up: LookUp) -> tuple[Given, ...]:
    """Prove that the jobs a verified job builds on have completed; return its inputs.

    Each of them is looked up once, one after the other, and what was looked up is what
    is proven and given.

    Raises:
        InputError: `input.missing` where there is no such job in the context of this
            one, or no receipt or result of it; `input.receipt` where no receipt proves
            that it has completed; `input.hash` where the result is not the one that its
            runner signed; `input.size` where it is larger than this job's signer
            allowed, or all of them are larger than a runner takes.
    """
    names: dict[str, list[str]] = {digest: [] for digest in job.needs}
    for name, ref in job.inputs.items():
        names.setdefault(ref.source, []).append(name)
    given: dict[str, Given] = {}
    for digest, wanted_as in names.items():
        found = look_up(digest)
        if found is None or not found.receipts:
            raise _missing(digest, "is not there, or not over")
        receipt = _completion(found, digest, job, trust)
        if wanted_as:
            data = _result(found, digest, receipt)
            for name in wanted_as:
                given[name] = _given(name, job.inputs[name], data, receipt)
                _require_together_small(given)
    return tuple(given[name] for name in job.inputs)


def _completion(found: Found, digest: str, job: Job, trust: Trust) -> Receipt:
    """Return a receipt which proves that the job of this digest has completed."""
    expected = None
    if found.envelope is not None:
        expected = _expected(found.envelope, digest, job)
    trouble = ""
    for text in found.receipts:
        try:
            if expected is None:
                receipt = _kept_receipt(text, digest, job, trust)
            else:
                receipt = check_receipt(text, trust=trust, expected=expected)
        except ReceiptError as error:
            trouble = error.detail
            continue
        if receipt.status == "completed":
            return receipt
        trouble = f"its runner signed that it was {receipt.status}"
    raise InputError("input.receipt", f"the job {digest} has not completed: {trouble}")


def _expected(text: str, digest: str, job: Job) -> Expected:
    """Return what a receipt must be about, by the job's own signed bytes."""
    try:
        upstream = _job_of(digest, text)
    except RefusedError as refusal:
        raise InputError(
            "input.receipt", f"what is stored as the job {digest} is not it: {refusal}"
        ) from None
    if upstream.context_id != job.context_id:
        # As if there were no such job: who signs for one context shall not get
        # anything of another, nor learn what there is.
        raise _missing(digest, "is not there, or not over")
    return Expected.of(upstream, digest)


def _job_of(digest: str, text: str) -> Job:
    """Read the job of this digest, which was signed as part of the one that names it.

    Raises:
        RefusedError: if the text is not that job's envelope.
    """
    envelope = dsse.read(text, dsse.JOB)
    if envelope.digest != digest:
        raise RefusedError("env.shape", "it has another digest")
    return Job.from_wire(canonical.parse(envelope.body))


def _kept_receipt(text: str, digest: str, job: Job, trust: Trust) -> Receipt:
    """Read a receipt whose job's bytes are gone: its runner must serve this context."""
    receipt, runner = read_receipt(text, trust=trust, digest=digest)
    if not is_listed(job.context_id, runner.contexts):
        raise ReceiptError("the runner that signed may not run jobs of this context")
    return receipt


def _result(found: Found, digest: str, receipt: Receipt) -> bytes:
    if found.result is None:
        raise _missing(digest, "has no result that was kept")
    data = found.result.encode("utf-8", "surrogatepass")
    shown = (hashlib.sha256(data).hexdigest(), len(data))
    if shown != (receipt.result.sha256, receipt.result.bytes):
        raise InputError(
            "input.hash",
            f"the result of the job {digest} is not what its runner signed",
        )
    return data


def _given(name: str, ref: InputRef, data: bytes, receipt: Receipt) -> Given:
    if len(data) > ref.max_bytes:
        raise InputError(
            "input.size",
            f"the input {name} has {len(data)} bytes, over {ref.max_bytes}",
        )
    sha256 = receipt.result.sha256
    return Given(name=name, source=ref.source, sha256=sha256, data=data)


def _require_together_small(given: dict[str, Given]) -> None:
    total = sum(len(one.data) for one in given.values())
    if total > MAX_TOTAL:
        raise InputError(
            "input.size", f"the inputs together have more than {MAX_TOTAL} bytes"
        )


def _missing(digest: str, what: str) -> InputError:
    return InputError("input.missing", f"the job {digest} {what}")
