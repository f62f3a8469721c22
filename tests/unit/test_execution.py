import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from horus_celery import admission
from horus_celery.dispatch import MemoryDispatcher
from horus_celery.errors import (
    ConfigurationError,
    DamagedError,
    HorusError,
    IllegalTransition,
    UnavailableError,
)
from horus_celery.execution import (
    Node,
    Outcome,
    Unsent,
    deliver,
    execute,
    give_up,
    own_entry,
)
from horus_celery.instants import to_ms
from horus_celery.journal import Journal, ProcessMark, process_mark
from horus_celery.lifecycle import Event, Status
from horus_celery.proof import prove
from horus_celery.record import LEASE, Change
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import InputRef, make_job
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.receipt import (
    Expected,
    OutputDigest,
    Receipt,
    check_receipt,
)
from horus_celery.statements.trust import Trust
from horus_celery.store.base import Chunk, Stream
from horus_celery.store.memory import MemoryLogs, MemoryStore, MemoryWakes

ALICE, RUNNER, OTHER = (KeyPair.from_seed(bytes([n]) * 32) for n in (1, 2, 3))
ANOTHER_RESULT = InputRef.from_wire({"from": "0" * 64, "max_bytes": 1})
PRINTED = OutputDigest.of(b"42\n")


class Bundle:
    """A trust bundle that a test may change."""

    def __init__(self, clock):
        self.body = {
            "v": 1,
            "aud": "hero",
            "version": 1,
            "issued_at": to_ms(clock.at),
            "expires_at": to_ms(clock.at + timedelta(days=30)),
            "keys": {one.keyid: one.public.hex() for one in (ALICE, RUNNER, OTHER)},
            "grants": [
                {
                    "context_id": "billing",
                    "caller_id": "alice",
                    "keys": [ALICE.keyid],
                    "threshold": 1,
                    "executors": ["*"],
                    "nets": ["none"],
                    "max_timeout": 3600,
                    "secrets": ["token"],
                }
            ],
            "runners": [
                {
                    "name": "first",
                    "key": RUNNER.keyid,
                    "executors": ["python"],
                    "contexts": ["billing"],
                }
            ],
        }

    def current(self):
        return Trust.from_wire(self.body)


class Running:
    """An executor that gives the outcome it is told and remembers what it ran."""

    def __init__(self):
        self.ran = []
        self.outcome = Outcome(
            event=Event.COMPLETED,
            exit_code=0,
            stdout=PRINTED,
            result="42\n",
            sandbox="plain",
        )
        self.meanwhile = lambda: None

    def run(self, assignment, node):
        self.ran.append(assignment)
        self.meanwhile()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class World:
    """A runner with a store and a journal, all in memory."""

    def __init__(self, clock):
        self.clock = clock
        self.bundle = Bundle(clock)
        self.executor = Running()
        self.journal = Journal(":memory:")
        wakes = MemoryWakes()
        logs = MemoryLogs(wakes)
        self.store = MemoryStore(wakes=wakes, logs=logs)
        self.node = Node(
            name="first",
            aud="hero",
            executors={"python": self.executor},
            key=RUNNER,
            trust=self.bundle,
            journal=self.journal,
            store=self.store,
            logs=logs,
            wakes=wakes,
            clock=clock,
            rooms=Path("/nowhere"),
            software="test",
        )

    def queue(self, *, key=ALICE, envelope=None, priority=4, not_before=None, **facts):
        """Record a job as the supervisor does, or with another envelope."""
        usual = {
            "aud": "hero",
            "caller_id": "alice",
            "context_id": "billing",
            "executor": "python",
            "payload": "print(42)",
            "now": self.clock.at,
        }
        job = make_job(**{**usual, **facts})
        signed = dsse.sign(dsse.JOB, job.body(), [key])
        summary = admission.summary(
            admission.Admitted(
                job=job, digest=signed.digest, envelope="", signed_by=(key.keyid,)
            )
        )
        return self.store.add(
            summary,
            dsse.to_json(signed) if envelope is None else envelope,
            at=self.clock.at,
            priority=priority,
            not_before=not_before,
            queue="python",
        )

    def ring(self, record):
        execute(record.summary.id, self.node)
        return self.store.get(record.summary.digest)

    def requeue(self, record):
        digest = record.summary.digest
        at = self.clock.advance(seconds=1)
        self.store.apply(digest, Change(event=Event.REQUEUED, at=at))

    def receipt(self, record):
        envelope = dsse.read(record.receipt, dsse.RECEIPT)
        assert dsse.signers(envelope, {RUNNER.keyid: RUNNER.public})
        return Receipt.from_wire(canonical.parse(envelope.body))


