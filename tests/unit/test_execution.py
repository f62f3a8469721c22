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
from horus_celery.execution import execute, give_up
from horus_celery.instants import to_ms
from horus_celery.journal import Journal, ProcessMark, process_mark
from horus_celery.lifecycle import Event, Status
from horus_celery.node_secrets import NodeSecrets
from horus_celery.proof import prove
from horus_celery.record import LEASE, Change
from horus_celery.runner.claiming import own_entry
from horus_celery.runner.node import Node, Outcome, Unsent
from horus_celery.runner.outbox import deliver
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import InputRef, WorkflowRef, make_job
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.receipt import (
    Expected,
    OutputDigest,
    Receipt,
    check_receipt,
)
from horus_celery.statements.trust import Trust
from horus_celery.store.base import Chunk, Filter, Stream
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
        self.clear_away = lambda: None

    def check(self, job):
        """Take every job."""

    def run(self, assignment, node, behind):
        self.ran.append(assignment)
        behind.callback(self.clear_away)
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
            lease_clock=clock,
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
        ({"secrets": ["token"], "needs": ["0" * 64]}, "auth.secrets"),
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


@pytest.fixture
def token(world, tmp_path):
    """The file of a secret that this node has."""
    file = tmp_path / "token"
    file.write_text("correct horse\n")
    file.chmod(0o600)
    world.node = replace(world.node, secrets=NodeSecrets(files={"token": file}))
    return file


def test_a_job_gets_the_secrets_that_it_names_as_they_are_when_it_starts(world, token):
    queued = [world.queue(secrets=names) for names in (["token"], [], ["token"])]
    for record in queued[:2]:
        assert world.ring(record).status is Status.COMPLETED
    token.write_text("battery staple")
    assert world.ring(queued[2]).status is Status.COMPLETED
    given = [
        {name: one.get_secret_value() for name, one in assignment.secrets.items()}
        for assignment in world.executor.ran
    ]
    assert given == [{"token": b"correct horse\n"}, {}, {"token": b"battery staple"}]
    assert "horse" not in repr(world.executor.ran)


def test_a_secret_that_cannot_be_read_is_refused_before_the_job_is_claimed(
    world, token
):
    token.chmod(0o644)
    with capture_logs() as said:
        record = world.ring(world.queue(secrets=["token"]))
    assert (record.status, record.reason) == (Status.REJECTED, "auth.secrets")
    assert world.receipt(record).job == record.summary.digest
    assert world.executor.ran == []
    (line,) = (one for one in said if one["event"] == "job refused")
    assert f"the secret token lies in {token}, which others may use" in line["detail"]


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


# --- needs and inputs ----------------------------------------------------------


class Told(MemoryStore):
    """A store that shows of a record what a test tells it, as Redis may."""

    def __init__(self):
        super().__init__()
        self.shown = {}
        self.meanwhile = lambda: None

    def get(self, digest, *, contexts=None):
        self.meanwhile()
        record = super().get(digest, contexts=contexts)
        return self.shown.get(digest, lambda same: same)(record)


@pytest.fixture
def told(world):
    """Give the world a store that may be told to lie."""
    world.store = Told()
    world.node = replace(world.node, store=world.store)
    return world.store


def input_of(record, max_bytes=1000):
    digest = record.summary.digest
    return InputRef.from_wire({"from": digest, "max_bytes": max_bytes})


def test_the_result_of_another_job_is_given_and_the_receipt_names_it(world):
    before = world.ring(world.queue())
    inputs = {"ANSWER": input_of(before)}
    needs = [before.summary.digest]
    record = world.ring(world.queue(inputs=inputs, needs=needs))
    assert record.status is Status.COMPLETED
    [given] = world.executor.ran[1].inputs
    assert (given.name, given.data) == ("ANSWER", b"42\n")
    named = {
        "name": "ANSWER",
        "from": before.summary.digest,
        "sha256": hashlib.sha256(b"42\n").hexdigest(),
    }
    assert world.receipt(record).to_wire()["inputs"] == [named]


