"""What a deployment runs, by what, and which of it it cannot be without."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from horus_celery.bundle import WantedRunner
from horus_celery.crew import actors_alone, whole_crew
from horus_celery.fleet import Planned
from horus_celery.processes import procfile
from horus_celery.processes.base import ManagedProcess
from horus_celery.processes.managed import ManagedRunner
from horus_celery.processes.programs import (
    API,
    COORDINATOR,
    FLOWER,
    program_of,
    programs,
)
from horus_celery.processes.simple import KIND as SIMPLE
from horus_celery.processes.supervisord import REDIS, Program
from horus_celery.settings import Actor, Settings


class Extent(Enum):
    """How much of a deployment one command runs, by what it runs besides runners."""

    #: `horus up`, with a runner for each executor.
    WHOLE = procfile.PLATFORM
    #: `horus coordinator`, with the actors of the configuration.
    COORDINATOR = (API, COORDINATOR)
    #: `horus supervisor`, with the actors of the configuration.
    SUPERVISOR = (API,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineup:
    """The programs of a deployment, before any of them runs."""

    #: Those of supervisord, but Redis.
    programs: tuple[Program, ...]
    #: Those in windows of tmux, by the name of their runner.
    windows: Mapping[str, Program]
    #: The runners among all of them.
    runners: tuple[ManagedRunner, ...]
    #: What the trust bundle is to list.
    wanted: tuple[WantedRunner, ...]
    #: Runners that show themselves once they are ready; of what is not ours nobody
    #: knows whether it does.
    awaited: frozenset[str]
    #: Programs of supervisord without which there is no deployment. Without Flower a
    #: view less is there, and a runner that crashed can be started again.
    vital: frozenset[str]

    @property
    def kinds(self) -> frozenset[str]:
        """The process managers that it needs."""
        return frozenset(one.kind for one in self.runners)


def lineup_of(settings: Settings, extent: Extent) -> Lineup:
    """Return what a command runs.

    Raises:
        ConfigurationError: naming an executor or an actor that there cannot be.
    """
    is_whole = extent is Extent.WHOLE
    crew = whole_crew(settings) if is_whole else actors_alone(settings)
    procured = programs(crew, platform=extent.value)
    own = {program.name: program for program in procured}
    actors = {actor: program_of(actor) for actor in settings.actors}
    simple = {a: p for a, p in actors.items() if a.process_manager == SIMPLE}
    windows = {a.name: p for a, p in actors.items() if a not in simple}
    return Lineup(
        programs=(*procured, *simple.values()),
        windows=windows,
        runners=(
            *(
                _of_procfile(settings, name, executor, own[executor])
                for executor, name in crew.executors.items()
            ),
            *(_of_actor(actor, program) for actor, program in actors.items()),
        ),
        wanted=crew.wanted,
        awaited=frozenset({*crew.executors.values(), *_ours(settings.actors)}),
        vital=frozenset({REDIS, *own}) - {FLOWER, *crew.executors},
    )


def _ours(actors: Iterable[Actor]) -> Iterable[str]:
    return (actor.name for actor in actors if actor.binary_path is None)


def _of_procfile(
    settings: Settings, name: str, executor: str, program: Program
) -> ManagedRunner:
    concurrency = settings.concurrency or os.cpu_count() or 1
    return ManagedRunner(
        name=name,
        kind=SIMPLE,
        process=_process(program.name, program),
        planned=Planned(executor=executor, contexts=("*",), concurrency=concurrency),
    )


def _of_actor(actor: Actor, program: Program) -> ManagedRunner:
    is_simple = actor.process_manager == SIMPLE
    return ManagedRunner(
        name=actor.name,
        kind=actor.process_manager,
        process=_process(program.name if is_simple else actor.name, program),
        planned=Planned(
            executor=actor.executor,
            contexts=actor.contexts,
            concurrency=actor.concurrency,
        ),
    )


def _process(name: str, program: Program) -> ManagedProcess:
    return ManagedProcess(program=name, stop_timeout=program.stop_timeout)
