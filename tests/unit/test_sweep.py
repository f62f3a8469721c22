from __future__ import annotations

import threading
from dataclasses import fields
from datetime import timedelta

import pytest

from horus_celery.dispatch import MemoryDispatcher
from horus_celery.errors import DamagedError, NotFoundError, UnavailableError
from horus_celery.lifecycle import Event, Status
from horus_celery.record import LEASE, LEASE_BEAT, Change
from horus_celery.store.memory import MemoryStore
from horus_celery.sweep import GRACE, SETTLED, Sweep, SweepReport, SweepThread

NOTHING = SweepReport()
KINDS = [field.name for field in fields(SweepReport)]
SECOND = timedelta(seconds=1)


class World:
    """A store and its queues, one second after the other."""

    def __init__(self, clock, make_summary) -> None:
        self.clock = clock
        self.store = MemoryStore()
        self.dispatcher = MemoryDispatcher(clock)
        #: Where a bell of a queue goes now, if not there.
        self.moved: dict[str, str] = {}
        self.sweep = self.make_sweep()
        self._make_summary = make_summary

    def make_sweep(self, *, keep=None):
        return Sweep(
            self.store, self.dispatcher, self.clock, route=self.route, keep=keep
        )

    def route(self, bell):
        return self.moved.get(bell.queue, bell.queue)

    def add(self, *, ring=True, queue=None, not_before=None, priority=4, **facts):
        summary = self._make_summary(**facts)
        record = self.store.add(
            summary,
            "{}",
            at=self.clock.at,
            priority=priority,
            not_before=not_before,
            queue=summary.executor if queue is None else queue,
        )
        if ring:
            self.dispatcher.ring(summary.id, record.queue or "", priority)
        return record

    def apply(self, record, event, **facts):
        change = Change(event=event, at=self.clock.at, **facts)
        return self.store.apply(record.summary.digest, change)

    def claim(self, record, attempt=1):
        self.dispatcher.take(record.queue)
        return self.apply(record, Event.CLAIMED, attempt=attempt, ran_on="python_1")

    def status(self, record):
        return self.store.get(record.summary.digest).status

    def pass_time(self, how_long, beating=()):
        """Sweep every second; runners of `beating` renew their leases meanwhile."""
        reports = []
        end = self.clock.at + how_long
        while self.clock.at < end:
            self.clock.advance(seconds=1)
            for record in beating:
                self.store.renew(
                    record.summary.digest,
                    attempt=record.attempt,
                    lease_until=self.clock.at + LEASE,
                )
            reports.append(self.sweep.once())
        return SweepReport(
            **{name: sum(getattr(report, name) for report in reports) for name in KINDS}
        )


@pytest.fixture
def world(clock, make_summary):
    return World(clock, make_summary)


# --- bells ---------------------------------------------------------------------


def test_nothing_is_done_where_everything_is_in_order(world):
    record = world.add()
    world.dispatcher.take("python")
    running = world.apply(record, Event.CLAIMED, attempt=1)
    assert world.pass_time(timedelta(minutes=2), beating=[running]) == NOTHING
    assert NOTHING.did_nothing


def test_a_lost_bell_is_rung_again(world):
    record = world.add(ring=False)
    assert world.pass_time(GRACE) == NOTHING
    assert world.pass_time(SECOND) == SweepReport(rung_again=1)
    assert world.dispatcher.take("python") == record.summary.id


def test_a_bell_that_was_taken_and_came_to_nothing_is_rung_again(world):
    world.add()
    world.dispatcher.take("python")
    assert world.pass_time(2 * GRACE + SECOND).rung_again == 1


def test_a_bell_that_was_rung_again_is_not_rung_again_while_it_waits(world):
    world.add(ring=False)
    assert world.pass_time(timedelta(minutes=2)) == SweepReport(rung_again=1)


def test_a_backlog_is_left_alone_however_long_it_waits(world):
    for _ in range(300):
        world.add()
        world.clock.advance(seconds=1)
    assert world.pass_time(timedelta(minutes=10)) == NOTHING
    assert world.dispatcher.queue_lengths(["python"]) == {"python": 300}