@pytest.fixture
def world(clock):
    made = World(clock)
    yield made
    made.journal.close()


def test_a_queued_job_is_run_and_its_record_says_so(world):
    record = world.ring(world.queue())
    assert record.status is Status.COMPLETED
    assert (record.result, record.exit_code, record.attempt) == ("42\n", 0, 1)
    assert record.ran_on == "first"
    assert [one.job.payload for one in world.executor.ran] == ["print(42)"]


def test_the_receipt_proves_what_the_record_says(world):
    record = world.ring(world.queue())
    job = world.executor.ran[0].job
    receipt = check_receipt(
        record.receipt,
        trust=world.bundle.current(),
        expected=Expected(
            digest=record.summary.digest,
            job_id=job.id,
            aud=job.aud,
            executor=job.executor,
            context_id=job.context_id,
            runner=job.runner,
        ),
    )
    assert receipt.status == "completed"
    assert receipt.result.sha256 == hashlib.sha256(b"42\n").hexdigest()
    assert receipt.stdout == PRINTED
    assert receipt.started_at == record.started_at
    assert receipt.ended_at == record.ended_at
    assert (receipt.sandbox, receipt.software) == ("plain", "test")


def test_receipts_are_chained(world):
    first, second = (world.ring(world.queue()) for _ in range(2))
    assert world.receipt(first).prev is None
    digest = dsse.read(first.receipt, dsse.RECEIPT).digest
    assert world.receipt(second).prev == digest
    assert world.receipt(second).seq == world.receipt(first).seq + 1


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome(event=Event.FAILED, reason="exit_code", exit_code=3), Status.FAILED),
        (Outcome(event=Event.FAILED, reason="timeout", exit_code=137), Status.FAILED),
    ],
)
def test_a_failure_is_settled_with_its_reason(world, outcome, status):
    world.executor.outcome = outcome
    record = world.ring(world.queue())
    assert (record.status, record.reason) == (status, outcome.reason)
    assert world.receipt(record).exit_code == outcome.exit_code


def test_an_executor_that_breaks_fails_the_job_without_a_word_of_its_error(world):
    world.executor.outcome = RuntimeError("PAYLOAD")
    record = world.ring(world.queue())
    assert (record.status, record.reason) == (Status.FAILED, "executor")
    assert "PAYLOAD" not in repr(record)


def test_the_lease_begins_with_the_claim(world):
    queued = world.queue()

    def look():
        world.clock.advance(seconds=LEASE.total_seconds())
        assert world.store.abandoned(at=world.clock.at, limit=1) == ()
        world.clock.advance(seconds=1)
        assert world.store.abandoned(at=world.clock.at, limit=1) == (
            queued.summary.digest,
        )

    world.executor.meanwhile = look
    assert world.ring(queued).status is Status.COMPLETED


def test_a_second_bell_changes_nothing(world):
    record = world.ring(world.queue())
    assert world.ring(record) == record
    assert len(world.executor.ran) == 1


def test_a_bell_while_the_job_runs_changes_nothing(world):
    queued = world.queue()
    world.executor.meanwhile = lambda: execute(queued.summary.id, world.node)
    assert world.ring(queued).status is Status.COMPLETED
    assert len(world.executor.ran) == 1


@pytest.mark.parametrize("text", ["", "x", "../../etc", "a" * 36, "\n"])
def test_a_bell_for_no_job_id_changes_nothing(world, text):
    world.queue()
    execute(text, world.node)
    assert world.executor.ran == []


def test_a_bell_for_an_unknown_job_changes_nothing(world):
    execute("0b5e8d6e-6f3c-4c8f-9a53-6a7f0f6f2f11", world.node)
    assert world.journal.undelivered("first") == []


