"""How a coordinator reaches the supervisors that run its steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from horus_celery.errors import NotFoundError
from horus_celery.proof import Shown
from horus_celery.supervisor import Supervisor

#: Those of jobs whose workflows do not say otherwise.
_PRIORITY: Final = 4


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

    def stop(self, digest: str) -> None:
        try:
            self._supervisor.stop(digest)
        except NotFoundError:
            return
