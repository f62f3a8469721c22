"""How a coordinator is told that there may be something to do in a workflow.

A bell names a workflow, and perhaps a job that is over, by their digests. It is no
fact: whoever hears it reads the facts from the store.
"""

from __future__ import annotations

from typing import Protocol

import redis

from horus_celery.store.bell import QUEUE, message, step_message
from horus_celery.store.connection import ask


class Doorbell(Protocol):
    """Rings for workflows; a bell too many does no harm, and one too few only waits.

    Raises `UnavailableError` as `RecordStore` does.
    """

    def ring(self, workflow: str, job: str | None = None) -> None:
        """Tell a coordinator to look at a workflow.

        Args:
            workflow: The digest of its manifest.
            job: The digest of a job of it that is over.
        """
        ...

    def ring_step(self, workflow: str, index: int | None = None) -> None:
        """Tell a coordinator that canvas goes on from a step, or that it begins.

        Args:
            workflow: The digest of its manifest.
            index: A step that completed; None: the beginning.
        """
        ...


class RedisDoorbell:
    """A `Doorbell` that writes into Celery's queue on Redis."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def ring(self, workflow: str, job: str | None = None) -> None:
        ask(self._client, "LPUSH", QUEUE, message(workflow, job))

    def ring_step(self, workflow: str, index: int | None = None) -> None:
        ask(self._client, "LPUSH", QUEUE, step_message(workflow, index))


class MemoryDoorbell:
    """A `Doorbell` that only collects."""

    def __init__(self) -> None:
        #: Every bell so far: workflow, job.
        self.bells: list[tuple[str, str | None]] = []
        #: Every step of canvas so far: workflow, index.
        self.steps: list[tuple[str, int | None]] = []

    def ring(self, workflow: str, job: str | None = None) -> None:
        self.bells.append((workflow, job))

    def ring_step(self, workflow: str, index: int | None = None) -> None:
        self.steps.append((workflow, index))
