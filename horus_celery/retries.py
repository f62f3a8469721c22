"""When a step of a workflow that failed is started once more."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from horus_celery.statements.job import Job

#: How long a step that failed waits for its second start, and at most for a later one.
FIRST_PAUSE: Final = timedelta(seconds=1)
LONGEST_PAUSE: Final = timedelta(seconds=60)


def retry_at(job: Job, *, attempt: int, now: datetime) -> datetime | None:
    """Return when a start that failed is followed by another; None: it was the last.

    Only steps of workflows start again by themselves: who waits for a job alone sees
    that it failed, and decides. Between two starts lies a second, then twice as long
    each time, up to a minute.
    """
    if job.workflow is None or attempt >= job.attempts:
        return None
    pause = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE)
    return now + pause if now + pause < job.expires_at else None