@pytest.mark.parametrize(
    "facts",
    [{"executor": "system"}, {"runner": "second"}, {"context_id": "payroll"}],
    ids=str,
)
def test_a_job_of_others_is_left_to_them(world, facts):
    record = world.ring(world.queue(**facts))
    assert record.status is Status.QUEUED
    assert record.receipt is None


def test_a_job_is_not_started_before_its_time(world):
    later = world.clock.at + timedelta(minutes=1)
    queued = world.queue(not_before=later)
    assert world.ring(queued).status is Status.QUEUED
    world.clock.advance(minutes=1)
    assert world.ring(queued).status is Status.COMPLETED


def test_of_two_contexts_with_one_id_both_get_their_turn(world):
    first = world.queue()
    world.bundle.body["runners"][0]["contexts"] = ["*"]
    second = world.queue(job_id=first.summary.id, context_id="payroll")
    assert world.ring(first).status is Status.COMPLETED
    assert world.ring(second).status is Status.REJECTED
    assert world.store.get(second.summary.digest).reason == "auth.context"


# --- refusals ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"key": OTHER}, "auth.key"),
        ({"key": KeyPair.from_seed(b"9" * 32)}, "sig.none"),
        ({"aud": "elsewhere"}, "bind.aud"),
        ({"timeout": timedelta(hours=2)}, "auth.timeout"),
        ({"net": "host"}, "auth.net"),
        ({"secrets": ["other"]}, "auth.secrets"),
        ({"secrets": ["token"]}, "auth.secrets"),
        ({"needs": ["0" * 64]}, "input.missing"),
        ({"inputs": {"A": ANOTHER_RESULT}}, "input.missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_may_not_run_is_rejected_with_a_receipt(world, facts, reason):
    record = world.ring(world.queue(**facts))
    assert (record.status, record.reason) == (Status.REJECTED, reason)
    assert world.executor.ran == []
    receipt = world.receipt(record)
    assert (receipt.status, receipt.reason, receipt.attempt) == ("rejected", reason, 0)
    assert receipt.job == record.summary.digest
    assert receipt.started_at is None


def test_a_job_that_expired_while_it_waited_is_rejected(world):
    queued = world.queue()
    world.clock.advance(days=1)
    assert world.ring(queued).reason == "time.expired"


def test_an_expired_bundle_refuses_everything(world):
    world.bundle.body["expires_at"] = to_ms(world.clock.at)
    assert world.ring(world.queue()).reason == "sig.none"
    assert world.executor.ran == []


def test_an_altered_envelope_is_not_run_and_gets_no_receipt(world):
    usual = world.queue()
    other = make_job(
        aud="hero",
        caller_id="alice",
        context_id="billing",
        executor="python",
        payload="print('other')",
        now=world.clock.at,
    )
    text = dsse.to_json(dsse.sign(dsse.JOB, other.body(), [ALICE]))
    record = world.ring(world.queue(envelope=text, payload="x"))
    assert (record.status, record.reason) == (Status.REJECTED, "env.shape")
    assert record.receipt is None
    assert world.executor.ran == []
    assert world.ring(usual).status is Status.COMPLETED


def test_altered_bytes_under_an_old_signature_are_rejected(world):
    queued = world.queue()
    envelope = json.loads(queued.envelope)
    evil = make_job(
        aud="hero",
        caller_id="alice",
        context_id="billing",
        executor="python",
        payload="evil",
        now=world.clock.at,
    )
    forged = dsse.Envelope(
        dsse.JOB, evil.body(), dsse.from_wire(envelope, dsse.JOB).signatures
    )
    summary = replace(queued.summary, id=evil.id, digest=forged.digest)
    record = world.store.add(
        summary,
        dsse.to_json(forged),
        at=world.clock.at,
        priority=4,
        not_before=None,
        queue="python",
    )
    assert world.ring(record).reason == "sig.none"
    assert world.executor.ran == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "json.syntax"), ("{}", "env.fields"), ("\ud800", "json.syntax")],
)
def test_what_cannot_be_read_is_rejected_with_a_receipt_about_those_bytes(
    world, text, reason
):
    record = world.ring(world.queue(envelope=text))
    assert (record.status, record.reason) == (Status.REJECTED, reason)
    raw = text.encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(b"horus-unreadable-v1\0" + raw).hexdigest()
    assert world.receipt(record).job == digest


