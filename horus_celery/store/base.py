"""What a store of records and a store of log lines promise."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto
from typing import Final, Protocol

from horus_celery.lifecycle import Status
from horus_celery.record import Change, Record, Summary

#: Characters of the records of one list; a thousand of the usual size are far fewer.
MAX_LISTED: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which records a list shows: those that agree with every field but None."""

    context_id: str | None = None
    caller_id: str | None = None
    executor: str | None = None
    runner: str | None = None
    status: Status | None = None
    workflow_id: str | None = None
    #: Only records of these contexts; None is all of them.
    contexts: frozenset[str] | None = None

    def has(self, record: Record) -> bool:
        """Say whether a record agrees."""
        said = record.summary
        if self.contexts is not None and said.context_id not in self.contexts:
            return False
        pairs = (
            (self.context_id, said.context_id),
            (self.caller_id, said.caller_id),
            (self.executor, said.executor),
            (self.runner, said.runner),
            (self.status, record.status),
            (self.workflow_id, said.workflow_id),
        )
        return all(wanted is None or wanted == is_ for wanted, is_ in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bell:
    """What is needed to ring for a queued record."""

    digest: str
    job_id: str
    executor: str
    runner: str | None
    context_id: str
    #: The queue that it stands in (`routing.queue_of`).
    queue: str
    priority: int
    #: When its latest bell was rung, or it was queued; None: not since `not_before`.
    rung_at: datetime | None


def bell_of(record: Record, *, rung_at: datetime | None) -> Bell:
    """Return the bell of a record that was queued."""
    summary = record.summary
    return Bell(
        digest=summary.digest,
        job_id=summary.id,
        executor=summary.executor,
        runner=summary.runner,
        context_id=summary.context_id,
        queue=record.queue or summary.executor,
        priority=record.priority,
        rung_at=rung_at,
    )


#: How far the clocks of a deployment may be apart.
CLOCK_SKEW: Final = timedelta(minutes=5)
#: How long after a job has expired a store keeps that it was stopped.
STOP_KEPT: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StopPage:
    """Some stopped jobs, in the order in which the stops came."""

    digests: Sequence[str]
    #: Where the next page begins.
    next: str | None


#: Upper bounds of the histograms of a `Tally`, in seconds; longer is "+Inf".
BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0, 7200.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How long something took, as often as it happened."""

    #: One more than `BUCKETS`: how many took at most so long, and longer than the one
    #: before.
    counts: tuple[int, ...]
    #: All of them together.
    total: timedelta

    @classmethod
    def of(cls, times: Sequence[timedelta]) -> Histogram:
        """Return how long it took, from how long it took each time."""
        counts = [0] * (len(BUCKETS) + 1)
        for time in times:
            counts[bisect_left(BUCKETS, time.total_seconds())] += 1
        return cls(counts=tuple(counts), total=sum(times, timedelta(0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What happened to the jobs of a deployment since it began.

    An executor "" stands for all those beyond the first few hundred: whoever submits
    jobs names them.
    """

    #: Jobs that are over, by executor, status and reason ("" where there is none).
    ended: Mapping[tuple[str, str, str], int]
    #: From being queued, or from its `not_before`, to being claimed, by executor.
    waited: Mapping[str, Histogram]
    #: From being claimed to the end, by executor.
    ran: Mapping[str, Histogram]
    #: What the sweeps of all processes found, by kind (the fields of `SweepReport`).
    swept: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """How many queued records have their turn before one."""

    count: int
    #: Whether all of them were looked at.
    is_all: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedReceipt:
    """What is kept of a record that was retired."""

    digest: str
    job_id: str
    context_id: str
    #: The receipt's envelope as JSON text.
    receipt: str


class RecordStore(Protocol):
    """One record per job, found by its digest; every change is one atomic step.

    Every method raises `UnavailableError` within two seconds when the store's server
    does not answer; nothing is half done then, and the same call may be made again:
    a change that was made before its answer got lost is recognised, not refused.
    """

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
        """Record a job that has just been admitted, as created or (`queue`) as queued.

        Adding the same digest again returns the record it already has, unchanged but
        for one thing: with `queue` a record that is still created becomes queued.
        `queue` is the name of the queue that it stands in then. A job that was stopped
        (see `stop`) is recorded as stopped, and never becomes queued.

        With `rings` whoever serves the queue is told in the same step, if the job comes
        to be queued. That this could not be done is written down, and no more.

        Raises:
            IdTaken: if that context has another digest under that id.
        """
        ...

    def adopt(self, record: Record) -> None:
        """Keep the record of a job that completed elsewhere, if there is none of it.

        Raises:
            IdTaken: if that context has another digest under that id.
        """
        ...

    def get(self, digest: str, *, contexts: frozenset[str] | None = None) -> Record:
        """Return the record of a digest.

        Args:
            digest: The job's digest.
            contexts: A record of any other context is not found, as if there were
                none: nothing more of it is read. None is all of them.

        Raises:
            NotFoundError: if there is none.
        """
        ...

    def named(
        self, job_id: str, *, contexts: frozenset[str] | None = None
    ) -> tuple[Record, ...]:
        """Return the records of this job id: one per context at most, oldest first.

        With `contexts` only theirs; nothing is read of the others.
        """
        ...

    def apply(self, digest: str, change: Change) -> Record:
        """Make one change, if the table of transitions allows it, and wake the waiters.

        Returns the record as it is then.

        Raises:
            NotFoundError: if there is no such record.
            IllegalTransition: if the status does not allow the event, or `if_attempt`
                is not the attempt that holds the record now.
            ClaimError: if a job is claimed that was stopped (see `stop`).
        """
        ...

    def note(self, digest: str, change: Change, lines: Sequence[Chunk] = ()) -> None:
        """Do as `apply` for who does not need the record, which is most of its cost.

        With the change the log gets these last lines of the job's output.
        """
        ...

    def stop(self, digest: str, *, at: datetime, expires_at: datetime) -> Record | None:
        """Stop a job for good, ask its runner to end it, and wake the waiters.

        That it was stopped is kept until a day after `expires_at`, also when its record
        is deleted, and when there is none: nobody can claim it then. Stopping it again
        changes nothing. Returns the record as it is now, if there is one; one that is
        over stays as it is.
        """
        ...

    def stops(self, *, after: str | None, limit: int) -> StopPage:
        """Return jobs that were stopped, from behind a place or from the first.

        All of them come again where those before that place are not there any more.
        """
        ...

    def delete(self, digest: str) -> None:
        """Forget a record that is over, with its log; forgetting it twice is fine.

        Raises:
            IllegalTransition: if it is not over.
        """
        ...

    def list(
        self,
        wanted: Filter,
        *,
        limit: int,
        after: str | None = None,
        max_text: int = MAX_LISTED,
    ) -> tuple[Record, ...]:
        """Return matching records, newest first, from behind the digest `after`.

        Behind the one with which their lengths come to `max_text` there is no further
        one, however many are wanted: only an empty list is the end.

        Raises:
            NotFoundError: if there is no record of the digest `after`.
        """
        ...

    def counts(self, contexts: frozenset[str] | None = None) -> Mapping[Status, int]:
        """Return how many records have each status; every status is present.

        With `contexts` only theirs are counted.
        """
        ...

    def require_writable(self) -> None:
        """Change nothing, in a way that a store which takes no changes now refuses.

        Raises:
            UnavailableError: saying why it takes none, though it may well be read.
        """
        ...

    def queue_lengths(
        self, queues: Sequence[str], *, contexts: frozenset[str] | None = None
    ) -> Mapping[str, int]:
        """Return how many queued records stand in each queue.

        Not those that wait for their `not_before`. With `contexts` only theirs are
        counted.
        """
        ...

    def standing(
        self, *, limit: int, contexts: frozenset[str] | None = None
    ) -> Mapping[str, int]:
        """Return how many queued records stand in each queue that has any.

        The longest queues, as many as `limit`. What counts is as in `queue_lengths`.
        """
        ...

    def ahead(
        self, digest: str, *, limit: int, contexts: frozenset[str] | None = None
    ) -> Ahead:
        """Return how many records have their turn before a queued one in its queue.

        At most `limit` of them are looked at; with `contexts` only theirs are counted.
        """
        ...

    def running_on(
        self, runners: Sequence[str], *, contexts: frozenset[str] | None = None
    ) -> Mapping[str, int]:
        """Return how many records each runner holds.

        With `contexts` only theirs are counted.
        """
        ...

    def tally(self) -> Tally:
        """Return what happened to the jobs so far."""
        ...

    def count_swept(self, found: Mapping[str, int]) -> None:
        """Add what a sweep found to the tally."""
        ...

    def finished(self, *, before: datetime, limit: int) -> tuple[str, ...]:
        """Return digests of records that ended before that moment, oldest first."""
        ...

    def retire(self, digest: str) -> bool:
        """Forget a record that is over, with its log, but keep its receipt.

        Returns whether there was one; retiring it twice is fine.

        Raises:
            IllegalTransition: if it is not over.
        """
        ...

    def archived(
        self, job_id: str, *, contexts: frozenset[str] | None = None
    ) -> tuple[ArchivedReceipt, ...]:
        """Return the receipts of retired records by their id, or by their digest.

        In the order of context and digest; a job that was refused when it came again
        has several.
        """
        ...

    def renew(self, digest: str, *, attempt: int, lease_until: datetime) -> Status:
        """Renew the lease of a held record and return its status.

        It is stopping for every job that was stopped (see `stop`), also where its
        record is gone, or was put back to running.

        Raises:
            NotFoundError: if there is no such record.
            IllegalTransition: if it is not held, or by a later attempt.
        """
        ...

    def abandoned(self, *, at: datetime, limit: int) -> tuple[str, ...]:
        """Return digests of held records whose lease ended before `at`.

        A lease that ends more than `CLOCK_SKEW` after the usual one, which the clock
        of its runner must have been ahead for, becomes a usual one from `at` on.
        """
        ...

    def expired(self, *, at: datetime, limit: int) -> tuple[str, ...]:
        """Return digests of created and queued records that expired by then."""
        ...

    def due(self, *, at: datetime, limit: int) -> tuple[Bell, ...]:
        """Return queued records that are to be rung now, soonest first.

        Those whose `not_before` has passed and that were not rung since (see `rung`).
        """
        ...

    def rung(self, digest: str, *, at: datetime, queue: str) -> None:
        """Note that a bell was rung for a queued record; without effect on others.

        The record stands in `queue` from now on.
        """
        ...

    def silent(
        self, *, before: datetime, limit: int, after: datetime | None = None
    ) -> tuple[Bell, ...]:
        """Return queued records that were not rung since that moment.

        With `after` also those that were rung after that moment, as a clock said that
        was ahead.

        Also those queued before it whose ring was never noted, but not those that wait
        for their `not_before`. Up to `limit` of each queue and step of priority (fewer,
        but at least one, where there are many), together and longest silent first: so
        the backlog of one queue hides nothing of another.
        """
        ...


class Stream(StrEnum):
    """Which of the script's streams a line came from."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of output as it came: a line with its newline, or a part of one."""

    at: datetime
    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One chunk as it is shown: text without its newline, bad UTF-8 replaced."""

    #: The store's position of this line; `read` goes on behind it.
    cursor: str
    at: datetime
    stream: Stream
    text: str
    #: Whether a newline followed: not behind a piece of a long line that goes on, nor
    #: behind a last line that has none.
    ends_line: bool

    @property
    def data(self) -> bytes:
        """The output that the line stands for, its newline included."""
        text = f"{self.text}\n" if self.ends_line else self.text
        return text.encode("utf-8", "surrogatepass")


class LogStore(Protocol):
    """A job's output lines, in the order in which they came.

    Raises `UnavailableError` as `RecordStore` does.
    """

    def append(self, digest: str, chunks: Iterable[Chunk]) -> None:
        """Add chunks behind the others and wake the waiters."""
        ...

    def read(self, digest: str, *, after: str | None, limit: int) -> Sequence[LogLine]:
        """Return up to `limit` lines behind the cursor `after`, or from the first.

        Raises:
            MalformedError: if `after` is no cursor (`reason` is `schema.after`).
        """
        ...


class Hears(Enum):
    """Which changes of a job a waiter is told of."""

    #: A new status, and new lines.
    ALL = auto()
    #: Its end.
    END = auto()
    #: That whoever runs it is to stop, or has it no longer.
    RECALL = auto()


class Watch(Protocol):
    """One waiter's view of one job, from the moment it was opened."""

    def wait(self, timeout: timedelta) -> bool:
        """Wait for a change since the last `wait`, or since the watch was opened.

        A change is what the watch is to hear of, or a lost connection to what reports
        it; so the waiter reads the store again and decides. Returns False when the
        time is over without one, and at once when the wakes are closed.
        """
        ...

    def wake(self) -> None:
        """Have who waits look again, as if something had changed."""
        ...


class Wakes(Protocol):
    """Tells waiters at once that something about a job changed.

    A waiter opens its watch first, then reads the store, then waits: so nothing that
    happens in between is missed. Many watches share one connection.
    """

    def watch(
        self, digest: str, *, hears: Hears = Hears.ALL
    ) -> AbstractContextManager[Watch]:
        """Open a watch of one job.

        Args:
            digest: The job.
            hears: Which changes wake it.
        """
        ...

    def close(self) -> None:
        """Wake everybody and stop listening."""
        ...
