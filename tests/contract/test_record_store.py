from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from horus_celery.errors import IdTaken, IllegalTransition, NotFoundError
from horus_celery.lifecycle import TERMINAL, TRANSITIONS, Event, Status
from horus_celery.record import LEASE, Change, Record
from horus_celery.store.base import (
    BUCKETS,
    Ahead,
    ArchivedReceipt,
    Chunk,
    Filter,
    Histogram,
    Stream,
    Tally,
)

UNKNOWN = "f" * 64

#: A way to each status, from created on.
WAY = {
    Status.CREATED: (),
    Status.QUEUED: (Event.QUEUED,),
    Status.RUNNING: (Event.QUEUED, Event.CLAIMED),
    Status.STOPPING: (Event.QUEUED, Event.CLAIMED, Event.STOP_ASKED),
    Status.COMPLETED: (Event.QUEUED, Event.CLAIMED, Event.COMPLETED),
    Status.FAILED: (Event.QUEUED, Event.FAILED),
    Status.STOPPED: (Event.STOP_ASKED,),
    Status.REJECTED: (Event.QUEUED, Event.REFUSED),
}


@pytest.fixture
def make(store, clock):
    """Let something happen to a record, each time a moment later."""

    def apply(record, event, **facts):
        change = Change(event=event, at=clock.advance(seconds=1), **facts)
        return store.apply(record.summary.digest, change)

    return apply


@pytest.fixture
def bring(record, make):
    """Record a job and bring it to a status."""

    def to(status, **facts):
        brought = record(queue=False, **facts)
        for event in WAY[status]:
            brought = make(
                brought, event, attempt=1 if event is Event.CLAIMED else None
            )
        assert brought.status is status
        return brought

    return to


@pytest.fixture
def lines_of(logs):
    def read(record):
        lines = logs.read(record.summary.digest, after=None, limit=10)
        return [(line.stream, line.data) for line in lines]

    return read


# --- recorded ------------------------------------------------------------------


def test_a_job_is_recorded_as_created(record, store, clock):
    created = record(queue=False)
    assert created.status is Status.CREATED
    assert (created.created_at, created.queued_at) == (clock.at, None)
    assert store.get(created.summary.digest) == created


def test_a_job_may_be_recorded_as_queued_in_one_step(record, store, clock):
    queued = record(queue=True)
    assert queued.status is Status.QUEUED
    assert (queued.created_at, queued.queued_at) == (clock.at, clock.at)
    assert store.get(queued.summary.digest) == queued


def test_a_record_repeats_all_that_it_was_given(record, store, clock):
    facts = {
        "runner": "osis_runner_1",
        "workflow_id": "11111111-2222-3333-4444-555555555555",
        "signed_by": ("a" * 32, "b" * 32),
        "attempts": 10,
        "executor": "v",
    }
    later = clock.at + timedelta(minutes=5)
    given = record(priority=0, not_before=later, envelope='{"ü": "\n"}', **facts)
    kept = store.get(given.summary.digest)
    assert kept == given
    assert {name: getattr(kept.summary, name) for name in facts} == facts
    assert (kept.priority, kept.not_before) == (0, later)
    assert kept.envelope == '{"ü": "\n"}'


def test_times_are_kept_to_the_millisecond(record, store, clock):
    expires_at = clock.at + timedelta(hours=1)
    clock.at += timedelta(microseconds=1234)
    queued = record(expires_at=expires_at)
    assert queued.created_at.microsecond == 1000
    assert store.get(queued.summary.digest) == queued


@pytest.mark.parametrize("queue", ["python", None])
def test_recording_it_again_changes_nothing(store, make_summary, clock, queue):
    summary = make_summary()
    first = store.add(
        summary, "{}", at=clock.at, priority=4, not_before=None, queue=queue
    )
    again = store.add(
        summary,
        "other",
        at=clock.advance(minutes=1),
        priority=9,
        not_before=clock.at,
        queue=queue,
    )
    assert again == first == store.get(summary.digest)
    assert sum(store.counts().values()) == 1


def test_recording_it_again_as_queued_queues_what_was_only_created(
    store, make_summary, clock
):
    summary = make_summary()
    first = store.add(
        summary, "{}", at=clock.at, priority=4, not_before=None, queue=None
    )
    later = clock.advance(minutes=1)
    again = store.add(
        summary, "{}", at=later, priority=9, not_before=None, queue="python"
    )
    assert again == replace(
        first, status=Status.QUEUED, queue="python", queued_at=later
    )
    assert store.counts()[Status.QUEUED] == 1


def test_a_job_that_is_queued_is_rung_for_in_the_same_step(record, dispatcher, clock):
    record(rings=True, queue="python.at.first", priority=7)
    assert dispatcher.queue_lengths(["python.at.first", "python"]) == {
        "python.at.first": 1,
        "python": 0,
    }
    assert dispatcher.front("python.at.first", 7).rung_at == clock.at


def test_a_created_job_is_rung_for_once_it_is_queued(record, dispatcher):
    facts = {"digest": UNKNOWN, "id": "11111111-2222-3333-4444-555555555555"}
    record(rings=True, queue=False, **facts)
    assert dispatcher.queue_lengths(["python"]) == {"python": 0}
    for _ in range(2):
        record(rings=True, **facts)
        assert dispatcher.queue_lengths(["python"]) == {"python": 1}


def test_a_job_that_never_starts_is_not_rung_for(record, store, dispatcher, clock):
    store.stop(UNKNOWN, at=clock.at, expires_at=clock.at + timedelta(hours=1))
    record(rings=True, digest=UNKNOWN)
    assert dispatcher.queue_lengths(["python"]) == {"python": 0}


def test_an_id_that_is_taken_is_not_rung_for(record, dispatcher):
    first = record()
    with pytest.raises(IdTaken):
        record(rings=True, digest=UNKNOWN, id=first.summary.id)
    assert dispatcher.queue_lengths(["python"]) == {"python": 0}


