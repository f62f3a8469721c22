"""What became of a job so far: the value that the store keeps and everybody reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from horus_celery.instants import to_ms
from horus_celery.lifecycle import HELD, TERMINAL, Event, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a record repeats of its job, so that lists and rules open no envelopes.

    Copied from the verified job when it was admitted. A runner never decides on it.
    """

    digest: str
    id: str
    caller_id: str
    context_id: str
    executor: str
    runner: str | None
    #: How many times it may ever be started.
    attempts: int
    expires_at: datetime
    workflow_id: str | None
    #: Key ids whose signatures counted at admission.
    signed_by: tuple[str, ...]
    #: The digest of its workflow's manifest, so that a coordinator hears of its end.
    manifest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A job's envelope, exactly as it came, and what became of it so far."""

    summary: Summary
    #: The envelope as JSON text.
    envelope: str
    status: Status
    #: Why it ended so, or None; a reason of protocol section 5 or a reason code.
    reason: str | None = None
    #: 0 (first) to 9 (last), as Celery has it on Redis.
    priority: int = 4
    #: Not rung before this moment.
    not_before: datetime | None = None
    #: The queue that it stands, or last stood, in (`routing.queue_of`).
    queue: str | None = None
    #: When the supervisor recorded it, not when the client made it.
    created_at: datetime
    queued_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    #: The number of the latest start, 0 before the first.
    attempt: int = 0
    #: The runner that claimed it last.
    ran_on: str | None = None
    exit_code: int | None = None
    result: str | None = None
    #: The receipt's envelope as JSON text.
    receipt: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether the status will never change again."""
        return self.status in TERMINAL

    @property
    def length(self) -> int:
        """How many characters its long texts have."""
        return sum(
            len(text) for text in (self.envelope, self.result, self.receipt) if text
        )

    @property
    def is_held(self) -> bool:
        """Whether a runner holds it."""
        return self.status in HELD


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One event for one record, with the facts that come with it.

    A fact that is None is left as it is in the record.
    """

    event: Event
    at: datetime
    reason: str | None = None
    attempt: int | None = None
    ran_on: str | None = None
    exit_code: int | None = None
    result: str | None = None
    receipt: str | None = None
    #: For QUEUED: the queue; None is the one where it last stood, else its executor's.
    queue: str | None = None
    #: For REQUEUED: it is not rung before this moment.
    not_before: datetime | None = None
    #: For CLAIMED: the record counts as abandoned after this moment.
    lease_until: datetime | None = None
    #: The change counts only while this attempt holds the record.
    if_attempt: int | None = None


#: Ends of `failed` that no runner is there to sign.
UNSIGNED_REASONS: Final = frozenset({"worker_lost", "expired"})
#: How long a runner may be silent before its job counts as abandoned.
LEASE: Final = timedelta(seconds=15)
#: How often a runner renews its leases.
LEASE_BEAT: Final = timedelta(seconds=5)


def after_death(record: Record, now: datetime) -> Change:
    """Return what becomes of a held record whose runner died."""
    if record.status is Status.STOPPING:
        return Change(event=Event.STOPPED, at=now, if_attempt=record.attempt)
    may_start_again = (
        record.attempt < record.summary.attempts and now < record.summary.expires_at
    )
    if may_start_again:
        return Change(event=Event.REQUEUED, at=now, if_attempt=record.attempt)
    return Change(
        event=Event.FAILED, at=now, reason="worker_lost", if_attempt=record.attempt
    )


def status_to_wire(record: Record) -> dict[str, str | int | None]:
    """Write the status object of protocol section 7: times in ms since the epoch."""
    return {
        "job_id": record.summary.id,
        "status": record.status.value,
        "reason": record.reason,
        "created_at": to_ms(record.created_at),
        "queued_at": to_ms(record.queued_at),
        "started_at": to_ms(record.started_at),
        "ended_at": to_ms(record.ended_at),
    }
