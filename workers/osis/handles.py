"""What a script may do with what it holds: what stands in a table, and nothing else.

Rhai calls a function of a value, reads a property, or sets one: each asks here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeVar

from workers.osis.errors import FieldError, NameUnknown

_ATTRIBUTE: Final = "__osis_operation__"

F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A function that a handle has for scripts."""

    name: str
    #: The names of what it takes, in their order; the first ones must be given.
    parameters: tuple[str, ...]
    required: int
    #: What comes back, as the documents say it.
    result: str
    doc: str
    #: Takes the handle, then what is given.
    run: Callable[..., object]

    @property
    def signature(self) -> str:
        """How it is written, and what comes back."""
        needed = self.parameters[: self.required]
        optional = (f"{each}?" for each in self.parameters[self.required :])
        return f"{self.name}({', '.join([*needed, *optional])}) -> {self.result}"

    def takes(self, count: int) -> bool:
        """Return whether it can be called with so many values."""
        return self.required <= count <= len(self.parameters)


def operation(*, result: str, name: str | None = None) -> Callable[[F], F]:
    """Make a method of a handle a function for scripts.

    Args:
        result: What comes back, as the documents say it.
        name: What scripts call it, if that is no name for a method.
    """

    def mark(method: F) -> F:
        setattr(method, _ATTRIBUTE, _read(method, name=name, result=result))
        return method

    return mark


class Handle:
    """Something that a script holds."""

    #: What the documents and errors call it.
    name: ClassVar[str]
    operations: ClassVar[Mapping[str, Operation]] = MappingProxyType({})
    #: What may be read of it.
    properties: ClassVar[Mapping[str, Callable[[Any], object]]] = MappingProxyType({})

    def __init_subclass__(cls) -> None:
        own = (getattr(each, _ATTRIBUTE, None) for each in vars(cls).values())
        found = {each.name: each for each in own if isinstance(each, Operation)}
        cls.operations = MappingProxyType({**cls.operations, **found})

    def rhai_call(self, name: str, args: Sequence[object]) -> object:
        """Call a function.

        Raises:
            NameUnknown: if there is none of this name.
            OsisError: if it cannot do what it was asked for.
        """
        known = self.operations.get(name)
        if known is None:
            raise self._unknown(name)
        if not known.takes(len(args)):
            raise FieldError(
                f"{self.name}.{known.signature} was given {len(args)} values"
            )
        return known.run(self, *args)

    def rhai_get(self, name: str) -> object:
        """Return a property.

        Raises:
            NameUnknown: if there is none of this name.
        """
        known = self.properties.get(name)
        if known is None:
            raise self._unknown(name)
        return known(self)

    def rhai_set(self, name: str, value: object) -> None:
        """Set a property.

        Raises:
            NameUnknown: if there is none of this name that may be set.
        """
        raise self._unknown(name)

    def rhai_plain(self) -> object:
        """Return what it is as a script's result: what may be read of it."""
        return {name: read(self) for name, read in self.properties.items()}

    def _unknown(self, name: str) -> NameUnknown:
        return NameUnknown(f"{self.name} has no {name}")


def _read(method: Callable[..., object], *, name: str | None, result: str) -> Operation:
    _self, *parameters = inspect.signature(method).parameters.values()
    required = [each for each in parameters if each.default is inspect.Parameter.empty]
    return Operation(
        name=name or method.__name__,
        parameters=tuple(each.name for each in parameters),
        required=len(required),
        result=result,
        doc=inspect.getdoc(method) or "",
        run=method,
    )
