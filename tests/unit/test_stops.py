"""A stop is remembered by the journal and by the store, whichever of them is away."""

from __future__ import annotations

from datetime import timedelta

import pytest

from horus_celery.errors import ClaimError, UnavailableError
from horus_celery.journal import Journal
from horus_celery.stops import PAGE, PAGES, Stops
from horus_celery.store.base import STOP_KEPT, StopPage
from horus_celery.store.memory import MemoryStore

WEEK, HOUR = timedelta(days=7), timedelta(hours=1)
DIGEST = "f" * 64


class BrokenJournal(Journal):
    """A journal that cannot be written."""

    def stop_all(self, digests, expires_at):
        raise UnavailableError("the disk is full")


class Told(MemoryStore):
    """A store that tells of stops what it was given, whatever that is."""

    def __init__(self, *pages):
        super().__init__()
        self._pages = list(pages)

    def stops(self, *, after, limit):
        digests = self._pages.pop(0) if self._pages else ()
        return StopPage(digests=digests, next=after)


@pytest.fixture
def make_journal():
    made = []

    def make(kind=Journal):
        made.append(kind(":memory:"))
        return made[-1]

    yield make
    for journal in made:
        journal.close()


@pytest.fixture
def store():
    return MemoryStore()


def number(value):
    return f"{value:064x}"


def test_both_journal_and_store_remember_a_stop(make_journal, store, clock):
    journal = make_journal()
    Stops(journal, store).stop(DIGEST, at=clock.at, expires_at=clock.at + HOUR)
    assert journal.is_stopped(DIGEST)
    assert store.stops(after=None, limit=9).digests == (DIGEST,)


def test_the_store_is_told_although_the_journal_fails(make_journal, store, clock):
    stops = Stops(make_journal(BrokenJournal), store)
    with pytest.raises(UnavailableError, match="disk is full"):
        stops.stop(DIGEST, at=clock.at, expires_at=clock.at + HOUR)
    assert store.stops(after=None, limit=9).digests == (DIGEST,)


def test_the_journal_remembers_although_the_store_is_away(make_journal, store, clock):
    journal = make_journal()
    store.is_away = True
    with pytest.raises(UnavailableError, match="store"):
        Stops(journal, store).stop(DIGEST, at=clock.at, expires_at=clock.at + HOUR)
    assert journal.is_stopped(DIGEST)


def test_a_stop_of_what_expires_nobody_knows_when_is_kept_for_the_longest_life(
    make_journal, store, clock
):
    journal = make_journal()
    Stops(journal, store).stop(DIGEST, at=clock.at, expires_at=None)
    clock.advance(seconds=(WEEK + STOP_KEPT).total_seconds())
    journal.sweep(clock.at)
    assert journal.is_stopped(DIGEST)


def test_a_node_takes_over_what_was_stopped_elsewhere(make_journal, store, clock):
    here, there = make_journal(), make_journal()
    Stops(here, store).stop(DIGEST, at=clock.at, expires_at=clock.at + HOUR)
    taking = Stops(there, store)
    assert taking.take_over(at=clock.at) == 1
    assert there.is_stopped(DIGEST)
    assert taking.take_over(at=clock.at) == 0


def test_what_was_taken_over_is_kept_although_the_store_forgets_it(
    make_journal, store, clock
):
    journal = make_journal()
    # Whoever can write there may also say that it expires at once.
    store.stop(DIGEST, at=clock.at, expires_at=clock.at - STOP_KEPT)
    Stops(journal, store).take_over(at=clock.at)
    clock.advance(days=7)
    journal.sweep(clock.at)
    with pytest.raises(ClaimError) as refusal:
        journal.claim(
            digest=DIGEST,
            context_id="billing",
            job_id="a",
            attempts=1,
            expires_at=clock.at + HOUR,
            now=clock.at,
            process=None,
        )
    assert refusal.value.reason == "claim.stopped"


def test_many_stops_are_taken_over_in_several_rounds(make_journal, clock):
    pages = [
        tuple(number(page * PAGE + each) for each in range(PAGE))
        for page in range(PAGES + 1)
    ]
    journal = make_journal()
    stops = Stops(journal, Told(*pages))
    assert stops.take_over(at=clock.at) == PAGE * PAGES
    assert not journal.is_stopped(pages[-1][0])
    assert stops.take_over(at=clock.at) == PAGE
    assert journal.is_stopped(pages[-1][-1])


def test_what_is_no_digest_does_not_get_into_the_journal(make_journal, clock):
    journal = make_journal()
    junk = ("", "x", "F" * 64, "0" * 65, f"{DIGEST}\n", "�")
    assert Stops(journal, Told((*junk, DIGEST))).take_over(at=clock.at) == 7
    assert journal.is_stopped(DIGEST)
    assert not any(journal.is_stopped(one) for one in junk)


def test_a_node_tells_the_store_again_what_it_lost(make_journal, store, clock):
    journal = make_journal()
    until = clock.at + HOUR
    Stops(journal, store).stop(DIGEST, at=clock.at, expires_at=until)
    emptied = MemoryStore()
    stops = Stops(journal, emptied)
    stops.recall(number(1), at=clock.at, expires_at=until)
    assert emptied.stops(after=None, limit=9).digests == ()
    stops.recall(DIGEST, at=clock.at, expires_at=until)
    assert emptied.stops(after=None, limit=9).digests == (DIGEST,)