def test_a_backlog_that_is_worked_off_is_left_alone(world):
    records = []
    for _ in range(60):
        records.append(world.add())
        world.clock.advance(seconds=1)
    for record in records:
        world.claim(record)
        world.apply(record, Event.COMPLETED)
        assert world.pass_time(timedelta(seconds=3)) == NOTHING


def test_a_bell_lost_among_others_is_found_when_its_turn_is_over(world):
    lost = world.add(ring=False)
    world.pass_time(timedelta(seconds=1))
    ahead = [world.add() for _ in range(3)]
    world.clock.advance(seconds=6)
    world.add()
    # The one in front was rung hardly later: the lost one might stand before it.
    assert world.sweep.once() == NOTHING
    for record in ahead:
        world.claim(record)
    assert world.sweep.once() == SweepReport(rung_again=1)
    assert world.dispatcher.bells[-1][0] == lost.summary.id


def test_the_backlog_of_one_queue_hides_no_lost_bell_of_another(world):
    for _ in range(150):
        world.add(executor="system")
    world.clock.advance(seconds=1)
    lost = [world.add(ring=False), world.add(ring=False, executor="system", priority=0)]
    world.clock.advance(seconds=6)
    assert world.sweep.once() == SweepReport(rung_again=2)
    rung = {bell[0] for bell in world.dispatcher.bells[-2:]}
    assert rung == {record.summary.id for record in lost}


def test_a_queue_that_was_emptied_is_filled_again_at_once(world):
    ids = {world.add(ring=False).summary.id for _ in range(1000)}
    world.clock.advance(seconds=6)
    assert world.sweep.once() == SweepReport(rung_again=1000)
    assert {bell[0] for bell in world.dispatcher.bells} == ids


def test_two_sweeps_beside_each_other_ring_once(world):
    other = Sweep(world.store, world.dispatcher, world.clock)
    world.add(ring=False)
    world.clock.advance(seconds=6)
    assert [world.sweep.once().rung_again, other.once().rung_again] == [1, 0]


def test_a_message_that_does_not_say_its_time_proves_nothing_lost(world):
    class Foreign(MemoryDispatcher):
        def front(self, queue, priority):
            front = super().front(queue, priority)
            return front and type(front)(rung_at=None)

    dispatcher = Foreign(world.clock)
    dispatcher.ring("forged", "python", 4)
    world.add(ring=False)
    world.clock.advance(minutes=1)
    sweep = Sweep(world.store, dispatcher, world.clock)
    assert sweep.once() == NOTHING
    dispatcher.take("python")
    assert sweep.once() == SweepReport(rung_again=1)


def test_a_job_for_later_is_rung_when_its_time_has_come(world):
    later = world.clock.at + timedelta(minutes=10)
    record = world.add(ring=False, not_before=later)
    assert world.pass_time(timedelta(minutes=10) - SECOND) == NOTHING
    assert world.pass_time(SECOND) == SweepReport(due=1)
    assert world.dispatcher.bells == [(record.summary.id, "python", 4)]
    assert world.pass_time(timedelta(minutes=2)) == NOTHING


def test_a_bell_keeps_its_priority(world):
    world.add(ring=False, priority=9)
    world.clock.advance(seconds=6)
    world.sweep.once()
    assert world.dispatcher.bells[0][2] == 9


# --- routes ----------------------------------------------------------------------


def test_a_bell_is_rung_in_the_queue_that_is_its_own_now(world):
    later = world.clock.at + timedelta(seconds=1)
    world.moved["python.ctx.lab"] = "python"
    due = world.add(ring=False, queue="python.ctx.lab", not_before=later)
    lost = world.add(ring=False, queue="python.ctx.lab")
    world.clock.advance(seconds=6)
    assert world.sweep.once() == SweepReport(due=1, rung_again=1)
    for record in (due, lost):
        assert world.dispatcher.take("python") == record.summary.id
        assert world.store.get(record.summary.digest).queue == "python"


def test_a_job_whose_runner_died_is_queued_where_it_belongs_now(world):
    world.pass_time(LEASE)
    record = world.claim(world.add(attempts=2, queue="python.ctx.lab"))
    world.moved["python.ctx.lab"] = "python"
    assert world.pass_time(LEASE + SECOND) == SweepReport(requeued=1)
    assert world.dispatcher.take("python") == record.summary.id
    assert world.store.queue_lengths(["python"]) == {"python": 1}


