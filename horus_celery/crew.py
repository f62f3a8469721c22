"""Which runners a deployment has on this machine, and what each of them is to serve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from horus_celery.bundle import WantedRunner
from horus_celery.errors import ConfigurationError
from horus_celery.executors import require
from horus_celery.settings import Actor, Settings


def runner_name(executor: str) -> str:
    """Return the name of the runner that `horus up` starts for an executor."""
    return f"{executor}_runner_1"


def runners_of(executors: Iterable[str]) -> tuple[WantedRunner, ...]:
    """Return the runners that `horus up` starts for executors."""
    return tuple(
        WantedRunner(name=runner_name(executor), executors=(executor,))
        for executor in executors
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """The runners of a deployment: those of its executors, and its actors."""

    #: The name of its runner, by the executor.
    executors: Mapping[str, str]
    actors: Sequence[Actor]

    @property
    def wanted(self) -> tuple[WantedRunner, ...]:
        """What the trust bundle is to list."""
        return (
            *runners_of(self.executors),
            *(
                WantedRunner(
                    name=actor.name,
                    executors=(actor.executor,),
                    contexts=actor.contexts,
                )
                for actor in self.actors
            ),
        )


def whole_crew(settings: Settings) -> Crew:
    """Return the runners of `horus up`.

    An actor that has the name of an executor's runner takes its place.

    Raises:
        ConfigurationError: if such an actor is for another executor, or there is no
            such executor.
    """
    executors = {name: runner_name(name) for name in settings.executors}
    for actor in settings.actors:
        for executor, name in tuple(executors.items()):
            if name != actor.name:
                continue
            if executor != actor.executor:
                raise ConfigurationError(
                    f"the actor {name!r} for {actor.executor} has the name of the"
                    f" runner for {executor}: choose another, or leave {executor} out"
                    " of executors"
                )
            del executors[executor]
    require(settings, executors)
    return replace(actors_alone(settings), executors=executors)


def actors_alone(settings: Settings) -> Crew:
    """Return the runners of `horus supervisor`.

    Raises:
        ConfigurationError: if one is for an executor that there is not.
    """
    ours = [one.executor for one in settings.actors if one.binary_path is None]
    require(settings, ours)
    return Crew(executors={}, actors=settings.actors)
