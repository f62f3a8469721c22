"""A runner whose clock is wrong by a minute loses no job, and holds none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from horus_celery.lifecycle import Status
from horus_celery.record import LEASE
from tests.faults.invariants import require
from tests.waiting import within

pytestmark = pytest.mark.integration

TOP = Path(__file__).parents[2]
#: The runner whose clock is wrong. The worker with the right one is another.
NAME = "system_runner_1"
#: By how many seconds it is wrong.
WRONG = 60
#: The goals of the programme, in seconds.
REDRIVEN = 30
BACK = 5
#: Seconds until a process is there, and somebody has looked at all leases since.
STARTED = 10
STEADY = LEASE.total_seconds() + 5


@pytest.fixture(scope="module", autouse=True)
def worker(town):
    """Somebody who sweeps, by a clock that is right."""
    return town.start_worker("-Q", "python", "-c", "1")


def at_rest(callers):
    town = callers.deployment
    within(BACK, callers.are_over)
    within(BACK, lambda: not town.rooms() and not callers.undelivered())
    require(callers.look())


@pytest.fixture(scope="module")
def run(town):
    """Have a job run by a process whose clock is set by so many seconds."""
    started = []

    def start(record, *, by, after=0.0):
        words = [NAME, str(by), str(after), record.summary.id]
        process = subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, "-m", "tests.faults.skewed", *words],
            cwd=TOP,
            env=town.env,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def over(callers, run):
    """Jobs of clocks that are behind, and one of a clock that was ahead, at their end.

    Their leases are waited for at a time.
    """
    # One is behind from the first, the other is set back while the job runs.
    behind = {
        after: callers.submit(seconds=STEADY, attempts=3, runner=NAME)
        for after in (0.0, 4.0)
    }
    ahead = callers.submit(attempts=2, seconds=BACK, runner=NAME)
    running = [run(job, by=-WRONG, after=after) for after, job in behind.items()]
    process = run(ahead, by=WRONG)
    within(STARTED, lambda: callers.runs_of(ahead))
    process.kill()
    process.wait()
    status = callers.deployment.status
    assert status(ahead) is Status.RUNNING
    within(REDRIVEN, lambda: status(ahead) is Status.QUEUED)
    run(ahead, by=WRONG).wait(STARTED + BACK)
    for process in running:
        process.wait(STARTED + STEADY + BACK)
    at_rest(callers)
    return [*behind.values()], ahead


def test_a_live_job_of_a_clock_that_is_behind_is_not_given_up(callers, over):
    behind, _ = over
    for job in behind:
        shown = callers.deployment.supervisor.get(job.summary.digest).record
        assert (shown.status, shown.attempt) == (Status.COMPLETED, 1)
        assert len(callers.runs_of(job)) == 1


def test_a_job_of_a_clock_that_was_ahead_starts_again_in_time(callers, over):
    _, ahead = over
    shown = callers.deployment.supervisor.get(ahead.summary.digest).record
    assert (shown.status, shown.attempt) == (Status.COMPLETED, 2)
    assert len(callers.runs_of(ahead)) == 2