def test_a_bell_is_looked_for_in_the_queue_where_it_stood(world):
    world.add(queue="python.at.first")
    world.add(ring=False, queue="python.at.second")
    assert world.pass_time(timedelta(minutes=1)) == SweepReport(rung_again=1)
    assert world.dispatcher.bells[-1][1] == "python.at.second"
    # That messages wait in the queue of the executor says nothing of the others.
    world.add()
    world.add(ring=False, queue="python.at.third")
    assert world.pass_time(timedelta(minutes=1)) == SweepReport(rung_again=1)


def test_a_backlog_of_many_queues_is_left_alone(world):
    for number in range(300):
        world.add(queue=f"python.at.{number % 7}", priority=number % 10)
    assert world.pass_time(timedelta(minutes=10)) == NOTHING
    assert len(world.dispatcher.bells) == 300


def test_bells_of_a_queue_that_nobody_serves_any_more_are_moved_once(world):
    for _ in range(250):
        world.add(queue="python.ctx.lab")
    world.moved["python.ctx.lab"] = "python"
    # Nodes that do not have the new bundle yet would move them back.
    assert world.pass_time(SETTLED) == NOTHING
    assert world.pass_time(timedelta(minutes=10)) == SweepReport(rung_again=250)
    lengths = {"python": 250, "python.ctx.lab": 0}
    assert world.store.queue_lengths(list(lengths)) == lengths


# --- retention -------------------------------------------------------------------


def test_what_ended_long_ago_is_retired(world):
    world.sweep = world.make_sweep(keep=timedelta(hours=1))
    old = [world.apply(world.add(), Event.STOP_ASKED) for _ in range(250)]
    waits = world.add(expires_at=world.clock.at + timedelta(days=9))
    world.clock.advance(minutes=30)
    young = world.apply(world.add(), Event.STOP_ASKED)
    world.clock.advance(minutes=30)
    assert world.sweep.once() == NOTHING
    world.clock.advance(seconds=1)
    assert world.sweep.once() == SweepReport(retired=250)
    for record in old:
        with pytest.raises(NotFoundError):
            world.store.get(record.summary.digest)
    assert world.status(young) is Status.STOPPED
    assert world.status(waits) is Status.QUEUED


def test_the_receipt_of_what_is_retired_is_kept(world):
    world.sweep = world.make_sweep(keep=timedelta(hours=1))
    record = world.claim(world.add())
    world.apply(record, Event.COMPLETED, receipt="signed")
    world.clock.advance(hours=2)
    assert world.sweep.once().retired == 1
    (kept,) = world.store.archived(record.summary.id)
    assert kept.receipt == "signed"


def test_records_are_kept_for_ever_if_nobody_says_otherwise(world):
    record = world.apply(world.add(), Event.STOP_ASKED)
    world.clock.advance(days=3650)
    assert world.sweep.once() == NOTHING
    assert world.status(record) is Status.STOPPED


def test_a_record_that_cannot_be_retired_hides_no_other(world, monkeypatch):
    stuck = {
        world.apply(world.add(), Event.STOP_ASKED).summary.digest for _ in range(150)
    }
    world.clock.advance(seconds=1)
    free = world.apply(world.add(), Event.STOP_ASKED)

    def retire(digest):
        if digest in stuck:
            raise DamagedError(digest)
        return MemoryStore.retire(world.store, digest)

    monkeypatch.setattr(world.store, "retire", retire)
    world.sweep = world.make_sweep(keep=timedelta(hours=1))
    world.clock.advance(hours=2)
    assert world.sweep.once() == SweepReport(retired=1)
    with pytest.raises(NotFoundError):
        world.store.get(free.summary.digest)


# --- findings --------------------------------------------------------------------


def test_findings_are_tallied_and_nothing_is_said_of_nothing(world):
    later = world.clock.at + timedelta(seconds=1)
    world.sweep.once()
    assert world.store.tally().swept == {}
    for _ in range(2):
        world.add(ring=False)
    world.add(ring=False, not_before=later)
    world.clock.advance(seconds=6)
    world.sweep.once()
    assert world.store.tally().swept == {"due": 1, "rung_again": 2}


