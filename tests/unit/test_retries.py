"""When a step that failed starts once more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from horus_celery.retries import retry_at
from horus_celery.statements.job import WorkflowRef, make_job

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STEP = WorkflowRef.from_wire(
    {
        "id": "00000000-0000-4000-8000-000000000001",
        "step": "a",
        "manifest": "ab" * 32,
    }
)


def make(**facts):
    usual = {"workflow": STEP, "attempts": 10, "now": NOW}
    who = {"aud": "hero", "caller_id": "alice", "context_id": "billing"}
    return make_job(executor="python", payload="", **{**usual, **who, **facts})


def pause(job, attempt):
    at = retry_at(job, attempt=attempt, now=NOW)
    return None if at is None else at - NOW


def test_the_pauses_double_from_a_second_up_to_a_minute():
    pauses = [pause(make(), attempt) for attempt in range(1, 11)]
    seconds = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert pauses == [*(timedelta(seconds=one) for one in seconds), None]


@pytest.mark.parametrize("attempt", [3, 4])
def test_no_start_follows_the_last_one(attempt):
    assert retry_at(make(attempts=3), attempt=attempt, now=NOW) is None


def test_a_job_alone_does_not_start_again_by_itself():
    assert retry_at(make(workflow=None), attempt=1, now=NOW) is None


def test_nothing_starts_again_that_would_be_expired_then():
    job = make(expires_at=NOW + timedelta(seconds=2))
    assert pause(job, 1) == timedelta(seconds=1)
    assert pause(job, 2) is None
