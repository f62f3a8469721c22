"""What moves workflows on: steps that may start are started, ends are noted.

Nothing here is decided on what a bell says. Whether a step may start the store of
workflows says, by the rules; whether it is over its record says, as far as a receipt
proves it. So every method may be called at any time, by anybody, any number of times.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

import structlog

from horus_celery.clock import Clock
from horus_celery.dag.progress import StepStatus
from horus_celery.doorbell import Doorbell
from horus_celery.errors import (
    ConflictError,
    DamagedError,
    RefusedError,
)
from horus_celery.record import Record
from horus_celery.store.workflows import Handed, StepEnd, WorkflowStore
from horus_celery.supervisors import StepSupervisor

#: How long a step that was handed out belongs to whoever took it. One that dies with it
#: is noticed after that.
LEASE: Final = timedelta(seconds=5)
#: Steps that are taken at once, and how often before others have their turn.
PAGE: Final = 50
_PAGES: Final = 20
#: How often a sweep is made.
_EVERY: Final = timedelta(seconds=1)
#: Workflows and steps that one sweep looks at.
_SWEPT: Final = 500

_logger: Final = structlog.get_logger(__name__)


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
        """
        self._store = store
        self._supervisor = supervisor
        self._doorbell = doorbell
        self._clock = clock
        self._name = name
        self._lease = lease
        self._keep = keep
        self._wake = wake

    def advance(self, workflow: str, job: str | None = None) -> None:
        """Answer one bell.

        Args:
            workflow: The digest of a workflow, or of nothing.
            job: The digest of a job that may be over.

        Raises:
            UnavailableError: if the store does not answer; a sweep goes on then.
        """
        self._hand_out(workflow, [] if job is None else self._end_of(job))

    def look(self, workflow: str) -> None:
        """See what became of steps that nobody has told of for a while, and go on.

        Raises:
            UnavailableError: as `advance`.
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
            UnavailableError: if the store does not answer; the next sweep goes on.
        """
        now = self._clock.now()
        if self._keep is not None:
            for old in self._store.finished(before=now - self._keep, limit=_SWEPT):
                self._store.delete(old)
        overdue = self._store.overdue(at=now, limit=_SWEPT)
        for workflow in overdue:
            try:
                self.look(workflow)
            except DamagedError as error:
                # One that is damaged stops no other.
                _logger.error("workflow stuck", detail=error.detail)  # noqa: TRY400 - it is ours
        return len(overdue)

    def _follow(
        self, workflow: str, step: Handed, *, is_to_stop: bool
    ) -> list[StepEnd]:
        """See how far the job of a step is; start it if it never was."""
        if is_to_stop:
            self._supervisor.stop(step.digest)
        shown = self._supervisor.find(step.digest)
        if shown is not None:
            return _ends_of(shown.record)
        if is_to_stop:
            # Nobody has started it, and nobody will.
            return [self._refused(step, StepStatus.STOPPED, None)]
        return self._start(step, self._store.job(workflow, step.index).envelope)

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
            for name in taken.waiting:
                if name is not None:
                    self._wake(name, workflow)
            ends = [
                end for step in taken.steps for end in self._start(step, step.envelope)
            ]
            if not ends and not taken.has_more:
                return
        self._store.ended(workflow, ends, at=self._clock.now())
        self._doorbell.ring(workflow)

    def _start(self, step: Handed, envelope: str) -> list[StepEnd]:
        """Have the job of a step run; return its end, if it has ended so already."""
        try:
            record = self._supervisor.start(envelope)
        except (RefusedError, ConflictError) as refusal:
            _logger.warning(
                "step refused",
                job_id=step.job_id,
                reason=refusal.reason,
                detail=refusal.detail,
            )
            return [self._refused(step, StepStatus.REJECTED, refusal.reason)]
        # What it says of its end is not proven yet.
        return self._end_of(step.digest) if record.is_over else []

    def _end_of(self, job: str) -> list[StepEnd]:
        """Return how a job ended, if it is over."""
        shown = self._supervisor.find(job)
        return [] if shown is None else _ends_of(shown.record)

    def _refused(self, step: Handed, status: StepStatus, reason: str | None) -> StepEnd:
        return StepEnd(
            digest=step.digest,
            status=status,
            reason=reason,
            ended_at=self._clock.now(),
        )


class ConductorThread:
    """Sweeps every second until it is closed."""

    def __init__(self, conductor: Conductor, *, every: timedelta = _EVERY) -> None:
        self._conductor = conductor
        self._every = every
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="horus-conductor", daemon=True
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
        trouble = ""
        while not self._closed.wait(self._every.total_seconds()):
            was, trouble = trouble, self._sweep()
            if trouble and trouble != was:
                _logger.warning("workflows put off", error=trouble)

    def _sweep(self) -> str:
        """Sweep once, and return what went wrong."""
        try:
            self._conductor.sweep()
        except Exception as error:  # noqa: BLE001 - without sweeps lost steps stay lost
            return type(error).__name__  # a foreign text may quote a payload
        return ""


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
