"""The supervisor: admits jobs, has them run, and answers for what became of them."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

from horus_celery import __version__, admission, parcels, routing
from horus_celery.clock import Clock
from horus_celery.dispatch import Dispatcher
from horus_celery.errors import (
    ConfigurationError,
    IdAmbiguous,
    NotFoundError,
    NotOverError,
    ReceiptError,
    RefusedError,
    UnavailableError,
)
from horus_celery.holdup import Holdup, holdup_of
from horus_celery.journal import Journal
from horus_celery.lifecycle import Event, Status
from horus_celery.mismatches import Mismatches, Place
from horus_celery.parcels import Parcel
from horus_celery.proof import Proofs, Shown, disbelieved, job_of
from horus_celery.record import Change, Record, Summary
from horus_celery.registry import Registry, Roster
from horus_celery.statements import dsse
from horus_celery.statements.trust import ALL, RunnerEntry, Trust
from horus_celery.stops import Stops
from horus_celery.store.base import (
    Filter,
    Hears,
    LogLine,
    LogStore,
    RecordStore,
    Wakes,
    Watch,
)
from horus_celery.store.runner_bell import note_put_off
from horus_celery.wholelog import WholeLog, read_whole_log

#: How long `delete` waits for a running job beyond the time that it has to end in.
_END_OF_STOPPED: Final = timedelta(seconds=10)
#: How many queues are shown with their lengths besides those that runners serve:
#: callers name others.
MAX_QUEUES: Final = 1000
#: How many sets of contexts have their view of the bundle remembered.
_MAX_NARROWED: Final = 256
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_T = TypeVar("_T")
_Model = TypeVar("_Model", Trust, RunnerEntry)


class TrustSource(Protocol):
    """Where the trust bundle is read."""

    def current(self) -> Trust:
        """Return the bundle that counts now."""
        ...

    def envelope(self) -> str:
        """Return the bundle as the root signed it, as JSON text."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one supervisor process takes on."""

    #: Largest body of one job.
    max_job_bytes: int = dsse.MAX_BODY
    #: Callers that may wait at a time; the server has some more threads than this.
    max_waiters: int = 224
    #: What a script has to end in when its job is stopped.
    stop_grace: timedelta = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a job ended, with the end of its error output if that was not well."""

    record: Record
    #: At most `wholelog.MAX_TAIL` characters; none of a log that was not signed.
    stderr_tail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """Some lines of a job's output."""

    lines: Sequence[LogLine]
    #: Where the next page begins.
    next: str | None
    #: Nothing lies behind these lines, and nothing will.
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What a supervisor says of itself."""

    name: str
    namespace: str
    version: str
    uptime: timedelta
    counts: Mapping[Status, int]
    #: How many jobs stand in each queue that runners serve, and in each other that has
    #: any: the longest `MAX_QUEUES` of those.
    queues: Mapping[str, int]


class Supervisor:
    """One supervisor process; its methods may be called by many threads at once.

    It may be bound to contexts: what lies outside them does not exist for it then.
    """

    def __init__(
        self,
        *,
        store: RecordStore,
        logs: LogStore,
        wakes: Wakes,
        dispatcher: Dispatcher,
        registry: Registry,
        trust: TrustSource,
        journal: Journal,
        clock: Clock,
        namespace: str,
        beat_clock: Clock | None = None,
        limits: Limits | None = None,
        name: str = "supervisor",
        herodb: Callable[[str], None] | None = None,
    ) -> None:
        self._store = store
        self._logs = logs
        self._wakes = wakes
        self._dispatcher = dispatcher
        self._roster = Roster(registry, trust, beat_clock or clock)
        self._trust = trust
        self._proofs = Proofs()
        #: What was found in the store that no runner signed, since the process began.
        self.mismatches = Mismatches()
        self._journal = journal
        self._stops = Stops(journal, store)
        self._clock = clock
        self._namespace = namespace
        self._limits = limits or Limits()
        self._name = name
        self._since = clock.now()
        #: Sees that a context has its part of HeroDB; whether it does changes nothing.
        self._herodb = herodb
        self._waiters = threading.BoundedSemaphore(self._limits.max_waiters)
        self._is_closed = threading.Event()
        #: None is all of them.
        self._contexts: frozenset[str] | None = None
        #: The bundle as each set of contexts shows it, with the one it was made of.
        self._narrowed: dict[frozenset[str], tuple[Trust, Trust]] = {}

    def within(self, contexts: frozenset[str] | None) -> Supervisor:
        """Return this supervisor, bound to contexts; None binds it to none.

        Whatever lies in other contexts is answered like what does not exist, in words
        and in the number of ways to the store.
        """
        if contexts is None:
            return self
        bound = copy(self)
        vars(bound).update(_contexts=contexts)
        return bound

    def close(self) -> None:
        """Send every waiter away with `NotOverError`; nobody can wait any more."""
        self._is_closed.set()
        self._wakes.close()
        self._journal.close()

    # --- jobs come in ----------------------------------------------------------

    def create(
        self, job: object, *, priority: int, not_before: datetime | None
    ) -> Record:
        """Admit a job and record it; the same envelope again is the same record.

        Args:
            job: The envelope, as parsed JSON.
            priority: 0 (first) to 9 (last).
            not_before: When it may start at the earliest.

        Raises:
            RefusedError: with the reason code; nothing is recorded.
            IdTaken: if its context has another job of this id.
        """
        envelope = self._read(job)
        return self._add(
            envelope, priority=priority, not_before=not_before, queue=False
        )

    def create_and_queue(
        self,
        job: object,
        *,
        priority: int,
        not_before: datetime | None,
        upstream: Sequence[object] = (),
    ) -> Record:
        """Admit, record and queue a job in one step; arguments as in `create`.

        Args:
            job: The envelope, as parsed JSON.
            priority: 0 (first) to 9 (last).
            not_before: When it may start at the earliest.
            upstream: Jobs that it builds on and that completed at another supervisor,
                as parsed JSON (see `parcels`).

        Raises:
            RefusedError: as `create`; `input.*` if it is not proven that they did.
            IdTaken: as `create`.
        """
        return self._add(
            self._read(job),
            priority=priority,
            not_before=not_before,
            queue=True,
            upstream=upstream,
        )

    def run(
        self,
        job: object,
        *,
        priority: int,
        not_before: datetime | None,
        wait: timedelta,
    ) -> Ending:
        """Create and queue a job, wait for its end, and return how it ended.

        Raises:
            NotOverError: if it is not over in time; it runs on.
        """
        envelope = self._read(job)
        # Watched before it is there, so it need not be looked at again at once.
        with self._wakes.watch(envelope.digest, hears=Hears.END) as watch:
            record = self._add(
                envelope, priority=priority, not_before=not_before, queue=True
            )
            return self._ending(self._end_of(record, watch, wait))

    def start(self, job_id: str) -> Record:
        """Queue a job that was only created.

        Raises:
            IllegalTransition: if it is further already.
        """
        now = self._clock.now()
        record = self._find(job_id)
        queue = self._queue_of(record.summary)
        self._recall(record.summary, now=now)
        change = Change(event=Event.QUEUED, at=now, queue=queue)
        record = self._store.apply(record.summary.digest, change)
        self._ring(record, now=now)
        return record

    # --- jobs are looked at ----------------------------------------------------

    def status(self, job_id: str) -> Record:
        """Return where a job stands."""
        return self.get(job_id).record

    def get(self, job_id: str) -> Shown:
        """Return a job's record, as far as its signed bytes prove it.

        Args:
            job_id: Its id, or its digest.

        Raises:
            NotFoundError: if there is none.
            IdAmbiguous: if several contexts have a job of this id.
        """
        return self._prove(self._find(job_id))

    def result(self, job_id: str, *, wait: timedelta) -> Ending:
        """Wait for a job's end and return how it ended.

        Raises:
            NotOverError: if it is not over in time.
        """
        return self._ending(self._until_over(self._find(job_id), wait))

    def logs(
        self, job_id: str, *, after: str | None, limit: int, wait: timedelta
    ) -> LogPage:
        """Return output lines behind a cursor, as soon as there are any.

        Waits only while there is neither a line nor an end; then an empty page says
        that the time is over.

        Raises:
            ReceiptError: behind the last line, in place of the page that says so, if
                the lines of all pages are not what the job's runner signed, or nothing
                that is stored proves its end; at once if it is another job's record.
        """
        record = self._find(job_id)
        if self._prove(record).job is None:
            raise _no_output_of(record)
        digest = record.summary.digest
        page = self._page(digest, after=after, limit=limit)
        if page.lines or page.ended or not wait:
            return page
        deadline = time.monotonic() + wait.total_seconds()
        with self.waiter(), self._wakes.watch(digest) as watch:
            while True:
                page = self._page(digest, after=after, limit=limit)
                left = timedelta(seconds=deadline - time.monotonic())
                if page.lines or page.ended or self._is_closed.is_set():
                    return page
                if left <= timedelta(0) or not watch.wait(left):
                    return page

    def receipt(self, job_id: str) -> dsse.Envelope | None:
        """Return the receipt of a job that a runner has ended or refused.

        It is kept when the job's record goes because of its age.

        Raises:
            ReceiptError: if what is stored is no receipt.
        """
        try:
            receipt = self._find(job_id).receipt
        except NotFoundError:
            kept = self._store.archived(job_id, contexts=self._contexts)
            if not kept:
                raise
            # Of a job that was refused when it came again, the last one.
            latest = tuple({one.digest: one for one in kept}.values())
            receipt = _only(job_id, latest, [one.digest for one in latest]).receipt
        if receipt is None:
            return None
        try:
            return dsse.read(receipt, dsse.RECEIPT)
        except RefusedError as refusal:
            raise ReceiptError(
                f"what is stored for job {job_id} is no receipt: {refusal.reason}"
            ) from None

    def why(self, job_id: str) -> Holdup:
        """Return the one thing that holds a job now, or what ended it."""
        record = self.status(job_id)
        return holdup_of(
            record,
            store=self._store,
            roster=self._roster,
            trust=self._trust.current(),
            now=self._clock.now(),
            contexts=self._contexts,
        )

    def list(
        self, wanted: Filter, *, limit: int, after: str | None = None
    ) -> tuple[Shown, ...]:
        """Return matching records, newest first, from behind the job `after`."""
        behind = None if after is None else self._find(after).summary.digest
        if self._contexts is not None:
            if wanted.context_id not in {None, *self._contexts}:
                return ()
            # One that is named is in them: then it is all that has to be looked for.
            contexts = self._contexts if wanted.context_id is None else None
            wanted = replace(wanted, contexts=contexts)
        records = self._store.list(wanted, limit=limit, after=behind)
        trust = self._trust.current()
        return tuple(self._prove(record, trust) for record in records)

    # --- jobs go ---------------------------------------------------------------

    def stop(self, job_id: str) -> Record:
        """Stop a job: from now on it never starts, whatever becomes of its record.

        One that is over stays as it is; stopping it again changes nothing.

        Raises:
            UnavailableError: if this node's journal or the store does not take it; it
                may be in force all the same.
        """
        stopped = self._stop(self._find(job_id))
        if stopped is None:
            raise NotFoundError(f"there is no job {job_id} any more")
        return self._prove(stopped).record

    def delete(self, job_id: str) -> None:
        """Forget a job; it is stopped first, so it never starts again.

        Raises:
            NotOverError: if it runs and its runner does not end it in time.
        """
        record = self._find(job_id)
        stopped = self._stop(record)
        if stopped is not None and not stopped.is_over:
            self._until_over(stopped, self._limits.stop_grace + _END_OF_STOPPED)
        self._store.delete(record.summary.digest)

    # --- the supervisor itself -------------------------------------------------

    def info(self) -> Info:
        """Return what this supervisor is and what it has to do."""
        served = self._store.queue_lengths(self._queues(), contexts=self._contexts)
        # What nobody serves would wait unseen.
        standing = self._store.standing(limit=MAX_QUEUES, contexts=self._contexts)
        return Info(
            name=self._name,
            namespace=self._namespace,
            version=__version__,
            uptime=self._clock.now() - self._since,
            counts=self._store.counts(self._contexts),
            queues={**standing, **served},
        )

    def trust_envelope(self) -> str:
        """Return the trust bundle as the root signed it, as JSON text."""
        return self._trust.envelope()

    def adopt(self, parcel: Parcel) -> None:
        """Keep the record of a job that completed elsewhere, if there is none of it.

        Raises:
            InputError: if it is not proven that it completed so.
            IdTaken: if its context has another job under its id.
        """
        self._store.adopt(parcels.open_own(parcel, trust=self._trust.current()))

    # --- how -------------------------------------------------------------------

    def _read(self, job: object) -> dsse.Envelope:
        return dsse.from_wire(job, dsse.JOB, max_bytes=self._limits.max_job_bytes)

    def _add(
        self,
        envelope: dsse.Envelope,
        *,
        priority: int,
        not_before: datetime | None,
        queue: bool,
        upstream: Sequence[object] = (),
    ) -> Record:
        now = self._clock.now()
        admitted = admission.admit(envelope, self.gate(now))
        summary = admission.summary(admitted)
        if self._herodb is not None and admitted.job.net != "none":
            self._herodb(summary.context_id)
        self._recall(summary, now=now)
        brought = parcels.open_all(
            upstream,
            admitted.job,
            trust=self._trust.current(),
            max_bytes=self._limits.max_job_bytes,
        )
        for one in list(brought):
            self._store.adopt(one)
        # A lost message is rung again for by the sweep, and a doubled one finds the job
        # claimed. For a time that has come already it takes another step.
        record = self._store.add(
            summary,
            admitted.envelope,
            at=now,
            priority=priority,
            not_before=not_before,
            queue=self._queue_of(summary) if queue else None,
            rings=not_before is None,
        )
        if queue and not_before is not None:
            self._ring(record, now=now)
        return record

    def _recall(self, summary: Summary, *, now: datetime) -> None:
        """Have the store know that a job was stopped, if this node does."""
        expires_at = summary.expires_at
        self._stops.recall(summary.digest, at=now, expires_at=expires_at)

    def gate(self, now: datetime) -> admission.Gate:
        """Return what a supervisor checks; who runs it, its runner checks."""
        return admission.Gate(
            aud=self._namespace,
            name=None,
            executors=None,
            contexts=None,
            trust=self._trust_within(),
            now=now,
        )

    def _trust_within(self) -> Trust:
        """Return the bundle without the grants of contexts that do not exist here."""
        trust = self._trust.current()
        if self._contexts is None:
            return trust
        of, narrowed = self._narrowed.get(self._contexts, (None, trust))
        if of is not trust:
            narrowed = _without_grants(trust, self._contexts)
            if len(self._narrowed) >= _MAX_NARROWED:
                self._narrowed.clear()
            self._narrowed[self._contexts] = (trust, narrowed)
        return narrowed

    def _queues(self) -> Sequence[str]:
        """Return the queues that runners serve, but none of a context outside."""
        try:
            trust = self._trust.current()
        except ConfigurationError:
            return ()
        heard = {beat.name: beat.executors for beat in self._roster.list()}
        entries = [
            entry
            for each in trust.runners
            if (entry := _entry_within(each, self._contexts)) is not None
        ]
        seen = _with(trust, runners=tuple(entries))
        queues = {
            queue
            for entry in entries
            for queue in routing.queues_of(
                entry, {*entry.executors, *heard.get(entry.name, ())} - {ALL}, seen
            )
        }
        return sorted(queues)

    def _ring(self, record: Record, *, now: datetime) -> None:
        # Recorded first, rung second: the sweep rings again for a lost message, and a
        # doubled one finds the job claimed. A record that was queued before this call
        # has had its bell; one for later gets it from the sweep.
        if record.status is not Status.QUEUED or _differs(record.queued_at, now):
            return
        if record.not_before is not None and record.not_before > now:
            return
        summary = record.summary
        queue = record.queue or summary.executor
        try:
            self._dispatcher.ring(summary.id, queue, record.priority)
            if record.not_before is not None:
                # Else being queued counts as the bell, which saves a way to the store.
                self._store.rung(summary.digest, at=now, queue=queue)
        except UnavailableError as error:
            # The job is recorded, and the caller is told so; this names what to mend.
            note_put_off(summary.id, error.detail)

    def _queue_of(self, summary: Summary) -> str:
        return routing.queue_of(
            executor=summary.executor,
            runner=summary.runner,
            context_id=summary.context_id,
            trust=self._trust.current(),
        )

    def _find(self, job_id: str) -> Record:
        if _DIGEST.fullmatch(job_id):
            return self._store.get(job_id, contexts=self._contexts)
        records = self._store.named(job_id, contexts=self._contexts)
        if not records:
            raise NotFoundError(f"there is no job {job_id}")
        return _only(job_id, records, [one.summary.digest for one in records])

    @contextmanager
    def waiter(self) -> Iterator[None]:
        """Count the caller among the waiters.

        Raises:
            NotOverError: if too many wait already: each waiter keeps a thread.
        """
        if not self._waiters.acquire(blocking=False):
            raise NotOverError(
                f"{self._limits.max_waiters} callers wait already; ask again later"
            )
        try:
            yield
        finally:
            self._waiters.release()

    def _prove(self, record: Record, trust: Trust | None = None) -> Shown:
        """Return a record as far as its signed bytes prove it, and note a lie."""
        shown = self._proofs.prove(record, trust or self._trust.current())
        if not shown.is_believed:
            self.mismatches.note(record.summary.digest, Place.RECORD)
        return shown

    def _until_over(self, record: Record, wait: timedelta) -> Shown:
        """Wait until a record shows an end.

        Raises:
            NotOverError: if the time is over first.
        """
        shown = self._prove(record)
        if shown.record.is_over:
            return shown
        if not wait:
            raise _not_over(shown.record)
        digest = record.summary.digest
        with self._wakes.watch(digest, hears=Hears.END) as watch:
            # It may have ended while nobody watched.
            return self._end_of(self._store.get(digest), watch, wait)

    def _end_of(self, record: Record, watch: Watch, wait: timedelta) -> Shown:
        """Wait until a record that is watched already shows an end.

        Raises:
            NotOverError: if the time is over first.
        """
        deadline = time.monotonic() + wait.total_seconds()
        shown = self._prove(record)
        if shown.record.is_over:
            return shown
        if not wait:
            raise _not_over(shown.record)
        with self.waiter():
            while True:
                left = timedelta(seconds=deadline - time.monotonic())
                is_told = left > timedelta(0) and watch.wait(left)
                # Looked at although nobody told of an end: who is sent away hears
                # where the job stands now, which may be its end.
                shown = self._prove(self._store.get(record.summary.digest))
                if shown.record.is_over:
                    return shown
                if not is_told:
                    raise _not_over(shown.record)

    def _ending(self, shown: Shown) -> Ending:
        record = shown.record
        if record.status is Status.COMPLETED or not shown.is_believed:
            return Ending(record=record, stderr_tail="")
        log = self._whole_log(shown)
        if log.is_forged:
            return Ending(record=disbelieved(record), stderr_tail="")
        return Ending(record=record, stderr_tail=log.stderr_tail)

    def _whole_log(self, shown: Shown) -> WholeLog:
        """Read the whole log of a job that is over, and note a lie."""
        log = read_whole_log(self._logs, shown)
        if log.is_forged:
            self.mismatches.note(shown.record.summary.digest, Place.LOG)
        return log

    def _bears_out(self, shown: Shown) -> bool:
        """Say whether the log of a job that is over may be all of its output."""
        return shown.is_believed and not self._whole_log(shown).is_forged

    def _page(self, digest: str, *, after: str | None, limit: int) -> LogPage:
        # The record first: whatever was written before its end is read after it.
        record = self._store.get(digest)
        lines = self._logs.read(digest, after=after, limit=limit)
        ended = record.is_over and len(lines) < limit
        if ended and not self._bears_out(self._prove(record)):
            if not lines:
                raise _no_output_of(record)
            # They can be seen; only that they are all is never said of them.
            ended = False
        return LogPage(
            lines=lines, next=lines[-1].cursor if lines else after, ended=ended
        )

    def _stop(self, record: Record) -> Record | None:
        # Also one that is shown as over: whoever can write to the store may have ended
        # it there, and begin it again.
        job = job_of(record)
        return self._stops.stop(
            record.summary.digest,
            at=self._clock.now(),
            expires_at=None if job is None else job.expires_at,
        )


def _without_grants(trust: Trust, contexts: frozenset[str]) -> Trust:
    """Return a bundle as if only these contexts had grants."""
    grants = tuple(one for one in trust.grants if one.context_id in contexts)
    return _with(trust, grants=grants)


def _entry_within(
    entry: RunnerEntry, contexts: frozenset[str] | None
) -> RunnerEntry | None:
    """Return a runner as if only these contexts existed; None if it serves none."""
    if contexts is None or ALL in entry.contexts:
        return entry
    own = tuple(one for one in entry.contexts if one in contexts)
    if not own:
        return None
    return _with(entry, contexts=own)


def _with(model: _Model, **changes: object) -> _Model:
    """Return a statement's part with some fields changed.

    Its parts were checked, and what it computes from them is computed anew: a copy
    would keep that.
    """
    fields = {name: getattr(model, name) for name in type(model).model_fields}
    return type(model).model_construct(**{**fields, **changes})


def _only(job_id: str, found: Sequence[_T], digests: Sequence[str]) -> _T:
    """Return the one that was found by a job's id.

    Raises:
        IdAmbiguous: if jobs of several contexts have it.
    """
    if len(found) > 1:
        raise IdAmbiguous(job_id, tuple(digests))
    return found[0]


def _no_output_of(record: Record) -> ReceiptError:
    return ReceiptError(
        f"the output of job {record.summary.id} that is stored is not what its runner"
        " signed: do not believe it"
    )


def _not_over(record: Record) -> NotOverError:
    return NotOverError(f"job {record.summary.id} is {record.status} still")


def _differs(at: datetime | None, now: datetime) -> bool:
    """Compare as the store keeps it: in whole milliseconds."""
    return at is None or abs(at - now) >= timedelta(milliseconds=1)
