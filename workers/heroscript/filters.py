"""Which actions a filter finds, and in which order filters put them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from workers.heroscript.model import NOBODY, Action
from workers.heroscript.names import SPACES, lower

#: The highest number that a filter may have, and that of what no filter finds.
HIGHEST: Final = 49
REST: Final = 50
_GLOB: Final = frozenset("*?[")


class _Filter(NamedTuple):
    actor: str
    name: str

    def finds(self, action: Action) -> bool:
        return _matches(self.actor, action.actor) and _matches(self.name, action.name)


def find(
    actions: Iterable[Action], wanted: str, *, include_done: bool = False
) -> tuple[Action, ...]:
    """Return the actions that a filter finds, in the order of the text.

    Args:
        actions: Where to look.
        wanted: `actor.name`, or several of them between commas; a part may be empty,
            which finds all, or a glob.
        include_done: Whether those are found that are done.
    """
    filters = _read(wanted)
    return tuple(
        action
        for action in actions
        if (include_done or not action.done)
        and any(one.finds(action) for one in filters)
    )


def filtersort(
    actions: Iterable[Action], priorities: Mapping[int, str]
) -> tuple[Action, ...]:
    """Return all actions, each with the lowest number whose filter finds it.

    They are ordered by that number, and by the text where it is the same. Nothing is
    remembered: a second call returns the same.

    Raises:
        ValueError: if a number is not 0 to 49.
    """
    for number in priorities:
        if not 0 <= number <= HIGHEST:
            raise ValueError(f"a filter's number is 0 to {HIGHEST}, not {number}")
    numbered = [(number, _read(priorities[number])) for number in sorted(priorities)]

    def numbers(action: Action) -> int:
        found = (
            number
            for number, filters in numbered
            if any(one.finds(action) for one in filters)
        )
        return REST if action.done else next(found, REST)

    placed = [replace(action, priority=numbers(action)) for action in actions]
    return tuple(sorted(placed, key=lambda action: action.priority))


def _read(wanted: str) -> tuple[_Filter, ...]:
    return tuple(map(_one, wanted.replace(":", ".").split(",")))


def _one(wanted: str) -> _Filter:
    if "." not in wanted:
        return _Filter(NOBODY, _part(wanted))
    return _Filter(_part(wanted.partition(".")[0]), _part(wanted.rpartition(".")[2]))


def _part(text: str) -> str:
    text = text.strip(SPACES)
    return text.replace("[^", "[!") if _GLOB & set(text) else lower(text)


def _matches(wanted: str, name: str) -> bool:
    if not wanted:
        return True
    return fnmatchcase(name, wanted) if _GLOB & set(wanted) else wanted == name