def test_recording_it_again_leaves_a_finished_one_finished(bring, store, clock):
    done = bring(Status.COMPLETED)
    again = store.add(
        done.summary, "{}", at=clock.at, priority=4, not_before=None, queue="python"
    )
    assert again == done


def test_a_context_has_an_id_once(record, store, make_summary, clock):
    first = record(queue=False)
    with pytest.raises(IdTaken) as taken:
        record(id=first.summary.id)
    assert taken.value.job_id == first.summary.id
    assert sum(store.counts().values()) == 1
    assert store.named(first.summary.id) == (first,)


def test_jobs_of_several_contexts_may_share_an_id(record, store):
    first = record(context_id="lab")
    second = record(id=first.summary.id, context_id="billing")
    assert store.named(first.summary.id) == (first, second)


def test_nothing_is_found_where_nothing_is(store):
    assert store.named("11111111-2222-3333-4444-555555555555") == ()
    with pytest.raises(NotFoundError):
        store.get(UNKNOWN)


# --- queued somewhere ------------------------------------------------------------

#: As long as a queue's name may be.
LONG = f"{'p' * 128}.ctx.{'c' * 128}"


def test_a_record_says_in_which_queue_it_stands(record, store):
    queued = record(queue="python.ctx.billing")
    assert queued.queue == "python.ctx.billing"
    assert store.get(queued.summary.digest) == queued
    assert record(queue="python").queue == "python"
    assert record(queue=False).queue is None


def test_a_record_is_queued_where_the_change_says(record, make, store):
    created = record(queue=False)
    queued = make(created, Event.QUEUED, queue="python.at.first")
    assert queued.queue == "python.at.first"
    assert store.get(created.summary.digest).queue == "python.at.first"
    assert make(record(queue=False), Event.QUEUED).queue == "python"


def test_a_record_remembers_where_it_stood_last(record, make):
    claimed = make(record(queue="python.at.first"), Event.CLAIMED)
    assert claimed.queue == "python.at.first"
    assert make(claimed, Event.REQUEUED).queue == "python.at.first"


def test_recording_it_again_as_queued_queues_it_there(store, record, clock):
    created = record(queue=False)
    facts = {"at": clock.at, "priority": 4, "not_before": None}
    again = store.add(created.summary, "{}", queue="python.at.first", **facts)
    assert again.queue == "python.at.first"
    assert store.add(created.summary, "{}", queue="python", **facts) == again


@pytest.mark.parametrize("queue", ["python", "python.at.r:1@x_y-z", LONG])
def test_queued_records_are_counted_by_queue(record, store, make, queue):
    for priority in range(10):
        record(queue=queue, priority=priority)
    make(record(queue=queue), Event.CLAIMED)
    record(queue="system")
    assert store.queue_lengths([queue, "system", "v"]) == {
        queue: 10,
        "system": 1,
        "v": 0,
    }
    assert store.queue_lengths([]) == {}


def test_queues_in_which_records_stand_are_told_the_longest_first(record, store, make):
    for priority in range(10):
        record(queue="python.at.r:1@x_y-z", priority=priority, context_id="lab")
    make(record(queue="system"), Event.CLAIMED)
    record(queue="v")
    record(queue="hero", context_id="other")
    record(queue=LONG)
    assert [*store.standing(limit=9).items()] == [
        ("python.at.r:1@x_y-z", 10),
        *((queue, 1) for queue in sorted(["hero", LONG, "v"])),
    ]
    assert store.standing(limit=1) == {"python.at.r:1@x_y-z": 10}
    for contexts, queues in (
        ({"other"}, {"hero"}),
        ({"other", "lab"}, {"python.at.r:1@x_y-z", "hero"}),
        ({"nobodys"}, set()),
        (set(), set()),
    ):
        assert set(store.standing(limit=9, contexts=frozenset(contexts))) == queues


def test_a_place_in_a_queue_is_told_by_priority_and_time(record, store, clock, make):
    def add(**facts):
        clock.advance(seconds=1)
        return record(**facts).summary.digest

    first = add(priority=4)
    urgent = add(priority=0, context_id="lab")
    last = add(priority=9)
    middle = add(priority=5, context_id="lab")
    add(priority=0, executor="system", queue="system")
    add(priority=0, queue="python.at.r")
    add(priority=0, not_before=clock.at + timedelta(hours=1))
    add(priority=0, queue=None)
    places = [store.ahead(digest, limit=10) for digest in (urgent, first, middle, last)]
    assert places == [Ahead(count=number, is_all=True) for number in range(4)]
    lab = frozenset({"lab"})
    assert store.ahead(last, limit=10, contexts=lab) == Ahead(count=2, is_all=True)
    assert store.ahead(last, limit=10, contexts=frozenset()) == Ahead(
        count=0, is_all=True
    )
    assert store.ahead(last, limit=2) == Ahead(count=2, is_all=False)
    assert store.ahead(last, limit=1, contexts=lab) == Ahead(count=1, is_all=False)
    make(store.get(urgent), Event.CLAIMED, attempt=1, ran_on="r")
    assert store.ahead(last, limit=10) == Ahead(count=2, is_all=True)
    for other in (urgent, UNKNOWN):
        assert store.ahead(other, limit=10) == Ahead(count=0, is_all=True)


def test_with_contexts_only_their_records_are_counted_in_a_queue(record, store, make):
    for priority in range(10):
        record(context_id="lab", priority=priority)
    record(context_id="billing")
    record(context_id="lab", queue="system")
    make(record(context_id="lab"), Event.CLAIMED)
    for contexts, length in (
        (None, 11),
        (frozenset({"lab"}), 10),
        (frozenset({"billing"}), 1),
        (frozenset({"lab", "billing", "other"}), 11),
        (frozenset({"other"}), 0),
        (frozenset(), 0),
    ):
        assert store.queue_lengths(["python"], contexts=contexts) == {"python": length}