def test_findings_of_all_sweeps_are_tallied_once(world):
    sweeps = [world.make_sweep(keep=timedelta(hours=1)) for _ in range(3)]
    world.add(expires_at=world.clock.at + SECOND)
    for hours in (1, 2):
        world.clock.advance(hours=hours)
        for sweep in sweeps:
            sweep.once()
    assert world.store.tally().swept == {"expired": 1, "retired": 1}


def test_findings_that_cannot_be_tallied_stop_no_sweep(world, monkeypatch):
    def damaged(found):
        raise DamagedError("the tally")

    monkeypatch.setattr(world.store, "count_swept", damaged)
    world.add(ring=False)
    world.clock.advance(seconds=6)
    assert world.sweep.once() == SweepReport(rung_again=1)


# --- ends ----------------------------------------------------------------------


def test_a_job_that_nobody_takes_expires(world):
    record = world.add(expires_at=world.clock.at + timedelta(minutes=1))
    assert world.pass_time(timedelta(seconds=59)) == NOTHING
    assert world.pass_time(SECOND) == SweepReport(expired=1)
    ended = world.store.get(record.summary.digest)
    assert (ended.status, ended.reason) == (Status.FAILED, "expired")
    assert ended.ended_at == world.clock.at


def test_a_job_that_runs_does_not_expire(world):
    record = world.add(expires_at=world.clock.at + timedelta(minutes=1))
    running = world.claim(record)
    assert world.pass_time(timedelta(minutes=2), beating=[running]) == NOTHING


def test_a_job_whose_runner_died_is_queued_again_while_it_has_attempts(world):
    world.pass_time(LEASE)
    record = world.claim(world.add(attempts=2))
    assert world.pass_time(LEASE) == NOTHING
    assert world.pass_time(SECOND) == SweepReport(requeued=1)
    assert world.status(record) is Status.QUEUED
    assert world.dispatcher.take("python") == record.summary.id


def test_a_job_whose_runner_died_fails_when_it_has_no_attempts_left(world):
    world.pass_time(LEASE)
    record = world.claim(world.add(attempts=2), attempt=2)
    assert world.pass_time(LEASE + SECOND) == SweepReport(buried=1)
    ended = world.store.get(record.summary.digest)
    assert (ended.status, ended.reason) == (Status.FAILED, "worker_lost")


def test_a_job_whose_runner_died_fails_when_it_has_expired(world):
    world.pass_time(LEASE)
    expires_at = world.clock.at + LEASE
    record = world.claim(world.add(attempts=5, expires_at=expires_at))
    assert world.pass_time(LEASE + SECOND) == SweepReport(buried=1)
    assert world.status(record) is Status.FAILED


def test_a_job_that_was_being_stopped_is_stopped_when_its_runner_dies(world):
    world.pass_time(LEASE)
    record = world.claim(world.add(attempts=5))
    world.apply(record, Event.STOP_ASKED)
    assert world.pass_time(LEASE + SECOND) == SweepReport(buried=1)
    assert world.status(record) is Status.STOPPED


# --- clocks --------------------------------------------------------------------

JUMPS = [timedelta(hours=1), timedelta(days=1), timedelta(days=3650)]


@pytest.mark.parametrize("jump", JUMPS)
def test_a_bell_that_a_clock_rang_which_was_ahead_is_not_lost_for_good(world, jump):
    true = world.clock.at
    world.clock.at = true + jump
    record = world.add(expires_at=true + jump + timedelta(days=1))
    world.dispatcher.take("python")
    world.clock.at = true
    assert world.pass_time(timedelta(seconds=20)) == SweepReport(rung_again=1)
    assert world.dispatcher.take("python") == record.summary.id


@pytest.mark.parametrize("jump", JUMPS)
def test_a_bell_in_front_of_a_clock_that_was_ahead_makes_no_other_lost(world, jump):
    true = world.clock.at
    world.clock.at = true + jump
    world.add(expires_at=true + jump + timedelta(days=1))
    world.clock.at = true
    for _ in range(10):
        world.add()
    assert world.pass_time(timedelta(minutes=2)) == NOTHING
    assert world.dispatcher.queue_lengths(["python"]) == {"python": 11}


