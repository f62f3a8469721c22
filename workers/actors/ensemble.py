"""Which actors there are for the script of a job, by what its process was given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from workers.actors.actor import Actor, ActorError, Cast
from workers.actors.database import Database, database_actors
from workers.actors.jobs import job_actors
from workers.actors.objects import object_actors
from workers.actors.play import play_actors, session_actors
from workers.osis.objects import Objects


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the process of a script was given."""

    environment: Mapping[str, str]
    say: Callable[[str], None]
    #: How a database is reached, by its address.
    open_database: Callable[[str], Database]
    #: What a call of that database raises that is refused or not answered.
    database_failures: tuple[type[Exception], ...] = ()
    #: Actors that do not depend on the job.
    further: tuple[Actor, ...] = ()
    #: The variables of the script, which its actions set.
    variables: MutableMapping[str, str] = field(default_factory=dict)


def gather(around: Surroundings) -> Cast:
    """Return all actors; what they reach is looked up when they first reach for it."""
    return Cast.of(_all(around))


def _all(around: Surroundings) -> Iterator[Actor]:
    yield from play_actors(around.say)
    yield from session_actors(around.variables)
    connect = cache(lambda: _database(around))
    yield from database_actors(connect, around.database_failures)
    objects = cache(lambda: Objects(connect().call))
    yield from object_actors(objects, around.database_failures)
    yield from job_actors(partial(_secrets, around))
    yield from around.further


def _secrets(around: Surroundings) -> Path | None:
    folder = around.environment.get("HORUS_SECRETS")
    return None if folder is None else Path(folder)


def _database(around: Surroundings) -> Database:
    address = around.environment.get("HERODB_URL")
    if not address:
        raise ActorError(
            "the job cannot reach HeroDB: sign it with `net: herodb` or `net: host`,"
            " for a runner that has one"
        )
    return around.open_database(address)
