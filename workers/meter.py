"""What a job's processes use together, and when that is too much.

The kernel limits each process by itself. What all of them use is looked up from time to
time: the more often, the sooner they could have reached a limit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from horus_celery.processes import tree
from horus_celery.statements.job import Limits

_MB: Final = 1024 * 1024
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_CORES: Final = os.cpu_count() or 1
#: Bytes that one processor fills in a second at most.
_FILL_RATE: Final = 2048 * _MB
_SOONEST: Final = timedelta(milliseconds=4)
#: Not everywhere does the kernel count processes, and they multiply fast.
_LATEST: Final = timedelta(milliseconds=100)


class Excess(StrEnum):
    """What a job used too much of."""

    MEMORY = "memory"
    CPU = "cpu"
    PROCESSES = "processes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the processes of a job use together."""

    #: Bytes of memory.
    memory: int
    #: Processor time, of those that have ended as well.
    cpu: timedelta
    #: Processes and threads.
    count: int


class Metered(Protocol):
    """What is measured: all that stands below a keeper."""

    #: The process that all of the script's stand below.
    keeper: int
    #: What that had used before, of those that it has taken away.
    used_before: timedelta
    #: How many processes below the keeper are none of the script's.
    company: int

    def wake(self) -> None:
        """Let who reports the end go on, should the script have stopped it."""
        ...


class Meter:
    """Watches what stands below the keeper of a script."""

    def __init__(self, process: Metered, limits: Limits) -> None:
        self._process = process
        self._memory = limits.memory_mb * _MB
        self._cpu = timedelta(seconds=limits.cpu_s)
        self._count = limits.procs + process.company
        #: When to look next, by the monotonic clock.
        self.due = time.monotonic() + self._pause(0, timedelta(0)).total_seconds()

    def look(self) -> Excess | None:
        """Look now, and say when to look again."""
        self._process.wake()
        usage = usage_below(
            self._process.keeper,
            enough=self._memory,
            before=self._process.used_before,
        )
        pause = self._pause(usage.memory, usage.cpu)
        self.due = time.monotonic() + pause.total_seconds()
        if usage.memory > self._memory:
            return Excess.MEMORY
        if usage.cpu > self._cpu:
            return Excess.CPU
        if usage.count > self._count:
            return Excess.PROCESSES
        return None

    def _pause(self, memory: int, cpu: timedelta) -> timedelta:
        """Return how long they need at least to get to a limit."""
        until_full = (self._memory - memory) / (_FILL_RATE * _CORES)
        pause = min(timedelta(seconds=until_full), (self._cpu - cpu) / _CORES, _LATEST)
        return max(pause, _SOONEST)


def usage_below(keeper: int, *, enough: int, before: timedelta = timedelta(0)) -> Usage:
    """Return what all processes below one use, but for what others used `before`.

    Pages that several of them share count once, at the price of a closer look; it is
    taken only where the sum would be more than `enough`.
    """
    pids = tree.descendants(keeper)
    memory = count = ticks = 0
    own = tree.facts(keeper)
    if own is not None:
        # Of its children that were taken away.
        ticks += own.reaped_ticks
    for pid in pids:
        facts = tree.facts(pid)
        if facts is not None:
            memory += facts.pages * _PAGE
            ticks += facts.ticks + facts.reaped_ticks
            # The keeper takes its dead away as fast as it can; others keep theirs.
            count += 0 if facts.has_ended and facts.parent == keeper else facts.threads
    if memory > enough and len(pids) > 1:
        memory = _shared_once(pids, at_most=memory)
    cpu = timedelta(seconds=ticks / _TICKS) - before
    return Usage(memory=memory, cpu=cpu, count=count)


def _shared_once(pids: Sequence[int], *, at_most: int) -> int:
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_bytes()
            except PermissionError:
                return at_most
            for line in text.splitlines():
                if line.startswith(b"Pss:"):
                    total += int(line.split()[1]) * 1024
    return min(total, at_most)
