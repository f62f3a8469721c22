"""A runner whose clock is wrong by a minute loses no job, and holds none."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from horus_celery.lifecycle import Status
from horus_celery.record import LEASE
from tests.faults.invariants import Callers, require
from tests.faults.witness import Witness

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


@pytest.fixture
def callers(town, tmp_path):
    return Callers(town, Witness(tmp_path))


@pytest.fixture
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


def within(seconds, holds):
    began = time.monotonic()
    ticks = threading.Event()
    while not holds():
        assert time.monotonic() - began < seconds
        ticks.wait(0.02)


def at_rest(callers):
    town = callers.deployment
    within(BACK, callers.are_over)
    within(BACK, lambda: not town.rooms() and not callers.undelivered())
    require(callers.look())


def test_a_live_job_of_a_clock_that_is_behind_is_not_given_up(callers, run):
    # One is behind from the first, the other is set back while the job runs.
    jobs = {
        after: callers.submit(seconds=STEADY, attempts=3, runner=NAME)
        for after in (0.0, 4.0)
    }
    running = [run(job, by=-WRONG, after=after) for after, job in jobs.items()]
    for process in running:
        process.wait(STARTED + STEADY + BACK)
    for job in jobs.values():
        shown = callers.deployment.supervisor.get(job.summary.digest).record
        assert (shown.status, shown.attempt) == (Status.COMPLETED, 1)
    at_rest(callers)
    assert {len(callers.runs_of(job)) for job in jobs.values()} == {1}


def test_a_job_of_a_clock_that_was_ahead_starts_again_in_time(callers, run):
    record = callers.submit(attempts=2, seconds=BACK, runner=NAME)
    process = run(record, by=WRONG)
    within(STARTED, lambda: callers.runs_of(record))
    process.kill()
    process.wait()
    status = callers.deployment.status
    assert status(record) is Status.RUNNING
    within(REDRIVEN, lambda: status(record) is Status.QUEUED)
    run(record, by=WRONG).wait(STARTED + BACK)
    at_rest(callers)
    shown = callers.deployment.supervisor.get(record.summary.digest).record
    assert (shown.status, shown.attempt) == (Status.COMPLETED, 2)
    assert len(callers.runs_of(record)) == 2
