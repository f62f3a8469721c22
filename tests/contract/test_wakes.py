from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from itertools import count

import pytest

from horus_celery.lifecycle import Event
from horus_celery.record import Change
from horus_celery.store.base import Chunk, Hears, Stream

SOON = timedelta(seconds=5)
AT_ONCE = timedelta(0)


@pytest.fixture
def say(logs, clock):
    """Append a line to a job's log."""

    def append(digest: str) -> None:
        logs.append(digest, [Chunk(at=clock.at, stream=Stream.STDOUT, data=b"x\n")])

    return append


@pytest.fixture
def settled(wakes, store, clock):
    """Wait until everything that happened so far has been told to everybody."""
    numbers = count(1)

    def wait() -> None:
        canary = f"{next(numbers):064x}"
        with ExitStack() as stack:
            watches = [
                stack.enter_context(wakes.watch(canary, hears=hears)) for hears in Hears
            ]
            store.stop(canary, at=clock.at, expires_at=clock.at)
            assert all(watch.wait(SOON) for watch in watches)

    wait()  # the first watch may be woken because listening only begins
    return wait


def test_a_change_of_status_wakes(record, store, wakes, clock, settled):
    digest = record(queue=False).summary.digest
    settled()
    with wakes.watch(digest) as watch:
        store.apply(digest, Change(event=Event.QUEUED, at=clock.at))
        assert watch.wait(SOON)


def test_new_lines_wake(wakes, say, settled):
    with wakes.watch("a") as watch:
        say("a")
        assert watch.wait(SOON)


def test_a_record_that_is_deleted_wakes(record, store, wakes, clock, settled):
    digest = record(queue=False).summary.digest
    store.apply(digest, Change(event=Event.STOP_ASKED, at=clock.at))
    settled()
    with wakes.watch(digest) as watch:
        store.delete(digest)
        assert watch.wait(SOON)


def test_queueing_a_created_record_wakes(record, store, wakes, clock, settled):
    created = record(queue=False)
    settled()
    with wakes.watch(created.summary.digest) as watch:
        store.add(
            created.summary,
            "{}",
            at=clock.at,
            priority=4,
            not_before=None,
            queue="python",
        )
        assert watch.wait(SOON)


def test_a_change_between_the_opening_and_the_wait_is_not_missed(wakes, say, settled):
    with wakes.watch("a") as watch:
        say("a")
        settled()
        assert watch.wait(AT_ONCE)


def test_a_change_wakes_once(wakes, say, settled):
    with wakes.watch("a") as watch:
        say("a")
        settled()
        assert watch.wait(AT_ONCE)
        assert not watch.wait(AT_ONCE)
        say("a")
        assert watch.wait(SOON)


def test_the_changes_of_another_job_wake_nobody(wakes, say, settled):
    with wakes.watch("a") as watch:
        say("b")
        settled()
        assert not watch.wait(AT_ONCE)


def test_a_watch_ends_with_its_block(wakes, say, settled):
    with wakes.watch("a") as watch:
        pass
    say("a")
    settled()
    assert not watch.wait(AT_ONCE)


def test_a_wait_without_a_change_ends_in_time(wakes, settled):
    with wakes.watch("a") as watch:
        assert not watch.wait(timedelta(milliseconds=20))


def test_who_waits_for_the_end_is_woken_by_nothing_before_it(
    record, store, logs, wakes, clock, settled
):
    digest = record(queue=True).summary.digest
    settled()
    claimed = claimed_by("one", clock.at)
    with wakes.watch(digest, hears=Hears.END) as watch, wakes.watch(digest) as every:
        for change in (claimed, Change(event=Event.REQUEUED, at=clock.at)):
            store.apply(digest, change)
            settled()
            assert every.wait(AT_ONCE)
        logs.append(digest, [Chunk(at=clock.at, stream=Stream.STDOUT, data=b"x\n")])
        settled()
        assert every.wait(AT_ONCE)
        assert not watch.wait(AT_ONCE)
        store.apply(digest, Change(event=Event.STOP_ASKED, at=clock.at))
        assert watch.wait(SOON)


def claimed_by(holder, at):
    return Change(event=Event.CLAIMED, at=at, attempt=1, ran_on=holder, lease_until=at)


@pytest.mark.parametrize("event", [Event.STOP_ASKED, Event.REQUEUED, Event.FAILED])
def test_who_holds_a_job_hears_that_he_is_to_stop_or_has_it_no_longer(
    record, store, wakes, clock, settled, event
):
    digest = record(queue=True).summary.digest
    store.apply(digest, claimed_by("one", clock.at))
    settled()
    with wakes.watch(digest, hears=Hears.RECALL) as watch:
        store.apply(digest, Change(event=event, at=clock.at))
        assert watch.wait(SOON)


def test_who_holds_a_job_hears_of_a_stop_for_good(record, store, wakes, clock, settled):
    job = record(queue=True).summary
    store.apply(job.digest, claimed_by("one", clock.at))
    settled()
    with wakes.watch(job.digest, hears=Hears.RECALL) as watch:
        store.stop(job.digest, at=clock.at, expires_at=job.expires_at)
        assert watch.wait(SOON)


def test_who_holds_a_job_hears_nothing_of_what_he_does(
    record, store, wakes, say, clock, settled
):
    digest = record(queue=True).summary.digest
    settled()
    with wakes.watch(digest, hears=Hears.RECALL) as watch:
        store.apply(digest, claimed_by("one", clock.at))
        say(digest)
        store.apply(digest, Change(event=Event.COMPLETED, at=clock.at))
        settled()
        assert not watch.wait(AT_ONCE)


@pytest.mark.parametrize("hears", Hears)
def test_a_watch_can_be_woken_by_whoever_has_it(wakes, settled, hears):
    with (
        wakes.watch("a", hears=hears) as watch,
        wakes.watch("a", hears=hears) as other,
        ThreadPoolExecutor() as pool,
    ):
        waiting = pool.submit(watch.wait, SOON)
        watch.wake()
        assert waiting.result()
        assert not other.wait(AT_ONCE)


def test_who_waits_for_the_end_of_a_job_that_comes_stopped_is_woken(
    record, store, wakes, clock, settled
):
    other = record(queue=False)
    summary = replace(other.summary, id="another", digest=f"{7:064x}")
    store.stop(summary.digest, at=clock.at, expires_at=summary.expires_at)
    settled()
    with wakes.watch(summary.digest, hears=Hears.END) as watch:
        store.add(
            summary, "{}", at=clock.at, priority=4, not_before=None, queue="python"
        )
        assert watch.wait(SOON)


def test_everybody_who_watches_a_job_is_woken(wakes, say, settled):
    with ExitStack() as stack, ThreadPoolExecutor(50) as waiters:
        watches = [stack.enter_context(wakes.watch("a")) for _ in range(50)]
        woken = [waiters.submit(watch.wait, SOON) for watch in watches]
        say("a")
        assert all(each.result() for each in woken)


def test_closing_sends_every_waiter_away(wakes, settled):
    waits = threading.Event()

    def wait() -> bool:
        with wakes.watch("a") as watch:
            waits.set()
            return watch.wait(timedelta(minutes=1))

    with ThreadPoolExecutor(1) as waiter:
        woken = waiter.submit(wait)
        assert waits.wait(SOON.total_seconds())
        wakes.close()
        assert woken.result(SOON.total_seconds()) is False


def test_nobody_waits_when_the_wakes_are_closed(wakes):
    wakes.close()
    with wakes.watch("a") as watch:
        assert not watch.wait(timedelta(minutes=1))
