"""Which runners are managed on this node, and by which process manager.

The deployment writes it down as it starts; whoever manages runners afterwards, as the
API does, can name only what stands there.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

from horus_celery.errors import NotFoundError, UnavailableError
from horus_celery.fleet import Planned
from horus_celery.processes.base import (
    ManagedProcess,
    ProcessManager,
    ProcessStatus,
)
from horus_celery.processes.simple import KIND as SIMPLE
from horus_celery.processes.simple import SupervisordManager
from horus_celery.processes.supervisord import control_of
from horus_celery.processes.tmux import PREFIX as TMUX
from horus_celery.processes.tmux import TmuxManager
from horus_celery.settings import Settings
from horus_celery.statedir import StateDirectory

#: How long what a process manager said is given again: a list asks for each runner.
_LIFETIME: Final = timedelta(seconds=0.5)
#: How long it is not asked again after it did not answer: each time takes `LOOK`.
_SILENCE: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedRunner:
    """A runner with what manages it, and what it is to serve."""

    name: str
    #: `simple`, or `tmux:` and a session.
    kind: str
    process: ManagedProcess
    planned: Planned


def write_runners(state: StateDirectory, runners: Iterable[ManagedRunner]) -> None:
    """Write down which runners are managed."""
    values = [
        {
            "name": one.name,
            "kind": one.kind,
            "program": one.process.program,
            "stop_timeout": one.process.stop_timeout.total_seconds(),
            **asdict(one.planned),
        }
        for one in runners
    ]
    path = _file(state)
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(json.dumps(values), "utf-8")
    draft.replace(path)


def forget_runners(state: StateDirectory) -> None:
    """Have no runner managed any more."""
    _file(state).unlink(missing_ok=True)


def read_runners(state: StateDirectory) -> tuple[ManagedRunner, ...]:
    """Return the runners that are managed; none where nothing is up."""
    try:
        values: list[Any] = json.loads(_file(state).read_text("utf-8"))
    except FileNotFoundError:
        return ()
    return tuple(
        ManagedRunner(
            name=one["name"],
            kind=one["kind"],
            process=ManagedProcess(
                program=one["program"],
                stop_timeout=timedelta(seconds=one["stop_timeout"]),
            ),
            planned=Planned(
                executor=one["executor"],
                contexts=tuple(one["contexts"]),
                concurrency=one["concurrency"],
            ),
        )
        for one in values
    )


def _file(state: StateDirectory) -> Path:
    return state.run / "managed.json"


def managers_of(
    state: StateDirectory, runners: Iterable[ManagedRunner]
) -> Mapping[str, ProcessManager]:
    """Return the process managers of these runners, by their kind."""
    by_kind: dict[str, dict[str, ManagedProcess]] = {}
    for one in runners:
        by_kind.setdefault(one.kind, {})[one.name] = one.process
    return {
        kind: _manager(kind, state, processes) for kind, processes in by_kind.items()
    }


def _manager(
    kind: str, state: StateDirectory, processes: Mapping[str, ManagedProcess]
) -> ProcessManager:
    if kind == SIMPLE:
        return SupervisordManager(control_of(state), state.logs, processes)
    return TmuxManager(kind.removeprefix(TMUX), state.windows, processes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """How the processes of one manager do, or that it does not say so."""

    #: On a clock that only goes forward.
    until: float
    found: Mapping[str, ProcessStatus] = field(default_factory=dict)
    #: Why nothing was found; empty if it was.
    silence: str = ""


class ManagedRunners:
    """The runners of this node by their managers: the `Managers` of a `Fleet`."""

    def __init__(self, state: StateDirectory, runners: Iterable[ManagedRunner]) -> None:
        self._runners = {one.name: one for one in runners}
        self._managers = managers_of(state, self._runners.values())
        self._lock = threading.Lock()
        self._seen: dict[str, _Look] = {}
        #: How often something was started or stopped here.
        self._changes = 0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return those of the deployment that runs here; none if there is none."""
        state = StateDirectory(settings.state_dir)
        return cls(state, read_runners(state))

    def names(self) -> Collection[str]:
        return tuple(self._runners)

    def plan(self, name: str) -> Planned:
        return self._find(name).planned

    def kind(self, name: str) -> str:
        return self._find(name).kind

    def start(self, name: str) -> None:
        self._manager(name).start(name)
        self._forget(name)

    def stop(self, name: str) -> None:
        self._manager(name).stop(name)
        self._forget(name)

    def status(self, name: str) -> ProcessStatus:
        kind = self.kind(name)
        with self._lock:
            look = self._seen.get(kind)
            changes = self._changes
        if look is None or time.monotonic() >= look.until:
            look = _look(self._managers[kind])
            with self._lock:
                # What was seen during a start or a stop is not so any more.
                if changes == self._changes:
                    self._seen[kind] = look
        if look.silence:
            raise UnavailableError(look.silence)
        return look.found[name]

    def logs(self, name: str, *, lines: int) -> tuple[str, ...]:
        return self._manager(name).logs(name, lines=lines)

    def _manager(self, name: str) -> ProcessManager:
        return self._managers[self._find(name).kind]

    def _find(self, name: str) -> ManagedRunner:
        found = self._runners.get(name)
        if found is None:
            raise NotFoundError(f"no runner {name!r} is managed here")
        return found

    def _forget(self, name: str) -> None:
        with self._lock:
            self._seen.pop(self.kind(name), None)
            self._changes += 1


def _look(manager: ProcessManager) -> _Look:
    try:
        found = manager.statuses()
    except UnavailableError as error:
        return _Look(until=_after(_SILENCE), silence=error.detail)
    return _Look(until=_after(_LIFETIME), found=found)


def _after(time_: timedelta) -> float:
    return time.monotonic() + time_.total_seconds()
