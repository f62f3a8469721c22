"""What an actor is: a Python function by the name that scripts use, with what it takes.

A parameter that is missing, unknown or of another kind is refused before anything of a
script has run, as far as its value stands in the script.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from workers.heroscript import kinds
from workers.heroscript.parameters import REQUIRED


class ActorError(Exception):
    """An actor could not do what it was asked for; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of value that a parameter takes."""

    #: How the documents call it.
    name: str
    #: Raises ValueError with what would be right.
    read: Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A parameter that an actor takes."""

    name: str
    kind: Kind
    doc: str = ""
    #: `REQUIRED` if a script must give it.
    default: object = REQUIRED
    #: Another name of it.
    alias: str | None = None

    @property
    def is_required(self) -> bool:
        """Whether a script must give it."""
        return self.default is REQUIRED


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """What does the actions of one name."""

    #: Both parts, as in `db.set`.
    name: str
    doc: str
    wanted: tuple[Wanted, ...] = ()
    #: What all other keys are, where it takes any: it gets them as `others`.
    others: str | None = None
    #: Takes what it wants by name.
    call: Callable[..., object]
    #: What it raises when it could not do it; all else is a fault of ours.
    failures: tuple[type[Exception], ...] = (ActorError,)
    #: Why no script may use it.
    refusal: str | None = None

    def find(self, key: str) -> Wanted | None:
        """Return what it wants under a key."""
        return next((one for one in self.wanted if key in {one.name, one.alias}), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """All actors that there are for a script."""

    actors: Mapping[str, Actor] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, actors: Iterable[Actor]) -> Cast:
        """Gather actors.

        Raises:
            ValueError: if two have one name.
        """
        named: dict[str, Actor] = {}
        for actor in actors:
            if named.setdefault(actor.name, actor) is not actor:
                raise ValueError(f"two actors are called {actor.name}")
        return cls(actors=MappingProxyType(named))

    def __iter__(self) -> Iterator[Actor]:
        return iter(self.actors.values())

    def find(self, name: str) -> Actor | None:
        """Return the actor of a name."""
        return self.actors.get(name)

    def nearest(self, name: str) -> str | None:
        """Return the known name that is most like this one."""
        return nearest(name, self.actors)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the one of these that is most like a name, if one is."""
    from difflib import get_close_matches  # noqa: PLC0415 - for who has slipped

    # Longer words are nobody's slip, and take long to be compared.
    close = get_close_matches(name[:80], list(known), n=1)
    return close[0] if close else None


def read_pairs(text: str) -> dict[str, str]:
    """Read `NAME=VALUE`, or several between commas."""
    pairs = [item.partition("=") for item in kinds.read_list(text)]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise ValueError("NAME=VALUE, or several between commas")
    return {name.strip(): value for name, _, value in pairs}


def _seconds(text: str) -> timedelta:
    try:
        return timedelta(seconds=kinds.read_u32(text))
    except (ValueError, OverflowError):
        raise ValueError("a whole number of seconds") from None


def _some(text: str) -> tuple[str, ...]:
    if items := kinds.read_list(text):
        return items
    raise ValueError("one item, or several between commas")


TEXT: Final = Kind(name="text", read=str)
INTEGER: Final = Kind(name="integer", read=kinds.read_i64)
BOOL: Final = Kind(name="true or false", read=kinds.read_bool)
LIST: Final = Kind(name="list", read=kinds.read_list)
SECONDS: Final = Kind(name="seconds", read=_seconds)
#: A list that is not empty.
SOME: Final = Kind(name="list", read=_some)
