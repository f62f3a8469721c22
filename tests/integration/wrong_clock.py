"""A command of Celery's in a process whose clock is wrong.

Its arguments: by how many seconds, the program in whose place it runs, and its words.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

from celery.__main__ import main

from horus_celery.clock import SystemClock


def be_wrong(by: timedelta) -> None:
    """Let the machine's clock be wrong, as far as this process reads it."""

    def now(_: SystemClock) -> datetime:
        return datetime.now(UTC) + by

    SystemClock.now = now  # type: ignore[assignment, method-assign] # no other way to its clock


if __name__ == "__main__":
    _, seconds, *sys.argv = sys.argv
    be_wrong(timedelta(seconds=float(seconds)))
    main()