def test_what_waits_for_its_time_stands_in_no_queue(record, store, clock):
    summary = record(not_before=clock.at + timedelta(minutes=1)).summary
    assert store.standing(limit=1) == {}
    assert store.queue_lengths(["python"]) == {"python": 0}
    store.rung(summary.digest, at=clock.at, queue="python")
    assert store.queue_lengths(["python"]) == {"python": 1}


# --- of some contexts --------------------------------------------------------------

MINE = frozenset({"billing", "lab"})


@pytest.fixture
def foreign(record):
    return record(context_id="theirs")


def test_a_foreign_record_is_not_found_as_if_there_were_none(record, store, foreign):
    mine = record()
    digest = mine.summary.digest
    assert store.get(digest, contexts=MINE) == mine
    said = []
    for unseen, contexts in [
        (foreign.summary.digest, MINE),
        (UNKNOWN, MINE),
        (digest, frozenset()),
    ]:
        with pytest.raises(NotFoundError) as refused:
            store.get(unseen, contexts=contexts)
        said.append(refused.value.detail.replace(unseen, "DIGEST"))
    assert len(set(said)) == 1


def test_an_id_names_only_records_of_the_contexts(record, store, foreign):
    job_id = foreign.summary.id
    assert store.named(job_id, contexts=MINE) == ()
    mine = [record(id=job_id, context_id=context) for context in ("lab", "billing")]
    assert store.named(job_id, contexts=MINE) == tuple(mine)
    assert store.named(job_id, contexts=frozenset({"lab"})) == (mine[0],)
    assert store.named(job_id, contexts=frozenset()) == ()
    assert store.named(job_id) == (foreign, *mine)


def test_a_list_of_some_contexts_is_newest_first_page_by_page(record, store):
    contexts = ["billing", "theirs", "lab", "lab", "theirs", "billing", "billing"]
    records = [record(context_id=context) for context in contexts * 20]
    mine = [each for each in records if each.summary.context_id != "theirs"]
    wanted = Filter(contexts=MINE)
    assert store.list(wanted, limit=1000) == tuple(reversed(mine))
    for limit in (1, 7, 50):
        seen, after = [], None
        while page := store.list(wanted, limit=limit, after=after):
            seen += page
            after = page[-1].summary.digest
        assert seen == mine[::-1]


def test_a_list_of_some_contexts_shows_what_agrees_with_every_field(record, store):
    records = [
        record(context_id=context, executor=executor)
        for context, executor in product(
            ["lab", "theirs", "billing"], ["python", "system"]
        )
    ]
    wanted = Filter(contexts=MINE, executor="system")
    assert store.list(wanted, limit=9) == (records[5], records[1])
    wanted = Filter(contexts=MINE, context_id="lab")
    assert store.list(wanted, limit=9) == (records[1], records[0])
    for contexts, context_id in [
        (MINE, "theirs"),
        (frozenset(), None),
        (frozenset(), "lab"),
        (frozenset({"unknown"}), None),
    ]:
        wanted = Filter(contexts=contexts, context_id=context_id)
        assert store.list(wanted, limit=9) == ()


def test_a_list_of_some_contexts_goes_on_behind_theirs_only(record, store, foreign):
    record()
    for digest in (foreign.summary.digest, UNKNOWN):
        with pytest.raises(NotFoundError):
            store.list(Filter(contexts=MINE), limit=9, after=digest)


def test_records_of_some_contexts_are_counted(bring, store):
    for status in Status:
        bring(status, context_id="billing")
        bring(status, context_id="theirs")
    for _ in range(3):
        bring(Status.FAILED, context_id="lab")
        bring(Status.CREATED, context_id="theirs")
    once = dict.fromkeys(Status, 1)
    assert store.counts(MINE) == {**once, Status.FAILED: 4}
    assert store.counts(frozenset({"billing"})) == once
    assert set(store.counts(frozenset({"unknown"})).values()) == {0}
    assert set(store.counts(frozenset()).values()) == {0}


# --- changed -------------------------------------------------------------------


@pytest.mark.parametrize(("status", "event"), TRANSITIONS)
def test_a_store_follows_the_table(bring, make, store, status, event):
    changed = make(bring(status), event)
    assert changed.status is TRANSITIONS[status, event]
    assert store.get(changed.summary.digest) == changed


@pytest.mark.parametrize(
    ("status", "event"),
    [pair for pair in product(Status, Event) if pair not in TRANSITIONS],
)
def test_a_store_refuses_what_is_not_in_the_table(bring, make, store, status, event):
    record = bring(status)
    with pytest.raises(IllegalTransition) as refused:
        make(record, event, reason="never", result="never")
    assert (refused.value.status, refused.value.event) == (status, event)
    assert store.get(record.summary.digest) == record


def test_what_is_not_there_cannot_be_changed(store, clock):
    with pytest.raises(NotFoundError):
        store.apply(UNKNOWN, Change(event=Event.QUEUED, at=clock.at))


def test_facts_come_with_a_change_and_stay_until_another_brings_new_ones(record, make):
    claimed = make(record(), Event.CLAIMED, attempt=1, ran_on="python_1")
    assert (claimed.attempt, claimed.ran_on) == (1, "python_1")
    done = make(claimed, Event.COMPLETED, exit_code=0, result="", receipt="{}")
    assert (done.attempt, done.ran_on) == (1, "python_1")
    assert (done.exit_code, done.result, done.receipt) == (0, "", "{}")
    assert done.reason is None


def test_times_tell_when_a_record_was_queued_started_and_ended(record, make, clock):
    start = clock.at
    created = record(queue=False)
    ended = make(make(make(created, Event.QUEUED), Event.CLAIMED), Event.FAILED)
    times = (ended.created_at, ended.queued_at, ended.started_at, ended.ended_at)
    assert times == tuple(start + timedelta(seconds=second) for second in range(4))