@pytest.mark.parametrize("event", [Event.FAILED, Event.STOPPED])
def test_the_receipt_names_the_inputs_however_the_job_ended(world, event):
    before = world.ring(world.queue())
    queued = world.queue(inputs={"A": input_of(before)})
    world.executor.outcome = Outcome(event=event)
    if event is Event.STOPPED:
        asked = Change(event=Event.STOP_ASKED, at=world.clock.at)
        world.executor.meanwhile = lambda: world.store.apply(
            queued.summary.digest, asked
        )
    [named] = world.receipt(world.ring(queued)).inputs
    assert named.source == before.summary.digest


def test_a_refused_job_was_given_nothing(world):
    before = world.ring(world.queue())
    record = world.ring(world.queue(inputs={"A": input_of(before, max_bytes=2)}))
    assert (record.status, record.reason) == (Status.REJECTED, "input.size")
    assert world.receipt(record).inputs == ()


def refused(world, before, reason):
    """Run a job that builds on another one, and see it refused."""
    ran = len(world.executor.ran)
    for facts in (
        {"inputs": {"A": input_of(before)}},
        {"needs": [before.summary.digest]},
    ):
        record = world.ring(world.queue(**facts))
        assert (record.status, record.reason) == (Status.REJECTED, reason)
        assert world.receipt(record).reason == reason
    assert len(world.executor.ran) == ran


def test_a_job_whose_upstream_is_not_over_is_refused(world):
    refused(world, world.queue(), "input.missing")


def test_a_job_whose_upstream_is_running_is_refused(world):
    queued = world.queue()
    late = world.queue(needs=[queued.summary.digest])
    world.executor.meanwhile = lambda: execute(late.summary.id, world.node)
    world.ring(queued)
    assert world.store.get(late.summary.digest).reason == "input.missing"


def test_a_job_whose_upstream_was_deleted_is_refused(world):
    before = world.ring(world.queue())
    world.store.delete(before.summary.digest)
    refused(world, before, "input.missing")


def test_a_job_whose_upstream_failed_is_refused(world):
    world.executor.outcome = Outcome(event=Event.FAILED, reason="exit_code")
    refused(world, world.ring(world.queue()), "input.receipt")


def test_a_job_whose_upstream_was_refused_is_refused(world):
    refused(world, world.ring(world.queue(key=OTHER)), "input.receipt")


def test_a_job_whose_upstream_no_runner_answers_for_is_refused(world):
    queued = world.queue()
    lost = Change(event=Event.FAILED, at=world.clock.at, reason="worker_lost")
    world.store.apply(queued.summary.digest, Change(event=Event.CLAIMED, at=lost.at))
    world.store.apply(queued.summary.digest, lost)
    refused(world, queued, "input.missing")


def test_a_record_that_is_only_said_to_be_completed_is_refused(world, told):
    queued = world.queue()
    told.shown[queued.summary.digest] = lambda record: replace(
        record, status=Status.COMPLETED, result="42\n", exit_code=0
    )
    refused(world, queued, "input.missing")


def test_a_job_whose_upstream_belongs_to_another_context_is_refused(world, told):
    other = {**world.bundle.body["grants"][0], "context_id": "lab"}
    world.bundle.body["grants"].append(other)
    world.bundle.body["runners"][0]["contexts"] = ["*"]
    before = world.ring(world.queue(context_id="lab"))
    assert before.status is Status.COMPLETED
    refused(world, before, "input.missing")
    # Also where Redis says that it is one of this context.
    told.shown[before.summary.digest] = lambda record: replace(
        record, summary=replace(record.summary, context_id="billing")
    )
    refused(world, before, "input.missing")


def test_a_result_that_redis_changed_is_refused(world, told):
    before = world.ring(world.queue())
    digest = before.summary.digest
    told.shown[digest] = lambda record: replace(record, result="43\n")
    record = world.ring(world.queue(inputs={"A": input_of(before)}))
    assert (record.status, record.reason) == (Status.REJECTED, "input.hash")
    assert world.ring(world.queue(needs=[digest])).status is Status.COMPLETED