@pytest.mark.parametrize("jump", JUMPS)
def test_who_died_while_its_clock_was_ahead_is_found_all_the_same(world, jump):
    record = world.claim(world.add())
    world.store.renew(
        record.summary.digest, attempt=1, lease_until=world.clock.at + jump
    )
    assert world.pass_time(2 * LEASE + GRACE).buried == 1


# --- doubt ---------------------------------------------------------------------


def test_nothing_is_buried_before_the_sweep_has_watched_for_a_lease(world):
    record = world.claim(world.add())
    world.clock.advance(hours=1)
    assert world.pass_time(LEASE) == NOTHING
    assert world.status(record) is Status.RUNNING
    assert world.pass_time(SECOND).buried == 1


def test_nothing_is_buried_right_after_the_store_was_away(world):
    world.pass_time(LEASE)
    running = world.claim(world.add())
    world.store.is_away = True
    for _ in range(30):
        world.clock.advance(seconds=1)
        with pytest.raises(UnavailableError):
            world.sweep.once()
    world.store.is_away = False
    # The runner lives: its beats come again within their usual time.
    assert world.pass_time(LEASE_BEAT) == NOTHING
    assert world.pass_time(2 * LEASE, beating=[running]) == NOTHING


def test_a_runner_that_died_while_the_store_was_away_is_found_a_lease_later(world):
    world.pass_time(LEASE)
    world.claim(world.add())
    world.store.is_away = True
    with pytest.raises(UnavailableError):
        world.sweep.once()
    world.store.is_away = False
    assert world.pass_time(LEASE) == NOTHING
    assert world.pass_time(2 * SECOND) == SweepReport(buried=1)


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(days=3650)])
def test_nothing_is_buried_right_after_the_clock_was_set(world, jump):
    world.pass_time(LEASE)
    running = world.claim(world.add(expires_at=world.clock.at + 2 * jump))
    world.clock.at += jump
    assert world.pass_time(LEASE_BEAT) == NOTHING
    assert world.pass_time(2 * LEASE, beating=[running]) == NOTHING
    world.clock.at -= jump
    assert world.pass_time(2 * LEASE, beating=[running]) == NOTHING


# --- the thread ----------------------------------------------------------------


class Watched(Sweep):
    """A sweep that tells when it was made."""

    def __init__(self, world) -> None:
        super().__init__(world.store, world.dispatcher, world.clock)
        self.was_made = threading.Semaphore(0)

    def once(self):
        try:
            return super().once()
        finally:
            self.was_made.release()

    def is_made_anew(self):
        """Wait for sweeps of which at least two have begun after this call."""
        while self.was_made.acquire(blocking=False):
            pass
        return all(self.was_made.acquire(timeout=5) for _ in range(3))


@pytest.fixture
def sweeping(world):
    sweep = Watched(world)
    thread = SweepThread(sweep, every=timedelta(milliseconds=1))
    thread.start()
    yield sweep
    thread.close()


def test_the_thread_sweeps_until_it_is_closed(world, sweeping):
    world.add(ring=False)
    world.clock.advance(seconds=6)
    assert sweeping.is_made_anew()
    assert len(world.dispatcher.bells) == 1


def test_the_thread_outlives_an_outage(world, sweeping):
    world.store.is_away = True
    assert sweeping.is_made_anew()
    world.store.is_away = False
    world.add(ring=False)
    world.clock.advance(seconds=6)
    assert sweeping.is_made_anew()
    assert len(world.dispatcher.bells) == 1


def test_the_thread_outlives_a_sweep_that_breaks(world, sweeping, monkeypatch):
    monkeypatch.setattr(world.dispatcher, "front", None)
    world.add(ring=False)
    world.clock.advance(seconds=6)
    assert sweeping.is_made_anew()
    monkeypatch.undo()
    assert sweeping.is_made_anew()
    assert len(world.dispatcher.bells) == 1


def test_a_thread_that_was_never_started_can_be_closed(world):
    SweepThread(world.sweep).close()