def test_a_record_that_is_queued_again_has_not_ended(bring, make, clock):
    again = make(bring(Status.RUNNING), Event.REQUEUED)
    assert (again.queued_at, again.ended_at) == (clock.at, None)


def test_a_record_that_is_to_wait_for_its_next_start_is_due_then(
    bring, make, store, clock
):
    running = bring(Status.RUNNING)
    digest = running.summary.digest
    later = clock.at + timedelta(seconds=9)

    again = make(running, Event.REQUEUED, not_before=later)

    assert (again.status, again.not_before) == (Status.QUEUED, later)
    assert store.get(digest).not_before == later
    assert store.queue_lengths(["python"]) == {"python": 0}
    assert store.due(at=later - timedelta(seconds=1), limit=10) == ()
    assert store.silent(before=later, limit=10) == ()
    [bell] = store.due(at=later, limit=10)
    assert bell.digest == digest
    store.rung(digest, at=later, queue=bell.queue)
    assert store.due(at=later, limit=10) == ()
    assert store.queue_lengths(["python"]) == {"python": 1}


def test_a_record_of_elsewhere_is_kept_as_it_is(store, make_summary, clock):
    elsewhere = Record(
        summary=make_summary(),
        envelope='{"payload":"x"}',
        status=Status.COMPLETED,
        created_at=clock.at,
        queued_at=clock.at,
        started_at=clock.at,
        ended_at=clock.at + timedelta(seconds=1),
        attempt=2,
        ran_on="north_1",
        exit_code=0,
        result="1\n",
        receipt='{"payload":"y"}',
    )
    digest = elsewhere.summary.digest

    store.adopt(elsewhere)
    store.adopt(replace(elsewhere, result="another"))

    kept = store.get(digest)
    assert replace(kept, queue=None) == elsewhere
    assert [one.summary.digest for one in store.list(Filter(), limit=5)] == [digest]
    assert store.counts()[Status.COMPLETED] == 1
    assert store.finished(before=clock.at + timedelta(seconds=9), limit=5) == (digest,)
    other = make_summary(id=elsewhere.summary.id)
    with pytest.raises(IdTaken):
        store.adopt(replace(elsewhere, summary=other))
    store.retire(digest)
    assert store.archived(digest)


def test_of_many_claims_exactly_one_wins(record, store, clock):
    digest = record().summary.digest

    def claim(runner: int) -> bool:
        change = Change(
            event=Event.CLAIMED, at=clock.at, attempt=1, ran_on=f"python_{runner}"
        )
        try:
            store.apply(digest, change)
        except IllegalTransition:
            return False
        return True

    with ThreadPoolExecutor(8) as runners:
        assert sum(runners.map(claim, range(32))) == 1


@pytest.mark.parametrize(("status", "event"), TRANSITIONS)
def test_the_same_change_again_is_recognised(bring, store, clock, status, event):
    digest = bring(status).summary.digest
    change = Change(event=event, at=clock.at, reason="once", attempt=2)
    changed = store.apply(digest, change)
    assert store.apply(digest, change) == changed


def test_a_change_is_recognised_even_when_another_followed(record, store, clock):
    digest = record(queue=False).summary.digest
    queued = Change(event=Event.QUEUED, at=clock.at)
    store.apply(digest, queued)
    running = store.apply(digest, Change(event=Event.CLAIMED, at=clock.at, attempt=1))
    assert store.apply(digest, queued) == running


def test_a_change_counts_only_for_the_attempt_that_it_names(bring, make, store):
    running = bring(Status.RUNNING)
    with pytest.raises(IllegalTransition):
        make(running, Event.COMPLETED, if_attempt=2, result="late")
    assert store.get(running.summary.digest) == running
    assert make(running, Event.COMPLETED, if_attempt=1).status is Status.COMPLETED


# --- deleted -------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_deleted_record_leaves_nothing_behind(bring, store, logs, clock, status):
    record = bring(status)
    digest = record.summary.digest
    logs.append(digest, [Chunk(at=clock.at, stream=Stream.STDOUT, data=b"line\n")])
    store.delete(digest)
    store.delete(digest)
    with pytest.raises(NotFoundError):
        store.get(digest)
    assert store.named(record.summary.id) == ()
    assert store.list(Filter(), limit=10) == ()
    assert store.list(Filter(context_id="billing"), limit=10) == ()
    assert set(store.counts().values()) == {0}
    assert logs.read(digest, after=None, limit=10) == []


def test_the_id_of_a_deleted_record_is_free_again(bring, record, store):
    deleted = bring(Status.STOPPED)
    with pytest.raises(IdTaken):
        record(id=deleted.summary.id)
    store.delete(deleted.summary.digest)
    assert record(id=deleted.summary.id).status is Status.QUEUED


@pytest.mark.parametrize("status", sorted(set(Status) - TERMINAL))
def test_what_is_not_over_is_not_deleted(bring, store, status):
    record = bring(status)
    with pytest.raises(IllegalTransition):
        store.delete(record.summary.digest)
    assert store.get(record.summary.digest) == record


# --- listed --------------------------------------------------------------------


def test_the_newest_comes_first(record, store):
    records = [record() for _ in range(5)]
    assert store.list(Filter(), limit=10) == tuple(reversed(records))


def test_pages_stay_as_they_are_while_jobs_arrive(record, store):
    old = [record() for _ in range(7)]
    seen, after = [], None
    while page := store.list(Filter(), limit=3, after=after):
        seen += page
        after = page[-1].summary.digest
        record()
    assert seen == old[::-1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("context_id", "lab"),
        ("caller_id", "bob"),
        ("executor", "system"),
        ("runner", "system_1"),
        ("workflow_id", "11111111-2222-3333-4444-555555555555"),
    ],
)
def test_a_list_shows_what_agrees_with_a_field(record, store, field, value):
    record()
    wanted = record(**{field: value})
    record()
    assert store.list(Filter(**{field: value}), limit=10) == (wanted,)


