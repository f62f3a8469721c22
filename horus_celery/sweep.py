"""What is rung again as its bell was lost, what is given up, and what has to go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Final, TypeVar

import structlog

from horus_celery.clock import Clock
from horus_celery.dispatch import Dispatcher, Front
from horus_celery.errors import (
    DamagedError,
    IllegalTransition,
    NotFoundError,
    UnavailableError,
)
from horus_celery.lifecycle import Event, Status
from horus_celery.record import LEASE, Change, Record, after_death
from horus_celery.rounds import Rounds
from horus_celery.store.base import CLOCK_SKEW, Bell, RecordStore, bell_of
from horus_celery.store.keys import step

#: A bell this young may still be on its way from the queue to its runner.
GRACE: Final = timedelta(seconds=5)
#: How long a bell stands in a queue that is not its own any more before it is rung in
#: the new one: by then every node has the same trust bundle.
SETTLED: Final = timedelta(minutes=1)
#: How often a sweep is made.
EVERY: Final = timedelta(seconds=1)
#: Records of each kind that are read at once.
_PAGE: Final = 100
#: Pages of one sweep; the next one goes on.
_PAGES: Final = 20

_logger: Final = structlog.get_logger(__name__)
_T = TypeVar("_T", str, Bell)


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
    #: Forgotten but for their receipts, because they ended long ago.
    retired: int = 0

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
        self,
        store: RecordStore,
        dispatcher: Dispatcher,
        clock: Clock,
        *,
        lease_clock: Clock | None = None,
        route: Callable[[Bell], str] = attrgetter("queue"),
        keep: timedelta | None = None,
    ) -> None:
        """Make a sweep.

        Args:
            store: Where the records are.
            dispatcher: What rings for them.
            clock: Tells the time.
            lease_clock: The one by which leases are given; the same by default.
            route: Says which queue is a bell's now; it stays where it stood by default.
            keep: How long records are kept after their end; for ever by default.
        """
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._lease_clock = lease_clock or clock
        self._route = route
        self._keep = keep
        #: Since when the store has answered every sweep.
        self._steady_since: datetime | None = None
        self._latest: datetime | None = None
        #: What went wrong in the latest sweep: step and kind of error.
        self._troubles: frozenset[tuple[str, str]] = frozenset()

    def once(self) -> SweepReport:
        """Sweep once.

        What is damaged in the store stops only what cannot be done without it.

        Raises:
            UnavailableError: if the store does not answer; the next sweep goes on.
        """
        try:
            turn = _Turn(
                now=self._clock.now(),
                lease_now=self._lease_clock.now(),
                known_troubles=self._troubles,
            )
            report = self._sweep(turn)
        except UnavailableError:
            self._steady_since = None
            raise
        self._latest = turn.lease_now
        return report

    def _sweep(self, turn: _Turn) -> SweepReport:
        is_steady = self._is_steady(turn.lease_now)
        bury = self._bury if is_steady else self._look_at_leases
        if not turn.may("bury", partial(bury, turn)):
            # While nobody can read the leases, nobody can renew them.
            self._steady_since = None
        turn.may("expire", partial(self._expire, turn))
        turn.may("ring due", partial(self._ring_due, turn))
        turn.may("ring again", partial(self._ring_again, turn))
        turn.may("retire", partial(self._retire, turn))
        if found := +turn.done:
            turn.may("count", partial(self._store.count_swept, found))
        self._troubles = frozenset(turn.troubles)
        return SweepReport(**turn.done)

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

    def _look_at_leases(self, turn: _Turn) -> None:
        self._store.abandoned(at=turn.lease_now, limit=1)

    def _bury(self, turn: _Turn) -> None:
        def give_up(digest: str) -> None:
            after = self._give_up(digest, turn.now)
            if after is None:
                return
            turn.done["requeued" if after.status is Status.QUEUED else "buried"] += 1
            if after.status is Status.QUEUED:
                self._ring(bell_of(after, rung_at=after.queued_at), turn.now)

        read = partial(self._store.abandoned, at=turn.lease_now)
        turn.each("bury one", lambda limit: read(limit=limit), give_up)

    def _give_up(self, digest: str, now: datetime) -> Record | None:
        try:
            record = self._store.get(digest)
        except NotFoundError:
            return None
        return self._apply(digest, after_death(record, now))

    def _expire(self, turn: _Turn) -> None:
        change = Change(event=Event.FAILED, at=turn.now, reason="expired")

        def expire(digest: str) -> None:
            turn.done["expired"] += self._apply(digest, change) is not None

        read = partial(self._store.expired, at=turn.now)
        turn.each("expire one", lambda limit: read(limit=limit), expire)

    def _apply(self, digest: str, change: Change) -> Record | None:
        """Make a change, unless somebody else was faster."""
        try:
            return self._store.apply(digest, change)
        except (IllegalTransition, NotFoundError):
            return None

    def _ring_due(self, turn: _Turn) -> None:
        def ring(bell: Bell) -> None:
            self._ring(bell, turn.now)
            turn.done["due"] += 1

        read = partial(self._store.due, at=turn.now)
        turn.each("ring due one", lambda limit: read(limit=limit), ring)

    def _retire(self, turn: _Turn) -> None:
        if self._keep is None:
            return
        read = partial(self._store.finished, before=turn.now - self._keep)

        def retire(digest: str) -> None:
            turn.done["retired"] += self._store.retire(digest)

        turn.each("retire one", lambda limit: read(limit=limit), retire)

    def _ring_again(self, turn: _Turn) -> None:
        for _ in range(_PAGES):
            latest = turn.now + CLOCK_SKEW
            silent = self._store.silent(
                before=turn.now - GRACE, after=latest, limit=_PAGE
            )
            rung = 0
            for bell in silent:
                if bell.rung_at is not None and bell.rung_at > latest:
                    note = partial(self._note, bell, turn.now)
                    turn.may("note the time of one", note)
            for bell in self._lost(silent, turn):
                rung += turn.may("ring one again", partial(self._ring, bell, turn.now))
            turn.done["rung_again"] += rung
            if not rung:
                break

    def _lost(self, silent: Iterable[Bell], turn: _Turn) -> list[Bell]:
        """Return those whose message is not in its queue any more."""
        queues: dict[tuple[str, int], list[Bell]] = {}
        for bell in silent:
            queues.setdefault((bell.queue, step(bell.priority)), []).append(bell)
        lost: list[Bell] = []

        def look(queue: tuple[str, int], bells: Iterable[Bell]) -> None:
            front = self._dispatcher.front(*queue)
            lost.extend(
                bell
                for bell in bells
                if _is_lost(bell, front, turn.now) or self._is_stranded(bell, turn.now)
            )

        for queue, bells in queues.items():
            turn.may("look into a queue", partial(look, queue, bells))
        return lost

    def _is_stranded(self, bell: Bell, now: datetime) -> bool:
        """Whether it waits in a queue that its runners do not serve any more."""
        has_waited = bell.rung_at is not None and now - bell.rung_at > SETTLED
        return has_waited and self._route(bell) != bell.queue

    def _note(self, bell: Bell, now: datetime) -> None:
        """Let a bell count as rung now that a clock rang which was ahead."""
        self._store.rung(bell.digest, at=now, queue=bell.queue)

    def _ring(self, bell: Bell, now: datetime) -> None:
        # Noted first: what is rung and cannot be noted would be rung every second.
        queue = self._route(bell)
        self._store.rung(bell.digest, at=now, queue=queue)
        self._dispatcher.ring(bell.job_id, queue, bell.priority)


@dataclass(slots=True, kw_only=True)
class _Turn:
    """One sweep: what it did, and what went wrong without stopping the rest."""

    now: datetime
    #: The present by the clock of leases.
    lease_now: datetime
    known_troubles: Collection[tuple[str, str]]
    done: Counter[str] = field(default_factory=Counter)
    troubles: set[tuple[str, str]] = field(default_factory=set)

    def may(self, step: str, act: Callable[[], None]) -> bool:
        """Do what may fail alone, and return whether it did not.

        Raises:
            UnavailableError: if the store does not answer: then nothing else will do.
        """
        try:
            act()
        except DamagedError as error:
            self._log(step, error, str(error))
        except UnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - without sweeps lost jobs stay lost
            self._log(step, error, "")  # a foreign text may quote a payload
        else:
            return True
        return False

    def each(
        self,
        step: str,
        read: Callable[[int], Collection[_T]],
        act: Callable[[_T], None],
    ) -> None:
        """Read pages and deal with each alone; what fails hides nothing behind it.

        Raises:
            UnavailableError: see `may`.
        """
        stuck: set[_T] = set()
        for _ in range(_PAGES):
            page = read(_PAGE + len(stuck))
            new = [one for one in page if one not in stuck]
            failed = {one for one in new if not self.may(step, partial(act, one))}
            if len(page) < _PAGE + len(stuck):
                return
            stuck |= failed

    def _log(self, step: str, error: Exception, detail: str) -> None:
        """Say it once, not every second and not for each job."""
        trouble = step, type(error).__name__
        if trouble not in self.troubles and trouble not in self.known_troubles:
            _logger.error("sweep broke", step=step, error=trouble[1], detail=detail)
        self.troubles.add(trouble)


class SweepThread(Rounds):
    """Sweeps every second until it is closed."""

    def __init__(self, sweep: Sweep, *, every: timedelta = EVERY) -> None:
        super().__init__(self._once, name="horus-sweep", every=every)
        self._sweep = sweep
        self._was_away = False

    def _once(self) -> None:
        try:
            report = self._sweep.once()
        except UnavailableError:
            if not self._was_away:
                _logger.warning("sweep put off", reason="unavailable")
            self._was_away = True
        else:
            self._was_away = False
            if not report.did_nothing:
                _logger.info("swept", report=report)


def _is_lost(bell: Bell, front: Front | None, now: datetime) -> bool:
    """Whether the queue shows that this bell was taken from it and came to nothing.

    A queue is taken from its front. So while an older or equally old message waits
    there, this one waits behind it; and what was taken is claimed within moments.
    """
    if front is None:
        return True
    if front.rung_at is None or bell.rung_at is None:
        return False
    if front.rung_at > now + CLOCK_SKEW:
        return False  # a clock that was ahead says nothing of what stands behind
    return front.rung_at - bell.rung_at > GRACE
