"""What a SAL function is, what an object that a script holds, and how each is called.

A signature is written once, in Python: names, kinds and defaults of the parameters are
read from it, and the documents are written from what was read. What a script calls is
found in tables and nowhere else.

SalError               what a script may catch: a plain sentence, with the remedy
NoSuchFunction         no function or method has that name and takes that many values
NoSuchProperty         no such property
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import ClassVar, Final

from workers.sal.kinds import KINDS, Kind, given_back, kind_name, printable
from workers.sal.session import SalError, Session

try:
    from horus_rhai import NoSuchFunction as _NotInRhai
    from horus_rhai import NoSuchProperty as _NotOfRhai
except ImportError:
    # Without the engine there are no scripts to be told, but documents all the same.
    _NotInRhai = _NotOfRhai = LookupError  # type: ignore[assignment,misc]  # as above

__all__ = [
    "Function",
    "Method",
    "Module",
    "NoSuchFunction",
    "NoSuchProperty",
    "ObjectTable",
    "Parameter",
    "Property",
    "SalError",
    "SalObject",
]

#: What stands for a parameter that has no default.
REQUIRED: Final = inspect.Parameter.empty
#: The parameters that no script gives: the session, and the object itself.
_HIDDEN: Final = frozenset({"here", "self"})
#: How the documents call what a function returns, by its annotation.
_RESULTS: Final[Mapping[str, str]] = {
    "None": "nothing",
    "float": "float",
    "list[dict[str, object]]": "array of maps",
}


class NoSuchFunction(_NotInRhai):
    """No function or method of this name takes these values: Rhai has words for it."""

    def __init__(self, name: str, args: Sequence[object], *, of: str = "") -> None:
        kinds = ", ".join(re.sub(r"^an? ", "", kind_name(one)) for one in args)
        owner = f" of {of}" if of else ""
        super().__init__(f"Function not found: {name} ({kinds}){owner}")
        self.name = name


class NoSuchProperty(_NotOfRhai):
    """An object has no such property, or it cannot be set."""

    def __init__(self, name: str, *, of: str) -> None:
        super().__init__(f"Property not found: {name} of {of}")
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What a function is given in one place."""

    name: str
    kind: Kind
    #: `REQUIRED` if a script must give it.
    default: object = REQUIRED

    @property
    def is_required(self) -> bool:
        """Whether a script must give it."""
        return self.default is REQUIRED

    @property
    def shown_default(self) -> str:
        """The default as a script would write it."""
        return _literal(self.default)

    def read(self, value: object) -> object:
        """Read what a script gave.

        Raises:
            ValueError: saying what it should have been.
        """
        try:
            return self.kind.read(value)
        except ValueError as error:
            raise ValueError(f"{self.name} {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Callable:
    """What functions and methods have in common."""

    name: str
    parameters: tuple[Parameter, ...]
    #: What it returns, as the documents call it.
    result: str
    doc: str
    call: Callable[..., object]

    @property
    def signature(self) -> str:
        """How it is called, and what comes back."""
        given = ", ".join(map(_shown, self.parameters))
        return f"{self.name}({given}) -> {self.result}"

    def takes(self, count: int) -> bool:
        """Whether it can be called with that many values."""
        required = sum(one.is_required for one in self.parameters)
        return required <= count <= len(self.parameters)

    def _invoke(self, hidden: object, args: Sequence[object]) -> object:
        try:
            pairs = zip(self.parameters, args, strict=False)
            values = [parameter.read(value) for parameter, value in pairs]
        except ValueError as error:
            raise SalError(f"{self.name}: {error}") from None
        return _done(self.name, partial(self.call, hidden, *values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Function(_Callable):
    """A function that a script may call by its name."""

    module: str

    def invoke(self, here: Session, args: Sequence[object]) -> object:
        """Call it.

        Raises:
            SalError: if it cannot do what it was asked for.
        """
        return self._invoke(here, args)


class Method(_Callable):
    """What a script may call on an object."""

    def invoke(self, owner: SalObject, args: Sequence[object]) -> object:
        """Call it.

        Raises:
            SalError: if it cannot do what it was asked for.
        """
        return self._invoke(owner, args)


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """What a script may read of an object."""

    name: str
    result: str
    doc: str
    get: Callable[[object], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectTable:
    """All that scripts can do with objects of one kind."""

    name: str
    doc: str
    methods: tuple[Method, ...]
    properties: tuple[Property, ...]


class SalObject:
    """What a script holds: it reaches what stands in its table, and nothing else.

    A kind of object names the functions of its class that are methods, and its
    properties, where it is declared.
    """

    table: ClassVar[ObjectTable]
    #: A property among them can be called as well as read.
    methods: ClassVar[tuple[Callable[..., object] | property, ...]] = ()
    properties: ClassVar[tuple[Callable[..., object] | property, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.table = ObjectTable(
            name=cls.__name__,
            doc=_doc(cls),
            methods=tuple(_method(one, cls.__name__) for one in cls.methods),
            properties=tuple(_property(one) for one in cls.properties),
        )

    def rhai_call(self, name: str, args: Sequence[object]) -> object:
        """Call a method.

        Raises:
            NoSuchFunction: if none has that name and takes that many values.
            SalError: if it cannot do what it was asked for.
        """
        for method in self.table.methods:
            if method.name == name and method.takes(len(args)):
                return method.invoke(self, args)
        raise NoSuchFunction(name, args, of=self.table.name)

    def rhai_get(self, name: str) -> object:
        """Read a property.

        Raises:
            NoSuchProperty: if there is none of that name.
        """
        for one in self.table.properties:
            if one.name == name:
                return _done(name, partial(one.get, self))
        raise NoSuchProperty(name, of=self.table.name)

    def rhai_set(self, name: str, value: object) -> None:
        """Refuse: no object of SAL has a property that can be set."""
        raise NoSuchProperty(name, of=self.table.name)

    def rhai_plain(self) -> dict[str, object]:
        """Return what is left of it where it is a script's value: its properties.

        Raises:
            SalError: if it has none.
        """
        if not self.table.properties:
            raise SalError(
                f"a {self.table.name} is no value: end with what its methods return"
            )
        return {one.name: self.rhai_get(one.name) for one in self.table.properties}


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """Functions and objects that belong together."""

    name: str
    doc: str
    functions: tuple[Function, ...]
    objects: tuple[ObjectTable, ...]


def make_module(
    name: str,
    doc: str,
    *functions: Callable[..., object],
    objects: Sequence[type[SalObject]] = (),
    aliases: Mapping[str, Callable[..., object]] | None = None,
) -> Module:
    """Make a module of Python functions whose first parameter is the session.

    Args:
        name: What it is called.
        doc: What a script's author should know of all of it.
        functions: Each with the name that scripts use.
        objects: What its functions return.
        aliases: Further names.
    """
    named = [(one.__name__.rstrip("_"), one) for one in functions]
    return Module(
        name=name,
        doc=inspect.cleandoc(doc),
        functions=tuple(
            Function(
                name=script_name,
                module=name,
                parameters=_parameters(one),
                result=_result(one, ""),
                doc=_doc(one),
                call=one,
            )
            for script_name, one in [*named, *(aliases or {}).items()]
        ),
        objects=tuple(one.table for one in objects),
    )


def _method(one: Callable[..., object] | property, owner: str) -> Method:
    call = _getter(one)
    return Method(
        name=call.__name__.rstrip("_"),
        parameters=_parameters(call),
        result=_result(call, owner),
        doc=_doc(call),
        call=call,
    )


def _property(one: Callable[..., object] | property) -> Property:
    get = _getter(one)
    return Property(name=get.__name__, result=_result(get, ""), doc=_doc(get), get=get)


def _getter(one: Callable[..., object] | property) -> Callable[..., object]:
    get: Callable[..., object] | None = one.fget if isinstance(one, property) else one
    assert get is not None  # noqa: S101 - no property is written without a getter
    return get


def _parameters(call: Callable[..., object]) -> tuple[Parameter, ...]:
    given = inspect.signature(call).parameters.values()
    return tuple(
        Parameter(
            name=one.name.rstrip("_"),
            # None is a default that no script can give.
            kind=KINDS[one.annotation.removesuffix(" | None")],
            default=one.default,
        )
        for one in given
        if one.name not in _HIDDEN
    )


def _result(call: Callable[..., object], owner: str) -> str:
    annotation: str = inspect.signature(call).return_annotation
    if annotation == "Self":
        return owner
    if annotation in KINDS:
        return KINDS[annotation].name.replace("path", "string")
    if array := re.fullmatch(r"list\[(\w+)\]", annotation):
        return f"array of {array[1]}".replace("Path", "strings")
    return _RESULTS.get(annotation, annotation)


def _done(name: str, call: Callable[[], object]) -> object:
    """Call something, and say of what fails by which name it was called."""
    try:
        result = call()
    except SalError as error:
        raise SalError(printable(f"{name}: {error}")) from error
    except OSError as error:
        raise SalError(printable(f"{name}: {_told(error)}")) from error
    try:
        return given_back(result)
    except ValueError as error:
        raise SalError(f"{name}: {error}") from None


def _doc(documented: Callable[..., object]) -> str:
    return inspect.cleandoc(documented.__doc__ or "")


def _shown(parameter: Parameter) -> str:
    shown = f"{parameter.name}: {parameter.kind.name}"
    if parameter.is_required:
        return shown
    return f"{shown} = {parameter.shown_default}"


def _literal(value: object) -> str:
    """Write a default as a script would."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, Mapping):
        return "#{}"
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}"
    return "()" if value is None else str(value)


def _told(error: OSError) -> str:
    """Say what the operating system said, and of what."""
    said = error.strerror or str(error) or type(error).__name__
    names = [name for name in (error.filename, error.filename2) if name is not None]
    return f"{said}: {' and '.join(map(str, names))}" if names else said
