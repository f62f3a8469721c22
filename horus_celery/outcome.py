"""What a client knows of a job: what it submitted, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from horus_celery.errors import HorusError
from horus_celery.lifecycle import Status
from horus_celery.statements.job import Job
from horus_celery.statements.receipt import Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A job that this client signed and the supervisor accepted."""

    id: str
    digest: str
    job: Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a job that is over."""

    job_id: str
    digest: str
    status: Status
    reason: str | None
    exit_code: int | None
    result: str | None
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime
    signed_by: tuple[str, ...]
    #: What the runner signed; None where nobody can have signed anything (a job that
    #: was stopped or expired before it started, or whose runner died), or where the
    #: client was told not to verify.
    receipt: Receipt | None

    @property
    def is_verified(self) -> bool:
        """Whether a trusted runner's receipt proves all of this."""
        return self.receipt is not None

    @property
    def succeeded(self) -> bool:
        """Whether the script ended with exit code 0."""
        return self.status is Status.COMPLETED


class JobNotCompleted(HorusError):
    """The job is over and has no result to give; `outcome` says what became of it."""

    def __init__(self, outcome: Outcome) -> None:
        reason = outcome.reason or outcome.status.value
        super().__init__(
            f"job {outcome.job_id} {outcome.status.value}: {reason}", reason=reason
        )
        self.outcome = outcome
