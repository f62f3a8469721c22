"""How a start ends: signed into the journal first, then told to the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from horus_celery.errors import (
    DamagedError,
    IllegalTransition,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from horus_celery.instants import to_ms
from horus_celery.lifecycle import Event, Status, advance
from horus_celery.record import LEASE, Change, Record, after_death
from horus_celery.retries import retry_at
from horus_celery.runner.insistence import until_written
from horus_celery.runner.node import GIVEN_UP, Assignment, Node, Outcome
from horus_celery.runner.outbox import hand_over, note, write_outcome
from horus_celery.statements import dsse
from horus_celery.statements.receipt import Receipt, ResultDigest
from horus_celery.upstream import Given

_logger: Final = structlog.get_logger(__name__)

#: What a digest is taken over when there are no signed bytes to be found.
_UNREADABLE: Final = b"horus-unreadable-v1\0"


def settle(
    assignment: Assignment,
    outcome: Outcome,
    node: Node,
    *,
    make_space: Callable[[], None] = lambda: None,
) -> None:
    """Sign what happened into the journal, then tell the store.

    The store may be away: then the outbox of the journal has it.

    Args:
        assignment: The job.
        outcome: How it ended.
        node: Where it ran.
        make_space: Called when the journal cannot be written.
    """
    job = assignment.job

    def keep() -> None:
        make_space()
        _keep_lease(assignment, node)

    if outcome.event is Event.STOPPED:
        stop = partial(node.journal.stop, assignment.digest, job.expires_at)
        until_written(stop, meanwhile=keep)
    _conclude(
        _Conclusion(
            digest=assignment.digest,
            job_id=job.id,
            start=assignment.start,
            if_attempt=assignment.attempt,
            started_at=assignment.at,
            ended_at=outcome.ended_at or node.clock.now(),
            outcome=outcome,
            inputs=assignment.inputs,
            retry_at=_retry_at(assignment, outcome, node),
        ),
        node,
        meanwhile=keep,
    )
    if outcome.reason == GIVEN_UP:
        # The end of the lease would say it, too, some time later.
        with suppress(UnavailableError, DamagedError):
            _give_up_own(assignment, node)


def _retry_at(assignment: Assignment, outcome: Outcome, node: Node) -> datetime | None:
    """Return when a start that failed is followed by another one."""
    if outcome.event is not Event.FAILED or outcome.reason == GIVEN_UP:
        return None
    attempt = max(assignment.attempt, assignment.start)
    return retry_at(assignment.job, attempt=attempt, now=node.clock.now())


def _give_up_own(assignment: Assignment, node: Node) -> None:
    try:
        record = node.store.get(assignment.digest)
    except NotFoundError:
        return
    holder = (record.is_held, record.ran_on, record.attempt)
    if holder == (True, node.name, assignment.attempt):
        # The sweep rings for it.
        note(assignment.digest, after_death(record, node.clock.now()), node)


def _keep_lease(assignment: Assignment, node: Node) -> None:
    with suppress(UnavailableError, NotFoundError, IllegalTransition):
        until = node.lease_clock.now() + LEASE
        node.store.renew(
            assignment.digest, attempt=assignment.attempt, lease_until=until
        )


def refuse(record: Record, refusal: RefusedError, node: Node) -> None:
    """Reject a record, with a receipt about the very bytes that were refused."""
    digest = record.summary.digest
    job_id = record.summary.id
    _logger.warning(
        "job refused", job_id=job_id, reason=refusal.reason, detail=refusal.detail
    )
    now = node.clock.now()
    if refusal.digest not in (None, digest):
        # A receipt about the record's job would speak about bytes that nobody saw.
        rejected = Change(event=Event.REFUSED, at=now, reason=refusal.reason)
        note(digest, rejected, node)
        return
    _conclude(
        _Conclusion(
            digest=digest,
            signed_digest=refusal.digest or _digest_of_unreadable(record.envelope),
            job_id=job_id,
            start=0,
            started_at=None,
            ended_at=now,
            outcome=Outcome(event=Event.REFUSED, reason=refusal.reason),
        ),
        node,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conclusion:
    """How a job ended here, before it is signed."""

    digest: str
    job_id: str
    start: int
    started_at: datetime | None
    ended_at: datetime
    outcome: Outcome
    #: What the script was given.
    inputs: tuple[Given, ...] = ()
    #: What the receipt is about, if it is not the record's digest.
    signed_digest: str | None = None
    #: The record changes only while this is its latest attempt.
    if_attempt: int | None = None
    #: When the job starts again: then its record does not end.
    retry_at: datetime | None = None


def _conclude(
    end: _Conclusion, node: Node, *, meanwhile: Callable[[], None] | None = None
) -> None:
    """Settle an end, at once or (with something to do `meanwhile`) when it can be."""
    settle = partial(
        node.journal.settle,
        runner=node.name,
        make=lambda seq, prev: dsse.to_json(
            dsse.sign(dsse.RECEIPT, _receipt(end, node, seq, prev).body(), [node.key])
        ),
        digest=end.digest,
        attempt=end.start,
        outcome=write_outcome(
            end.outcome,
            digest=end.digest,
            ended_at=end.ended_at,
            if_attempt=end.if_attempt,
            retry_at=end.retry_at,
        ),
    )
    # A refusal comes again with the next bell.
    entry = (
        settle() if meanwhile is None else until_written(settle, meanwhile=meanwhile)
    )
    if end.outcome.unsent is not None:
        # Left to `deliver`, because a log has one writer at a time.
        _logger.warning("receipt kept for later", job_id=end.job_id, seq=entry.seq)
        return
    try:
        hand_over(entry, node)
    except UnavailableError:
        _logger.warning("receipt kept for later", job_id=end.job_id, seq=entry.seq)


def _receipt(end: _Conclusion, node: Node, seq: int, prev: str | None) -> Receipt:
    outcome = end.outcome
    held = Status.QUEUED if outcome.event is Event.REFUSED else Status.STOPPING
    return Receipt.from_wire(
        {
            "v": 1,
            "aud": node.aud,
            "runner": node.name,
            "seq": seq,
            "prev": prev,
            "job": end.signed_digest or end.digest,
            "job_id": end.job_id,
            "attempt": end.start,
            "status": advance(held, outcome.event).value,
            "reason": outcome.reason,
            "exit_code": outcome.exit_code,
            "started_at": to_ms(end.started_at),
            "ended_at": to_ms(end.ended_at),
            "inputs": [
                {"name": one.name, "from": one.source, "sha256": one.sha256}
                for one in end.inputs
            ],
            "stdout": dict(outcome.stdout),
            "stderr": dict(outcome.stderr),
            "result": dict(ResultDigest.of(outcome.result.encode())),
            "sandbox": outcome.sandbox,
            "software": node.software,
        }
    )


def _digest_of_unreadable(envelope: str) -> str:
    raw = envelope.encode("utf-8", "surrogatepass")
    return hashlib.sha256(_UNREADABLE + raw).hexdigest()
