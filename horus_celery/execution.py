"""What a runner does when its bell rings: check, claim, run, sign, settle.

Nothing here is allowed on what Redis says: not on the record's summary, which only
spares a runner the jobs of others, but on verified bytes, the trust bundle, the
journal and the clock of this node. That a job was stopped is believed of anybody.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import structlog
from pydantic import SecretBytes

from horus_celery.admission import Admitted, Gate, admit, job_has_not_expired
from horus_celery.clock import Clock
from horus_celery.dispatch import JOB_ID, Dispatcher
from horus_celery.errors import (
    ClaimError,
    ConfigurationError,
    DamagedError,
    IllegalTransition,
    InputError,
    NotCoveredError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from horus_celery.instants import from_ms, to_ms
from horus_celery.journal import (
    AlreadyRunning,
    Entry,
    Journal,
    Orphan,
    process_mark,
)
from horus_celery.lifecycle import TERMINAL, Event, Status, advance
from horus_celery.node_secrets import NodeSecrets
from horus_celery.record import LEASE, Change, Record, after_death
from horus_celery.retries import retry_at
from horus_celery.statements import dsse
from horus_celery.statements.job import Job
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.receipt import OutputDigest, Receipt, ResultDigest
from horus_celery.statements.trust import RunnerEntry, Trust, is_listed
from horus_celery.store.base import Chunk, LogStore, RecordStore, Stream, Wakes
from horus_celery.upstream import Found, Given, take

_logger: Final = structlog.get_logger(__name__)

#: The reason of a start that the store had given up before it ended: what becomes of
#: the job is decided there already, and the receipt stays in the journal.
GIVEN_UP: Final = "worker_lost"
#: What a digest is taken over when there are no signed bytes to be found.
_UNREADABLE: Final = b"horus-unreadable-v1\0"
_NOTHING: Final = OutputDigest.of(b"")
#: How long after the journal could not be written it is tried again.
_RETRY: Final = timedelta(seconds=1)
#: How many lines of a log are read at once.
_LOG_PAGE: Final = 1000
_LINE: Final = re.compile(rb"[^\n]*\n|[^\n]+")
_T = TypeVar("_T")
#: A chunk as the log shows it: time, stream, text.
_Shown: TypeAlias = tuple[int, Stream, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A job that passed every check and that nobody else runs now."""

    job: Job
    digest: str
    #: The number of this start in this node's journal, and in the receipt.
    start: int
    #: The number of this start in the record, where other nodes count as well.
    attempt: int
    #: When it was claimed.
    at: datetime
    #: What the script is given as data, and the receipt names.
    inputs: tuple[Given, ...] = ()
    #: The values of the secrets that it names.
    secrets: Mapping[str, SecretBytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """Output that the log did not take while the script ran."""

    #: What the log took directly before it, which shows where it belongs: it reaches
    #: back to a chunk of another moment than the one after it, or to the first of all.
    before: tuple[Chunk, ...]
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one start, as the runner saw it."""

    #: COMPLETED, FAILED or STOPPED.
    event: Event
    reason: str | None = None
    exit_code: int | None = None
    stdout: OutputDigest = _NOTHING
    stderr: OutputDigest = _NOTHING
    result: str = ""
    #: The level of containment that was really in force.
    sandbox: str = "none"
    #: When nothing of it ran any more; None is the moment of settling.
    ended_at: datetime | None = None
    unsent: Unsent | None = None


class Executor(Protocol):
    """A kind of work.

    `run` returns when nothing of the job is left running. It keeps the lease and
    reports the output while the script runs, and ends it when a stop is asked for.
    """

    def check(self, job: Job) -> None:
        """See that this node can give a job what its signer demands.

        Raises:
            NotCoveredError: if it cannot.
        """
        ...

    def run(self, assignment: Assignment, node: Node) -> Outcome:
        """Run a claimed job to its end."""
        ...


class TrustSource(Protocol):
    """Where the trust bundle is read."""

    def current(self) -> Trust:
        """Return the bundle that counts now.

        Raises:
            ConfigurationError: if there is none that may be believed.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One runner process with everything that it decides on and works with."""

    #: The runner's name.
    name: str
    #: The deployment.
    aud: str
    #: What it serves, by name.
    executors: Mapping[str, Executor]
    key: KeyPair
    trust: TrustSource
    journal: Journal
    store: RecordStore
    logs: LogStore
    wakes: Wakes
    clock: Clock
    #: Where the private directories of jobs are made.
    rooms: Path
    #: What scripts may be given that only this node has.
    secrets: NodeSecrets = field(default_factory=NodeSecrets)
    #: What runs the jobs, for the receipts.
    software: str


def execute(job_id: str, node: Node) -> None:
    """Answer one bell: run the queued job of that id, if there is one for this runner.

    A refusal is a normal return, and so is a bell for nothing.

    Raises:
        UnavailableError: if the store did not answer before the job was claimed.
        ConfigurationError: if this runner's own files do not allow it to work.
    """
    record = _find(job_id, node)
    if record is None:
        return
    try:
        assignment = _claim(record, node)
    except RefusedError as refusal:
        _refuse(record, refusal, node)
        return
    if assignment is not None:
        _settle(assignment, _run(assignment, node), node)


def ring_again(job_id: str, node: Node, dispatcher: Dispatcher) -> None:
    """Ring once more for a job of this runner that has to wait here, if it still does.

    Raises:
        UnavailableError: if Redis does not answer.
    """
    record = _find(job_id, node)
    if record is None:
        return
    queue = record.queue or record.summary.executor
    # Noted first, as the sweep does it.
    node.store.rung(record.summary.digest, at=node.clock.now(), queue=queue)
    dispatcher.ring(job_id, queue, record.priority)


def deliver(node: Node) -> None:
    """Hand over what the journal holds and the store does not know yet.

    Raises:
        UnavailableError: if the store does not answer; the rest stays in the journal.
        DamagedError: if a record is damaged; only its receipt stays in the journal.
    """
    damage: DamagedError | None = None
    for entry in node.journal.undelivered(node.name):
        try:
            _hand_over(entry, node)
        except DamagedError as error:
            damage = error
    if damage is not None:
        raise damage


def give_up(node: Node, dispatcher: Dispatcher) -> int:
    """Say what this runner's dead processes left unsettled, and return how many.

    The end of a lease would say it, too, some time later. Nothing of those jobs may
    run any more.

    Raises:
        UnavailableError: if the store does not answer; the next call goes on.
    """
    count = 0
    for orphan in node.journal.orphans():
        # What is damaged is left to the end of its lease.
        with suppress(DamagedError):
            record = _held(orphan, node)
            if record is not None and record.ran_on != node.name:
                continue  # another runner of this node says it
            if record is not None:
                _give_up(record, node, dispatcher)
                count += 1
            node.journal.ended(orphan)
    return count


def own_entry(node: Node) -> RunnerEntry:
    """Return what the trust bundle says about this runner.

    Raises:
        ConfigurationError: if it does not let the runner serve what it is to serve.
    """
    trust = node.trust.current()
    return _entry(trust, node)


def _held(orphan: Orphan, node: Node) -> Record | None:
    """Return the record that this very start holds still, if there is one."""
    try:
        record = node.store.get(orphan.digest)
    except NotFoundError:
        return None
    is_it = record.is_held and record.started_at == orphan.started_at
    return record if is_it else None


def _give_up(record: Record, node: Node, dispatcher: Dispatcher) -> None:
    change = after_death(record, node.clock.now())
    _apply(record.summary.digest, change, node)
    if change.event is Event.REQUEUED:
        queue = record.queue or record.summary.executor
        dispatcher.ring(record.summary.id, queue, record.priority)


def _find(job_id: str, node: Node) -> Record | None:
    """Return the oldest queued record of that id that this runner may take."""
    if not JOB_ID.fullmatch(job_id):
        return None
    records = [
        record
        for record in node.store.named(job_id)
        if record.status is Status.QUEUED and record.summary.executor in node.executors
    ]
    if not records:
        return None
    contexts = own_entry(node).contexts
    now = node.clock.now()
    return next(
        (
            record
            for record in records
            if record.summary.runner in (None, node.name)
            and is_listed(record.summary.context_id, contexts)
            and (record.not_before is None or record.not_before <= now)
        ),
        None,
    )


def _claim(record: Record, node: Node) -> Assignment | None:
    """Check and claim; None if somebody else has it or it is no longer queued.

    Raises:
        RefusedError: if it may not run here, now, or at all.
    """
    gate = _gate(node)
    admitted = _admit(record, gate)
    _require_containment(admitted, node)
    job = admitted.job
    secrets = _secrets_of(admitted, node)
    try:
        inputs = _take(admitted, gate, node)
        now = node.clock.now()
        start = node.journal.claim(
            digest=admitted.digest,
            context_id=job.context_id,
            job_id=job.id,
            attempts=job.attempts,
            expires_at=job.expires_at,
            now=now,
            process=process_mark(),
        )
    except AlreadyRunning:
        return None
    except (ClaimError, InputError):
        # Two bells for one job: the other one may have been answered in between.
        if not _is_queued(admitted.digest, node):
            return None
        raise
    attempt = max(start, record.attempt + 1)
    change = Change(
        event=Event.CLAIMED,
        at=now,
        attempt=attempt,
        ran_on=node.name,
        lease_until=now + LEASE,
    )
    try:
        node.store.apply(admitted.digest, change)
    except (IllegalTransition, NotFoundError):
        _until_written(partial(node.journal.release, admitted.digest, start))
        return None
    except ClaimError:
        # The store knows of a stop that this node has not heard of.
        node.journal.release(admitted.digest, start)
        node.journal.stop(admitted.digest, job.expires_at)
        raise
    except UnavailableError:
        # Nothing has started. If the claim did reach the store, its lease will end.
        _until_written(partial(node.journal.release, admitted.digest, start))
        raise
    return Assignment(
        job=job,
        digest=admitted.digest,
        start=start,
        attempt=attempt,
        at=now,
        inputs=inputs,
        secrets=secrets,
    )


def _gate(node: Node) -> Gate:
    """Return what this runner checks, and what it believes now."""
    trust = node.trust.current()
    return Gate(
        aud=node.aud,
        name=node.name,
        executors=frozenset(node.executors),
        contexts=frozenset(_entry(trust, node).contexts),
        secrets=node.secrets.names,
        trust=trust,
        now=node.clock.now(),
    )


def _admit(record: Record, gate: Gate) -> Admitted:
    """Check the stored envelope as if nobody had checked it before.

    Raises:
        RefusedError: with the reason code.
    """
    envelope = dsse.read(record.envelope, dsse.JOB)
    if envelope.digest != record.summary.digest:
        raise RefusedError(
            "env.shape", "the envelope is another job's", digest=envelope.digest
        )
    return admit(envelope, gate)


def _require_containment(admitted: Admitted, node: Node) -> None:
    """Refuse what this runner cannot keep apart as it has to."""
    try:
        node.executors[admitted.job.executor].check(admitted.job)
    except NotCoveredError as refusal:
        raise NotCoveredError(
            refusal.reason, refusal.detail, digest=admitted.digest
        ) from None


def _secrets_of(admitted: Admitted, node: Node) -> Mapping[str, SecretBytes]:
    """Return the values of the secrets that a job names, as they are now.

    Raises:
        NotCoveredError: `auth.secrets`, if one cannot be used.
    """
    try:
        return node.secrets.read(admitted.job.secrets)
    except NotCoveredError as refusal:
        refusal.digest = admitted.digest
        raise


def _take(admitted: Admitted, gate: Gate, node: Node) -> tuple[Given, ...]:
    """Return the job's inputs, once all that it builds on is proven.

    Raises:
        RefusedError: `input.*`, or `time.expired` if that took too long.
        UnavailableError: if the store does not answer.
    """
    job = admitted.job
    look_up = partial(_look_up, context_id=job.context_id, node=node)
    try:
        given = take(job, trust=gate.trust, look_up=look_up)
        now = node.clock.now()
        job_has_not_expired(job, replace(gate, now=now), frozenset(admitted.signed_by))
    except RefusedError as refusal:
        refusal.digest = admitted.digest
        raise
    return given


def _look_up(digest: str, *, context_id: str, node: Node) -> Found | None:
    """Read once what the store has about a job.

    Its record holds the job's own word for its context; of a retired record there is
    only the store's.
    """
    try:
        record = node.store.get(digest)
    except NotFoundError:
        kept = node.store.archived(digest, contexts=frozenset({context_id}))
        return Found(receipts=tuple(one.receipt for one in kept)) if kept else None
    return Found(
        envelope=record.envelope,
        receipts=() if record.receipt is None else (record.receipt,),
        result=record.result,
    )


def _is_queued(digest: str, node: Node) -> bool:
    try:
        return node.store.get(digest).status is Status.QUEUED
    except NotFoundError:
        return False


def _entry(trust: Trust, node: Node) -> RunnerEntry:
    entry = trust.runner(node.name)
    if entry is None:
        raise ConfigurationError(
            f"the trust bundle lists no runner {node.name}: name a listed one with"
            " `-n NAME@%h` (`horus trust show` lists them), or add it with `horus init`"
        )
    if entry.key != node.key.keyid:
        raise ConfigurationError(
            f"the key of the runner {node.name} is not the one that the trust bundle"
            " lists: put the right key file there, or have the bundle signed again"
        )
    for executor in node.executors:
        if not is_listed(executor, entry.executors):
            raise ConfigurationError(
                f"the trust bundle lets the runner {node.name} serve"
                f" {', '.join(entry.executors)}, not {executor}: choose what it serves"
                " with -Q, or its name with -n"
            )
    return entry


def _run(assignment: Assignment, node: Node) -> Outcome:
    executor = node.executors[assignment.job.executor]
    try:
        return executor.run(assignment, node)
    except Exception as error:  # noqa: BLE001 - the boundary around every executor
        # Its text may quote the payload.
        _logger.error(  # noqa: TRY400 - and so may a traceback
            "executor broke",
            job_id=assignment.job.id,
            error=type(error).__name__,
        )
        return Outcome(event=Event.FAILED, reason="executor")


def _settle(assignment: Assignment, outcome: Outcome, node: Node) -> None:
    """Sign what happened into the journal, then tell the store.

    The store may be away: then the outbox of the journal has it.
    """
    job = assignment.job
    keep = partial(_keep_lease, assignment, node)
    if outcome.event is Event.STOPPED:
        stop = partial(node.journal.stop, assignment.digest, job.expires_at)
        _until_written(stop, meanwhile=keep)
    _conclude(
        _Conclusion(
            digest=assignment.digest,
            job_id=job.id,
            start=assignment.start,
            if_attempt=assignment.attempt,
            started_at=assignment.at,
            ended_at=outcome.ended_at or node.clock.now(),
            outcome=outcome,
            inputs=assignment.inputs,
            retry_at=_retry_at(assignment, outcome, node),
        ),
        node,
        meanwhile=keep,
    )


def _retry_at(assignment: Assignment, outcome: Outcome, node: Node) -> datetime | None:
    """Return when a start that failed is followed by another one."""
    if outcome.event is not Event.FAILED or outcome.reason == GIVEN_UP:
        return None
    attempt = max(assignment.attempt, assignment.start)
    return retry_at(assignment.job, attempt=attempt, now=node.clock.now())


def _keep_lease(assignment: Assignment, node: Node) -> None:
    until = node.clock.now() + LEASE
    with suppress(UnavailableError, NotFoundError, IllegalTransition):
        node.store.renew(
            assignment.digest, attempt=assignment.attempt, lease_until=until
        )


def _until_written(
    write: Callable[[], _T], *, meanwhile: Callable[[], None] = lambda: None
) -> _T:
    """Write into the journal, as soon as it can be written, what must not be forgotten.

    Nothing else starts in this process meanwhile, and nothing else could be claimed.
    """
    is_told = False
    while True:
        try:
            return write()
        except UnavailableError as error:
            if not is_told:
                _logger.error("runner degraded", detail=error.detail)  # noqa: TRY400 - it is ours
            is_told = True
        meanwhile()
        # A disk tells nobody that it has room again.
        time.sleep(_RETRY.total_seconds())


def _refuse(record: Record, refusal: RefusedError, node: Node) -> None:
    """Reject a record, with a receipt about the very bytes that were refused."""
    digest = record.summary.digest
    job_id = record.summary.id
    _logger.warning(
        "job refused", job_id=job_id, reason=refusal.reason, detail=refusal.detail
    )
    now = node.clock.now()
    if refusal.digest not in (None, digest):
        # A receipt about the record's job would speak about bytes that nobody saw.
        rejected = Change(event=Event.REFUSED, at=now, reason=refusal.reason)
        _apply(digest, rejected, node)
        return
    _conclude(
        _Conclusion(
            digest=digest,
            signed_digest=refusal.digest or _digest_of_unreadable(record.envelope),
            job_id=job_id,
            start=0,
            started_at=None,
            ended_at=now,
            outcome=Outcome(event=Event.REFUSED, reason=refusal.reason),
        ),
        node,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conclusion:
    """How a job ended here, before it is signed."""

    digest: str
    job_id: str
    start: int
    started_at: datetime | None
    ended_at: datetime
    outcome: Outcome
    #: What the script was given.
    inputs: tuple[Given, ...] = ()
    #: What the receipt is about, if it is not the record's digest.
    signed_digest: str | None = None
    #: The record changes only while this is its latest attempt.
    if_attempt: int | None = None
    #: When the job starts again: then its record does not end.
    retry_at: datetime | None = None


def _conclude(
    end: _Conclusion, node: Node, *, meanwhile: Callable[[], None] | None = None
) -> None:
    """Settle an end, at once or (with something to do `meanwhile`) when it can be."""
    settle = partial(
        node.journal.settle,
        runner=node.name,
        make=lambda seq, prev: dsse.to_json(
            dsse.sign(dsse.RECEIPT, _receipt(end, node, seq, prev).body(), [node.key])
        ),
        digest=end.digest,
        attempt=end.start,
        outcome=_outcome_to_json(end),
    )
    # A refusal comes again with the next bell.
    entry = (
        settle() if meanwhile is None else _until_written(settle, meanwhile=meanwhile)
    )
    if end.outcome.unsent is not None:
        # Left to `deliver`, because a log has one writer at a time.
        _logger.warning("receipt kept for later", job_id=end.job_id, seq=entry.seq)
        return
    try:
        _hand_over(entry, node)
    except UnavailableError:
        _logger.warning("receipt kept for later", job_id=end.job_id, seq=entry.seq)


def _receipt(end: _Conclusion, node: Node, seq: int, prev: str | None) -> Receipt:
    outcome = end.outcome
    held = Status.QUEUED if outcome.event is Event.REFUSED else Status.STOPPING
    return Receipt.from_wire(
        {
            "v": 1,
            "aud": node.aud,
            "runner": node.name,
            "seq": seq,
            "prev": prev,
            "job": end.signed_digest or end.digest,
            "job_id": end.job_id,
            "attempt": end.start,
            "status": advance(held, outcome.event).value,
            "reason": outcome.reason,
            "exit_code": outcome.exit_code,
            "started_at": to_ms(end.started_at),
            "ended_at": to_ms(end.ended_at),
            "inputs": [
                {"name": one.name, "from": one.source, "sha256": one.sha256}
                for one in end.inputs
            ],
            "stdout": dict(outcome.stdout),
            "stderr": dict(outcome.stderr),
            "result": dict(ResultDigest.of(outcome.result.encode())),
            "sandbox": outcome.sandbox,
            "software": node.software,
        }
    )


def _outcome_to_json(end: _Conclusion) -> str:
    outcome = end.outcome
    if outcome.reason == GIVEN_UP:
        return "null"
    return json.dumps(
        {
            "digest": end.digest,
            "event": outcome.event.value,
            "at": to_ms(end.ended_at),
            "reason": outcome.reason,
            "exit_code": outcome.exit_code,
            "result": outcome.result,
            "if_attempt": end.if_attempt,
            "retry_at": to_ms(end.retry_at),
            "unsent": _unsent_to_wire(outcome.unsent),
        },
        ensure_ascii=False,
    )


def _hand_over(entry: Entry, node: Node) -> None:
    outcome = json.loads(entry.outcome)
    if outcome is not None:
        _send_rest(outcome, node)
        change = Change(
            event=Event(outcome["event"]),
            at=from_ms(outcome["at"]),
            reason=outcome["reason"],
            ran_on=node.name,
            exit_code=outcome["exit_code"],
            result=outcome["result"],
            receipt=entry.envelope,
            if_attempt=outcome["if_attempt"],
        )
        if not _starts_again(outcome, node):
            _apply(outcome["digest"], change, node)
    node.journal.delivered(node.name, entry.seq)


def _starts_again(outcome: Mapping[str, Any], node: Node) -> bool:
    """Put a step that failed back into its queue, if it may start again.

    Its receipt stays in the journal, as that of every start but the last.
    """
    # An outcome that an earlier version kept has none.
    again = outcome.get("retry_at")
    if again is None:
        return False
    change = Change(
        event=Event.REQUEUED,
        at=from_ms(outcome["at"]),
        not_before=from_ms(again),
        if_attempt=outcome["if_attempt"],
    )
    try:
        node.store.apply(outcome["digest"], change)
    except (IllegalTransition, NotFoundError):
        # Somebody has asked for its end meanwhile, or it was given up.
        return False
    return True


def _send_rest(outcome: Mapping[str, Any], node: Node) -> None:
    """Complete the log of a start that has not been settled."""
    # An outcome that an earlier version kept has none.
    unsent = outcome.get("unsent")
    if unsent is None:
        return
    digest = outcome["digest"]
    try:
        record = node.store.get(digest)
    except NotFoundError:
        return
    if record.attempt != outcome["if_attempt"] or record.status in TERMINAL:
        return
    before, chunks = (list(_unpack(unsent[name])) for name in ("before", "chunks"))
    try:
        there = _count_there([*before, *chunks], digest, node)
        # A log that has lost even what it took gets at least the rest.
        node.logs.append(digest, [*before, *chunks][there or len(before) :])
    except DamagedError:
        # What became of the job counts for more than its lines.
        _logger.warning("lines of output lost", digest=digest, lines=len(chunks))


def _count_there(chunks: Sequence[Chunk], digest: str, node: Node) -> int:
    """Return how many of these chunks the log already ends with.

    An answer may have been lost, and so may this process between two of its calls.
    """
    wanted = [_shown(chunk) for chunk in chunks]
    last: deque[_Shown] = deque(maxlen=len(wanted))
    after = None
    while page := node.logs.read(digest, after=after, limit=_LOG_PAGE):
        last += ((to_ms(line.at), line.stream, line.text) for line in page)
        after = page[-1].cursor
    found = list(last)
    for start, line in enumerate(found):
        if line == wanted[0] and found[start:] == wanted[: len(found) - start]:
            return len(found) - start
    return 0


def _shown(chunk: Chunk) -> _Shown:
    text = chunk.data.decode("utf-8", "replace").removesuffix("\n")
    return to_ms(chunk.at), chunk.stream, text


def _unsent_to_wire(unsent: Unsent | None) -> Mapping[str, object] | None:
    if unsent is None:
        return None
    return {"before": _pack(unsent.before), "chunks": _pack(unsent.chunks)}


def _pack(chunks: Sequence[Chunk]) -> list[tuple[int, str, str]]:
    """Return chunks as JSON; whole lines of one moment stand together."""
    packed: list[tuple[int, Stream, bytearray]] = []
    for chunk in chunks:
        at = to_ms(chunk.at)
        if (
            packed
            and packed[-1][:2] == (at, chunk.stream)
            and packed[-1][2][-1:] == b"\n"
        ):
            packed[-1][2].extend(chunk.data)
        else:
            packed.append((at, chunk.stream, bytearray(chunk.data)))
    return [
        (at, stream.value, base64.b64encode(data).decode())
        for at, stream, data in packed
    ]


def _unpack(packed: Iterable[tuple[int, str, str]]) -> Iterator[Chunk]:
    for at, stream, data in packed:
        for line in _LINE.findall(base64.b64decode(data)):
            yield Chunk(at=from_ms(at), stream=Stream(stream), data=line)


def _apply(digest: str, change: Change, node: Node) -> None:
    try:
        node.store.apply(digest, change)
    except (IllegalTransition, NotFoundError):
        # It ended otherwise, was told already, or was deleted: a terminal status
        # never changes.
        _logger.info("record has moved on", digest=digest, told=change.event.value)


def _digest_of_unreadable(envelope: str) -> str:
    raw = envelope.encode("utf-8", "surrogatepass")
    return hashlib.sha256(_UNREADABLE + raw).hexdigest()
