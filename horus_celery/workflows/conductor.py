"""What moves workflows on: steps that may start are started, ends are noted.

Nothing here is decided on what a bell says. Whether a step may start the store of
workflows says, by the rules; whether it is over its record says, as far as a receipt
proves it. So every method may be called at any time, by anybody, any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final, Protocol

import structlog

from horus_celery.clock import Clock
from horus_celery.dag.progress import StepStatus
from horus_celery.errors import (
    ConflictError,
    DamagedError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from horus_celery.proof import Shown
from horus_celery.record import Record
from horus_celery.rounds import Rounds
from horus_celery.store.workflows import Handed, StepEnd, WorkflowStore
from horus_celery.workflows.doorbell import Doorbell
from horus_celery.workflows.supervisors import StepSupervisor

#: How long a step that was handed out belongs to whoever took it. One that dies with it
#: is noticed after that.
LEASE: Final = timedelta(seconds=5)
#: Steps that are taken at once, and how often before others have their turn.
PAGE: Final = 50
_PAGES: Final = 20
#: Workflows and steps that one sweep looks at.
_SWEPT: Final = 500
#: How long a supervisor elsewhere is left alone when it does not answer: a second, then
#: twice as long each time.
_PAUSE: Final = timedelta(seconds=1)
_LONGEST_PAUSE: Final = timedelta(seconds=60)
#: How often a sweep is made.
_EVERY: Final = timedelta(seconds=1)

_logger: Final = structlog.get_logger(__name__)


class Watcher(Protocol):
    """Waits for the ends of steps of which no bell is heard."""

    def has(self, step: Handed) -> bool:
        """Whether the end of a step is being waited for."""
        ...

    def add(self, workflow: str, step: Handed) -> None:
        """Wait for the end of a step, if there is room."""
        ...


class Conductor:
    """Moves on the steps of one supervisor; may be called by many threads."""

    def __init__(
        self,
        *,
        store: WorkflowStore,
        supervisor: StepSupervisor,
        doorbell: Doorbell,
        clock: Clock,
        name: str | None = None,
        lease: timedelta = LEASE,
        keep: timedelta | None = None,
        wake: Callable[[str, str], None] = lambda name, workflow: None,
        watcher: Watcher | None = None,
        fetch: Callable[[str, Handed], Sequence[object]] = lambda workflow, step: (),
        adopt: Callable[[Shown], None] | None = None,
    ) -> None:
        """Take what it works with.

        Args:
            store: Where the workflows are.
            supervisor: What runs the steps.
            doorbell: Rings for what is left to do.
            clock: Tells the time.
            name: The name that steps have for the supervisor; None: the one at home.
            lease: How long a step that was taken is nobody else's.
            keep: How long workflows are kept after their end; for ever by default.
            wake: Told the name of another supervisor and the workflow in which steps
                wait for it.
            watcher: Waits for ends where no bells are heard of them.
            fetch: Brings what a step builds on that completed at other supervisors.
            adopt: Keeps what is proven of jobs that are over elsewhere.
        """
        self._store = store
        self._supervisor = supervisor
        self._doorbell = doorbell
        self._clock = clock
        self._name = name
        self._lease = lease
        self._keep = keep
        self._wake = wake
        self._watcher = watcher
        self._fetch = fetch
        self._adopt = adopt
        #: How long the supervisor is left alone when it does not answer.
        self._pause = _PAUSE

    def advance(self, workflow: str, job: str | None = None) -> None:
        """Answer one bell.

        Args:
            workflow: The digest of a workflow, or of nothing.
            job: The digest of a job that may be over.

        Raises:
            UnavailableError: if the store does not answer; a sweep goes on then.
        """
        self._hand_out(workflow, [] if job is None else self._heard(job))

    def start(self, workflow: str, index: int) -> None:
        """Start a step of a workflow that runs by canvas, if it may start now.

        Raises:
            UnavailableError: as `advance`.
        """
        now = self._clock.now()
        step = self._store.take_step(workflow, index, at=now, until=now + self._lease)
        ends = [] if step is None else self._start_all(workflow, [step])
        if ends:
            self._hand_out(workflow, ends)

    def settle(self, workflow: str, step: Handed) -> None:
        """Note the end of a step that was handed out, if it is over, and go on.

        Raises:
            UnavailableError: if the store or the supervisor does not answer.
        """
        self._hand_out(workflow, self._end_of(workflow, step))

    def note_start(self, workflow: str, step: Handed) -> bool:
        """Note since when the job of a step runs, and say whether that is told.

        What its supervisor says of it is shown to people, and nothing more.

        Raises:
            UnavailableError: as `settle`.
        """
        shown = self._supervisor.find(step.digest, self._reader(workflow, step))
        return shown is not None and self._note(workflow, shown)

    def look(self, workflow: str) -> None:
        """See what became of steps that nobody has told of for a while, and go on.

        Raises:
            UnavailableError: as `settle`.
        """
        now = self._clock.now()
        found = self._store.look(
            workflow,
            at=now,
            again_at=now + self._lease,
            limit=_SWEPT,
            supervisor=self._name,
        )
        ends: list[StepEnd] = []
        if found:
            is_to_stop = self._store.get(workflow).stop_at is not None
            for step in found:
                ends += self._follow(workflow, step, is_to_stop=is_to_stop)
        self._hand_out(workflow, ends)

    def sweep(self) -> int:
        """Look at every workflow in which something is to be done, and count them.

        Those that ended long ago are forgotten.

        Raises:
            UnavailableError: as `settle`; the next sweep goes on.
        """
        now = self._clock.now()
        if self._keep is not None:
            before = now - self._keep
            old = self._store.finished(before=before, limit=_SWEPT)
            self._each(old, self._store.delete)
        overdue = self._store.overdue(at=now, limit=_SWEPT)
        self._each(overdue, self.look)
        return len(overdue)

    def _each(self, workflows: Iterable[str], act: Callable[[str], None]) -> None:
        """Do something with each; one that is damaged stops no other."""
        for workflow in workflows:
            try:
                act(workflow)
            except (DamagedError, NotFoundError, ConflictError) as error:
                _logger.error("workflow stuck", detail=error.detail)  # noqa: TRY400 - it is ours

    # --- steps that were handed out --------------------------------------------

    def _follow(
        self, workflow: str, step: Handed, *, is_to_stop: bool
    ) -> list[StepEnd]:
        """See how far the job of a step is; start it if it never was."""
        if is_to_stop:
            self._supervisor.stop(step.digest)
        elif self._watcher is not None and self._watcher.has(step):
            return []
        read = self._reader(workflow, step)
        shown = self._supervisor.find(step.digest, read)
        if shown is None and is_to_stop:
            # Nobody has started it, and nobody will.
            return [self._refused(step, StepStatus.STOPPED, None)]
        if shown is None:
            return self._start_all(workflow, [replace(step, envelope=read())])
        ends = self._ends_of(shown)
        if not ends:
            if self._name is not None:
                self._note(workflow, shown)
            self._watch(workflow, step)
        return ends

    def _end_of(self, workflow: str, step: Handed) -> list[StepEnd]:
        """Return how the job of a step ended, if it is over."""
        shown = self._supervisor.find(step.digest, self._reader(workflow, step))
        return [] if shown is None else self._ends_of(shown)

    def _ends_of(self, shown: Shown) -> list[StepEnd]:
        """Return how a job ended, and have its proof where the workflow is."""
        ends = _ends_of(shown.record)
        if ends and self._adopt is not None:
            self._adopt(shown)
        return ends

    def _heard(self, job: str) -> list[StepEnd]:
        """Return how a job ended of which a bell says that it is over."""
        shown = self._supervisor.find(job, _kept_at_home)
        return [] if shown is None else _ends_of(shown.record)

    def _note(self, workflow: str, shown: Shown) -> bool:
        record = shown.record
        if record.started_at is None or not record.is_held:
            return False
        self._store.began(workflow, record.summary.digest, at=record.started_at)
        return True

    def _reader(self, workflow: str, step: Handed) -> Callable[[], str]:
        def read() -> str:
            return step.envelope or self._store.job(workflow, step.index).envelope

        return read

    def _watch(self, workflow: str, step: Handed) -> None:
        if self._watcher is not None:
            self._watcher.add(workflow, step)

    # --- steps that may start --------------------------------------------------

    def _hand_out(self, workflow: str, ends: Sequence[StepEnd]) -> None:
        """Note ends, and start whatever may start now."""
        for _ in range(_PAGES):
            now = self._clock.now()
            taken = self._store.take(
                workflow,
                at=now,
                limit=PAGE,
                until=now + self._lease,
                supervisor=self._name,
                ends=ends,
            )
            for index in taken.done:
                self._doorbell.ring_step(workflow, index)
            self._tell_others(workflow, taken.waiting)
            ends = self._start_all(workflow, taken.steps)
            if not ends and not taken.has_more:
                return
        self._store.ended(workflow, ends, at=self._clock.now())
        self._doorbell.ring(workflow)

    def _tell_others(self, workflow: str, waiting: Iterable[str | None]) -> None:
        """Tell those who run the steps that wait for other supervisors."""
        for name in waiting:
            if name is None:
                self._doorbell.ring(workflow)
            else:
                self._wake(name, workflow)

    def _start_all(self, workflow: str, steps: Sequence[Handed]) -> list[StepEnd]:
        """Start steps that were handed out; return the ends of those that have ended.

        Raises:
            UnavailableError: if the supervisor at home does not answer. To one that is
                elsewhere steps are not given then, but back.
        """
        ends: list[StepEnd] = []
        for place, step in enumerate(steps):
            try:
                ends += self._start(workflow, step)
            except UnavailableError as error:
                if self._name is None:
                    raise
                self._put_off(workflow, steps[place:], error.detail)
                return ends
        if steps:
            self._pause = _PAUSE
        return ends

    def _put_off(self, workflow: str, steps: Iterable[Handed], note: str) -> None:
        now = self._clock.now()
        _logger.warning("supervisor away", supervisor=self._name, detail=note)
        for step in steps:
            self._store.postpone(
                workflow, step.index, until=now + self._pause, note=note, at=now
            )
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _start(self, workflow: str, step: Handed) -> list[StepEnd]:
        """Have the job of a step run; return its end, if it has ended so already."""
        upstream: Sequence[object] = ()
        if step.is_shared:
            try:
                upstream = self._fetch(workflow, step)
            except UnavailableError as error:
                self._put_off(workflow, [step], error.detail)
                return []
        try:
            is_over = self._supervisor.start(step.envelope, upstream)
        except (RefusedError, ConflictError) as refusal:
            _logger.warning(
                "step refused",
                job_id=step.job_id,
                reason=refusal.reason,
                detail=refusal.detail,
            )
            return [self._refused(step, StepStatus.REJECTED, refusal.reason)]
        if is_over:
            # What it says of its end is not proven yet.
            return self._end_of(workflow, step)
        self._watch(workflow, step)
        return []

    def _refused(self, step: Handed, status: StepStatus, reason: str | None) -> StepEnd:
        return StepEnd(
            digest=step.digest,
            status=status,
            reason=reason,
            ended_at=self._clock.now(),
        )


class ConductorThread(Rounds):
    """Sweeps every second until it is closed."""

    def __init__(self, conductor: Conductor, *, every: timedelta = _EVERY) -> None:
        super().__init__(self._once, name="horus-conductor", every=every)
        self._conductor = conductor
        self._trouble = ""

    def _once(self) -> None:
        was, self._trouble = self._trouble, self._sweep()
        if self._trouble and self._trouble != was:
            _logger.warning("workflows put off", error=self._trouble)

    def _sweep(self) -> str:
        """Sweep once, and return what went wrong."""
        try:
            self._conductor.sweep()
        except Exception as error:  # noqa: BLE001 - without sweeps lost steps stay lost
            return type(error).__name__  # a foreign text may quote a payload
        return ""


def _kept_at_home() -> str:
    """Stand for an envelope that a supervisor has itself: bells are rung at home."""
    raise NotFoundError("the envelope of a job that a bell names is kept in its record")


def _ends_of(record: Record) -> list[StepEnd]:
    """Return how a step ended, if its proven record is over."""
    if not record.is_over or record.ended_at is None:
        return []
    return [
        StepEnd(
            digest=record.summary.digest,
            status=StepStatus(record.status.value),
            reason=record.reason,
            started_at=record.started_at,
            ended_at=record.ended_at,
        )
    ]
