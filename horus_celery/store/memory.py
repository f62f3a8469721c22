"""The store in memory, for tests: the promises as plain code."""

from __future__ import annotations

import re
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from operator import attrgetter
from typing import Final, TypeVar

from horus_celery.errors import (
    ClaimError,
    IdTaken,
    IllegalTransition,
    MalformedError,
    NotFoundError,
    UnavailableError,
)
from horus_celery.instants import from_ms, to_ms
from horus_celery.lifecycle import TERMINAL, TRANSITIONS, Event, Status, advance
from horus_celery.record import LEASE, Change, Record, Summary
from horus_celery.store.base import (
    CLOCK_SKEW,
    MAX_LISTED,
    STOP_KEPT,
    Ahead,
    ArchivedReceipt,
    Bell,
    Chunk,
    Filter,
    Hears,
    Histogram,
    LogLine,
    StopPage,
    Tally,
    Watch,
    bell_of,
)
from horus_celery.store.keys import step
from horus_celery.store.runner_bell import note_put_off

_CURSOR: Final = re.compile(r"([0-9]{1,18})-0", re.ASCII)
_T = TypeVar("_T")


class MemoryWakes:
    """A `Wakes` within this process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watches: defaultdict[str, set[_MemoryWatch]] = defaultdict(set)
        self._is_closed = False

    @contextmanager
    def watch(self, digest: str, *, hears: Hears = Hears.ALL) -> Iterator[Watch]:
        watch = _MemoryWatch(self, hears)
        with self._changed:
            self._watches[digest].add(watch)
        try:
            yield watch
        finally:
            with self._changed:
                self._watches[digest].discard(watch)

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def wake(self, digest: str, *, goes_on: bool = False) -> None:
        """Tell the watches of a job that something changed.

        Args:
            digest: The job.
            goes_on: Whether it is not over.
        """
        self._tell(digest, {Hears.ALL} if goes_on else {Hears.ALL, Hears.END})

    def recall(self, digest: str) -> None:
        """Tell whoever runs a job to stop, or that it has it no longer."""
        self._tell(digest, {Hears.RECALL})

    def wake_one(self, watch: _MemoryWatch) -> None:
        """Have one watch look again."""
        with self._changed:
            watch.has_changed = True
            self._changed.notify_all()

    def wait(self, watch: _MemoryWatch, timeout: timedelta) -> bool:
        """Wait for one watch, as `Watch.wait` promises."""
        with self._changed:
            self._changed.wait_for(
                lambda: watch.has_changed or self._is_closed, timeout.total_seconds()
            )
            changed, watch.has_changed = watch.has_changed, False
            return changed and not self._is_closed

    def _tell(self, digest: str, whom: Collection[Hears]) -> None:
        with self._changed:
            for watch in self._watches[digest]:
                if watch.hears in whom:
                    watch.has_changed = True
            self._changed.notify_all()


class _MemoryWatch:
    def __init__(self, wakes: MemoryWakes, hears: Hears) -> None:
        self.hears = hears
        self.has_changed = False
        self._wakes = wakes

    def wait(self, timeout: timedelta) -> bool:
        return self._wakes.wait(self, timeout)

    def wake(self) -> None:
        self._wakes.wake_one(self)


class MemoryLogs:
    """A `LogStore` within this process."""

    def __init__(self, wakes: MemoryWakes | None = None) -> None:
        #: Set it to see what others do when the store does not answer.
        self.is_away = False
        self._wakes = wakes or MemoryWakes()
        self._chunks: defaultdict[str, list[Chunk]] = defaultdict(list)

    def append(self, digest: str, chunks: Iterable[Chunk]) -> None:
        self._answer()
        self._chunks[digest].extend(
            replace(chunk, at=_whole_ms(chunk.at)) for chunk in chunks
        )
        self._wakes.wake(digest, goes_on=True)

    def read(self, digest: str, *, after: str | None, limit: int) -> Sequence[LogLine]:
        self._answer()
        start = 0
        if after is not None:
            cursor = _CURSOR.fullmatch(after)
            if cursor is None:
                raise MalformedError("schema.after", "after is no cursor of a log line")
            start = int(cursor[1])
        chunks = self._chunks[digest][start : start + limit]
        return [
            LogLine(
                cursor=f"{number}-0",
                at=chunk.at,
                stream=chunk.stream,
                text=chunk.data.decode("utf-8", "replace").removesuffix("\n"),
                ends_line=chunk.data.endswith(b"\n"),
            )
            for number, chunk in enumerate(chunks, start + 1)
        ]

    def delete(self, digest: str) -> None:
        """Forget the lines of a job."""
        self._chunks.pop(digest, None)

    def _answer(self) -> None:
        if self.is_away:
            raise UnavailableError("the store in memory was told to be away")


@dataclass(slots=True, kw_only=True)
class _Entry:
    record: Record
    #: When its latest bell was rung or it was queued; None while it waits to be due.
    rung_at: datetime | None
    lease_until: datetime | None = None
    #: The latest changes: what is sent again is sent again at once.
    changes: deque[Change] = field(default_factory=lambda: deque(maxlen=4))


class MemoryStore:
    """A `RecordStore` within this process."""

    def __init__(
        self,
        *,
        wakes: MemoryWakes | None = None,
        logs: MemoryLogs | None = None,
        ring: Callable[[str, str, int], None] = lambda job_id, queue, priority: None,
    ) -> None:
        #: Set it to see what others do when the store does not answer.
        self.is_away = False
        self._ring_runner = ring
        #: What was rung for coordinators: workflow and job.
        self.bells: list[tuple[str, str]] = []
        self._wakes = wakes or MemoryWakes()
        self._logs = logs or MemoryLogs(self._wakes)
        self._lock = threading.RLock()
        #: In the order in which the jobs were recorded.
        self._entries: dict[str, _Entry] = {}
        self._archive: list[ArchivedReceipt] = []
        #: Of stopped jobs: the place of the stop among the others, and until when it is
        #: kept.
        self._stopped: dict[str, tuple[int, datetime]] = {}
        self._stops = 0
        self._ended: Counter[tuple[str, str, str]] = Counter()
        self._swept: Counter[str] = Counter()
        #: How long it took each time, by executor.
        self._waited: defaultdict[str, list[timedelta]] = defaultdict(list)
        self._ran: defaultdict[str, list[timedelta]] = defaultdict(list)

    def add(
        self,
        summary: Summary,
        envelope: str,
        *,
        at: datetime,
        priority: int,
        not_before: datetime | None,
        queue: str | None,
        rings: bool = False,
    ) -> Record:
        with self._answering():
            known = self._entries.get(summary.digest)
            if known is None:
                self._refuse_a_taken_id(summary)
                known = self._entries[summary.digest] = _Entry(
                    record=Record(
                        summary=summary,
                        envelope=envelope,
                        status=Status.CREATED,
                        priority=priority,
                        not_before=None
                        if not_before is None
                        else _whole_ms(not_before),
                        created_at=_whole_ms(at),
                    ),
                    rung_at=None,
                )
                if summary.digest in self._stopped:
                    known.record = _changed(
                        known.record, Change(event=Event.STOP_ASKED, at=at)
                    )
                    self._ring(known.record)
            may_queue = queue is not None and summary.digest not in self._stopped
            if may_queue and known.record.status is Status.CREATED:
                self._change(known, Change(event=Event.QUEUED, at=at, queue=queue))
                if rings and queue is not None:
                    self._tell_runner(summary.id, queue, priority)
            self._wakes.wake(summary.digest, goes_on=not known.record.is_over)
            return known.record

    def adopt(self, record: Record) -> None:
        with self._answering():
            digest = record.summary.digest
            if digest not in self._entries:
                self._refuse_a_taken_id(record.summary)
                self._entries[digest] = _Entry(record=record, rung_at=None)
                self._wakes.wake(digest)

    def get(self, digest: str, *, contexts: frozenset[str] | None = None) -> Record:
        with self._answering():
            return self._entry(digest, contexts).record

    def named(
        self, job_id: str, *, contexts: frozenset[str] | None = None
    ) -> tuple[Record, ...]:
        with self._answering():
            records = (entry.record for entry in self._entries.values())
            return tuple(
                record
                for record in records
                if record.summary.id == job_id and _is_of(contexts, record.summary)
            )

    def apply(self, digest: str, change: Change) -> Record:
        with self._answering():
            entry = self._entry(digest)
            if change in entry.changes:
                return entry.record
            holder = entry.record.attempt if entry.record.is_held else None
            if change.if_attempt not in {None, holder}:
                raise IllegalTransition(entry.record.status, change.event)
            advance(entry.record.status, change.event)
            if change.event is Event.CLAIMED and digest in self._stopped:
                raise ClaimError(
                    "claim.stopped", "the job was stopped for good", digest=digest
                )
            was_held = entry.record.is_held
            self._change(entry, change)
            entry.changes.append(change)
            self._wakes.wake(digest, goes_on=not entry.record.is_over)
            # Of these two it is the holder who tells.
            if was_held and change.event not in {Event.COMPLETED, Event.STOPPED}:
                self._wakes.recall(digest)
            return entry.record

    def note(self, digest: str, change: Change, lines: Sequence[Chunk] = ()) -> None:
        with self._answering():
            is_known = change in self._entry(digest).changes
            self.apply(digest, change)
            if not is_known:
                self._logs.append(digest, lines)

    def stop(self, digest: str, *, at: datetime, expires_at: datetime) -> Record | None:
        with self._answering():
            if digest not in self._stopped:
                self._stops += 1
            place, until = self._stopped.get(digest, (self._stops, at))
            until = max(until, expires_at + STOP_KEPT)
            self._stopped[digest] = (place, until)
            self._stopped = {
                each: kept for each, kept in self._stopped.items() if kept[1] >= at
            }
            entry = self._entries.get(digest)
            if (
                entry is not None
                and (entry.record.status, Event.STOP_ASKED) in TRANSITIONS
            ):
                self._change(entry, Change(event=Event.STOP_ASKED, at=at))
            self._wakes.wake(digest)
            self._wakes.recall(digest)
            return None if entry is None else entry.record

    def stops(self, *, after: str | None, limit: int) -> StopPage:
        with self._answering():
            places = sorted((place, one) for one, (place, _) in self._stopped.items())
            start = int(after or 0)
            if not places or places[-1][0] < start:
                start = 0
            page = [each for each in places if each[0] > start][:limit]
            return StopPage(
                digests=tuple(digest for _, digest in page),
                next=str(page[-1][0] if page else start),
            )

    def delete(self, digest: str) -> None:
        with self._answering():
            entry = self._entries.get(digest)
            if entry is not None and not entry.record.is_over:
                raise IllegalTransition(entry.record.status, "deleted")
            self._forget(digest)

    def list(
        self,
        wanted: Filter,
        *,
        limit: int,
        after: str | None = None,
        max_text: int = MAX_LISTED,
    ) -> tuple[Record, ...]:
        with self._answering():
            newest_first = list(reversed(self._entries))
            if after is not None:
                self._entry(after, wanted.contexts)
                newest_first = newest_first[newest_first.index(after) + 1 :]
            records = (self._entries[digest].record for digest in newest_first)
            agreeing = (each for each in records if wanted.has(each))
            return tuple(_until_full(islice(agreeing, limit), max_text))

    def counts(self, contexts: frozenset[str] | None = None) -> Mapping[Status, int]:
        with self._answering():
            counts = dict.fromkeys(Status, 0)
            for entry in self._entries.values():
                counts[entry.record.status] += _is_of(contexts, entry.record.summary)
            return counts

    def require_writable(self) -> None:
        with self._answering():
            return

    def queue_lengths(
        self, queues: Sequence[str], *, contexts: frozenset[str] | None = None
    ) -> Mapping[str, int]:
        with self._answering():
            standing = self._standing(contexts)
            return {queue: standing[queue] for queue in queues}

    def standing(
        self, *, limit: int, contexts: frozenset[str] | None = None
    ) -> Mapping[str, int]:
        with self._answering():
            found = self._standing(contexts)
            longest = sorted(found.items(), key=lambda one: (-one[1], one[0]))
            return dict(longest[:limit])

    def ahead(
        self, digest: str, *, limit: int, contexts: frozenset[str] | None = None
    ) -> Ahead:
        with self._answering():
            entry = self._entries.get(digest)
            if entry is None or entry.record.status is not Status.QUEUED:
                return Ahead(count=0, is_all=True)
            own = entry.record
            order = sorted(
                (step(one.priority), rung_at, one.summary.digest)
                for one in self._queued()
                if one.queue == own.queue and step(one.priority) <= step(own.priority)
                if (rung_at := self._entries[one.summary.digest].rung_at) is not None
            )
            digests = [other for *_, other in order]
            place = digests.index(digest) if digest in digests else len(digests)
            count = sum(
                _is_of(contexts, self._entries[other].record.summary)
                for other in digests[: min(place, limit)]
            )
            return Ahead(count=count, is_all=place < limit)

    def running_on(
        self, runners: Sequence[str], *, contexts: frozenset[str] | None = None
    ) -> Mapping[str, int]:
        with self._answering():
            records = (entry.record for entry in self._entries.values())
            held = Counter(
                record.ran_on
                for record in records
                if record.is_held and _is_of(contexts, record.summary)
            )
            return {runner: held[runner] for runner in runners}

    def tally(self) -> Tally:
        with self._answering():
            return Tally(
                ended=dict(self._ended),
                waited={
                    name: Histogram.of(each) for name, each in self._waited.items()
                },
                ran={name: Histogram.of(each) for name, each in self._ran.items()},
                swept=dict(self._swept),
            )

    def count_swept(self, found: Mapping[str, int]) -> None:
        with self._answering():
            self._swept.update(found)

    def finished(self, *, before: datetime, limit: int) -> tuple[str, ...]:
        with self._answering():
            over = sorted(
                (record.ended_at, record.summary.digest)
                for record in (entry.record for entry in self._entries.values())
                if record.ended_at is not None and record.ended_at < before
            )
            return tuple(digest for _, digest in over[:limit])

    def retire(self, digest: str) -> bool:
        with self._answering():
            entry = self._entries.get(digest)
            if entry is None:
                return False
            record = entry.record
            if not record.is_over:
                raise IllegalTransition(record.status, "retired")
            if record.receipt is not None:
                kept = ArchivedReceipt(
                    digest=digest,
                    job_id=record.summary.id,
                    context_id=record.summary.context_id,
                    receipt=record.receipt,
                )
                self._archive.append(kept)
            self._forget(digest)
            return True

    def archived(
        self, job_id: str, *, contexts: frozenset[str] | None = None
    ) -> tuple[ArchivedReceipt, ...]:
        with self._answering():
            found = (
                kept
                for kept in self._archive
                if job_id in {kept.job_id, kept.digest} and _is_of(contexts, kept)
            )
            return tuple(sorted(found, key=attrgetter("context_id", "digest")))

    def renew(self, digest: str, *, attempt: int, lease_until: datetime) -> Status:
        with self._answering():
            if digest in self._stopped and digest not in self._entries:
                return Status.STOPPING
            entry = self._entry(digest)
            if not entry.record.is_held or entry.record.attempt != attempt:
                raise IllegalTransition(entry.record.status, "renewed")
            entry.lease_until = lease_until
            if digest in self._stopped:
                entry.record = replace(entry.record, status=Status.STOPPING)
            return entry.record.status

    def abandoned(self, *, at: datetime, limit: int) -> tuple[str, ...]:
        with self._answering():
            usual = at + LEASE
            for entry in self._entries.values():
                until = entry.lease_until
                if until is not None and until > usual + CLOCK_SKEW:
                    entry.lease_until = usual
            late = sorted(
                (entry.lease_until, digest)
                for digest, entry in self._entries.items()
                if entry.lease_until is not None and entry.lease_until < at
            )
            return tuple(digest for _, digest in late[:limit])

    def expired(self, *, at: datetime, limit: int) -> tuple[str, ...]:
        with self._answering():
            late = sorted(
                (record.summary.expires_at, record.summary.digest)
                for record in (entry.record for entry in self._entries.values())
                if record.status in {Status.CREATED, Status.QUEUED}
                and record.summary.expires_at <= at
            )
            return tuple(digest for _, digest in late[:limit])

    def due(self, *, at: datetime, limit: int) -> tuple[Bell, ...]:
        with self._answering():
            waiting = sorted(
                (record.not_before, record.summary.digest)
                for record in self._queued()
                if record.not_before is not None
                and record.not_before <= at
                and self._entries[record.summary.digest].rung_at is None
            )
            return tuple(self._bell(digest) for _, digest in waiting[:limit])

    def rung(self, digest: str, *, at: datetime, queue: str) -> None:
        with self._answering():
            entry = self._entries.get(digest)
            if entry is not None and entry.record.status is Status.QUEUED:
                entry.rung_at = _whole_ms(at)
                entry.record = replace(entry.record, queue=queue)

    def silent(
        self, *, before: datetime, limit: int, after: datetime | None = None
    ) -> tuple[Bell, ...]:
        with self._answering():
            rows: defaultdict[tuple[str, int], list[tuple[datetime, str]]]
            rows = defaultdict(list)
            for record in self._queued():
                digest = record.summary.digest
                rung_at = self._entries[digest].rung_at
                if rung_at is None:
                    continue
                if rung_at < before or (after is not None and rung_at > after):
                    row = rows[str(record.queue), step(record.priority)]
                    row.append((rung_at, digest))
            longest = sorted(
                each for row in rows.values() for each in sorted(row)[:limit]
            )
            return tuple(self._bell(digest) for _, digest in longest)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        if self.is_away:
            raise UnavailableError("the store in memory was told to be away")
        with self._lock:
            yield

    def _entry(self, digest: str, contexts: frozenset[str] | None = None) -> _Entry:
        entry = self._entries.get(digest)
        if entry is None or not _is_of(contexts, entry.record.summary):
            raise NotFoundError(f"there is no job with the digest {digest}")
        return entry

    def _forget(self, digest: str) -> None:
        self._entries.pop(digest, None)
        self._logs.delete(digest)
        self._wakes.wake(digest)

    def _refuse_a_taken_id(self, summary: Summary) -> None:
        for entry in self._entries.values():
            other = entry.record.summary
            if (other.id, other.context_id) == (summary.id, summary.context_id):
                raise IdTaken(summary.id, summary.context_id)

    def _change(self, entry: _Entry, change: Change) -> None:
        before = entry.record
        after = entry.record = _changed(before, change)
        self._count(before, after)
        if after.is_over:
            self._ring(after)
        if change.event is Event.QUEUED and before.not_before is None:
            entry.rung_at = entry.record.queued_at
        if change.event is Event.REQUEUED:
            is_to_wait = change.not_before is not None
            entry.rung_at = None if is_to_wait else entry.record.queued_at
        if change.event is Event.CLAIMED:
            entry.lease_until = change.lease_until or change.at + LEASE
        if not entry.record.is_held:
            entry.lease_until = None

    def _tell_runner(self, job_id: str, queue: str, priority: int) -> None:
        try:
            self._ring_runner(job_id, queue, priority)
        except UnavailableError as error:
            note_put_off(job_id, error.detail)

    def _ring(self, record: Record) -> None:
        if record.summary.manifest is not None:
            self.bells.append((record.summary.manifest, record.summary.digest))

    def _count(self, before: Record, after: Record) -> None:
        executor = after.summary.executor
        if after.status is Status.RUNNING and before.queued_at is not None:
            ready = max(before.queued_at, before.not_before or before.queued_at)
            self._waited[executor].append(_between(ready, after.started_at))
        if after.is_over:
            if before.is_held:
                self._ran[executor].append(_between(before.started_at, after.ended_at))
            self._ended[executor, after.status.value, after.reason or ""] += 1

    def _standing(self, contexts: frozenset[str] | None) -> Counter[str]:
        return Counter(
            str(record.queue)
            for record in self._queued()
            if self._entries[record.summary.digest].rung_at is not None
            and _is_of(contexts, record.summary)
        )

    def _queued(self) -> Iterator[Record]:
        for entry in self._entries.values():
            if entry.record.status is Status.QUEUED:
                yield entry.record

    def _bell(self, digest: str) -> Bell:
        entry = self._entries[digest]
        return bell_of(entry.record, rung_at=entry.rung_at)


def _changed(record: Record, change: Change) -> Record:
    status = advance(record.status, change.event)
    at = _whole_ms(change.at)
    is_queued = change.event in {Event.QUEUED, Event.REQUEUED}
    return replace(
        record,
        status=status,
        queue=_queue(record, change) if is_queued else record.queue,
        queued_at=at if is_queued else record.queued_at,
        started_at=at if change.event is Event.CLAIMED else record.started_at,
        ended_at=at if status in TERMINAL else record.ended_at,
        reason=_or(change.reason, record.reason),
        not_before=_whole_or(change.not_before, record.not_before),
        attempt=_or(change.attempt, record.attempt),
        ran_on=_or(change.ran_on, record.ran_on),
        exit_code=_or(change.exit_code, record.exit_code),
        result=_or(change.result, record.result),
        receipt=_or(change.receipt, record.receipt),
    )


def _queue(record: Record, change: Change) -> str:
    return change.queue or record.queue or record.summary.executor


def _or(fact: _T | None, known: _T) -> _T:
    return known if fact is None else fact


def _whole_or(fact: datetime | None, known: datetime | None) -> datetime | None:
    return known if fact is None else _whole_ms(fact)


def _until_full(records: Iterable[Record], max_text: int) -> Iterator[Record]:
    for record in records:
        yield record
        max_text -= record.length
        if max_text <= 0:
            return


def _is_of(contexts: frozenset[str] | None, said: Summary | ArchivedReceipt) -> bool:
    return contexts is None or said.context_id in contexts


def _between(start: datetime | None, end: datetime | None) -> timedelta:
    return (
        timedelta(0) if start is None or end is None else max(end - start, timedelta(0))
    )


def _whole_ms(at: datetime) -> datetime:
    """Return the moment as the wire and Redis have it."""
    return from_ms(to_ms(at))
