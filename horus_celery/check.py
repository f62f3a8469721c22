"""What a runner would say to an envelope: the whole verdict, for a person to see."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from horus_celery import admission
from horus_celery.errors import ConfigurationError, RefusedError
from horus_celery.journal import Journal
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import Job
from horus_celery.statements.trust import Trust, read_trust

ACCEPT: Final = "accept"


def check_job(
    envelope_text: str | bytes,
    *,
    trust: Trust,
    name: str,
    aud: str,
    executors: Collection[str],
    contexts: Collection[str],
    now: datetime,
    journal: Journal | None = None,
) -> str:
    """Return "accept", or the reason code with which a runner would refuse the job.

    Whether the jobs that it builds on have completed is left out (see `builds_on`).
    With a journal the job is also claimed in it, as its start would be.
    """
    gate = admission.Gate(
        aud=aud,
        name=name,
        executors=frozenset(executors),
        contexts=frozenset(contexts),
        trust=trust,
        now=now,
    )
    try:
        admitted = admission.admit(dsse.read(envelope_text, dsse.JOB), gate)
        if journal is not None:
            _claim(admitted, journal, now)
    except RefusedError as refusal:
        return refusal.reason
    return ACCEPT


def builds_on(envelope_text: str | bytes) -> frozenset[str]:
    """Return the digests of the jobs of which an accepted one wants proof or result.

    A runner finds both in the records of its deployment.
    """
    job = Job.from_wire(canonical.parse(dsse.read(envelope_text, dsse.JOB).body))
    return frozenset({*job.needs, *(one.source for one in job.inputs.values())})


def read_trust_text(text: str | bytes, *, root_public: bytes | None = None) -> Trust:
    """Read a trust bundle that a person names: its envelope, or its bare body.

    A bare body, or an envelope without a root key to check it by, is believed on the
    word of the person who names it.

    Raises:
        ConfigurationError: if it is no trust bundle, or the root key did not sign it.
    """
    try:
        value = canonical.load(text)
        if not isinstance(value, dict) or "payloadType" not in value:
            return Trust.from_wire(value)
        if root_public is not None:
            return read_trust(text, root_public)
        body = dsse.from_wire(value, dsse.TRUST).body
        return Trust.from_wire(canonical.parse(body))
    except RefusedError as refusal:
        raise ConfigurationError(
            f"this is no trust bundle ({refusal.reason}): {refusal}"
        ) from None


def _claim(admitted: admission.Admitted, journal: Journal, now: datetime) -> None:
    job = admitted.job
    journal.claim(
        digest=admitted.digest,
        context_id=job.context_id,
        job_id=job.id,
        attempts=job.attempts,
        expires_at=job.expires_at,
        now=now,
        # Nothing runs on behalf of this claim, so the next one need not wait for it.
        process=None,
    )
