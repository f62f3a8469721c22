"""Whether a queued job may start on this runner, and the claim that makes it its own.

Nothing here is allowed on what Redis says: not on the record's summary, which only
spares a runner the jobs of others, but on verified bytes, the trust bundle, the
journal and the clock of this node. That a job was stopped is believed of anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from pydantic import SecretBytes

from horus_celery.admission import Admitted, Gate, admit, job_has_not_expired
from horus_celery.errors import (
    ClaimError,
    ConfigurationError,
    IllegalTransition,
    InputError,
    NotCoveredError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from horus_celery.journal import AlreadyRunning, process_mark
from horus_celery.lifecycle import Event, Status
from horus_celery.record import LEASE, Change, Record
from horus_celery.runner.insistence import until_written
from horus_celery.runner.node import Assignment, Node
from horus_celery.statements import dsse
from horus_celery.statements.trust import ALL, RunnerEntry, Trust, is_listed
from horus_celery.store.runner_bell import JOB_ID
from horus_celery.upstream import Found, Given, take


def find(job_id: str, node: Node) -> Record | None:
    """Return the oldest queued record of that id that this runner may take."""
    if not JOB_ID.fullmatch(job_id):
        return None
    records = [
        record
        for record in node.store.named(job_id)
        if record.status is Status.QUEUED and record.summary.executor in node.executors
    ]
    if not records:
        return None
    contexts = own_entry(node).contexts
    now = node.clock.now()
    return next(
        (
            record
            for record in records
            if record.summary.runner in (None, node.name)
            and is_listed(record.summary.context_id, contexts)
            and (record.not_before is None or record.not_before <= now)
        ),
        None,
    )


def own_entry(node: Node) -> RunnerEntry:
    """Return what the trust bundle says about this runner.

    Raises:
        ConfigurationError: if it does not let the runner serve what it is to serve.
    """
    trust = node.trust.current()
    return _entry(trust, node)


def claim(record: Record, node: Node) -> Assignment | None:
    """Check and claim; None if somebody else has it or it is no longer queued.

    Raises:
        RefusedError: if it may not run here, now, or at all.
    """
    gate = _gate(node)
    admitted = _admit(record, gate)
    _require_containment(admitted, node)
    job = admitted.job
    secrets = _secrets_of(admitted, node)
    try:
        inputs = _take(admitted, gate, node)
        lease_until = node.lease_clock.now() + LEASE
        now = node.clock.now()
        start = node.journal.claim(
            digest=admitted.digest,
            context_id=job.context_id,
            job_id=job.id,
            attempts=job.attempts,
            expires_at=job.expires_at,
            now=now,
            process=process_mark(),
        )
    except AlreadyRunning:
        return None
    except (ClaimError, InputError):
        # Two bells for one job: the other one may have been answered in between.
        if not _is_queued(admitted.digest, node):
            return None
        raise
    attempt = max(start, record.attempt + 1)
    change = Change(
        event=Event.CLAIMED,
        at=now,
        attempt=attempt,
        ran_on=node.name,
        lease_until=lease_until,
    )
    try:
        node.store.note(admitted.digest, change)
    except (IllegalTransition, NotFoundError):
        until_written(partial(node.journal.release, admitted.digest, start))
        return None
    except ClaimError:
        # The store knows of a stop that this node has not heard of.
        node.journal.release(admitted.digest, start)
        node.journal.stop(admitted.digest, job.expires_at)
        raise
    except UnavailableError:
        # Nothing has started. If the claim did reach the store, its lease will end.
        until_written(partial(node.journal.release, admitted.digest, start))
        raise
    return Assignment(
        job=job,
        digest=admitted.digest,
        start=start,
        attempt=attempt,
        at=now,
        is_bound=ALL not in _entry(gate.trust, node).contexts,
        inputs=inputs,
        secrets=secrets,
    )


def _gate(node: Node) -> Gate:
    """Return what this runner checks, and what it believes now."""
    trust = node.trust.current()
    return Gate(
        aud=node.aud,
        name=node.name,
        executors=frozenset(node.executors),
        contexts=frozenset(_entry(trust, node).contexts),
        secrets=node.secrets.names,
        trust=trust,
        now=node.clock.now(),
    )


def _admit(record: Record, gate: Gate) -> Admitted:
    """Check the stored envelope as if nobody had checked it before.

    Raises:
        RefusedError: with the reason code.
    """
    envelope = dsse.read(record.envelope, dsse.JOB)
    if envelope.digest != record.summary.digest:
        raise RefusedError(
            "env.shape", "the envelope is another job's", digest=envelope.digest
        )
    return admit(envelope, gate)


def _require_containment(admitted: Admitted, node: Node) -> None:
    """Refuse what this runner cannot keep apart as it has to."""
    try:
        node.executors[admitted.job.executor].check(admitted.job)
    except NotCoveredError as refusal:
        raise NotCoveredError(
            refusal.reason, refusal.detail, digest=admitted.digest
        ) from None


def _secrets_of(admitted: Admitted, node: Node) -> Mapping[str, SecretBytes]:
    """Return the values of the secrets that a job names, as they are now.

    Raises:
        NotCoveredError: `auth.secrets`, if one cannot be used.
    """
    try:
        return node.secrets.read(admitted.job.secrets)
    except NotCoveredError as refusal:
        refusal.digest = admitted.digest
        raise


def _take(admitted: Admitted, gate: Gate, node: Node) -> tuple[Given, ...]:
    """Return the job's inputs, once all that it builds on is proven.

    Raises:
        RefusedError: `input.*`, or `time.expired` if that took too long.
        UnavailableError: if the store does not answer.
    """
    job = admitted.job
    look_up = partial(_look_up, context_id=job.context_id, node=node)
    try:
        given = take(job, trust=gate.trust, look_up=look_up)
        now = node.clock.now()
        job_has_not_expired(job, replace(gate, now=now), frozenset(admitted.signed_by))
    except RefusedError as refusal:
        refusal.digest = admitted.digest
        raise
    return given


def _look_up(digest: str, *, context_id: str, node: Node) -> Found | None:
    """Read once what the store has about a job.

    Its record holds the job's own word for its context; of a retired record there is
    only the store's.
    """
    try:
        record = node.store.get(digest)
    except NotFoundError:
        kept = node.store.archived(digest, contexts=frozenset({context_id}))
        return Found(receipts=tuple(one.receipt for one in kept)) if kept else None
    return Found(
        envelope=record.envelope,
        receipts=() if record.receipt is None else (record.receipt,),
        result=record.result,
    )


def _is_queued(digest: str, node: Node) -> bool:
    try:
        return node.store.get(digest).status is Status.QUEUED
    except NotFoundError:
        return False


def _entry(trust: Trust, node: Node) -> RunnerEntry:
    entry = trust.runner(node.name)
    if entry is None:
        raise ConfigurationError(
            f"the trust bundle lists no runner {node.name}: name a listed one with"
            " `-n NAME@%h` (`horus trust show` lists them), or add it with `horus init`"
        )
    if entry.key != node.key.keyid:
        raise ConfigurationError(
            f"the key of the runner {node.name} is not the one that the trust bundle"
            " lists: put the right key file there, or have the bundle signed again"
        )
    for executor in node.executors:
        if not is_listed(executor, entry.executors):
            raise ConfigurationError(
                f"the trust bundle lets the runner {node.name} serve"
                f" {', '.join(entry.executors)}, not {executor}: choose what it serves"
                " with -Q, or its name with -n"
            )
    return entry