# --- the journal ---------------------------------------------------------------


def test_a_job_is_started_no_more_often_than_it_allows(world):
    queued = world.queue(attempts=2)
    world.executor.meanwhile = lambda: world.requeue(queued)
    world.ring(queued)
    world.ring(queued)
    record = world.ring(queued)
    assert len(world.executor.ran) == 2
    assert (record.status, record.reason) == (Status.REJECTED, "claim.replay")


def test_what_the_journal_knows_counts_when_the_store_has_forgotten(world):
    record = world.ring(world.queue())
    assert again(world, record).reason == "claim.replay"
    assert len(world.executor.ran) == 1


def again(world, record):
    """Record a job once more, as if the store had never had it."""
    world.store.delete(record.summary.digest)
    world.store.add(
        record.summary,
        record.envelope,
        at=world.clock.at,
        priority=4,
        not_before=None,
        queue="python",
    )
    return world.ring(record)


def test_the_receipt_of_a_claim_that_is_refused_is_about_its_job(world):
    record = world.ring(world.queue())
    refused = again(world, record)
    receipt = world.receipt(refused)
    assert (receipt.job, receipt.reason) == (record.summary.digest, "claim.replay")
    shown = prove(refused, world.bundle.current()).record
    assert (shown.status, shown.reason) == (Status.REJECTED, "claim.replay")


def test_a_clock_that_is_set_back_a_day_brings_nothing_back(world):
    record = world.ring(world.queue())
    set_back = world.clock.at
    world.clock.advance(days=3)
    world.journal.sweep(world.clock.at)
    world.clock.at = set_back
    assert again(world, record).reason == "claim.floor"
    assert len(world.executor.ran) == 1


def test_another_job_under_a_known_id_is_rejected(world):
    record = world.ring(world.queue())
    world.store.delete(record.summary.digest)
    other = world.queue(job_id=record.summary.id, payload="other")
    assert world.ring(other).reason == "claim.id_conflict"


def test_a_job_that_runs_in_another_process_is_left_alone(world):
    queued = world.queue(attempts=3)
    summary = queued.summary
    world.journal.claim(
        digest=summary.digest,
        context_id=summary.context_id,
        job_id=summary.id,
        attempts=3,
        expires_at=summary.expires_at,
        now=world.clock.at,
        process=process_mark(),
    )
    record = world.ring(queued)
    assert (record.status, record.receipt) == (Status.QUEUED, None)


def test_a_job_that_was_stopped_never_starts_again(world):
    queued = world.queue(attempts=3)
    world.executor.outcome = Outcome(event=Event.STOPPED, exit_code=143)

    def stop():
        asked = Change(event=Event.STOP_ASKED, at=world.clock.at)
        world.store.apply(queued.summary.digest, asked)

    world.executor.meanwhile = stop
    record = world.ring(queued)
    assert (record.status, world.receipt(record).status) == (Status.STOPPED, "stopped")
    world.store.delete(record.summary.digest)
    again = world.store.add(
        record.summary,
        record.envelope,
        at=world.clock.at,
        priority=4,
        not_before=None,
        queue="python",
    )
    assert world.ring(again).reason == "claim.stopped"


class LosingStore(MemoryStore):
    """A store where somebody else is always faster."""

    def apply(self, digest, change):
        if change.event is Event.CLAIMED:
            raise IllegalTransition("running", change.event)
        return super().apply(digest, change)


def test_a_race_that_is_lost_costs_no_attempt(world):
    world.store = LosingStore()
    world.node = replace(world.node, store=world.store)
    queued = world.queue()
    assert world.ring(queued).status is Status.QUEUED
    winner = MemoryStore()
    world.node = replace(world.node, store=winner)
    winner.add(
        queued.summary,
        queued.envelope,
        at=world.clock.at,
        priority=4,
        not_before=None,
        queue="python",
    )
    execute(queued.summary.id, world.node)
    assert winner.get(queued.summary.digest).status is Status.COMPLETED


