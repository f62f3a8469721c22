"""One fault each, against real processes; afterwards every promise is looked at."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise

import psutil
import pytest

from horus_celery.errors import UnavailableError
from horus_celery.lifecycle import Status
from horus_celery.store.keys import STEPS, queue
from horus_celery.store.runner_bell import message
from tests.faults.invariants import Callers, require
from tests.faults.witness import Witness, mark_of
from tests.integration.conftest import has_a_script
from tests.waiting import within

pytestmark = pytest.mark.integration

QUEUES = tuple(queue("python", step) for step in STEPS)
#: The goals of the programme, in seconds.
REDRIVEN = 30
BACK = 5
#: When the runner itself is there to see that its process died.
REDRIVEN_HERE = 10


@pytest.fixture
def callers(town, tmp_path):
    """Those who send jobs to it, with a witness of each test's own."""
    return Callers(town, Witness(tmp_path))


class Service:
    """A runner that is started again whenever it has ended."""

    def __init__(self, town):
        self._town = town
        self.worker = self._begin()

    def start(self):
        """Start it if it does not run."""
        if self.worker.poll() is not None:
            self.worker = self._begin()

    def _begin(self):
        return self._town.start_worker("-Q", "python", "-c", "2")

    def children(self):
        return [each.pid for each in psutil.Process(self.worker.pid).children()]


@pytest.fixture(scope="module")
def runner(town):
    return Service(town)


@pytest.fixture
def service(runner):
    """A runner that serves, whatever an earlier test did to it."""
    runner.start()
    return runner


def is_gone(pid):
    return not psutil.pid_exists(pid)


def at_rest(callers, seconds=REDRIVEN):
    """Wait until all is over, and see that every promise was kept."""
    within(seconds, callers.are_over)
    town = callers.deployment
    within(BACK, lambda: not town.processes_below_workers() and not town.rooms())
    within(BACK, lambda: not callers.undelivered())
    require(callers.look())


def running(callers, records):
    """Return those whose latest run has begun and not ended."""
    found = []
    for record in records:
        runs = callers.runs_of(record)
        if runs and runs[-1].ended is None:
            found.append(record)
    return found


def child_of(town, service):
    """Return a child of the pool that has a script running."""
    for pid in service.children():
        with suppress(psutil.NoSuchProcess):
            if has_a_script(psutil.Process(pid)):
                return pid
    return None


def test_jobs_of_pool_children_that_are_killed_start_again_while_they_may(
    town, callers, service
):
    often = [callers.submit(seconds=0.5, attempts=3) for _ in range(10)]
    once = [callers.submit(seconds=0.5, attempts=1) for _ in range(4)]
    kills = 0
    while kills < 4 and not callers.are_over():
        within(REDRIVEN, lambda: child_of(town, service) or callers.are_over())
        pid = child_of(town, service)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            within(REDRIVEN, partial(is_gone, pid))
            kills += 1
    at_rest(callers)
    everything = [
        town.supervisor.get(one.summary.digest).record for one in often + once
    ]
    lost = [one for one in everything if one.reason == "worker_lost"]
    # Each kill cost a job a start.
    starts = sum(one.attempt - 1 for one in everything) + len(lost)
    assert kills >= 2
    assert starts >= kills - 1, "a script may have ended by itself meanwhile"
    for record in often:
        for earlier, later in pairwise(callers.runs_of(record)):
            assert later.began - earlier.began < 0.5 + REDRIVEN_HERE
        shown = town.supervisor.get(record.summary.digest).record
        assert shown.status is Status.COMPLETED or shown.attempt == 3
    for record in once:
        assert len(callers.runs_of(record)) <= 1
        shown = town.supervisor.get(record.summary.digest).record
        assert shown.status is Status.COMPLETED or shown.reason == "worker_lost"


def test_a_worker_that_is_killed_is_back_and_its_jobs_start_again(
    town, callers, service
):
    hit = [callers.submit(seconds=0.5, attempts=2) for _ in range(2)]
    lost = [callers.submit(seconds=0.5, attempts=1) for _ in range(2)]
    waiting = [callers.submit() for _ in range(6)]
    soon = datetime.now(UTC) + timedelta(seconds=1)
    due = town.supervisor.create_and_queue(
        town.envelope(later := callers.witness.payload()), priority=4, not_before=soon
    )
    callers.note(later, due.summary.digest, attempts=1)
    within(REDRIVEN, lambda: len(running(callers, hit)) == 2)
    service.worker.kill()
    service.worker.wait()
    # It also swept: with it the bells of those that wait are lost.
    town.redis.delete(*QUEUES)
    began = time.monotonic()
    service.start()
    assert time.monotonic() - began < 2 * BACK, "5 s where nothing else runs"
    at_rest(callers)
    for record in (*hit, *lost, *waiting, due):
        assert town.supervisor.get(record.summary.digest).record.result is not None
    assert all(len(callers.runs_of(record)) == 2 for record in hit)