@pytest.mark.parametrize("status", Status)
def test_a_list_shows_what_has_a_status(bring, store, status):
    records = {each: bring(each) for each in Status}
    assert store.list(Filter(status=status), limit=10) == (records[status],)


def test_a_list_shows_what_agrees_with_every_field(record, make, store):
    record(context_id="lab", caller_id="bob")
    wanted = make(record(context_id="lab", executor="system"), Event.CLAIMED)
    record(context_id="lab", executor="system")
    agreeing = Filter(context_id="lab", executor="system", status=Status.RUNNING)
    assert store.list(agreeing, limit=10) == (wanted,)


def test_a_list_goes_on_behind_a_record_that_does_not_agree(record, store):
    old = record(executor="system")
    other = record()
    record(executor="system")
    behind = store.list(Filter(executor="system"), limit=10, after=other.summary.digest)
    assert behind == (old,)


def test_a_list_ends_behind_the_record_that_fills_it(record, store):
    records = [record(envelope="x" * 100) for _ in range(5)][::-1]
    for max_text, count in ((1, 1), (100, 1), (101, 2), (300, 3), (301, 4), (900, 5)):
        found = store.list(Filter(), limit=10, max_text=max_text)
        assert found == tuple(records[:count])
    assert store.list(Filter(), limit=2, max_text=900) == tuple(records[:2])


def test_results_and_receipts_fill_a_list_as_well(record, make, store):
    texts = {"result": "x" * 60, "receipt": "x" * 38}
    for _ in range(3):
        claimed = make(record(), Event.CLAIMED, attempt=1)
        make(claimed, Event.COMPLETED, exit_code=0, **texts)
    for max_text, count in ((100, 1), (101, 2), (201, 3)):
        assert len(store.list(Filter(), limit=10, max_text=max_text)) == count


@pytest.mark.parametrize("wanted", [Filter(), Filter(executor="python", runner="r")])
def test_page_after_page_shows_each_record_however_long(record, store, wanted):
    lengths = (10, 500, 1, 2, 3, 400, 400, 5, 1)
    records = [record(envelope="x" * length, runner="r") for length in lengths]
    seen, after = [], None
    while page := store.list(wanted, limit=3, after=after, max_text=400):
        seen += page
        after = page[-1].summary.digest
    assert seen == records[::-1]


def test_a_list_of_long_records_holds_eight_mebibytes(record, store):
    # They can be packed well: what counts is what they come to.
    for _ in range(10):
        record(envelope="x" * 2**20)
    assert len(store.list(Filter(), limit=1000)) == 8


def test_a_list_goes_on_behind_known_records_only(store):
    with pytest.raises(NotFoundError):
        store.list(Filter(), limit=10, after=UNKNOWN)


def test_every_status_is_counted(bring, store):
    assert store.counts() == dict.fromkeys(Status, 0)
    for status in Status:
        bring(status)
    bring(Status.FAILED)
    assert store.counts() == {**dict.fromkeys(Status, 1), Status.FAILED: 2}


# --- leased --------------------------------------------------------------------


def test_a_held_record_is_abandoned_when_its_lease_ends(record, store, clock):
    digest = record().summary.digest
    until = clock.at + LEASE
    claim = Change(event=Event.CLAIMED, at=clock.at, attempt=1, lease_until=until)
    store.apply(digest, claim)
    assert store.abandoned(at=until, limit=10) == ()
    assert store.abandoned(at=until + timedelta(milliseconds=1), limit=10) == (digest,)


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=3650)])
def test_a_lease_of_a_clock_that_was_ahead_becomes_a_usual_one(
    bring, store, clock, ahead
):
    digest = bring(Status.RUNNING).summary.digest
    store.renew(digest, attempt=1, lease_until=clock.at + ahead)
    assert store.abandoned(at=clock.at, limit=10) == ()
    assert store.abandoned(at=clock.at + LEASE, limit=10) == ()
    assert store.abandoned(at=clock.advance(seconds=16), limit=10) == (digest,)


def test_a_lease_of_a_clock_that_is_only_a_little_ahead_is_left_alone(
    bring, store, clock
):
    digest = bring(Status.RUNNING).summary.digest
    store.renew(digest, attempt=1, lease_until=clock.at + timedelta(minutes=5))
    assert store.abandoned(at=clock.at, limit=10) == ()
    assert store.abandoned(at=clock.advance(minutes=4), limit=10) == ()


def test_a_claim_without_a_lease_has_the_usual_one(bring, store, clock):
    digest = bring(Status.RUNNING).summary.digest
    assert store.abandoned(at=clock.at + LEASE, limit=10) == ()
    assert store.abandoned(at=clock.advance(minutes=1), limit=10) == (digest,)


@pytest.mark.parametrize("status", [Status.RUNNING, Status.STOPPING])
def test_a_renewed_lease_is_not_over(bring, store, clock, status):
    digest = bring(status).summary.digest
    until = clock.advance(minutes=1)
    assert store.renew(digest, attempt=1, lease_until=until) is status
    assert store.abandoned(at=until, limit=10) == ()


@pytest.mark.parametrize("status", sorted(set(Status) - {"running", "stopping"}))
def test_only_a_held_record_is_renewed(bring, store, clock, status):
    digest = bring(status).summary.digest
    with pytest.raises(IllegalTransition):
        store.renew(digest, attempt=1, lease_until=clock.at)


def test_only_the_latest_attempt_renews(bring, store, clock):
    digest = bring(Status.RUNNING).summary.digest
    with pytest.raises(IllegalTransition):
        store.renew(digest, attempt=2, lease_until=clock.at)