# --- processes that died --------------------------------------------------------

DEAD = ProcessMark(pid=2**22 - 1, started=1, boot="another")


def die_with(world, queued, **marks):
    """Let a process claim a job and die; return the record that it leaves."""
    summary = queued.summary
    world.clock.advance(seconds=1)
    start = world.journal.claim(
        digest=summary.digest,
        context_id=summary.context_id,
        job_id=summary.id,
        attempts=summary.attempts,
        expires_at=summary.expires_at,
        now=world.clock.at,
        process=DEAD,
    )
    claimed = {"attempt": start, "ran_on": "first", **marks}
    change = Change(event=Event.CLAIMED, at=world.clock.at, **claimed)
    return world.store.apply(summary.digest, change)


def test_a_job_of_a_dead_process_is_queued_and_rung_at_once(world):
    record = die_with(world, world.queue(attempts=2))
    dispatcher = MemoryDispatcher(world.clock)
    assert give_up(world.node, dispatcher) == 1
    assert dispatcher.bells == [(record.summary.id, "python", 4)]
    assert world.ring(record).status is Status.COMPLETED
    assert give_up(world.node, dispatcher) == 0


def test_a_job_of_a_dead_process_that_has_no_attempts_left_fails(world):
    record = die_with(world, world.queue())
    dispatcher = MemoryDispatcher(world.clock)
    give_up(world.node, dispatcher)
    over = world.store.get(record.summary.digest)
    assert (over.status, over.reason) == (Status.FAILED, "worker_lost")
    assert dispatcher.bells == []


def test_what_another_start_or_another_runner_holds_is_left_to_it(world):
    others = die_with(world, world.queue(attempts=3), ran_on="second")
    later = die_with(world, world.queue(attempts=3))
    world.requeue(later)
    at = world.clock.advance(seconds=1)
    claimed = Change(event=Event.CLAIMED, at=at, attempt=2, ran_on="first")
    world.store.apply(later.summary.digest, claimed)
    assert give_up(world.node, MemoryDispatcher(world.clock)) == 0
    for record in (others, later):
        assert world.store.get(record.summary.digest).status is Status.RUNNING


def test_a_dead_process_of_a_job_that_is_gone_is_looked_at_once(world):
    record = die_with(world, world.queue())
    world.store.apply(
        record.summary.digest, Change(event=Event.FAILED, at=world.clock.at)
    )
    world.store.delete(record.summary.digest)
    assert give_up(world.node, MemoryDispatcher(world.clock)) == 0
    assert world.journal.orphans() == []


class FullJournal(Journal):
    """A journal on a disk that is full for the next few writes of some kind."""

    def __init__(self):
        super().__init__(":memory:")
        self.full = {}

    def _refuse(self, kind):
        left = self.full.get(kind, 0)
        self.full[kind] = left - 1
        if left > 0:
            raise UnavailableError("no room")

    def settle(self, **facts):
        self._refuse("settle")
        return super().settle(**facts)

    def stop(self, *facts):
        self._refuse("stop")
        super().stop(*facts)

    def release(self, *facts):
        self._refuse("release")
        super().release(*facts)


@pytest.fixture
def full(world):
    world.journal = FullJournal()
    world.node = replace(world.node, journal=world.journal)
    yield world.journal
    world.journal.close()


def test_an_end_that_cannot_be_written_is_written_when_there_is_room(world, full):
    full.full = {"settle": 1}
    queued = world.queue()
    world.executor.meanwhile = lambda: world.clock.advance(seconds=20)
    with capture_logs() as logs:
        record = world.ring(queued)
    assert (record.status, record.result) == (Status.COMPLETED, "42\n")
    assert [line["event"] for line in logs] == ["runner degraded"]
    assert full.orphans() == []


def test_a_stop_that_cannot_be_written_is_not_forgotten(world, full):
    full.full = {"stop": 1}
    world.executor.outcome = Outcome(event=Event.STOPPED, exit_code=143)
    queued = world.queue(attempts=3)
    asked = Change(event=Event.STOP_ASKED, at=world.clock.at)
    world.executor.meanwhile = lambda: world.store.apply(queued.summary.digest, asked)
    record = world.ring(queued)
    assert record.status is Status.STOPPED
    assert again(world, record).reason == "claim.stopped"


