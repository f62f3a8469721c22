"""How a coordinator reaches the supervisors that run its steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

from horus_celery.errors import ConflictError, InputError, NotFoundError
from horus_celery.parcels import Parcel
from horus_celery.proof import Shown
from horus_celery.supervisor import Supervisor

#: Those of jobs whose workflows do not say otherwise.
_PRIORITY: Final = 4

_logger: Final = structlog.get_logger(__name__)


class StepSupervisor(Protocol):
    """A supervisor as a coordinator uses it: it runs jobs of steps.

    Every method raises `UnavailableError` when it does not answer; the same call may be
    made again then.
    """

    def start(self, envelope: str, upstream: Sequence[object]) -> bool:
        """Have a job recorded and queued, and say whether it is over already.

        The same job again is the same record.

        Args:
            envelope: The job's envelope, as JSON text.
            upstream: What it builds on that completed elsewhere (see `parcels`).

        Raises:
            RefusedError: with the reason code; nothing is recorded.
            ConflictError: if it cannot be recorded.
        """
        ...

    def find(self, digest: str, envelope: Callable[[], str]) -> Shown | None:
        """Return what signed bytes prove of a job; None if it has no record.

        Args:
            digest: The job's digest.
            envelope: Reads the job's envelope, as JSON text, where it is kept.
        """
        ...

    def stop(self, digest: str) -> None:
        """Stop a job, if there is one; a second time changes nothing."""
        ...


class HomeSupervisor:
    """A `StepSupervisor` in this very process."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def start(self, envelope: str, upstream: Sequence[object]) -> bool:
        record = self._supervisor.create_and_queue(
            json.loads(envelope),
            priority=_PRIORITY,
            not_before=None,
            upstream=upstream,
        )
        return record.is_over

    def find(self, digest: str, envelope: Callable[[], str]) -> Shown | None:
        try:
            return self._supervisor.get(digest)
        except NotFoundError:
            return None

    def adopt(self, shown: Shown) -> None:
        """Keep the record of a job that completed elsewhere, and nothing of others.

        So whoever asks this supervisor finds the proof of every completed step.
        """
        parcel = Parcel.of(shown)
        if parcel is None:
            return
        try:
            self._supervisor.adopt(parcel)
        except (ConflictError, InputError) as refusal:
            # What its workflow goes on with is proven, whether it is kept or not.
            _logger.warning(
                "record not kept",
                job_id=shown.record.summary.id,
                reason=refusal.reason,
                detail=refusal.detail,
            )

    def stop(self, digest: str) -> None:
        try:
            self._supervisor.stop(digest)
        except NotFoundError:
            return