def test_what_is_not_there_is_not_renewed(store, clock):
    with pytest.raises(NotFoundError):
        store.renew(UNKNOWN, attempt=1, lease_until=clock.at)


@pytest.mark.parametrize("event", [Event.COMPLETED, Event.FAILED, Event.REQUEUED])
def test_what_is_not_held_any_more_is_not_abandoned(bring, make, store, clock, event):
    make(bring(Status.RUNNING), event)
    assert store.abandoned(at=clock.advance(hours=1), limit=10) == ()


def test_at_most_as_many_are_named_as_were_asked_for(bring, store, clock):
    digests = [bring(Status.RUNNING).summary.digest for _ in range(3)]
    assert store.abandoned(at=clock.advance(hours=1), limit=2) == tuple(digests[:2])


# --- held by a runner -----------------------------------------------------------


def test_what_a_runner_holds_is_counted(record, make, store):
    assert store.running_on(["first", "second"]) == {"first": 0, "second": 0}
    held = [make(record(), Event.CLAIMED, ran_on="first") for _ in range(3)]
    make(record(), Event.CLAIMED, ran_on="second")
    make(record(), Event.CLAIMED)
    make(held[0], Event.STOP_ASKED)
    assert store.running_on(["first", "second"]) == {"first": 3, "second": 1}
    make(held[0], Event.STOPPED)
    make(held[1], Event.REQUEUED)
    make(held[1], Event.CLAIMED, ran_on="second")
    assert store.running_on(["first", "second"]) == {"first": 1, "second": 2}
    assert store.running_on([]) == {}


def test_with_contexts_only_their_records_are_counted_on_a_runner(record, make, store):
    held = [
        make(record(context_id=context), Event.CLAIMED, ran_on="first")
        for context in ("lab", "lab", "billing")
    ]
    make(held[0], Event.STOP_ASKED)
    for contexts, running in (
        (None, 3),
        (frozenset({"lab"}), 2),
        (frozenset({"lab", "billing"}), 3),
        (frozenset({"other"}), 0),
        (frozenset(), 0),
    ):
        found = store.running_on(["first", "second"], contexts=contexts)
        assert found == {"first": running, "second": 0}


# --- tallied ---------------------------------------------------------------------


def test_nothing_is_tallied_before_anything_happened(store):
    assert store.tally() == Tally(ended={}, waited={}, ran={}, swept={})


def test_each_end_is_tallied_once_with_its_reason(bring, store, make):
    for status in Status:
        bring(status)
    make(bring(Status.RUNNING, executor="system"), Event.FAILED, reason="exit_code")
    done = bring(Status.RUNNING)
    change = Change(event=Event.COMPLETED, at=done.started_at)
    for _ in range(3):
        store.apply(done.summary.digest, change)
    assert store.tally().ended == {
        ("python", "completed", ""): 2,
        ("python", "failed", ""): 1,
        ("python", "stopped", ""): 1,
        ("python", "rejected", ""): 1,
        ("system", "failed", "exit_code"): 1,
    }


@pytest.mark.parametrize("bucket", range(len(BUCKETS) + 1))
def test_times_of_waiting_and_running_are_tallied(record, store, clock, bucket):
    bound = BUCKETS[min(bucket, len(BUCKETS) - 1)]
    took = timedelta(seconds=bound * (2 if bucket == len(BUCKETS) else 1))
    digest = record(executor="v").summary.digest
    store.apply(digest, Change(event=Event.CLAIMED, at=clock.at + took, attempt=1))
    store.apply(digest, Change(event=Event.FAILED, at=clock.at + 3 * took))
    tally = store.tally()
    waited = [int(number == bucket) for number in range(len(BUCKETS) + 1)]
    assert tally.waited == {"v": Histogram(counts=tuple(waited), total=took)}
    assert tally.ran["v"].total == 2 * took
    assert sum(tally.ran["v"].counts) == 1


def test_a_job_for_later_waits_from_then_on(record, make, store, clock):
    later = clock.at + timedelta(hours=1)
    queued = record(not_before=later)
    clock.at = later
    make(queued, Event.CLAIMED, attempt=1)
    assert store.tally().waited["python"].total == timedelta(seconds=1)


def test_a_clock_that_goes_back_makes_no_time_negative(record, store, clock):
    digest = record().summary.digest
    early = clock.at - timedelta(hours=1)
    store.apply(digest, Change(event=Event.CLAIMED, at=early, attempt=1))
    assert store.tally().waited["python"].total == timedelta(0)


def test_what_sweeps_find_is_tallied(store):
    store.count_swept({"due": 2, "rung_again": 1})
    store.count_swept({"due": 3})
    assert store.tally().swept == {"due": 5, "rung_again": 1}


# --- retired ---------------------------------------------------------------------


def test_what_ended_first_is_finished_first(bring, make, store, clock):
    late = bring(Status.RUNNING)
    first, second = bring(Status.STOPPED), bring(Status.FAILED)
    bring(Status.QUEUED)
    make(late, Event.COMPLETED)
    digests = tuple(each.summary.digest for each in (first, second, late))
    assert store.finished(before=clock.at, limit=9) == digests[:2]
    assert store.finished(before=clock.at, limit=1) == digests[:1]
    soon = clock.at + timedelta(milliseconds=1)
    assert store.finished(before=soon, limit=9) == digests


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_retired_record_is_gone_like_a_deleted_one(bring, store, logs, clock, status):
    record = bring(status)
    digest = record.summary.digest
    logs.append(digest, [Chunk(at=clock.at, stream=Stream.STDOUT, data=b"line\n")])
    assert store.retire(digest)
    assert not store.retire(digest)
    with pytest.raises(NotFoundError):
        store.get(digest)
    assert store.named(record.summary.id) == ()
    assert store.list(Filter(), limit=10) == ()
    assert set(store.counts().values()) == {0}
    assert store.finished(before=clock.advance(days=1), limit=9) == ()
    assert logs.read(digest, after=None, limit=10) == []
    assert store.archived(digest) == ()


