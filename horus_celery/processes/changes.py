"""What happened to the programs of a deployment, from one look to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from horus_celery.processes.base import ProcessStatus
from horus_celery.processes.programs import label
from horus_celery.processes.supervisord import ProgramStatus


class Changes:
    """Remembers how each program did when it was seen last.

    Of one that is missing in a look, nobody said anything: it counts as it was.
    """

    def __init__(self, logs: Path) -> None:
        """Take the folder in which their logs lie."""
        self._logs = logs
        self._programs: dict[str, ProgramStatus] = {}
        self._windows: dict[str, ProcessStatus] = {}

    def seen(
        self,
        programs: Mapping[str, ProgramStatus],
        windows: Mapping[str, ProcessStatus],
    ) -> tuple[str, ...]:
        """Take in a look; say which programs ended, and which stay down."""
        told = (
            *_of_programs(self._programs, programs, logs=self._logs),
            *_of_windows(self._windows, windows),
        )
        self._programs.update(programs)
        self._windows.update(windows)
        return told


def _of_programs(
    before: Mapping[str, ProgramStatus],
    after: Mapping[str, ProgramStatus],
    *,
    logs: Path,
) -> Iterator[str]:
    for program, now in after.items():
        was = before.get(program)
        if was is None or now == was:
            continue
        name, log = label(program), logs / f"{program}.log"
        if now.word == "FATAL":
            yield f"{name} ended again and again and stays down; its log: {log}"
        elif now.word == "STOPPED":
            yield f"{name} was stopped; its log: {log}"
        elif was.pid and now.pid != was.pid:
            yield f"{name} ended and is started again; its log: {log}"


def _of_windows(
    before: Mapping[str, ProcessStatus], after: Mapping[str, ProcessStatus]
) -> Iterator[str]:
    for name, now in after.items():
        if before.get(name) == now:
            continue
        if now == "crashed":
            yield f"{name} ended and stays down; its window of tmux shows what it said"
        elif now == "stopped":
            yield f"{name} was stopped"