def test_the_inputs_of_two_runs_cannot_be_exchanged(world, told):
    first = world.ring(world.queue())
    world.executor.outcome = replace(world.executor.outcome, result="other")
    second = world.ring(world.queue())
    told.shown = {
        first.summary.digest: lambda _: second,
        second.summary.digest: lambda _: first,
    }
    refused(world, first, "input.receipt")
    # With their own envelopes, receipts and results exchanged:
    told.shown = {
        first.summary.digest: lambda record: replace(record, receipt=second.receipt)
    }
    refused(world, first, "input.receipt")
    told.shown = {
        first.summary.digest: lambda record: replace(record, result=second.result)
    }
    record = world.ring(world.queue(inputs={"A": input_of(first)}))
    assert record.reason == "input.hash"


def test_the_receipt_of_a_runner_that_may_not_run_the_upstream_is_refused(world, told):
    before = world.ring(world.queue())
    digest = before.summary.digest
    world.bundle.body["runners"].append(
        {"name": "other", "key": OTHER.keyid, "executors": ["*"], "contexts": ["lab"]}
    )
    said = {**world.receipt(before).to_wire(), "runner": "other"}
    forged = dsse.sign(dsse.RECEIPT, canonical.encode(said), [OTHER])
    told.shown[digest] = lambda record: replace(record, receipt=dsse.to_json(forged))
    refused(world, before, "input.receipt")
    world.bundle.body["runners"][1]["contexts"] = ["billing"]
    assert world.ring(world.queue(needs=[digest])).status is Status.COMPLETED


def test_what_was_read_once_is_what_is_given(world, told):
    before = world.ring(world.queue())
    reads = []

    def show(record):
        reads.append(record)
        # Whoever reads again gets something else.
        return record if len(reads) == 1 else replace(record, result="43\n")

    told.shown[before.summary.digest] = show
    queued = world.queue(inputs={"A": input_of(before)}, needs=[before.summary.digest])
    assert world.ring(queued).status is Status.COMPLETED
    assert world.executor.ran[-1].inputs[0].data == b"42\n"
    assert len(reads) == 1


def test_a_retired_record_is_enough_to_be_needed_but_gives_no_input(world):
    before = world.ring(world.queue())
    assert world.store.retire(before.summary.digest)
    needing = world.queue(needs=[before.summary.digest])
    assert world.ring(needing).status is Status.COMPLETED
    fed = world.ring(world.queue(inputs={"A": input_of(before)}))
    assert (fed.status, fed.reason) == (Status.REJECTED, "input.missing")


def test_a_store_that_goes_away_at_the_inputs_costs_no_attempt(world, told):
    before = world.ring(world.queue())
    queued = world.queue(inputs={"A": input_of(before)})

    def leave():
        raise UnavailableError("no answer")

    told.meanwhile = leave
    with pytest.raises(UnavailableError):
        execute(queued.summary.id, world.node)
    told.meanwhile = lambda: None
    assert world.ring(queued).status is Status.COMPLETED


def test_nothing_starts_that_expired_while_its_inputs_were_read(world, told):
    before = world.ring(world.queue())
    queued = world.queue(inputs={"A": input_of(before)})
    told.meanwhile = lambda: world.clock.advance(days=1)
    execute(queued.summary.id, world.node)
    told.meanwhile = lambda: None
    record = world.store.get(queued.summary.digest)
    assert (record.status, record.reason) == (Status.REJECTED, "time.expired")
    assert world.receipt(record).job == queued.summary.digest


def test_the_lease_begins_when_the_inputs_were_read(world, told):
    before = world.ring(world.queue())
    queued = world.queue(inputs={"A": input_of(before)})

    def look():
        told.meanwhile = lambda: None
        late = world.clock.at + LEASE
        assert world.store.abandoned(at=late, limit=1) == ()

    told.meanwhile = lambda: world.clock.advance(seconds=60)
    world.executor.meanwhile = look
    assert world.ring(queued).status is Status.COMPLETED


