"""A process manager by supervisord: `simple`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from horus_celery.processes.base import ManagedProcess, ProcessStatus, stopping
from horus_celery.processes.lines import last_lines
from horus_celery.processes.supervisord import STOPPING, Supervisord

KIND: Final = "simple"
#: What supervisord's words mean: STARTING is one that runs, for less than two seconds
#: so far, and STOPPING is one that still runs.
STATUS: Final[Mapping[str, ProcessStatus]] = MappingProxyType(
    {
        "STARTING": "running",
        "BACKOFF": "starting",
        "RUNNING": "running",
        "STOPPING": "running",
        "STOPPED": "stopped",
        "FATAL": "crashed",
        "EXITED": "crashed",
        "UNKNOWN": "crashed",
    }
)


class SupervisordManager:
    """A `ProcessManager` by the supervisord of a state directory.

    What ends by itself is started again, by the policy of `watched`.
    """

    def __init__(
        self,
        control: Supervisord,
        logs: Path,
        processes: Mapping[str, ManagedProcess],
    ) -> None:
        self._control = control
        self._logs = logs
        self._processes = processes

    def start(self, name: str) -> None:
        program = self._processes[name].program
        if self._control.program(program).word == STOPPING:
            # supervisord would say that it starts it, and let it end.
            raise stopping(name)
        self._control.start(program)

    def stop(self, name: str) -> None:
        process = self._processes[name]
        # One that is silent would do later what it is told now.
        self._control.program(process.program)
        self._control.stop(process.program, within=process.stop_timeout)

    def statuses(self) -> Mapping[str, ProcessStatus]:
        words = {one.name: one.word for one in self._control.programs()}
        return {
            name: STATUS[words[process.program]]
            for name, process in self._processes.items()
        }

    def logs(self, name: str, *, lines: int) -> tuple[str, ...]:
        program = self._processes[name].program
        return last_lines(self._logs / f"{program}.log", lines=lines)
