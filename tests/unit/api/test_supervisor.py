"""The supervisor over a store in memory: in at the gate, out with what is proven."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from horus_celery.errors import (
    ConfigurationError,
    ConflictError,
    IdAmbiguous,
    IdTaken,
    IllegalTransition,
    NotFoundError,
    NotOverError,
    ReceiptError,
    RefusedError,
    UnavailableError,
)
from horus_celery.holdup import holdup_of
from horus_celery.lifecycle import Event, Status
from horus_celery.record import Change
from horus_celery.registry import Phase, Roll, Roster, RunnerBeat
from horus_celery.store.base import Filter, Stream
from horus_celery.supervisor import Limits
from horus_celery.wholelog import MAX_TAIL

AT_ONCE = timedelta(0)
LONG = timedelta(seconds=30)


def queued(world, **changes):
    return world.submit(**changes)


def status_of(world, record):
    shown = world.supervisor.status(record.summary.id)
    return shown.status, shown.reason


class TestIn:
    def test_a_created_job_is_recorded_and_not_rung(self, world):
        record = world.supervisor.create(world.envelope(), priority=4, not_before=None)
        assert record.status is Status.CREATED
        assert world.dispatcher.bells == []

    def test_a_queued_job_is_rung_once(self, world):
        record = world.submit(priority=3)
        assert record.status is Status.QUEUED
        assert world.dispatcher.bells == [(record.summary.id, "python", 3)]

    def test_the_same_envelope_again_is_the_same_job_and_rings_no_more(self, world):
        envelope = world.envelope()
        first = world.supervisor.create_and_queue(envelope, priority=4, not_before=None)
        world.clock.at += timedelta(seconds=1)
        again = world.supervisor.create_and_queue(envelope, priority=4, not_before=None)
        assert again == first
        assert len(world.dispatcher.bells) == 1

    def test_a_job_that_was_created_is_queued_by_its_envelope(self, world):
        envelope = world.envelope()
        world.supervisor.create(envelope, priority=4, not_before=None)
        world.clock.at += timedelta(seconds=1)
        record = world.supervisor.create_and_queue(
            envelope, priority=4, not_before=None
        )
        assert record.status is Status.QUEUED
        assert len(world.dispatcher.bells) == 1

    def test_the_same_id_with_other_bytes_is_refused(self, world):
        record = world.submit()
        with pytest.raises(IdTaken):
            world.submit(job_id=record.summary.id, payload="print(2)")

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"aud": "elsewhere"}, "bind.aud"),
            ({"context_id": "nobody"}, "auth.context"),
            ({"executor": "system"}, "auth.executor"),
            ({"timeout": timedelta(hours=2)}, "auth.timeout"),
            ({"net": "host"}, "auth.net"),
        ],
    )
    def test_what_no_grant_covers_is_not_recorded(self, world, changes, reason):
        with pytest.raises(RefusedError) as refusal:
            world.submit(**changes)
        assert refusal.value.reason == reason
        assert sum(world.store.counts().values()) == 0
        assert world.dispatcher.bells == []

    def test_a_strangers_signature_does_not_count(self, world):
        with pytest.raises(RefusedError) as refusal:
            world.submit(key=world.stranger)
        assert refusal.value.reason == "sig.none"

    def test_any_executor_and_context_that_is_granted_is_taken(self, world):
        # Who serves it is the runners' to check.
        assert world.submit(context_id="lab").status is Status.QUEUED

    def test_a_body_over_this_deployments_limit_is_refused(self, make_world):
        world = make_world(Limits(max_job_bytes=2000))
        with pytest.raises(RefusedError) as refusal:
            world.submit(payload="x" * 2000)
        assert refusal.value.reason == "env.size"

    def test_a_job_for_later_is_not_rung_before(self, world):
        record = world.supervisor.create_and_queue(
            world.envelope(),
            priority=4,
            not_before=world.clock.at + timedelta(seconds=1),
        )
        assert record.status is Status.QUEUED
        assert world.dispatcher.bells == []

    def test_a_job_whose_time_has_come_is_rung_once(self, world):
        world.supervisor.create_and_queue(
            world.envelope(), priority=4, not_before=world.clock.at
        )
        assert len(world.dispatcher.bells) == 1
        assert world.store.due(at=world.clock.at, limit=10) == ()

    def test_start_queues_and_rings(self, world):
        record = world.supervisor.create(world.envelope(), priority=4, not_before=None)
        assert world.supervisor.start(record.summary.id).status is Status.QUEUED
        assert len(world.dispatcher.bells) == 1

    def test_a_job_that_is_queued_is_not_started_again(self, world):
        record = world.submit()
        with pytest.raises(IllegalTransition):
            world.supervisor.start(record.summary.id)

    def test_nothing_is_recorded_while_the_trust_cannot_be_read(self, world):
        world.trust.error = ConfigurationError("the bundle is gone: horus init")
        with pytest.raises(ConfigurationError):
            world.submit()
        assert sum(world.store.counts().values()) == 0


class TestNames:
    def test_a_job_is_found_by_its_id_and_by_its_digest(self, world):
        summary = world.submit().summary
        assert world.supervisor.status(summary.id) == world.supervisor.status(
            summary.digest
        )

    @pytest.mark.parametrize("name", ["", "nobody", "0" * 64, "\x00", "ä" * 64])
    def test_what_nobody_has_is_not_found(self, world, name):
        with pytest.raises(NotFoundError):
            world.supervisor.status(name)

    def test_an_id_of_two_contexts_asks_for_the_digest(self, world):
        one = world.submit(context_id="billing").summary
        two = world.submit(context_id="lab", job_id=one.id).summary
        with pytest.raises(IdAmbiguous) as error:
            world.supervisor.status(one.id)
        assert set(error.value.digests) == {one.digest, two.digest}
        assert world.supervisor.get(two.digest).record.summary == two


class TestProof:
    def test_a_signed_end_is_shown(self, world):
        record = world.claim(world.submit())
        world.settle(record, result="41")
        ending = world.supervisor.result(record.summary.id, wait=AT_ONCE)
        assert ending.record.status is Status.COMPLETED
        assert ending.record.result == "41"

    def test_the_attempt_and_the_runner_are_those_of_the_receipt(self, world):
        record = world.claim(world.submit())
        world.settle(record, event=Event.FAILED, exit_code=3, reason="exit_code")
        shown = world.supervisor.get(record.summary.id).record
        assert (shown.attempt, shown.ran_on) == (1, "r1")

    @pytest.mark.parametrize(
        "signed",
        [
            {"result_text": "other"},
            {"status": "failed"},
            {"reason": "timeout"},
            {"exit_code": 1},
            {"aud": "elsewhere"},
            {"job": "0" * 64},
            {"runner": "r2"},
            {"seq": "first"},
        ],
        ids=lambda signed: next(iter(signed)),
    )
    def test_an_end_that_the_runner_did_not_sign_is_not_believed(self, world, signed):
        record = world.claim(world.submit())
        world.settle(record, result="41", signed=signed)
        shown = world.supervisor.get(record.summary.id).record
        assert (shown.status, shown.reason) == (Status.FAILED, "receipt_mismatch")
        assert shown.result is None

    @pytest.mark.parametrize("key", ["caller", "stranger", "root"])
    def test_only_the_runners_key_signs_an_end(self, world, key):
        record = world.claim(world.submit())
        world.settle(record, signed={"key": getattr(world, key)})
        assert status_of(world, record) == (Status.FAILED, "receipt_mismatch")

    def test_an_end_without_a_receipt_is_not_believed(self, world):
        record = world.claim(world.submit())
        change = Change(event=Event.COMPLETED, at=world.clock.at, result="forged")
        world.store.apply(record.summary.digest, change)
        assert status_of(world, record) == (Status.FAILED, "receipt_mismatch")

    @pytest.mark.parametrize("reason", ["expired", "worker_lost"])
    def test_what_no_runner_can_sign_needs_no_receipt(self, world, reason):
        record = world.submit()
        change = Change(event=Event.FAILED, at=world.clock.at, reason=reason)
        world.store.apply(record.summary.digest, change)
        assert status_of(world, record) == (Status.FAILED, reason)

    def test_but_it_carries_no_result(self, world):
        record = world.submit()
        change = Change(
            event=Event.FAILED, at=world.clock.at, reason="expired", result="forged"
        )
        world.store.apply(record.summary.digest, change)
        assert status_of(world, record) == (Status.FAILED, "receipt_mismatch")

    @pytest.mark.parametrize("event", [Event.REFUSED, Event.STOPPED])
    def test_a_refusal_and_a_stop_are_signed_as_well(self, world, event):
        record = world.submit()
        if event is Event.STOPPED:
            world.claim(record)
            world.supervisor.stop(record.summary.id)
        world.settle(record, event=event, exit_code=None, reason="bind.runner")
        shown = world.supervisor.status(record.summary.id)
        assert shown.is_over
        assert shown.reason == "bind.runner"

    def test_a_record_with_another_jobs_envelope_is_not_believed(self, world):
        victim, other = world.submit(), world.submit(payload="print(2)")
        forged = replace(victim, envelope=other.envelope)
        world.store._entries[victim.summary.digest].record = forged  # noqa: SLF001 - as whoever writes into the store does
        shown = world.supervisor.get(victim.summary.id)
        assert shown.job is None
        assert shown.record.reason == "receipt_mismatch"

    @pytest.mark.parametrize("text", ["", "{}", "no JSON", "\x00"])
    def test_a_record_without_an_envelope_is_not_believed(self, world, text):
        victim = world.submit()
        forged = replace(victim, envelope=text)
        world.store._entries[victim.summary.digest].record = forged  # noqa: SLF001 - as whoever writes into the store does
        assert status_of(world, victim) == (Status.FAILED, "receipt_mismatch")

    def test_a_receipt_is_given_as_the_runner_signed_it(self, world):
        record = world.claim(world.submit())
        assert world.supervisor.receipt(record.summary.id) is None
        world.settle(record)
        envelope = world.supervisor.receipt(record.summary.id)
        assert envelope is not None
        assert json.loads(envelope.body)["job"] == record.summary.digest

    def test_of_a_job_that_was_refused_when_it_came_again_the_last_is_given(
        self, world
    ):
        envelope = world.envelope()
        for event, reason in ((Event.COMPLETED, None), (Event.REFUSED, "claim.replay")):
            record = world.supervisor.create_and_queue(
                envelope, priority=4, not_before=None
            )
            if event is Event.COMPLETED:
                world.claim(record)
            world.settle(record, event=event, reason=reason)
            world.store.retire(record.summary.digest)
        given = world.supervisor.receipt(record.summary.id)
        assert given is not None
        assert json.loads(given.body)["reason"] == "claim.replay"

    def test_what_is_no_receipt_is_not_given_as_one(self, world):
        record = world.claim(world.submit())
        change = Change(event=Event.COMPLETED, at=world.clock.at, receipt="hello")
        world.store.apply(record.summary.digest, change)
        with pytest.raises(ReceiptError):
            world.supervisor.receipt(record.summary.id)


class TestWaiting:
    def test_the_end_of_a_job_wakes_who_waits(self, world):
        record = world.claim(world.submit())
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(world.supervisor.result, record.summary.id, wait=LONG)
            world.settle(record, result="41")
            assert waiting.result(timeout=10).record.result == "41"

    def test_run_returns_what_the_job_gave(self, world):
        envelope = world.envelope()
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(
                world.supervisor.run, envelope, priority=4, not_before=None, wait=LONG
            )
            record = wait_for_a_record(world)
            world.settle(world.claim(record), result="41")
            assert waiting.result(timeout=10).record.result == "41"

    def test_run_of_a_job_that_is_over_returns_at_once(self, world):
        envelope = world.envelope()
        record = world.supervisor.create_and_queue(
            envelope, priority=4, not_before=None
        )
        world.settle(world.claim(record), result="41")
        ending = world.supervisor.run(
            envelope, priority=4, not_before=None, wait=AT_ONCE
        )
        assert ending.record.result == "41"

    def test_without_patience_a_job_is_not_over(self, world):
        record = world.submit()
        with pytest.raises(NotOverError):
            world.supervisor.result(record.summary.id, wait=AT_ONCE)

    def test_patience_ends(self, world):
        record = world.submit()
        with pytest.raises(NotOverError):
            world.supervisor.result(record.summary.id, wait=timedelta(milliseconds=20))

    def test_who_is_sent_away_hears_where_the_job_stands_then(self, world):
        half_a_second = timedelta(milliseconds=500)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(
                world.supervisor.run,
                world.envelope(),
                priority=4,
                not_before=None,
                wait=half_a_second,
            )
            world.claim(wait_for_a_record(world))
            with pytest.raises(NotOverError, match="running still"):
                waiting.result(timeout=10)

    def test_too_many_waiters_are_sent_away_at_once(self, make_world):
        world = make_world(Limits(max_waiters=0))
        record = world.submit()
        with pytest.raises(NotOverError, match="ask again"):
            world.supervisor.result(record.summary.id, wait=LONG)

    def test_a_waiter_that_leaves_makes_room(self, make_world):
        world = make_world(Limits(max_waiters=1))
        record = world.submit()
        for _ in range(3):
            with pytest.raises(NotOverError, match="queued still"):
                world.supervisor.result(
                    record.summary.id, wait=timedelta(milliseconds=5)
                )

    def test_what_is_over_is_answered_although_many_wait(self, make_world):
        world = make_world(Limits(max_waiters=0))
        record = world.settle(world.claim(world.submit()), result="41")
        ending = world.supervisor.result(record.summary.id, wait=LONG)
        assert ending.record.result == "41"

    def test_close_sends_the_waiters_away(self, world):
        record = world.submit()
        with ThreadPoolExecutor() as pool:
            waiting = [
                pool.submit(world.supervisor.result, record.summary.id, wait=LONG),
                pool.submit(world.supervisor.result, record.summary.id, wait=LONG),
            ]
            world.supervisor.close()
            for one in waiting:
                with pytest.raises(NotOverError):
                    one.result(timeout=10)

    def test_a_deleted_job_sends_its_waiters_away(self, world):
        record = world.submit()
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(world.supervisor.result, record.summary.id, wait=LONG)
            world.supervisor.delete(record.summary.id)
            with pytest.raises((NotFoundError, NotOverError)) as error:
                waiting.result(timeout=10)
            assert "expected" not in str(error.value)

    def test_a_store_that_goes_away_ends_the_waiting(self, world):
        record = world.submit()
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(world.supervisor.result, record.summary.id, wait=LONG)
            world.store.is_away = True
            while not waiting.done():
                world.wakes.wake(record.summary.digest)
            with pytest.raises(UnavailableError):
                waiting.result()


class TestEndings:
    def test_a_failure_shows_the_end_of_its_error_output(self, world):
        record = world.claim(world.submit())
        world.print(record, "out")
        world.print(record, "first", "last", stream=Stream.STDERR)
        world.settle(record, event=Event.FAILED, exit_code=3, reason="exit_code")
        ending = world.supervisor.result(record.summary.id, wait=AT_ONCE)
        assert ending.stderr_tail == "first\nlast"

    def test_the_end_of_the_error_output_is_short(self, world):
        record = world.claim(world.submit())
        lines = [f"line {number}" for number in range(2500)]
        world.print(record, *lines, stream=Stream.STDERR)
        world.print(record, "x" * 10, stream=Stream.STDOUT)
        world.settle(record, event=Event.FAILED, exit_code=3, reason="exit_code")
        tail = world.supervisor.result(record.summary.id, wait=AT_ONCE).stderr_tail
        assert len(tail) <= MAX_TAIL
        assert tail.endswith("line 2498\nline 2499")
        assert tail.startswith("line ")

    def test_of_a_log_without_reasonable_end_nothing_is_shown(self, world):
        record = world.claim(world.submit())
        world.print(record, *["x"] * 50_000, stream=Stream.STDERR)
        world.settle(record, event=Event.FAILED, exit_code=3, reason="exit_code")
        ending = world.supervisor.result(record.summary.id, wait=AT_ONCE)
        assert ending.stderr_tail == ""

    def test_of_one_long_line_the_end_is_shown(self, world):
        record = world.claim(world.submit())
        world.print(record, "a" * 5000 + "z", stream=Stream.STDERR)
        world.settle(record, event=Event.FAILED, exit_code=3, reason="exit_code")
        tail = world.supervisor.result(record.summary.id, wait=AT_ONCE).stderr_tail
        assert len(tail) == MAX_TAIL
        assert tail.endswith("az")


class TestLogs:
    def read(self, world, record, **changes):
        asked = {"after": None, "limit": 1000, "wait": AT_ONCE, **changes}
        return world.supervisor.logs(record.summary.id, **asked)

    def test_pages_follow_each_other_to_the_end(self, world):
        record = world.claim(world.submit())
        world.print(record, "a", "b", "c")
        world.settle(record)
        first = self.read(world, record, limit=2)
        assert [line.text for line in first.lines] == ["a", "b"]
        assert not first.ended
        rest = self.read(world, record, limit=2, after=first.next)
        assert [line.text for line in rest.lines] == ["c"]
        assert rest.ended
        beyond = self.read(world, record, after=rest.next)
        assert (list(beyond.lines), beyond.next, beyond.ended) == ([], rest.next, True)

    def test_a_full_last_page_does_not_say_that_it_is_the_last(self, world):
        record = world.claim(world.submit())
        world.print(record, "a", "b")
        world.settle(record)
        page = self.read(world, record, limit=2)
        assert not page.ended
        assert self.read(world, record, limit=2, after=page.next).ended

    def test_while_the_job_runs_a_log_has_not_ended(self, world):
        record = world.claim(world.submit())
        world.print(record, "a")
        assert not self.read(world, record).ended

    def test_lines_wake_who_waits_for_them(self, world):
        record = world.claim(world.submit())
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(self.read, world, record, wait=LONG)
            world.print(record, "hello")
            page = waiting.result(timeout=10)
        assert [line.text for line in page.lines] == ["hello"]

    def test_the_end_wakes_who_waits_for_lines(self, world):
        record = world.claim(world.submit())
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(self.read, world, record, wait=LONG)
            world.settle(record)
            page = waiting.result(timeout=10)
        assert page.ended

    def test_without_lines_patience_ends_with_an_empty_page(self, world):
        record = world.claim(world.submit())
        page = self.read(world, record, wait=timedelta(milliseconds=5))
        assert (list(page.lines), page.next, page.ended) == ([], None, False)

    def test_close_sends_who_waits_for_lines_away(self, world):
        record = world.claim(world.submit())
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(self.read, world, record, wait=LONG)
            world.supervisor.close()
            assert not waiting.result(timeout=10).ended


class TestWhy:
    def gate(self, world, record):
        holdup = world.supervisor.why(record.summary.id)
        assert holdup.detail
        return holdup.gate

    def test_a_created_job_waits_for_its_start(self, world):
        record = world.supervisor.create(world.envelope(), priority=4, not_before=None)
        assert self.gate(world, record) == "start"

    def test_a_job_for_later_waits_for_its_time(self, world):
        record = world.supervisor.create_and_queue(
            world.envelope(),
            priority=4,
            not_before=world.clock.at + timedelta(hours=1),
        )
        assert self.gate(world, record) == "not_before"

    def test_without_a_runner_a_job_waits_for_one(self, world):
        record = world.submit()
        assert self.gate(world, record) == "runner"

    @pytest.mark.parametrize(
        "beat",
        [
            {"executors": ("system",)},
            {"contexts": ("lab",)},
            {"name": "r2"},
        ],
        ids=["another executor", "another context", "another name"],
    )
    def test_a_runner_that_may_not_take_it_is_none(self, world, beat):
        record = world.submit(runner="r1")
        world.beat(**beat)
        assert self.gate(world, record) == "runner"

    def test_a_runner_that_is_lost_is_named_with_its_last_beat(self, world):
        record = world.submit(runner="r1")
        world.beat()
        last = world.clock.at
        world.clock.at += timedelta(minutes=1)
        holdup = world.supervisor.why(record.summary.id)
        assert (holdup.gate, holdup.since) == ("runner", last)
        assert "r1" in holdup.detail

    def test_a_runner_that_takes_no_jobs_now_is_named(self, world):
        record = world.submit()
        world.beat(phase=Phase.STARTING)
        holdup = world.supervisor.why(record.summary.id)
        assert holdup.gate == "runner"
        assert "r1 is there, but takes no jobs now" in holdup.detail
        world.beat()
        assert self.gate(world, record) == "queue"

    def test_where_runners_serve_other_contexts_the_jobs_own_is_named(self, world):
        record = world.submit()
        world.beat(contexts=("another",))
        holdup = world.supervisor.why(record.summary.id)
        context = record.summary.context_id
        assert holdup.gate == "runner"
        assert f"a runner of python for the context {context}," in holdup.detail
        # Who is bound to contexts is told nothing of what is there for others.
        bound = world.supervisor.within(frozenset({context}))
        assert "any runner of python" in bound.why(record.summary.id).detail

    def test_behind_others_a_job_waits_in_the_queue(self, world):
        world.beat()
        for priority in (4, 0, 9):
            world.submit(priority=priority)
            world.clock.at += timedelta(milliseconds=10)
        record = world.submit(priority=4)
        holdup = world.supervisor.why(record.summary.id)
        assert holdup.gate == "queue"
        assert holdup.detail.startswith("2 jobs ")

    def test_while_all_slots_are_taken_a_job_waits_for_one(self, world):
        world.beat(concurrency=2)
        running = [world.claim(world.submit()) for _ in range(2)]
        record = world.submit()
        holdup = world.supervisor.why(record.summary.id)
        assert holdup.gate == "queue"
        assert holdup.detail == (
            "0 jobs wait before it in the queue python;"
            " 2 of the 2 slots of r1 are taken"
        )
        world.settle(running[0])
        detail = world.supervisor.why(record.summary.id).detail
        assert detail.endswith("; 1 of the 2 slots of r1 are taken")

    def test_of_several_runners_the_slots_of_those_that_take_jobs_count(self, world):
        world.claim(world.submit())
        record = world.submit()
        beats = [
            RunnerBeat(
                name=name,
                executors=("python",),
                contexts=("*",),
                concurrency=concurrency,
                phase=phase,
                at=world.clock.at,
                host="here",
                pid=1,
            )
            for name, concurrency, phase in (
                ("r1", 2, Phase.RUNNING),
                ("r2", 3, Phase.RUNNING),
                ("r3", 4, Phase.STARTING),
            )
        ]
        heard = {beat.name: beat for beat in beats}
        roll = Roll(at=world.clock.at, beats=heard, removed=frozenset())
        holdup = holdup_of(
            record,
            store=world.store,
            roster=cast("Roster", SimpleNamespace(look=lambda: roll)),
            trust=world.trust.current(),
            now=world.clock.at,
        )
        assert holdup.detail.endswith("; 1 of the 5 slots of its 2 runners are taken")

    def test_a_slot_that_a_foreign_job_takes_is_not_shown_as_taken(self, world):
        world.beat(concurrency=2)
        for context in ("billing", "lab"):
            world.claim(world.submit(context_id=context))
        record = world.submit(context_id="lab")
        bound = world.supervisor.within(frozenset({"lab"}))
        detail = bound.why(record.summary.id).detail
        assert detail.endswith(
            "; 1 of the 2 slots of r1 are taken by jobs that you may see"
        )

    def test_a_running_job_is_held_by_its_runner(self, world):
        record = world.claim(world.submit())
        holdup = world.supervisor.why(record.summary.id)
        assert holdup.gate == "running"
        assert "r1" in holdup.detail

    def test_a_stopping_job_is_held_until_its_end(self, world):
        record = world.claim(world.submit())
        world.supervisor.stop(record.summary.id)
        assert self.gate(world, record) == "stopping"

    def test_what_ended_a_job_is_told(self, world):
        record = world.claim(world.submit())
        world.settle(record, event=Event.FAILED, exit_code=3, reason="exit_code")
        holdup = world.supervisor.why(record.summary.id)
        assert (holdup.gate, holdup.detail) == ("exit_code", "failed: exit_code 3")

    def test_a_completed_job_is_held_by_nothing(self, world):
        record = world.settle(world.claim(world.submit()))
        assert self.gate(world, record) == "completed"


class TestOut:
    @pytest.mark.parametrize("queue", [True, False])
    def test_a_job_that_does_not_run_is_stopped_at_once(self, world, queue):
        add = world.supervisor.create_and_queue if queue else world.supervisor.create
        record = add(world.envelope(), priority=4, not_before=None)
        stopped = world.supervisor.stop(record.summary.id)
        assert stopped.status is Status.STOPPED
        assert world.supervisor.stop(record.summary.id) == stopped

    def test_a_running_job_is_asked_to_stop(self, world):
        record = world.claim(world.submit())
        assert world.supervisor.stop(record.summary.id).status is Status.STOPPING
        assert world.supervisor.stop(record.summary.id).status is Status.STOPPING

    def test_stopping_what_is_over_changes_nothing(self, world):
        record = world.settle(world.claim(world.submit()))
        assert world.supervisor.stop(record.summary.id) == record

    @pytest.mark.parametrize("is_over", [True, False])
    def test_a_deleted_job_is_gone(self, world, is_over):
        record = world.submit()
        if is_over:
            world.settle(world.claim(record))
        world.supervisor.delete(record.summary.id)
        with pytest.raises(NotFoundError):
            world.supervisor.status(record.summary.id)

    def test_a_running_job_is_stopped_before_it_is_deleted(self, world):
        record = world.claim(world.submit())
        asked = threading.Event()

        def end_it() -> None:
            with world.wakes.watch(record.summary.digest) as watch:
                asked.set()
                while world.store.get(record.summary.digest).status is Status.RUNNING:
                    watch.wait(LONG)
            world.settle(record, event=Event.STOPPED, exit_code=None)

        with ThreadPoolExecutor() as pool:
            ended = pool.submit(end_it)
            assert asked.wait(10)
            world.supervisor.delete(record.summary.id)
            ended.result(timeout=10)
        with pytest.raises(NotFoundError):
            world.supervisor.status(record.summary.id)


class TestLists:
    def test_jobs_are_listed_newest_first_and_page_by_page(self, world):
        ids = []
        for _ in range(5):
            ids.append(world.submit().summary.id)
            world.clock.at += timedelta(milliseconds=10)
        first = world.supervisor.list(Filter(), limit=2)
        assert [shown.record.summary.id for shown in first] == [ids[4], ids[3]]
        rest = world.supervisor.list(Filter(), limit=10, after=ids[3])
        assert [shown.record.summary.id for shown in rest] == [ids[2], ids[1], ids[0]]

    def test_a_list_believes_no_more_than_a_single_look(self, world):
        record = world.claim(world.submit())
        world.settle(record, signed={"key": world.stranger})
        (shown,) = world.supervisor.list(Filter(), limit=10)
        assert shown.record.reason == "receipt_mismatch"

    def test_behind_an_unknown_job_there_is_nothing(self, world):
        with pytest.raises(NotFoundError):
            world.supervisor.list(Filter(), limit=10, after="nobody")


class TestInfo:
    def test_it_tells_counts_and_queues(self, world):
        world.beat()
        world.submit()
        world.submit(runner="r1")
        world.clock.at += timedelta(seconds=3)
        info = world.supervisor.info()
        assert info.namespace == "hero"
        assert info.uptime == timedelta(seconds=3)
        assert info.counts[Status.QUEUED] == 2
        assert info.queues == {"python": 1, "python.at.r1": 1}

    def test_jobs_that_nobody_serves_stand_in_a_queue_as_well(self, world):
        world.submit(runner="nobody")
        world.submit()
        served = {"python": 1, "python.at.r1": 0}
        assert world.supervisor.info().queues == {**served, "python.at.nobody": 1}

    def test_it_is_told_also_without_trust(self, world):
        world.trust.error = ConfigurationError("the bundle is gone")
        assert world.supervisor.info().queues == {}


def test_every_conflict_is_told_apart(world):
    record = world.settle(world.claim(world.submit()))
    with pytest.raises(ConflictError):
        world.supervisor.start(record.summary.digest)


def wait_for_a_record(world):
    """Return the record that another thread is about to add."""
    deadline = threading.Event()
    for _ in range(1000):
        if records := world.store.list(Filter(), limit=1):
            return records[0]
        deadline.wait(0.01)
    raise AssertionError("nothing was recorded")
