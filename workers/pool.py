"""When a child of a runner's pool is replaced: at once, whatever ended it."""

from __future__ import annotations

import os
from typing import Any

from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool


class PromptPool(AsynPool):  # type: ignore[misc] # Celery is untyped
    """Hears of the end of a child by the child itself.

    Celery watches a pipe that closes a moment before the child can be taken away. Who
    looks in between sees it run, and looks again only five seconds later.
    """

    def _track_child_process(self, proc: Any, hub: Any) -> None:  # noqa: ANN401 - Celery's
        if getattr(proc, "_sentinel_poll", None) is None:
            # What is found under this name is watched, and closed in the end.
            proc._sentinel_poll = os.pidfd_open(proc.pid)  # noqa: SLF001 - as above
        super()._track_child_process(proc, hub)


class PromptTaskPool(TaskPool):  # type: ignore[misc] # as above
    """Celery's prefork pool, with that."""

    Pool = PromptPool