def test_a_deleted_record_is_not_finished_any_more(bring, store, clock):
    store.delete(bring(Status.STOPPED).summary.digest)
    assert store.finished(before=clock.advance(days=1), limit=9) == ()


@pytest.mark.parametrize("status", sorted(set(Status) - TERMINAL))
def test_what_is_not_over_is_neither_finished_nor_retired(bring, store, clock, status):
    record = bring(status)
    assert store.finished(before=clock.advance(days=9), limit=9) == ()
    with pytest.raises(IllegalTransition):
        store.retire(record.summary.digest)
    assert store.get(record.summary.digest) == record


@pytest.fixture
def retire(record, make, store):
    def end(receipt="{}", **facts):
        record_ = make(record(**facts), Event.CLAIMED, attempt=1)
        make(record_, Event.COMPLETED, receipt=receipt)
        assert store.retire(record_.summary.digest)
        return record_.summary

    return end


def test_the_receipt_of_a_retired_record_is_kept(retire, store):
    receipt = '{"payload":"' + "QUJD" * 20 + '","ü":""}'
    summary = retire(receipt)
    retire()
    kept = ArchivedReceipt(
        digest=summary.digest,
        job_id=summary.id,
        context_id=summary.context_id,
        receipt=receipt,
    )
    assert store.archived(summary.id) == store.archived(summary.digest) == (kept,)
    assert store.archived("11111111-2222-3333-4444-555555555555") == ()
    assert store.archived(UNKNOWN) == ()


def test_the_receipt_of_a_retired_record_belongs_to_its_context(retire, store):
    mine = retire(context_id="lab")
    theirs = retire(id=mine.id, context_id="theirs")
    for name in (mine.id, mine.digest):
        (kept,) = store.archived(name, contexts=MINE)
        assert (kept.digest, kept.context_id) == (mine.digest, "lab")
    assert store.archived(theirs.digest, contexts=MINE) == ()
    assert store.archived(mine.id, contexts=frozenset()) == ()
    both = store.archived(mine.id)
    assert [kept.context_id for kept in both] == ["lab", "theirs"]


def test_a_retired_job_that_comes_again_is_a_new_one(retire, store, make, clock):
    summary = retire('"ran"')
    facts = {"at": clock.at, "priority": 4, "not_before": None, "queue": "python"}
    again = store.add(summary, "{}", **facts)
    assert (again.status, again.attempt, again.receipt) == (Status.QUEUED, 0, None)
    make(again, Event.REFUSED, receipt='"refused"', reason="claim.replay")
    store.retire(summary.digest)
    kept = store.archived(summary.id)
    assert [each.receipt for each in kept] == ['"ran"', '"refused"']


# --- expired -------------------------------------------------------------------


def test_a_queued_record_expires(record, store, clock):
    late = record().summary
    record(expires_at=clock.at + timedelta(days=1))
    assert store.expired(at=late.expires_at - timedelta(seconds=1), limit=10) == ()
    assert store.expired(at=late.expires_at, limit=10) == (late.digest,)


def test_a_record_that_nobody_queues_expires(bring, store, clock):
    created = bring(Status.CREATED).summary
    assert store.expired(at=created.expires_at, limit=10) == (created.digest,)
    change = Change(event=Event.FAILED, at=clock.at, reason="expired")
    assert store.apply(created.digest, change).reason == "expired"
    assert store.expired(at=created.expires_at, limit=10) == ()


def test_an_attempt_that_no_longer_holds_the_record_changes_nothing(
    bring, store, clock
):
    running = bring(Status.RUNNING)
    digest = running.summary.digest
    store.apply(digest, Change(event=Event.REQUEUED, at=clock.at))
    late = Change(event=Event.FAILED, at=clock.at, if_attempt=running.attempt)
    with pytest.raises(IllegalTransition):
        store.apply(digest, late)
    assert store.get(digest).status is Status.QUEUED


@pytest.mark.parametrize("status", sorted(set(Status) - {"created", "queued"}))
def test_what_a_runner_took_does_not_expire(bring, store, clock, status):
    bring(status)
    assert store.expired(at=clock.advance(days=8), limit=10) == ()


# --- rung ----------------------------------------------------------------------


def digests(bells):
    return [bell.digest for bell in bells]


def test_a_record_is_due_when_its_time_has_come(record, store, clock):
    later = clock.at + timedelta(minutes=1)
    waiting = record(not_before=later, priority=7, executor="system").summary
    assert store.due(at=later - timedelta(milliseconds=1), limit=10) == ()
    (bell,) = store.due(at=later, limit=10)
    assert (bell.digest, bell.job_id) == (waiting.digest, waiting.id)
    assert (bell.executor, bell.priority, bell.rung_at) == ("system", 7, None)


def test_the_one_that_waited_longest_is_due_first(record, store, clock):
    last, first = (
        record(not_before=clock.at + timedelta(seconds=at)).summary.digest
        for at in (2, 1)
    )
    assert digests(store.due(at=clock.advance(seconds=2), limit=10)) == [first, last]
    assert digests(store.due(at=clock.at, limit=1)) == [first]


def test_what_was_rung_is_not_due_any_more(record, store, clock):
    digest = record(not_before=clock.at).summary.digest
    store.rung(digest, at=clock.at, queue="python")
    assert store.due(at=clock.advance(minutes=1), limit=10) == ()
    assert digests(store.silent(before=clock.at, limit=10)) == [digest]


def test_what_is_not_queued_is_not_due(record, make, store, clock):
    later = clock.at + timedelta(minutes=1)
    created = record(queue=False, not_before=later)
    make(record(not_before=later), Event.STOP_ASKED)
    assert store.due(at=clock.advance(hours=1), limit=10) == ()
    make(created, Event.QUEUED)
    assert digests(store.due(at=clock.at, limit=10)) == [created.summary.digest]


