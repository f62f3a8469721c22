"""What a check of `horus doctor` finds, and what it looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import TypeAlias

from horus_celery.bundle import WantedRunner
from horus_celery.clock import Clock
from horus_celery.crew import whole_crew
from horus_celery.journal import is_alive
from horus_celery.processes.addresses import Addresses, read_addresses
from horus_celery.processes.managed import ManagedRunner, read_runners
from horus_celery.settings import Settings
from horus_celery.statedir import StateDirectory


class Verdict(StrEnum):
    """What a check found."""

    OK = "ok"
    #: It works; somebody may still want to know.
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found, and what to do about it."""

    name: str
    verdict: Verdict
    detail: str
    #: A command, or a sentence; empty where there is nothing to do.
    remedy: str = ""


#: What a check says: the verdict, the detail, the remedy.
Said: TypeAlias = tuple[Verdict, str, str]


@dataclass(frozen=True, kw_only=True)
class Patient:
    """What is looked at."""

    settings: Settings
    state: StateDirectory
    clock: Clock
    #: Writes a command that finds the same state directory.
    paste: Callable[..., str]

    @property
    def now(self) -> datetime:
        """The present: what hangs may keep a check for seconds, and runners beat."""
        return self.clock.now()

    @cached_property
    def running(self) -> Addresses | None:
        """Where the deployment listens that is up; a killed one has left its own."""
        found = read_addresses(self.state)
        return found if found is not None and is_alive(found.process) else None

    @cached_property
    def managed(self) -> tuple[ManagedRunner, ...]:
        """The runners that the deployment manages that is up."""
        return () if self.running is None else read_runners(self.state)

    @property
    def wanted(self) -> tuple[WantedRunner, ...]:
        """Which runners there are to be here: by what is up, else by the settings.

        Where trust is changed elsewhere, an executor has one if its key was brought.
        """
        if self.running is None:
            crew = whole_crew(self.settings)
            if self.state.has_root() and not self.state.has_root_key():
                brought = {
                    executor: name
                    for executor, name in crew.executors.items()
                    if self.state.has_runner_key(name)
                }
                crew = replace(crew, executors=brought)
            return crew.wanted
        return tuple(
            WantedRunner(
                name=one.name,
                executors=(one.planned.executor,),
                contexts=one.planned.contexts,
            )
            for one in self.managed
        )