def test_a_claim_that_cannot_be_taken_back_yet_is_taken_back_later(world, full):
    full.full = {"release": 1}
    world.node = replace(world.node, store=LosingStore())
    world.node.store.add(
        (queued := world.queue()).summary,
        queued.envelope,
        at=world.clock.at,
        priority=4,
        not_before=None,
        queue="python",
    )
    execute(queued.summary.id, world.node)
    world.node = replace(world.node, store=world.store)
    assert world.ring(queued).status is Status.COMPLETED


# --- Redis away, own files wrong -----------------------------------------------


def test_a_store_that_is_away_loses_no_receipt(world):
    queued = world.queue()

    def leave():
        world.store.is_away = True

    world.executor.meanwhile = leave
    execute(queued.summary.id, world.node)
    with pytest.raises(UnavailableError):
        deliver(world.node)
    world.store.is_away = False
    assert world.store.get(queued.summary.digest).status is Status.RUNNING
    deliver(world.node)
    record = world.store.get(queued.summary.digest)
    assert (record.status, record.result) == (Status.COMPLETED, "42\n")
    assert world.receipt(record).status == "completed"
    assert world.journal.undelivered("first") == []


def said(world, *texts, ms=0):
    """Make a chunk of each text, all of one moment."""
    at = world.clock.at + timedelta(milliseconds=ms)
    return tuple(Chunk(at=at, stream=Stream.STDOUT, data=text) for text in texts)


def keep_lines(world, *, before, chunks):
    """Run a job whose log took some chunks and not the others, and return its record.

    The executor's outcome is as if the store had been away when the script ended.
    """
    world.executor.outcome = replace(
        world.executor.outcome, unsent=Unsent(before=before, chunks=chunks)
    )
    record = world.ring(world.queue())
    assert record.status is Status.RUNNING
    return record


def log_of(world, record):
    lines = world.node.logs.read(record.summary.digest, after=None, limit=1000)
    return [line.text for line in lines]


def test_lines_that_were_kept_are_there_when_the_job_ends(world):
    before = said(world, b"1\n")
    raw = (b"a\r\n", b"b\n", b"\n", b"\xff no newline")
    chunks = (*said(world, *raw, ms=1), *said(world, b" at all", ms=1))
    record = keep_lines(world, before=before, chunks=chunks)
    world.node.logs.append(record.summary.digest, before)
    ends = []

    class Watching(MemoryLogs):
        def append(self, digest, chunks):
            ends.append(world.store.get(digest).status)
            world.node.logs.append(digest, chunks)

        def read(self, digest, *, after, limit):
            return world.node.logs.read(digest, after=after, limit=limit)

    deliver(replace(world.node, logs=Watching()))
    assert ends == [Status.RUNNING]
    assert world.store.get(record.summary.digest).status is Status.COMPLETED
    shown = ["1", "a\r", "b", "", "\ufffd no newline", " at all"]
    assert log_of(world, record) == shown


@pytest.mark.parametrize("there", range(6))
def test_lines_whose_answer_was_lost_are_not_said_twice(world, there):
    same = said(world, *[b"y\n"] * 5)
    record = keep_lines(world, before=same[:2], chunks=same[2:])
    # At least what the runner was told about.
    world.node.logs.append(record.summary.digest, same[: max(2, there)])
    deliver(world.node)
    assert log_of(world, record) == ["y"] * 5


@pytest.mark.parametrize("there", range(5))
def test_lines_find_their_place_behind_those_of_an_earlier_start(world, there):
    first = said(world, *[b"y\n"] * 3)
    second = (*said(world, b"y\n", ms=1), *said(world, *[b"y\n"] * 3, ms=2))
    record = keep_lines(world, before=second[:2], chunks=second[2:])
    world.node.logs.append(record.summary.digest, [*first, *second[: max(2, there)]])
    deliver(world.node)
    assert log_of(world, record) == ["y"] * 7