def test_every_start_proves_its_inputs_anew(world):
    before = world.ring(world.queue())
    queued = world.queue(inputs={"A": input_of(before)}, attempts=2)
    world.executor.meanwhile = lambda: world.requeue(queued)
    assert world.ring(queued).status is Status.QUEUED
    world.store.delete(before.summary.digest)
    record = world.ring(queued)
    assert (record.status, record.reason) == (Status.REJECTED, "input.missing")
    assert len(world.executor.ran) == 2


def test_the_log_says_which_job_is_missing_and_nothing_of_a_payload(world):
    queued = world.queue(needs=["0" * 64], payload="print('PAYLOAD')")
    with capture_logs() as said:
        world.ring(queued)
    [line] = said
    assert line["event"] == "job refused"
    assert "0" * 64 in line["detail"]
    assert "PAYLOAD" not in str(line)


def test_a_late_bell_signs_no_refusal_because_an_input_is_gone(world, told):
    before = world.ring(world.queue())
    queued = world.queue(inputs={"A": input_of(before)})
    done = world.ring(queued)
    world.store.delete(before.summary.digest)
    told.shown[queued.summary.digest] = lambda record: record
    world.node = replace(world.node, store=Stale(told, queued))
    execute(queued.summary.id, world.node)
    assert told.get(queued.summary.digest) == done
    after = world.queue()
    world.node = replace(world.node, store=told)
    assert world.receipt(world.ring(after)).seq == world.receipt(done).seq + 1


class Stale:
    """A store whose records of a name are shown as they were before."""

    def __init__(self, store, record):
        self._store = store
        self._record = record

    def named(self, job_id):
        return (self._record,)

    def __getattr__(self, name):
        return getattr(self._store, name)


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


def replayed(world):
    world.journal.claim(**claim_of(world), process=None)


def taken(world):
    claim = claim_of(world)
    world.journal.claim(**{**claim, "digest": "f" * 64}, process=None)


def stopped(world):
    claim = claim_of(world)
    world.journal.stop(claim["digest"], claim["expires_at"])


def dropped(world):
    claim = claim_of(world)
    later = {"digest": "f" * 64, "job_id": "later"}
    world.journal.claim(**{**claim, **later}, process=None)
    world.journal.sweep(claim["expires_at"] + timedelta(days=1))


def claim_of(world):
    """Return how the one job of this world is claimed."""
    [record] = world.store.list(Filter(), limit=1)
    return {
        "digest": record.summary.digest,
        "context_id": record.summary.context_id,
        "job_id": record.summary.id,
        "attempts": 1,
        "expires_at": record.summary.expires_at,
        "now": world.clock.at,
    }


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (replayed, "claim.replay"),
        (taken, "claim.id_conflict"),
        (stopped, "claim.stopped"),
        (dropped, "claim.floor"),
    ],
)
def test_a_refusal_by_the_journal_is_proven_by_its_receipt(world, spoil, reason):
    queued = world.queue()
    spoil(world)
    shown = prove(world.ring(queued), world.bundle.current()).record
    assert (shown.status, shown.reason) == (Status.REJECTED, reason)


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


class PutBackStore(MemoryStore):
    """A store where whoever writes to it queues a stopped job again."""

    def put_back(self, digest):
        entry = self._entries[digest]
        entry.record = replace(entry.record, status=Status.QUEUED, ended_at=None)

    def lose_stops(self):
        self._stopped.clear()


def test_a_job_that_was_stopped_elsewhere_is_refused_and_remembered(world):
    world.store = PutBackStore()
    world.node = replace(world.node, store=world.store)
    queued = world.queue(attempts=3)
    digest, at = queued.summary.digest, world.clock.at
    world.store.stop(digest, at=at, expires_at=queued.summary.expires_at)
    world.store.put_back(digest)
    record = world.ring(queued)
    assert (record.status, record.reason) == (Status.REJECTED, "claim.stopped")
    assert world.receipt(record).status == "rejected"
    assert world.executor.ran == []
    world.store.lose_stops()
    world.store.put_back(digest)
    assert world.ring(queued).reason == "claim.stopped"
    assert world.executor.ran == []


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


