from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from horus_celery.errors import IdTaken, IllegalTransition, NotFoundError
from horus_celery.lifecycle import TERMINAL, TRANSITIONS, Event, Status
from horus_celery.record import LEASE, Change
from horus_celery.store.base import Chunk, Filter, Stream

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


@pytest.mark.parametrize("queue", [True, False])
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
        summary, "{}", at=clock.at, priority=4, not_before=None, queue=False
    )
    later = clock.advance(minutes=1)
    again = store.add(summary, "{}", at=later, priority=9, not_before=None, queue=True)
    assert again == replace(first, status=Status.QUEUED, queued_at=later)
    assert store.counts()[Status.QUEUED] == 1


def test_recording_it_again_leaves_a_finished_one_finished(bring, store, clock):
    done = bring(Status.COMPLETED)
    again = store.add(
        done.summary, "{}", at=clock.at, priority=4, not_before=None, queue=True
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
    store.rung(digest, at=clock.at)
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
    store.rung(digest, at=rung_at)
    assert store.silent(before=rung_at, limit=10) == ()
    (bell,) = store.silent(before=clock.advance(seconds=1), limit=10)
    assert bell.rung_at == rung_at


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
    silent = digests(store.silent(before=clock.advance(seconds=1), limit=2))
    assert len(silent) == 4
    assert {other, urgent} < set(silent)
    assert len(set(silent) & set(backlog)) == 2


@pytest.mark.parametrize("status", sorted(set(Status) - {"queued"}))
def test_only_a_queued_record_is_silent(bring, store, clock, status):
    digest = bring(status).summary.digest
    store.rung(digest, at=clock.at)
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
    store.rung(UNKNOWN, at=clock.at)
    assert store.silent(before=clock.advance(hours=1), limit=10) == ()