def test_a_redis_that_is_killed_and_comes_back_loses_nothing(
    town, server, callers, service
):
    records = [callers.submit(seconds=0.2, attempts=2) for _ in range(10)]
    within(REDRIVEN, lambda: running(callers, records))
    server.kill()
    payload = callers.witness.payload()
    envelope = town.envelope(payload)
    began = time.monotonic()
    with pytest.raises(UnavailableError):
        town.supervisor.create_and_queue(envelope, priority=4, not_before=None)
    assert time.monotonic() - began < 2
    server.start()
    again = town.supervisor.create_and_queue(envelope, priority=4, not_before=None)
    callers.note(payload, again.summary.digest, attempts=1)
    within(10, lambda: callers.runs_of(again))
    at_rest(callers)
    assert {len(callers.runs_of(record)) for record in records} == {1}
    assert service.worker.poll() is None


def test_a_bell_that_comes_a_hundred_times_starts_one_run(town, callers, service):
    records = [callers.submit(seconds=0.3, attempts=3) for _ in range(2)]
    for record in records:
        for number in range(100):
            bell = message(
                record.summary.id, "python", number % 10, at=datetime.now(UTC)
            )
            town.redis.lpush(queue("python", number % 10), bell)
    at_rest(callers)
    within(
        REDRIVEN, lambda: not any(town.redis.llen(queue("python", s)) for s in STEPS)
    )
    at_rest(callers)
    assert {len(callers.runs_of(record)) for record in records} == {1}


def test_one_envelope_from_many_threads_is_one_job(town, callers, service):
    payload = callers.witness.payload()
    envelope = town.envelope(payload)
    ids = []

    def send():
        for _ in range(5):
            record = town.supervisor.create_and_queue(
                envelope, priority=4, not_before=None
            )
            ids.append(record.summary.digest)

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 100
    (digest,) = set(ids)
    callers.note(payload, digest, attempts=1)
    at_rest(callers)
    assert len(callers.witness.runs()) == 1


def test_what_was_stopped_does_not_begin_whatever_dies(town, callers, service):
    first = [callers.submit(seconds=600.0, attempts=3) for _ in range(2)]
    waiting = [callers.submit(attempts=3) for _ in range(3)]
    within(REDRIVEN, lambda: len(running(callers, first)) == 2)
    for record in (*waiting, *first):
        town.supervisor.stop(record.summary.digest)
        callers.stops[callers.mark(record)] = time.monotonic()
    service.worker.kill()
    service.worker.wait()
    service.start()
    at_rest(callers)
    for record in (*waiting, *first):
        shown = town.supervisor.get(record.summary.digest).record
        assert shown.status is Status.STOPPED


def test_a_runner_that_drains_ends_what_runs_and_takes_nothing_new(
    town, callers, service
):
    held = [callers.submit(seconds=1.5) for _ in range(2)]
    within(REDRIVEN, lambda: len(running(callers, held)) == 2)
    waiting = [callers.submit(attempts=1) for _ in range(6)]
    began = time.monotonic()
    town.end(service.worker)
    assert time.monotonic() - began < BACK + 1.5
    assert len(callers.witness.runs()) == 2
    for record in held:
        assert town.store.get(record.summary.digest).status is Status.COMPLETED
    for record in waiting:
        assert town.store.get(record.summary.digest).status is Status.QUEUED
    service.start()
    at_rest(callers)
    assert {len(callers.runs_of(record)) for record in waiting} == {1}


def test_an_api_that_is_killed_under_load_forgets_no_yes(
    town, callers, service, api_of
):
    api = api_of(town)
    sent, said = {}, {}
    is_enough = threading.Event()

    def send():
        while not is_enough.is_set():
            payload = callers.witness.payload()
            envelope = town.envelope(payload, attempts=2)
            sent[mark_of(payload)] = payload, envelope
            with suppress(Exception):  # the answer that gets lost
                said[mark_of(payload)] = api.ask("create_job", job=envelope)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    within(REDRIVEN, lambda: len(said) >= 15)
    api.kill()
    is_enough.set()
    for thread in threads:
        thread.join()
    began = time.monotonic()
    other = api_of(town)
    assert time.monotonic() - began < 2 * BACK, "3 s where nothing else runs"
    for mark, (payload, envelope) in sent.items():
        job_id = other.ask("create_job", job=envelope)
        assert job_id == said.get(mark, job_id)
        digest = other.ask("get_job", job_id=job_id)["digest"]
        callers.note(payload, digest, attempts=2)
    at_rest(callers)
    assert len(callers.witness.runs()) == len(sent)