def test_how_a_job_ended_is_told_before_it_is_cleared_away(world):
    queued, seen = world.queue(), []

    def look():
        seen.append(world.store.get(queued.summary.digest).status)

    world.executor.clear_away = look
    world.ring(queued)
    assert seen == [Status.COMPLETED]


@pytest.mark.parametrize("kind", ["settle", "stop"])
def test_what_may_fill_the_disk_is_cleared_away_when_an_end_cannot_be_written(
    world, full, kind
):
    full.full = {kind: 1000}
    world.executor.outcome = Outcome(event=Event.STOPPED, exit_code=143)
    world.executor.clear_away = full.full.clear
    queued = world.queue()
    asked = Change(event=Event.STOP_ASKED, at=world.clock.at)
    world.executor.meanwhile = lambda: world.store.apply(queued.summary.digest, asked)
    assert world.ring(queued).status is Status.STOPPED


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


# --- steps that failed -----------------------------------------------------------

STEP = WorkflowRef.from_wire(
    {
        "id": "00000000-0000-4000-8000-000000000001",
        "step": "a",
        "manifest": "ab" * 32,
    }
)
EXITED = Outcome(event=Event.FAILED, reason="exit_code", exit_code=1)


def test_a_step_that_failed_is_queued_again_while_it_has_attempts(world):
    finished = world.executor.outcome
    world.executor.outcome = EXITED
    record = world.ring(world.queue(workflow=STEP, attempts=2))

    assert (record.status, record.attempt) == (Status.QUEUED, 1)
    assert record.not_before == world.clock.at + timedelta(seconds=1)
    assert (record.receipt, record.reason, record.exit_code) == (None, None, None)
    assert world.ring(record).status is Status.QUEUED  # too early

    world.clock.advance(seconds=1)
    world.executor.outcome = finished
    over = world.ring(record)

    assert (over.status, over.attempt, over.result) == (Status.COMPLETED, 2, "42\n")
    assert world.receipt(over).attempt == 2


def test_every_start_of_a_step_has_a_receipt(world):
    world.executor.outcome = EXITED
    record = world.ring(world.queue(workflow=STEP, attempts=2))
    world.clock.advance(seconds=1)

    over = world.ring(record)

    assert (over.status, over.reason, over.attempt) == (Status.FAILED, "exit_code", 2)
    receipt = world.receipt(over)
    # The first one is the one before it in the chain of its runner.
    assert (receipt.seq, receipt.attempt) == (2, 2)
    assert receipt.prev is not None


def test_a_step_without_further_attempts_has_failed(world):
    world.executor.outcome = EXITED
    assert world.ring(world.queue(workflow=STEP)).status is Status.FAILED


def test_a_job_alone_has_failed_at_once(world):
    world.executor.outcome = EXITED
    assert world.ring(world.queue(attempts=3)).status is Status.FAILED


def test_a_step_that_failed_while_its_end_was_asked_for_does_not_start_again(world):
    world.executor.outcome = EXITED
    record = world.queue(workflow=STEP, attempts=3)

    def stop():
        change = Change(event=Event.STOP_ASKED, at=world.clock.at)
        world.store.apply(record.summary.digest, change)

    world.executor.meanwhile = stop

    over = world.ring(record)

    assert (over.status, over.reason) == (Status.FAILED, "exit_code")


def test_a_step_that_was_stopped_does_not_start_again(world):
    world.executor.outcome = Outcome(event=Event.STOPPED)
    record = world.queue(workflow=STEP, attempts=3)
    world.executor.meanwhile = lambda: world.store.apply(
        record.summary.digest, Change(event=Event.STOP_ASKED, at=world.clock.at)
    )

    assert world.ring(record).status is Status.STOPPED


def test_what_the_store_did_not_hear_of_a_failed_start_it_hears_later(world):
    world.executor.outcome = EXITED
    record = world.queue(workflow=STEP, attempts=2)

    def go_away():
        world.store.is_away = True

    world.executor.meanwhile = go_away
    execute(record.summary.id, world.node)
    world.store.is_away = False

    deliver(world.node)

    again = world.store.get(record.summary.digest)
    assert (again.status, again.attempt) == (Status.QUEUED, 1)
