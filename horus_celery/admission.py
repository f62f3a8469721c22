"""The gate: every check that a job passes before it is recorded or started.

The checks run in the order of protocol section 5, and each refuses by raising: who
signed it, is it a job at all, then the rules of `CHECKS`. A workflow's manifest passes
those of them that it can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from horus_celery.errors import (
    NotCoveredError,
    RefusedError,
    SignatureError,
    TimeError,
)
from horus_celery.instants import shown
from horus_celery.record import Summary
from horus_celery.statements import canonical, dsse
from horus_celery.statements.fields import SECOND
from horus_celery.statements.job import Job
from horus_celery.statements.manifest import Manifest
from horus_celery.statements.trust import Grant, Trust, is_listed

#: How far the clocks of a client and of a node may be apart.
CLOCK_SKEW: Final = timedelta(minutes=5)
#: The queue of the coordinators, which no executor has.
COORDINATORS: Final = "coordinator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Who checks, and what it believes; None means that somebody else checks that."""

    #: The deployment.
    aud: str
    #: The runner's own name.
    name: str | None = None
    #: What the runner serves; "*" stands for all.
    executors: frozenset[str] | None = None
    contexts: frozenset[str] | None = None
    #: The names of the secrets that scripts can be given here.
    secrets: frozenset[str] | None = None
    trust: Trust
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A job that passed every check."""

    job: Job
    digest: str
    #: The envelope that carried it, as JSON text to be kept.
    envelope: str
    #: The ids of the trusted keys that signed it, sorted.
    signed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedManifest:
    """A manifest that passed every check."""

    manifest: Manifest
    digest: str
    #: The envelope that carried it, as JSON text to be kept.
    envelope: str
    #: The ids of the trusted keys that signed it, sorted.
    signed_by: tuple[str, ...]


#: Looks at a verified job, the gate, and the ids of the keys that signed; refuses by
#: raising.
Check: TypeAlias = Callable[[Job, Gate, frozenset[str]], None]
#: As much of a manifest.
ManifestCheck: TypeAlias = Callable[[Manifest, Gate, frozenset[str]], None]


def admit(envelope: dsse.Envelope, gate: Gate) -> Admitted:
    """Check a job.

    Raises:
        RefusedError: with the reason code of the first check that does not hold, and
            with the digest of the refused bytes.
    """
    try:
        signed_by = _verify(envelope, gate)
        job = Job.from_wire(canonical.parse(envelope.body))
        for check in CHECKS:
            check(job, gate, signed_by)
    except RefusedError as refusal:
        refusal.digest = envelope.digest
        raise
    return Admitted(
        job=job,
        digest=envelope.digest,
        envelope=dsse.to_json(envelope),
        signed_by=tuple(sorted(signed_by)),
    )


def admit_manifest(envelope: dsse.Envelope, gate: Gate) -> AdmittedManifest:
    """Check a workflow's manifest; its jobs pass the gate by themselves.

    Raises:
        RefusedError: as `admit`.
    """
    try:
        signed_by = _verify(envelope, gate)
        manifest = Manifest.from_wire(canonical.parse(envelope.body))
        for check in MANIFEST_CHECKS:
            check(manifest, gate, signed_by)
    except RefusedError as refusal:
        refusal.digest = envelope.digest
        raise
    return AdmittedManifest(
        manifest=manifest,
        digest=envelope.digest,
        envelope=dsse.to_json(envelope),
        signed_by=tuple(sorted(signed_by)),
    )


def summary(admitted: Admitted) -> Summary:
    """Return what a record repeats of its job."""
    job = admitted.job
    return Summary(
        digest=admitted.digest,
        id=job.id,
        caller_id=job.caller_id,
        context_id=job.context_id,
        executor=job.executor,
        runner=job.runner,
        attempts=job.attempts,
        expires_at=job.expires_at,
        workflow_id=None if job.workflow is None else job.workflow.id,
        signed_by=admitted.signed_by,
        manifest=None if job.workflow is None else job.workflow.manifest,
    )


def audience_is_this_deployment(
    job: Job | Manifest, gate: Gate, signed_by: frozenset[str]
) -> None:
    if not job.aud == gate.aud == gate.trust.aud:
        raise NotCoveredError(
            "bind.aud",
            f"the {_kind(job)} is for the deployment {job.aud}, not for {gate.aud}",
        )


def executor_may_have_a_queue(job: Job, gate: Gate, signed_by: frozenset[str]) -> None:
    # A queue is a key in Redis by the executor's name. Beside the platform's own keys
    # it would stand in the place of what nobody has written there yet.
    if job.executor == COORDINATORS or job.executor.startswith(f"{gate.aud}:"):
        raise NotCoveredError(
            "bind.executor",
            f"the executor {job.executor} cannot be: the platform keeps that name",
        )


def executor_is_served_here(job: Job, gate: Gate, signed_by: frozenset[str]) -> None:
    if gate.executors is not None and not is_listed(job.executor, gate.executors):
        raise NotCoveredError(
            "bind.executor", f"the executor {job.executor} is not served here"
        )


def runner_is_this_one(job: Job, gate: Gate, signed_by: frozenset[str]) -> None:
    if gate.name is not None and job.runner not in (None, gate.name):
        raise NotCoveredError(
            "bind.runner", f"the job is for the runner {job.runner}, not {gate.name}"
        )


def context_is_served_here(job: Job, gate: Gate, signed_by: frozenset[str]) -> None:
    if gate.contexts is not None and not is_listed(job.context_id, gate.contexts):
        raise NotCoveredError(
            "bind.context", f"the context {job.context_id} is not served here"
        )


def grant_covers_context(
    job: Job | Manifest, gate: Gate, signed_by: frozenset[str]
) -> None:
    if not gate.trust.grants_for(job.context_id, job.caller_id):
        raise NotCoveredError(
            "auth.context",
            f"the caller {job.caller_id} has no grant in the context {job.context_id}",
        )


def grant_covers_key(
    job: Job | Manifest, gate: Gate, signed_by: frozenset[str]
) -> None:
    if not _by_key(job, gate, signed_by):
        raise NotCoveredError(
            "auth.key",
            f"the keys that signed do not suffice for the caller {job.caller_id}"
            f" in the context {job.context_id}",
        )


def grant_covers_executor(job: Job, gate: Gate, signed_by: frozenset[str]) -> None:
    if not _by_executor(job, gate, signed_by):
        raise NotCoveredError(
            "auth.executor", f"no grant covers the executor {job.executor}"
        )


def grant_covers_net(job: Job, gate: Gate, signed_by: frozenset[str]) -> None:
    if not _by_net(job, gate, signed_by):
        raise NotCoveredError("auth.net", f"no grant covers the network {job.net}")


def grant_covers_timeout(job: Job, gate: Gate, signed_by: frozenset[str]) -> None:
    if not _by_timeout(job, gate, signed_by):
        raise NotCoveredError(
            "auth.timeout", f"no grant covers a timeout of {job.timeout // SECOND} s"
        )


def grant_covers_secrets(job: Job, gate: Gate, signed_by: frozenset[str]) -> None:
    if not _by_secrets(job, gate, signed_by):
        raise NotCoveredError("auth.secrets", "no grant covers the named secrets")


def secrets_are_kept_here(job: Job, gate: Gate, signed_by: frozenset[str]) -> None:
    for name in job.secrets:
        if gate.secrets is not None and name not in gate.secrets:
            raise NotCoveredError("auth.secrets", f"there is no secret {name} here")


def job_has_not_expired(
    job: Job | Manifest, gate: Gate, signed_by: frozenset[str]
) -> None:
    if gate.now >= job.expires_at:
        raise TimeError(
            "time.expired", f"the {_kind(job)} expired at {shown(job.expires_at)}"
        )


def job_was_not_made_later(
    job: Job | Manifest, gate: Gate, signed_by: frozenset[str]
) -> None:
    if job.created_at > gate.now + CLOCK_SKEW:
        raise TimeError(
            "time.future",
            f"the {_kind(job)} was made at {shown(job.created_at)}, but here it is"
            f" {shown(gate.now)};"
            " compare the clocks",
        )


CHECKS: Final[tuple[Check, ...]] = (
    audience_is_this_deployment,
    executor_may_have_a_queue,
    executor_is_served_here,
    runner_is_this_one,
    context_is_served_here,
    grant_covers_context,
    grant_covers_key,
    grant_covers_executor,
    grant_covers_net,
    grant_covers_timeout,
    grant_covers_secrets,
    secrets_are_kept_here,
    job_has_not_expired,
    job_was_not_made_later,
)

MANIFEST_CHECKS: Final[tuple[ManifestCheck, ...]] = (
    audience_is_this_deployment,
    grant_covers_context,
    grant_covers_key,
    job_has_not_expired,
    job_was_not_made_later,
)


def _kind(statement: Job | Manifest) -> str:
    return "job" if isinstance(statement, Job) else "workflow"


def _verify(envelope: dsse.Envelope, gate: Gate) -> frozenset[str]:
    if gate.trust.is_expired(gate.now):
        raise SignatureError(
            "sig.none",
            f"the trust bundle expired at {shown(gate.trust.expires_at)}, so no key"
            " counts; run `horus trust renew` where the root key lies",
        )
    signed_by = dsse.signers(envelope, gate.trust.caller_keys())
    if not signed_by:
        raise SignatureError(
            "sig.none", "no caller's key of the trust bundle signed it"
        )
    return signed_by


# Each narrows what the one before it left, so that one single grant covers it all.


def _by_key(job: Job | Manifest, gate: Gate, signed_by: frozenset[str]) -> list[Grant]:
    return [
        grant
        for grant in gate.trust.grants_for(job.context_id, job.caller_id)
        if len(signed_by.intersection(grant.keys)) >= grant.threshold
    ]


def _by_executor(job: Job, gate: Gate, signed_by: frozenset[str]) -> list[Grant]:
    grants = _by_key(job, gate, signed_by)
    return [grant for grant in grants if is_listed(job.executor, grant.executors)]


def _by_net(job: Job, gate: Gate, signed_by: frozenset[str]) -> list[Grant]:
    grants = _by_executor(job, gate, signed_by)
    return [grant for grant in grants if job.net in grant.nets]


def _by_timeout(job: Job, gate: Gate, signed_by: frozenset[str]) -> list[Grant]:
    grants = _by_net(job, gate, signed_by)
    return [grant for grant in grants if job.timeout <= grant.max_timeout]


def _by_secrets(job: Job, gate: Gate, signed_by: frozenset[str]) -> list[Grant]:
    grants = _by_timeout(job, gate, signed_by)
    return [grant for grant in grants if set(job.secrets) <= set(grant.secrets)]
