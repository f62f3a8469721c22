"""What a runner did with a job, and whether somebody may believe it (section 5)."""

from __future__ import annotations

import builtins
import hashlib
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field

from horus_celery.errors import ReceiptError, RefusedError
from horus_celery.instants import to_ms
from horus_celery.statements import canonical, dsse
from horus_celery.statements.canonical import MAX_INTEGER
from horus_celery.statements.fields import (
    ClosedModel,
    Count,
    EnvName,
    FrozenList,
    Hex64,
    Instant,
    LowerUuid,
    Name,
    Text,
    Version,
)
from horus_celery.statements.job import Job
from horus_celery.statements.trust import RunnerEntry, Trust

Verdict: TypeAlias = Literal["completed", "failed", "stopped", "rejected"]


class ResultDigest(ClosedModel):
    """Which bytes the result is."""

    sha256: Hex64
    bytes: Count

    @classmethod
    def of(cls, data: builtins.bytes) -> Self:
        """Take the digest of a result."""
        return cls(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


class OutputDigest(ClosedModel):
    """Which bytes of a stream were kept."""

    sha256: Hex64
    bytes: Count
    #: Whether there was more.
    truncated: bool

    @classmethod
    def of(cls, data: builtins.bytes, *, truncated: bool = False) -> Self:
        """Take the digest of what was kept of a stream."""
        return cls(
            sha256=hashlib.sha256(data).hexdigest(),
            bytes=len(data),
            truncated=truncated,
        )


class InputDigest(ClosedModel):
    """Which bytes an input was."""

    name: EnvName
    #: The digest of the job whose result it is.
    source: Annotated[Hex64, Field(alias="from")]
    sha256: Hex64


class Receipt(ClosedModel):
    """One attempt or refusal, as its runner signed it; read it with `from_wire`."""

    v: Version
    aud: Name
    runner: Name
    #: The place in the runner's chain of receipts.
    seq: Count
    #: The digest of the receipt before it, or None for the first.
    prev: Hex64 | None
    #: The digest of the job.
    job: Hex64
    job_id: LowerUuid
    #: The number of the start, 0 if it was refused before one.
    attempt: Count
    status: Verdict
    reason: Text | None
    exit_code: Annotated[int, Field(ge=-MAX_INTEGER, le=MAX_INTEGER)] | None
    started_at: Instant | None
    ended_at: Instant
    inputs: FrozenList[InputDigest]
    stdout: OutputDigest
    stderr: OutputDigest
    result: ResultDigest
    #: How the script was kept apart, and what ran it.
    sandbox: Text
    software: Text

    def to_wire(self) -> dict[str, Any]:
        """Write the receipt as a JSON object."""
        return {
            "v": self.v,
            "aud": self.aud,
            "runner": self.runner,
            "seq": self.seq,
            "prev": self.prev,
            "job": self.job,
            "job_id": self.job_id,
            "attempt": self.attempt,
            "status": self.status,
            "reason": self.reason,
            "exit_code": self.exit_code,
            "started_at": to_ms(self.started_at),
            "ended_at": to_ms(self.ended_at),
            "inputs": [
                {"name": one.name, "from": one.source, "sha256": one.sha256}
                for one in self.inputs
            ],
            "stdout": dict(self.stdout),
            "stderr": dict(self.stderr),
            "result": dict(self.result),
            "sandbox": self.sandbox,
            "software": self.software,
        }

    def body(self) -> bytes:
        """Write the receipt as the bytes to sign."""
        return canonical.encode(self.to_wire())


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a receipt must be about to count for a job."""

    #: The digest of the job.
    digest: str
    job_id: str
    #: The deployment; None for the one of the trust bundle.
    aud: str | None
    executor: str
    context_id: str
    #: The runner that the job names, or None if any may run it.
    runner: str | None

    @classmethod
    def of(cls, job: Job, digest: str) -> Self:
        """Expect a receipt for a job that was verified."""
        return cls(
            digest=digest,
            job_id=job.id,
            aud=job.aud,
            executor=job.executor,
            context_id=job.context_id,
            runner=job.runner,
        )


def check_receipt(
    envelope_text: str | bytes, *, trust: Trust, expected: Expected
) -> Receipt:
    """Read a receipt that counts for a job: signed by a runner that may speak about it.

    Raises:
        ReceiptError: if it does not count, for whatever reason.
    """
    try:
        envelope = dsse.read(envelope_text, dsse.RECEIPT)
    except RefusedError as refusal:
        raise _malformed(refusal) from None
    return check_envelope(envelope, trust=trust, expected=expected)


def check_envelope(
    envelope: dsse.Envelope, *, trust: Trust, expected: Expected
) -> Receipt:
    """Read a receipt as `check_receipt` does, from its envelope."""
    receipt, runner = _read(envelope, trust=trust, digest=expected.digest)
    if expected.aud not in (None, trust.aud):
        raise ReceiptError("the receipt is meant for another deployment")
    if receipt.job_id != expected.job_id:
        raise ReceiptError("the receipt is about another job")
    if expected.runner not in (None, runner.name):
        raise ReceiptError("the job names another runner than the receipt")
    if not runner.serves(executor=expected.executor, context_id=expected.context_id):
        raise ReceiptError(
            "the runner that signed may not run jobs of this executor and context"
        )
    return receipt


def read_receipt(
    envelope_text: str | bytes, *, trust: Trust, digest: str
) -> tuple[Receipt, RunnerEntry]:
    """Read what a runner of the bundle signed about a digest, and find that runner.

    Whether it may run such a job is for `check_receipt` to say, from the job itself.

    Raises:
        ReceiptError: if no runner signed it for this deployment about this digest.
    """
    try:
        envelope = dsse.read(envelope_text, dsse.RECEIPT)
    except RefusedError as refusal:
        raise _malformed(refusal) from None
    return _read(envelope, trust=trust, digest=digest)


def _read(
    envelope: dsse.Envelope, *, trust: Trust, digest: str
) -> tuple[Receipt, RunnerEntry]:
    receipt, signed_by = _signed(envelope, trust)
    runner = trust.runner(receipt.runner)
    if runner is None or runner.key not in signed_by:
        raise ReceiptError("the runner that the receipt names did not sign it")
    if receipt.aud != trust.aud:
        raise ReceiptError("the receipt is meant for another deployment")
    if receipt.job != digest:
        raise ReceiptError("the receipt is about another job")
    return receipt, runner


def _signed(envelope: dsse.Envelope, trust: Trust) -> tuple[Receipt, frozenset[str]]:
    signed_by = dsse.signers(envelope, trust.runner_keys())
    if not signed_by:
        raise ReceiptError("no runner of the trust bundle signed the receipt")
    try:
        return Receipt.from_wire(canonical.parse(envelope.body)), signed_by
    except RefusedError as refusal:
        raise _malformed(refusal) from None


def _malformed(refusal: RefusedError) -> ReceiptError:
    return ReceiptError(f"the receipt is malformed: {refusal}")
