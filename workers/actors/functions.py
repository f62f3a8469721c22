"""How a table of functions, as that of SAL, becomes actors of one name.

The functions know kinds of their own, for values and not for text: here a text becomes
such a value, which the function's kind then reads.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from workers.actors.actor import Actor, ActorError, Kind, Wanted, read_pairs
from workers.actors.stage import RESULT
from workers.heroscript import kinds
from workers.heroscript.parameters import REQUIRED


class Named(Protocol):
    """A kind of value that a function takes."""

    @property
    def name(self) -> str:
        """How documents call it."""
        ...

    @property
    def read(self) -> Callable[[object], object]:
        """Reads a value, or raises ValueError with what it must be."""
        ...


class Given(Protocol):
    """What a function is given in one place."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Named: ...

    @property
    def default(self) -> object:
        """`inspect.Parameter.empty` if it must be given."""
        ...


class Function(Protocol):
    """A function as such a table describes it."""

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> Sequence[Given]: ...

    @property
    def doc(self) -> str: ...

    @property
    def call(self) -> Callable[..., object]:
        """Takes what its use is about, and then a value for each parameter."""
        ...


def actors_of(
    house: str,
    functions: Iterable[Function],
    find_here: Callable[[], object],
    *,
    failures: Sequence[type[Exception]] = (),
) -> Iterator[Actor]:
    """Yield an actor `HOUSE.NAME` for each function.

    Args:
        house: What scripts write before the dot.
        functions: The table.
        find_here: Returns what each function is called with first; called with every
            action, so that the actors may be made before there is a job.
        failures: What a function raises that could not do it.

    Raises:
        ValueError: if a parameter is of a kind that no text becomes, or has the name
            that something else of every action has.
    """
    for function in functions:
        yield Actor(
            name=f"{house}.{function.name}",
            doc=function.doc,
            wanted=tuple(map(_wanted, function.parameters)),
            call=_caller(function, find_here),
            failures=(ActorError, OSError, *failures),
        )


def _wanted(one: Given) -> Wanted:
    read = _FROM_TEXT.get(one.kind.name)
    if read is None or one.name in _NOT_GIVEN:
        raise ValueError(f"no script can give {one.name}, which is {one.kind.name}")

    def read_both(text: str) -> object:
        value = read(text)
        try:
            return one.kind.read(value)
        except ValueError as error:
            raise ValueError(str(error).removeprefix("must be ")) from None

    is_required = one.default is inspect.Parameter.empty
    return Wanted(
        name=one.name,
        kind=Kind(name=one.kind.name, read=read_both),
        default=REQUIRED if is_required else one.default,
    )


def _caller(
    function: Function, find_here: Callable[[], object]
) -> Callable[..., object]:
    names = [one.name for one in function.parameters]

    def call(**values: object) -> object:
        return _shown(function.call(find_here(), *(values[name] for name in names)))

    return call


def _shown(result: object) -> object:
    """Return what a script can keep of a result: of an object, its properties."""
    if isinstance(result, os.PathLike):
        return os.fspath(result)
    if isinstance(result, list | tuple):
        return [_shown(one) for one in result]
    if isinstance(result, Mapping):
        return {str(name): _shown(value) for name, value in result.items()}
    table = getattr(result, "table", None)
    if table is None:
        return result
    return {one.name: _shown(one.get(result)) for one in table.properties}


def _items(text: str) -> list[str]:
    return list(kinds.read_list(text))


#: What the parser drops, and what names the variable of a result.
_NOT_GIVEN: Final = frozenset({"id", RESULT})
#: By the name of a kind, how a text becomes a value that it reads.
_FROM_TEXT: Final[Mapping[str, Callable[[str], object]]] = MappingProxyType(
    {
        "string": str,
        "path": str,
        "anything": str,
        "command line, or array of words": str,
        "integer": kinds.read_i64,
        "float": kinds.read_float,
        "seconds": kinds.read_float,
        "bool": kinds.read_bool,
        "array": _items,
        "array of strings": _items,
        "map": read_pairs,
        "map of strings": read_pairs,
    }
)