def test_what_waits_for_its_time_is_not_silent(record, store, clock):
    record(not_before=clock.at + timedelta(hours=1))
    assert store.silent(before=clock.advance(minutes=1), limit=10) == ()


def test_a_record_is_silent_since_it_was_queued(record, store, clock):
    queued_at = clock.at
    summary = record(priority=9).summary
    assert store.silent(before=queued_at, limit=10) == ()
    (bell,) = store.silent(before=clock.advance(seconds=1), limit=10)
    assert (bell.digest, bell.job_id) == (summary.digest, summary.id)
    assert (bell.executor, bell.priority, bell.rung_at) == ("python", 9, queued_at)


def test_a_bell_ends_the_silence(record, store, clock):
    digest = record().summary.digest
    rung_at = clock.advance(seconds=5)
    store.rung(digest, at=rung_at, queue="python")
    assert store.silent(before=rung_at, limit=10) == ()
    (bell,) = store.silent(before=clock.advance(seconds=1), limit=10)
    assert bell.rung_at == rung_at


def test_what_a_clock_rang_that_was_ahead_is_silent_to_who_asks_for_it(
    record, store, clock
):
    digests_of = [record().summary.digest for _ in range(3)]
    for digest, days in zip(digests_of, (0, 1, 2), strict=True):
        at = clock.at + timedelta(days=days)
        store.rung(digest, at=at, queue="python")
    latest = clock.at + timedelta(minutes=5)
    assert store.silent(before=clock.at, limit=10) == ()
    found = store.silent(before=clock.at, after=latest, limit=10)
    assert digests(found) == digests_of[1:]


def test_a_bell_says_what_decides_its_queue(record, store, clock):
    facts = {"runner": "first", "context_id": "lab", "executor": "system"}
    record(queue="system.at.first", not_before=clock.at, **facts)
    record(queue="system.at.first", **facts)
    at = clock.advance(seconds=1)
    for bell in (*store.due(at=at, limit=9), *store.silent(before=at, limit=9)):
        said = (bell.runner, bell.context_id, bell.executor, bell.queue)
        assert said == ("first", "lab", "system", "system.at.first")


@pytest.mark.parametrize("queue", ["python.ctx.billing", LONG, "python"])
def test_a_bell_may_move_a_record_to_another_queue(record, store, clock, queue):
    moved = record(queue="python.at.gone").summary
    at = clock.advance(seconds=1)
    store.rung(moved.digest, at=at, queue=queue)
    assert store.get(moved.digest).queue == queue
    assert store.queue_lengths(["python.at.gone", queue]) == {
        "python.at.gone": 0,
        queue: 1,
    }
    (bell,) = store.silent(before=clock.advance(seconds=1), limit=9)
    assert (bell.queue, bell.rung_at) == (queue, at)


def test_the_longest_silence_comes_first(record, store, clock):
    expected = []
    for executor, priority in [("v", 9), ("python", 0), ("v", 0), ("python", 5)]:
        expected.append(record(executor=executor, priority=priority).summary.digest)
        clock.advance(seconds=1)
    assert digests(store.silent(before=clock.at, limit=10)) == expected


def test_a_backlog_does_not_hide_the_silence_of_another_queue(record, store, clock):
    backlog = [record().summary.digest for _ in range(5)]
    other = record(executor="system").summary.digest
    urgent = record(priority=0).summary.digest
    named = record(queue="python.at.first").summary.digest
    silent = digests(store.silent(before=clock.advance(seconds=1), limit=2))
    assert len(silent) == 5
    assert {other, urgent, named} < set(silent)
    assert len(set(silent) & set(backlog)) == 2


@pytest.mark.parametrize("status", sorted(set(Status) - {"queued"}))
def test_only_a_queued_record_is_silent(bring, store, clock, status):
    digest = bring(status).summary.digest
    store.rung(digest, at=clock.at, queue="python")
    assert store.silent(before=clock.advance(hours=1), limit=10) == ()


def test_a_record_that_is_queued_again_is_silent_from_then_on(
    bring, make, store, clock
):
    again = make(bring(Status.RUNNING), Event.REQUEUED)
    assert store.silent(before=clock.at, limit=10) == ()
    (bell,) = store.silent(before=clock.advance(seconds=1), limit=10)
    assert bell.digest == again.summary.digest
    assert bell.rung_at == again.queued_at


def test_ringing_for_what_is_not_there_changes_nothing(store, clock):
    store.rung(UNKNOWN, at=clock.at, queue="python")
    assert store.silent(before=clock.advance(hours=1), limit=10) == ()


# --- last lines -----------------------------------------------------------------


def test_the_last_lines_of_a_job_come_with_its_end(bring, store, clock, lines_of):
    running = bring(Status.RUNNING)
    lines = [
        Chunk(at=clock.at, stream=Stream.STDOUT, data=b"one\n"),
        Chunk(at=clock.at, stream=Stream.STDERR, data=b"\xfftwo"),
    ]
    change = Change(event=Event.COMPLETED, at=clock.at, exit_code=0, result="one\n")
    for _ in range(2):
        store.note(running.summary.digest, change, lines)
        ended = store.get(running.summary.digest)
        assert (ended.exit_code, ended.result) == (0, "one\n")
    assert lines_of(running) == [
        (Stream.STDOUT, b"one\n"),
        (Stream.STDERR, "\N{REPLACEMENT CHARACTER}two".encode()),
    ]


def test_a_change_that_is_not_allowed_leaves_no_lines(bring, store, clock, lines_of):
    over = bring(Status.COMPLETED)
    line = Chunk(at=clock.at, stream=Stream.STDOUT, data=b"late\n")
    change = Change(event=Event.FAILED, at=clock.at)
    with pytest.raises(IllegalTransition):
        store.note(over.summary.digest, change, [line])
    assert lines_of(over) == []
