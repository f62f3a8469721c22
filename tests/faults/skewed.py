"""A process of a runner that runs one job, with a clock that is set meanwhile.

Its arguments: the runner's name, by how many seconds its clock is wrong, from how many
seconds after its start on, and the id of the job.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from horus_celery import wiring
from horus_celery.execution import execute
from horus_celery.processes import tree
from horus_celery.settings import load_settings
from workers import containment
from workers.app import make_executors
from workers.kinds import Kind
from workers.nursery import Nursery


class SetClock:
    """The machine's clock, until somebody sets it."""

    def __init__(self, *, by: timedelta, after: timedelta) -> None:
        self._by = by
        self._set_at = time.monotonic() + after.total_seconds()

    def now(self) -> datetime:
        is_set = time.monotonic() >= self._set_at
        return datetime.now(UTC) + (self._by if is_set else timedelta(0))


def main() -> None:
    name, by, after, job_id = sys.argv[1:]
    tree.become_subreaper()
    settings = load_settings()
    nursery = Nursery(containment.plain(), rooms=Path("/"))
    clock = SetClock(
        by=timedelta(seconds=float(by)), after=timedelta(seconds=float(after))
    )
    executors = make_executors({"python": Kind()}, nursery, None, settings)
    node = wiring.make_node(settings, name, executors, clock=clock)
    execute(job_id, node)
    nursery.close()
    node.journal.close()


if __name__ == "__main__":
    main()
