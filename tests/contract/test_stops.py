"""What a store keeps of stopped jobs, with their records and without."""

from __future__ import annotations

from datetime import timedelta

import pytest

from horus_celery.errors import NotFoundError
from horus_celery.lifecycle import Event, Status
from horus_celery.record import LEASE, Change
from horus_celery.store.base import STOP_KEPT, Filter

UNKNOWN = "f" * 64


@pytest.fixture
def stop(store, clock):
    """Stop a job, which expires in an hour unless told otherwise."""

    def do(digest, *, expires_in=timedelta(hours=1)):
        return store.stop(digest, at=clock.at, expires_at=clock.at + expires_in)

    return do


@pytest.fixture
def make(store, clock):
    def apply(record, event, **facts):
        change = Change(event=event, at=clock.advance(seconds=1), **facts)
        return store.apply(record.summary.digest, change)

    return apply


@pytest.fixture
def claimed(record, make):
    def add(**facts):
        return make(record(**facts), Event.CLAIMED, attempt=1, ran_on="r")

    return add


def all_stops(store, *, limit=2):
    """Return all stops, read page by page, and the last place."""
    found, after = [], None
    while page := store.stops(after=after, limit=limit).digests:
        found += page
        after = store.stops(after=after, limit=limit).next
    return found, after


# --- the record ------------------------------------------------------------------


@pytest.mark.parametrize("queue", [True, False])
def test_what_does_not_run_is_stopped_at_once(record, store, stop, clock, queue):
    waiting = record(queue=queue)
    clock.advance(seconds=1)
    stopped = stop(waiting.summary.digest)
    assert (stopped.status, stopped.ended_at) == (Status.STOPPED, clock.at)
    assert store.get(waiting.summary.digest) == stopped
    assert store.counts()[Status.STOPPED] == 1
    assert store.queue_lengths(["python"]) == {"python": 0}
    assert store.expired(at=clock.at + timedelta(days=1), limit=9) == ()
    tomorrow = clock.at + timedelta(days=1)
    assert store.finished(before=tomorrow, limit=9) == (stopped.summary.digest,)


def test_a_runner_is_asked_to_end_what_runs(claimed, store, stop):
    running = claimed()
    assert stop(running.summary.digest).status is Status.STOPPING
    assert store.running_on(["r"]) == {"r": 1}


def test_stopping_it_again_changes_nothing(record, stop, clock):
    digest = record().summary.digest
    first = stop(digest)
    clock.advance(seconds=1)
    assert stop(digest) == first


def test_what_is_over_stays_as_it_is(claimed, make, stop):
    over = make(claimed(), Event.COMPLETED, exit_code=0, result="7")
    assert stop(over.summary.digest) == over


def test_a_stop_is_counted_among_the_ends_once(record, store, stop):
    digest = record().summary.digest
    stop(digest)
    stop(digest)
    assert store.tally().ended == {("python", "stopped", ""): 1}


def test_a_stop_wakes_who_waits(record, wakes, stop):
    digest = record().summary.digest
    with wakes.watch(digest) as watch:
        stop(digest)
        assert watch.wait(timedelta(seconds=5))


def test_what_nobody_knows_may_be_stopped(stop):
    assert stop(UNKNOWN) is None


# --- for good --------------------------------------------------------------------


def test_a_job_stopped_before_it_was_recorded_is_recorded_as_stopped(
    record, store, stop, clock
):
    stop(UNKNOWN)
    stopped = record(digest=UNKNOWN)
    assert (stopped.status, stopped.ended_at) == (Status.STOPPED, clock.at)
    assert stopped.queued_at is None
    assert store.get(UNKNOWN) == stopped
    assert store.queue_lengths(["python"]) == {"python": 0}
    assert store.list(Filter(status=Status.STOPPED), limit=9) == (stopped,)
    tomorrow = clock.at + timedelta(days=1)
    assert store.expired(at=tomorrow, limit=9) == ()
    assert store.finished(before=tomorrow, limit=9) == (UNKNOWN,)


@pytest.mark.parametrize("forget", ["delete", "retire"])
def test_a_stop_outlives_the_record(store, record, stop, forget):
    first = record()
    stop(first.summary.digest)
    getattr(store, forget)(first.summary.digest)
    again = record(digest=first.summary.digest, id=first.summary.id)
    assert again.status is Status.STOPPED


def test_a_stop_is_kept_until_a_day_after_the_job_expired(store, stop, clock):
    stop(UNKNOWN)
    clock.advance(hours=1, seconds=STOP_KEPT.total_seconds())
    stop("0" * 64)
    assert all_stops(store)[0] == [UNKNOWN, "0" * 64]
    clock.advance(seconds=1)
    stop("1" * 64)
    assert all_stops(store)[0] == ["0" * 64, "1" * 64]


def test_the_later_end_of_two_counts(store, stop, clock):
    stop(UNKNOWN, expires_in=timedelta(days=2))
    stop(UNKNOWN, expires_in=timedelta(0))
    clock.advance(days=2)
    stop("0" * 64)
    assert all_stops(store)[0] == [UNKNOWN, "0" * 64]


# --- what its runner hears --------------------------------------------------------


def renewed(store, record, clock):
    return store.renew(record.summary.digest, attempt=1, lease_until=clock.at + LEASE)


def test_a_runner_hears_of_a_stop(claimed, store, stop, clock):
    running = claimed()
    stop(running.summary.digest)
    assert renewed(store, running, clock) is Status.STOPPING


def test_a_runner_hears_of_a_stop_whose_record_is_gone(
    claimed, make, store, stop, clock
):
    running = claimed()
    make(running, Event.COMPLETED)
    store.delete(running.summary.digest)
    with pytest.raises(NotFoundError):
        renewed(store, running, clock)
    stop(running.summary.digest)
    assert renewed(store, running, clock) is Status.STOPPING


# --- how others hear --------------------------------------------------------------


def test_stops_are_told_in_the_order_in_which_they_came(store, stop):
    digests = [f"{number:064x}" for number in (5, 3, 9, 1, 7)]
    for digest in digests:
        stop(digest)
    assert all_stops(store)[0] == digests


def test_each_stop_is_told_once(store, stop):
    stop(UNKNOWN)
    _, place = all_stops(store)
    assert store.stops(after=place, limit=9).digests == ()
    stop(UNKNOWN)
    stop("0" * 64)
    page = store.stops(after=place, limit=9)
    assert page.digests == ("0" * 64,)
    assert store.stops(after=page.next, limit=9).digests == ()


def test_a_clock_that_is_behind_hides_no_stop(store, stop, clock):
    stop(UNKNOWN)
    _, place = all_stops(store)
    clock.advance(seconds=-10)
    stop("0" * 64)
    assert store.stops(after=place, limit=9).digests == ("0" * 64,)


def test_all_are_told_again_where_the_last_one_is_gone(store, stop, clock):
    stop("0" * 64, expires_in=timedelta(days=9))
    stop("1" * 64)
    _, place = all_stops(store)
    clock.advance(days=2)
    stop("0" * 64)
    page = store.stops(after=place, limit=9)
    assert page.digests == ("0" * 64,)
    assert store.stops(after=page.next, limit=9).digests == ()