def test_a_log_that_was_emptied_gets_the_rest(world):
    before = said(world, b"1\n", b"2\n")
    record = keep_lines(world, before=before, chunks=said(world, b"3\n", ms=1))
    deliver(world.node)
    assert log_of(world, record) == ["3"]


class DamagedStore(MemoryStore):
    """A store in which one record is no longer what was written."""

    damaged = ""

    def apply(self, digest, change):
        if digest == self.damaged:
            raise DamagedError("the record is damaged")
        return super().apply(digest, change)


class DamagedLogs(MemoryLogs):
    """A log that is no longer what was written."""

    def append(self, digest, chunks):
        raise DamagedError("the log is damaged")


def test_a_damaged_log_does_not_keep_a_job_from_ending(world):
    record = keep_lines(world, before=(), chunks=said(world, b"lost\n"))
    deliver(replace(world.node, logs=DamagedLogs()))
    assert world.store.get(record.summary.digest).status is Status.COMPLETED


def test_a_damaged_record_keeps_no_other_receipt_back(world):
    world.store = store = DamagedStore()
    world.node = replace(world.node, store=store)
    first, second = (
        keep_lines(world, before=(), chunks=said(world, b"1\n")) for _ in range(2)
    )
    store.damaged = first.summary.digest
    with pytest.raises(DamagedError):
        deliver(world.node)
    assert store.get(second.summary.digest).status is Status.COMPLETED
    [kept] = world.journal.undelivered("first")
    assert kept.digest == first.summary.digest


def test_lines_of_a_start_that_was_given_up_are_not_added(world):
    record = keep_lines(world, before=(), chunks=said(world, b"late\n"))
    buried = Change(event=Event.FAILED, at=world.clock.at, reason="worker_lost")
    world.store.apply(record.summary.digest, buried)
    deliver(world.node)
    assert log_of(world, record) == []


def test_lines_of_a_job_that_was_deleted_are_dropped(world):
    record = keep_lines(world, before=(), chunks=said(world, b"late\n"))
    digest = record.summary.digest
    world.store.apply(digest, Change(event=Event.FAILED, at=world.clock.at))
    world.store.delete(digest)
    deliver(world.node)
    assert log_of(world, record) == []
    assert world.journal.undelivered("first") == []


def test_a_receipt_that_comes_too_late_changes_nothing(world):
    queued = world.queue()
    digest = queued.summary.digest

    def bury():
        lost = Change(event=Event.FAILED, at=world.clock.at, reason="worker_lost")
        world.store.apply(digest, lost)

    world.executor.meanwhile = bury
    record = world.ring(queued)
    assert (record.status, record.reason) == (Status.FAILED, "worker_lost")
    assert record.receipt is None
    assert world.journal.undelivered("first") == []


def test_a_start_that_was_given_up_does_not_end_the_next_one(world):
    queued = world.queue(attempts=2)
    completed = world.executor.outcome
    world.executor.outcome = Outcome(event=Event.FAILED, reason="worker_lost")
    world.executor.meanwhile = lambda: world.requeue(queued)
    assert world.ring(queued).status is Status.QUEUED
    assert world.journal.undelivered("first") == []
    world.executor.outcome, world.executor.meanwhile = completed, lambda: None
    record = world.ring(queued)
    assert (record.status, world.receipt(record).attempt) == (Status.COMPLETED, 2)
    assert world.receipt(record).seq == 2


def test_a_store_that_is_away_at_the_bell_costs_no_attempt(world):
    queued = world.queue()
    world.store.is_away = True
    with pytest.raises(UnavailableError):
        execute(queued.summary.id, world.node)
    world.store.is_away = False
    assert world.ring(queued).status is Status.COMPLETED


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "second"}, "lists no runner first"),
        ({"key": OTHER.keyid}, "not the one"),
        ({"executors": ["system"]}, "serve system, not python"),
    ],
)
def test_a_runner_that_the_bundle_does_not_know_runs_nothing(world, change, said):
    world.bundle.body["runners"][0].update(change)
    queued = world.queue()
    with pytest.raises(ConfigurationError, match=said):
        execute(queued.summary.id, world.node)
    with pytest.raises(HorusError, match=said):
        own_entry(world.node)
    assert world.store.get(queued.summary.digest).status is Status.QUEUED
