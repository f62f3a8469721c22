"""What is rung again because its bell was lost, and what is given up as dead."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from horus_celery.clock import Clock
from horus_celery.dispatch import Dispatcher, Front
from horus_celery.errors import IllegalTransition, NotFoundError, UnavailableError
from horus_celery.lifecycle import Event, Status
from horus_celery.record import LEASE, Change, Record
from horus_celery.store.base import Bell, RecordStore
from horus_celery.store.keys import step

#: A bell this young may still be on its way from the queue to its runner.
GRACE: Final = timedelta(seconds=5)
#: How often a sweep is made.
EVERY: Final = timedelta(seconds=1)
#: Records of each kind that are read at once.
_PAGE: Final = 100
#: Pages of one sweep; the next one goes on.
_PAGES: Final = 20

_logger: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """What one sweep did, as numbers of jobs."""

    #: Rung for the first time, because their `not_before` passed.
    due: int = 0
    #: Rung again.
    rung_again: int = 0
    #: Queued again, because their runner died.
    requeued: int = 0
    #: Ended, because their runner died: failed or stopped.
    buried: int = 0
    #: Failed, because nobody took them before they expired.
    expired: int = 0

    @property
    def did_nothing(self) -> bool:
        """Whether everything was in order."""
        return self == SweepReport()


class Sweep:
    """Keeps the promise that what was accepted comes to an end.

    Any number of sweeps may run beside each other: what one has done is nothing to do
    for the others, and a bell too many does no harm.
    """

    def __init__(
        self, store: RecordStore, dispatcher: Dispatcher, clock: Clock
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        #: Since when the store has answered every sweep.
        self._steady_since: datetime | None = None
        self._latest: datetime | None = None

    def once(self) -> SweepReport:
        """Sweep once.

        Raises:
            UnavailableError: if the store does not answer; the next sweep goes on.
        """
        now = self._clock.now()
        try:
            report = self._sweep(now)
        except UnavailableError:
            self._steady_since = None
            raise
        self._latest = now
        return report

    def _sweep(self, now: datetime) -> SweepReport:
        requeued, buried = self._bury(now) if self._is_steady(now) else (0, 0)
        return SweepReport(
            requeued=requeued,
            buried=buried,
            expired=self._expire(now),
            due=self._ring_due(now),
            rung_again=self._ring_again(now),
        )

    def _is_steady(self, now: datetime) -> bool:
        """Whether runners had every chance to renew their leases.

        When Redis was away their beats were lost, too; when this process slept or the
        clock was set, the leases say nothing about the runners.
        """
        has_slept = self._latest is None or not (
            timedelta(0) <= now - self._latest <= GRACE
        )
        if self._steady_since is None or has_slept:
            self._steady_since = now
        return now - self._steady_since >= LEASE

    def _bury(self, now: datetime) -> tuple[int, int]:
        requeued = buried = 0
        for digest in self._store.abandoned(at=now, limit=_PAGE):
            after = self._give_up(digest, now)
            if after is None:
                continue
            if after.status is Status.QUEUED:
                self._ring(_bell(after), now)
                requeued += 1
            else:
                buried += 1
        return requeued, buried

    def _give_up(self, digest: str, now: datetime) -> Record | None:
        try:
            record = self._store.get(digest)
        except NotFoundError:
            return None
        return self._apply(digest, _after_death(record, now))

    def _expire(self, now: datetime) -> int:
        change = Change(event=Event.FAILED, at=now, reason="expired")
        late = self._store.expired(at=now, limit=_PAGE)
        return sum(self._apply(digest, change) is not None for digest in late)

    def _apply(self, digest: str, change: Change) -> Record | None:
        """Make a change, unless somebody else was faster."""
        try:
            return self._store.apply(digest, change)
        except (IllegalTransition, NotFoundError):
            return None

    def _ring_due(self, now: datetime) -> int:
        due = self._store.due(at=now, limit=_PAGE)
        self._ring_all(due, now)
        return len(due)

    def _ring_again(self, now: datetime) -> int:
        count = 0
        for _ in range(_PAGES):
            lost = self._lost(self._store.silent(before=now - GRACE, limit=_PAGE))
            self._ring_all(lost, now)
            count += len(lost)
            if not lost:
                break
        return count

    def _lost(self, silent: Iterable[Bell]) -> list[Bell]:
        """Return those whose message is not in its queue any more."""
        fronts: dict[tuple[str, int], Front | None] = {}
        lost = []
        for bell in silent:
            queue = bell.executor, step(bell.priority)
            if queue not in fronts:
                fronts[queue] = self._dispatcher.front(*queue)
            if _is_lost(bell, fronts[queue]):
                lost.append(bell)
        return lost

    def _ring_all(self, bells: Iterable[Bell], now: datetime) -> None:
        for bell in bells:
            self._ring(bell, now)

    def _ring(self, bell: Bell, now: datetime) -> None:
        self._dispatcher.ring(bell.job_id, bell.executor, bell.priority)
        self._store.rung(bell.digest, at=now)


class SweepThread:
    """Sweeps every second until it is closed."""

    def __init__(self, sweep: Sweep, *, every: timedelta = EVERY) -> None:
        self._sweep = sweep
        self._every = every
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="horus-sweep", daemon=True
        )

    def start(self) -> None:
        """Begin; call it once, in the process that shall sweep."""
        self._thread.start()

    def close(self) -> None:
        """End, after the sweep that is being made."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        was_away = False
        while not self._closed.wait(self._every.total_seconds()):
            try:
                report = self._sweep.once()
            except UnavailableError:
                if not was_away:
                    _logger.warning("sweep put off", reason="unavailable")
                was_away = True
            except Exception as error:  # noqa: BLE001 - without sweeps lost jobs stay lost
                _logger.error("sweep broke", error=type(error).__name__)  # noqa: TRY400 - a foreign text may quote a payload
            else:
                was_away = False
                if not report.did_nothing:
                    _logger.info("swept", report=report)


def _is_lost(bell: Bell, front: Front | None) -> bool:
    """Whether the queue shows that this bell was taken from it and came to nothing.

    A queue is taken from its front. So while an older or equally old message waits
    there, this one waits behind it; and what was taken is claimed within moments.
    """
    if front is None:
        return True
    if front.rung_at is None or bell.rung_at is None:
        return False
    return front.rung_at - bell.rung_at > GRACE


def _after_death(record: Record, now: datetime) -> Change:
    """Return what becomes of a record whose runner died."""
    if record.status is Status.STOPPING:
        return Change(event=Event.STOPPED, at=now, if_attempt=record.attempt)
    may_start_again = (
        record.attempt < record.summary.attempts and now < record.summary.expires_at
    )
    if may_start_again:
        return Change(event=Event.REQUEUED, at=now, if_attempt=record.attempt)
    return Change(
        event=Event.FAILED, at=now, reason="worker_lost", if_attempt=record.attempt
    )


def _bell(record: Record) -> Bell:
    return Bell(
        digest=record.summary.digest,
        job_id=record.summary.id,
        executor=record.summary.executor,
        priority=record.priority,
        rung_at=record.queued_at,
    )
