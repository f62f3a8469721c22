"""The store of workflows in memory, for tests: the promises as plain code."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice

from horus_celery.dag.model import Graph
from horus_celery.dag.progress import (
    ENDED,
    ENDS,
    Decision,
    End,
    StepStatus,
    WorkflowStatus,
    decide,
)
from horus_celery.dag.shapes import Strategy
from horus_celery.errors import (
    DamagedError,
    IdTaken,
    NotFoundError,
    UnavailableError,
)
from horus_celery.instants import from_ms, to_ms
from horus_celery.store.base import Histogram
from horus_celery.store.memory import MemoryWakes
from horus_celery.store.workflows import (
    GRACE,
    MAX_HANDED,
    Handed,
    Outline,
    StepEnd,
    StepJob,
    StepRecord,
    Taken,
    WorkflowFilter,
    WorkflowRecord,
    WorkflowTally,
    incomplete,
    not_over,
    step_taken,
)


@dataclass(slots=True, kw_only=True)
class _Step:
    status: StepStatus = StepStatus.PENDING
    reason: str | None = None
    job: StepJob | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class _Entry:
    record: WorkflowRecord
    manifest: str
    graph: Graph
    steps: list[_Step]
    #: When each step that is ready may be handed out.
    ready: dict[int, datetime] = field(default_factory=dict)
    #: When each step that was handed out is looked at again.
    running: dict[int, datetime] = field(default_factory=dict)
    #: The members of each mark.
    marks: dict[str, set[int]] = field(default_factory=dict)


class MemoryWorkflows:
    """A `WorkflowStore` within this process."""

    def __init__(self, wakes: MemoryWakes | None = None) -> None:
        #: Set it to see what others do when the store does not answer.
        self.is_away = False
        #: Digests of workflows of which something was spoilt.
        self.damaged: set[str] = set()
        self._wakes = wakes or MemoryWakes()
        self._lock = threading.RLock()
        #: In the order in which the workflows were recorded.
        self._entries: dict[str, _Entry] = {}
        self._started = 0
        self._ended: Counter[WorkflowStatus] = Counter()
        self._over: Counter[StepStatus] = Counter()
        self._noticed: list[timedelta] = []

    def create(
        self, outline: Outline, manifest: str, graph: Graph, *, at: datetime
    ) -> WorkflowRecord:
        with self._answering():
            known = self._entries.get(outline.digest)
            if known is None:
                self._refuse_a_taken_id(outline)
                known = self._entries[outline.digest] = _Entry(
                    record=WorkflowRecord(
                        outline=replace(
                            outline, expires_at=_whole_ms(outline.expires_at)
                        ),
                        status=WorkflowStatus.CREATED,
                        steps=len(graph),
                        missing=len(graph),
                        left=len(graph),
                        created_at=_whole_ms(at),
                    ),
                    manifest=manifest,
                    graph=graph,
                    steps=[_Step() for _ in graph.names],
                )
            return known.record

    def add_jobs(self, digest: str, jobs: Sequence[StepJob]) -> int:
        with self._answering():
            entry = self._entry(digest)
            for job in jobs:
                had = entry.steps[job.index].job
                if had is not None and had.digest != job.digest:
                    raise step_taken(digest, job.index)
            for job in jobs:
                entry.steps[job.index].job = job
            missing = sum(step.job is None for step in entry.steps)
            entry.record = replace(entry.record, missing=missing)
            return missing

    def start(
        self, digest: str, *, at: datetime, strategy: Strategy = Strategy.REFERENCE
    ) -> WorkflowRecord:
        with self._answering():
            entry = self._entry(digest)
            if entry.record.status is WorkflowStatus.CREATED:
                if entry.record.missing:
                    raise incomplete(digest, entry.record.missing)
                entry.record = replace(
                    entry.record,
                    status=WorkflowStatus.RUNNING,
                    started_at=_whole_ms(at),
                    strategy=strategy,
                )
                self._started += 1
                entry.ready = dict.fromkeys(entry.graph.roots, _from(entry, at))
            return entry.record

    def take(
        self,
        digest: str,
        *,
        at: datetime,
        limit: int,
        until: datetime,
        supervisor: str | None = None,
        ends: Sequence[StepEnd] = (),
    ) -> Taken:
        with self._answering(digest):
            entry = self._entries.get(digest)
            if entry is None:
                return Taken(steps=(), has_more=False, waiting=frozenset())
            done = _completed(entry, ends)
            self.ended(digest, ends, at=at)
            if _is_stopping(entry):
                return Taken(steps=(), has_more=False, waiting=frozenset(), done=done)
            handed: list[Handed] = []
            for index in _due(entry, at, supervisor)[:limit]:
                has_room = len(entry.running) < _most(entry)
                sent = sum(len(one.envelope) for one in handed)
                if not has_room or sent >= MAX_HANDED:
                    break
                handed.append(_hand_out(entry, index, until))
            if handed:
                entry.record = replace(entry.record, strategy=Strategy.REFERENCE)
            waiting: set[str | None] = set()
            if len(entry.running) < _most(entry):
                waiting = {
                    entry.graph.supervisors[index]
                    for index, ready_at in entry.ready.items()
                    if ready_at <= at
                }
            return Taken(
                steps=tuple(handed),
                has_more=supervisor in waiting,
                waiting=frozenset(waiting - {supervisor}),
                done=done,
            )

    def take_step(
        self, digest: str, index: int, *, at: datetime, until: datetime
    ) -> Handed | None:
        with self._answering(digest):
            entry = self._entries.get(digest)
            if entry is None or not _is_by_canvas(entry) or index not in entry.ready:
                return None
            return _hand_out(entry, index, until)

    def mark(self, digest: str, mark: str, member: int) -> int:
        with self._answering(digest):
            entry = self._entries.get(digest)
            if entry is None or entry.record.is_over or not _is_by_canvas(entry):
                return 0
            members = entry.marks.setdefault(mark, set())
            if member in members:
                return 0
            members.add(member)
            return len(members)

    def began(self, digest: str, job: str, *, at: datetime) -> None:
        with self._answering():
            entry = self._entries.get(digest)
            index = None if entry is None else _held(entry, job)
            if entry is not None and index is not None:
                step = entry.steps[index]
                step.started_at = step.started_at or _whole_ms(at)

    def tally(self) -> WorkflowTally:
        with self._answering():
            return WorkflowTally(
                started=self._started,
                ended={one: self._ended[one] for one in ENDED},
                steps={one: self._over[one] for one in ENDS},
                noticed=Histogram.of(self._noticed),
            )

    def postpone(
        self, digest: str, index: int, *, until: datetime, note: str, at: datetime
    ) -> None:
        with self._answering():
            entry = self._entries.get(digest)
            if entry is None or index not in entry.running:
                return
            del entry.running[index]
            entry.steps[index].status = StepStatus.PENDING
            entry.steps[index].reason = note
            entry.steps[index].started_at = None
            if not _is_stopping(entry):
                entry.ready[index] = until
            self._close(entry, at)

    def ended(
        self, digest: str, ends: Sequence[StepEnd], *, at: datetime
    ) -> WorkflowRecord | None:
        with self._answering():
            entry = self._entries.get(digest)
            if entry is None:
                return None
            for end in ends:
                index = _held(entry, end.digest)
                if index is None:
                    continue
                del entry.running[index]
                step = entry.steps[index]
                step.status, step.reason = end.status, end.reason
                step.started_at = _whole_or_none(end.started_at)
                step.ended_at = _whole_ms(end.ended_at)
                self._over[end.status] += 1
                took = _whole_ms(at) - step.ended_at
                self._noticed.append(max(took, timedelta(0)))
                self._spread(entry, index, at)
            self._close(entry, at)
            return entry.record

    def job(self, digest: str, index: int) -> StepJob:
        with self._answering():
            entry = self._entries.get(digest)
            job = None if entry is None else entry.steps[index].job
            if job is None:
                raise NotFoundError(
                    f"step {index} of workflow {digest} has no job here"
                )
            return job

    def digests_of(self, digest: str, indexes: Sequence[int]) -> Mapping[int, str]:
        with self._answering():
            steps = self._entry(digest).steps
            return {
                index: job.digest
                for index in indexes
                if (job := steps[index].job) is not None
            }

    def look(
        self,
        digest: str,
        *,
        at: datetime,
        again_at: datetime,
        limit: int,
        supervisor: str | None = None,
    ) -> Sequence[Handed]:
        with self._answering(digest):
            entry = self._entries.get(digest)
            if entry is None:
                return ()
            order = sorted((look_at, one) for one, look_at in entry.running.items())
            found = [
                one
                for look_at, one in order
                if look_at <= at and entry.graph.supervisors[one] == supervisor
            ]
            for index in found[:limit]:
                entry.running[index] = again_at
            return tuple(
                _handed(entry, index, with_envelope=False) for index in found[:limit]
            )

    def overdue(self, *, at: datetime, limit: int) -> Sequence[str]:
        with self._answering():
            due = sorted(
                (when, digest)
                for digest, entry in self._entries.items()
                if (when := _next(entry)) is not None and when <= at
            )
            return tuple(digest for _, digest in due[:limit])

    def stop(self, digest: str, *, at: datetime) -> WorkflowRecord:
        with self._answering():
            entry = self._entry(digest)
            if not entry.record.is_over and entry.record.stop_at is None:
                entry.ready.clear()
                entry.running = dict.fromkeys(entry.running, at)
                entry.record = replace(
                    entry.record,
                    status=WorkflowStatus.RUNNING,
                    stop_at=_whole_ms(at),
                )
                self._close(entry, at)
            return entry.record

    def delete(self, digest: str) -> None:
        with self._answering(digest):
            entry = self._entries.get(digest)
            if entry is not None and not entry.record.is_over:
                raise not_over(digest, entry.record.status)
            self._entries.pop(digest, None)
            self._wakes.wake(digest)

    def get(self, digest: str) -> WorkflowRecord:
        with self._answering():
            return self._entry(digest).record

    def manifest(self, digest: str) -> str:
        with self._answering():
            return self._entry(digest).manifest

    def steps(self, digest: str) -> Sequence[StepRecord]:
        with self._answering():
            entry = self._entry(digest)
            return tuple(
                _record(entry, index, step) for index, step in enumerate(entry.steps)
            )

    def step(self, digest: str, index: int) -> StepRecord:
        with self._answering():
            entry = self._entry(digest)
            if not 0 <= index < len(entry.steps):
                raise NotFoundError(f"workflow {digest} has no step {index}")
            return _record(entry, index, entry.steps[index])

    def named(
        self, workflow_id: str, *, contexts: frozenset[str] | None = None
    ) -> Sequence[WorkflowRecord]:
        with self._answering():
            records = (entry.record for entry in self._entries.values())
            return tuple(
                one
                for one in records
                if one.outline.id == workflow_id
                and (contexts is None or one.outline.context_id in contexts)
            )

    def list(
        self, wanted: WorkflowFilter, *, limit: int, after: str | None = None
    ) -> Sequence[WorkflowRecord]:
        with self._answering():
            newest_first = list(reversed(self._entries))
            if after is not None:
                self._entry(after)
                newest_first = newest_first[newest_first.index(after) + 1 :]
            records = (self._entries[digest].record for digest in newest_first)
            return tuple(islice(filter(wanted.has, records), limit))

    def finished(self, *, before: datetime, limit: int) -> Sequence[str]:
        with self._answering():
            over = sorted(
                (entry.record.ended_at, digest)
                for digest, entry in self._entries.items()
                if entry.record.ended_at is not None and entry.record.ended_at < before
            )
            return tuple(digest for _, digest in over[:limit])

    @contextmanager
    def _answering(self, digest: str = "") -> Iterator[None]:
        if self.is_away:
            raise UnavailableError("the store in memory was told to be away")
        if digest in self.damaged:
            raise DamagedError(f"workflow {digest} was told to be damaged")
        with self._lock:
            yield

    def _entry(self, digest: str) -> _Entry:
        entry = self._entries.get(digest)
        if entry is None:
            raise NotFoundError(f"there is no workflow with the digest {digest}")
        return entry

    def _refuse_a_taken_id(self, outline: Outline) -> None:
        for entry in self._entries.values():
            other = entry.record.outline
            if (other.id, other.context_id) == (outline.id, outline.context_id):
                raise IdTaken(outline.id, outline.context_id, what="workflow")

    def _spread(self, entry: _Entry, index: int, at: datetime) -> None:
        """Tell the steps behind one that it is over; what is skipped tells its own."""
        if _is_stopping(entry):
            return
        waiting = [index]
        while waiting:
            over = waiting.pop()
            end = ENDS[entry.steps[over].status]
            for child in entry.graph.children[over]:
                step = entry.steps[child]
                if step.status is not StepStatus.PENDING or child in entry.ready:
                    continue
                parents = entry.graph.parents[child]
                left = sum(entry.steps[one].status not in ENDS for one in parents)
                decision = decide(entry.graph.when[child], end, left=left)
                if decision is Decision.START:
                    entry.ready[child] = _from(entry, at)
                elif decision is Decision.SKIP:
                    step.status, step.ended_at = StepStatus.SKIPPED, _whole_ms(at)
                    self._over[StepStatus.SKIPPED] += 1
                    waiting.append(child)

    def _close(self, entry: _Entry, at: datetime) -> None:
        if entry.record.is_over:
            return
        left = sum(step.status not in ENDS for step in entry.steps)
        entry.record = replace(entry.record, left=left)
        if entry.running:
            return
        if left == 0 or entry.record.stop_at is not None:
            outcome = WorkflowStatus.COMPLETED
            if any(map(_fails, entry.steps, entry.graph.on_failure)):
                outcome = WorkflowStatus.FAILED
            if entry.record.stop_at is not None:
                outcome = WorkflowStatus.STOPPED
                self._over[StepStatus.SKIPPED] += left
            entry.record = replace(
                entry.record, status=outcome, left=0, ended_at=_whole_ms(at)
            )
            self._ended[outcome] += 1
            self._wakes.wake(entry.record.outline.digest)


def _is_by_canvas(entry: _Entry) -> bool:
    return entry.record.strategy is Strategy.CANVAS


def _from(entry: _Entry, at: datetime) -> datetime:
    """Return from when on `take` hands out what may start now."""
    return at + GRACE if _is_by_canvas(entry) else at


def _completed(entry: _Entry, ends: Sequence[StepEnd]) -> tuple[int, ...]:
    """Return the steps that complete by these ends, if canvas goes on from them."""
    found = [
        _held(entry, end.digest)
        for end in ends
        if end.status is StepStatus.COMPLETED and _is_by_canvas(entry)
    ]
    return tuple(index for index in found if index is not None)


def _hand_out(entry: _Entry, index: int, until: datetime) -> Handed:
    step = entry.steps[index]
    step.status, step.reason = StepStatus.QUEUED, None
    del entry.ready[index]
    entry.running[index] = until
    return _handed(entry, index, with_envelope=True)


def _held(entry: _Entry, digest: str) -> int | None:
    """Return the step that was handed out with this job and is not over."""
    for index in entry.running:
        job = entry.steps[index].job
        if job is not None and job.digest == digest:
            return index
    return None


def _due(entry: _Entry, at: datetime, supervisor: str | None) -> list[int]:
    order = sorted((ready_at, one) for one, ready_at in entry.ready.items())
    return [
        one
        for ready_at, one in order
        if ready_at <= at and entry.graph.supervisors[one] == supervisor
    ]


def _fails(step: _Step, on_failure: str) -> bool:
    return ENDS.get(step.status) is End.FAILED and on_failure == "fail"


def _is_stopping(entry: _Entry) -> bool:
    return entry.record.stop_at is not None


def _most(entry: _Entry) -> int:
    return entry.record.outline.max_parallel or len(entry.steps)


def _next(entry: _Entry) -> datetime | None:
    """Return when something is to be done in a workflow next."""
    times = list(entry.running.values())
    if len(entry.running) < _most(entry):
        times += entry.ready.values()
    return min(times, default=None)


def _handed(entry: _Entry, index: int, *, with_envelope: bool) -> Handed:
    job = entry.steps[index].job
    if job is None:
        raise NotFoundError(f"step {index} has no job")
    return Handed(
        index=index,
        supervisor=entry.graph.supervisors[index],
        job_id=job.job_id,
        digest=job.digest,
        envelope=job.envelope if with_envelope else "",
        is_shared=any(entry.graph.supervisors),
    )


def _record(entry: _Entry, index: int, step: _Step) -> StepRecord:
    status = step.status
    if status is StepStatus.QUEUED and step.started_at is not None:
        status = StepStatus.RUNNING
    if status is StepStatus.PENDING and entry.record.status is WorkflowStatus.STOPPED:
        status = StepStatus.SKIPPED
    return StepRecord(
        index=index,
        status=status,
        reason=step.reason,
        job_id=None if step.job is None else step.job.job_id,
        digest=None if step.job is None else step.job.digest,
        started_at=step.started_at,
        ended_at=step.ended_at,
    )


def _whole_ms(at: datetime) -> datetime:
    return from_ms(to_ms(at))


def _whole_or_none(at: datetime | None) -> datetime | None:
    return None if at is None else _whole_ms(at)
