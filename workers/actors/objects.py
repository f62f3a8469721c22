"""The actors `osis`: the objects of the context, by fields that are written as text.

An object's id is its parameter `oid`, as HeroScript drops every `id`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from workers.actors.actor import (
    INTEGER,
    LIST,
    SOME,
    TEXT,
    Actor,
    ActorError,
    Wanted,
    read_pairs,
)
from workers.heroscript import kinds
from workers.osis.errors import OsisError
from workers.osis.model import Field, Model, make_field, make_index, make_model
from workers.osis.objects import (
    USUAL_PAGE,
    Beginning,
    Between,
    Equal,
    Objects,
    Page,
    Sought,
    Stored,
)
from workers.osis.values import Kind

_MODEL: Final = Wanted(name="model", kind=TEXT, doc="the model's name")
_OID: Final = Wanted(name="oid", kind=INTEGER, doc="the object's id")
_FIELDS: Final = "a value for each field by its name"
_SOUGHT: Final = (
    Wanted(name="value", kind=TEXT, doc="that the field has", default=None),
    Wanted(name="prefix", kind=TEXT, doc="that it begins with", default=None),
    Wanted(name="from", kind=TEXT, doc="its lowest value", default=None),
    Wanted(name="to", kind=TEXT, doc="its highest", default=None),
)
_PAGE: Final = (
    Wanted(name="limit", kind=INTEGER, doc="objects at most", default=USUAL_PAGE),
    Wanted(name="after", kind=INTEGER, doc="the last one's id before", default=None),
)


def object_actors(
    find_objects: Callable[[], Objects], failures: Sequence[type[Exception]] = ()
) -> Iterator[Actor]:
    """Yield the actors of a context's objects.

    Args:
        find_objects: Returns them; called whenever a script needs them.
        failures: What the database beneath raises that refuses or does not answer.
    """
    does = _Deeds(find_objects)

    def actor(
        name: str,
        doc: str,
        call: Callable[..., object],
        *wanted: Wanted,
        others: str | None = None,
    ) -> Actor:
        return Actor(
            name=f"osis.{name}",
            doc=doc,
            wanted=wanted,
            others=others,
            call=call,
            failures=(ActorError, OsisError, *failures),
        )

    yield actor(
        "model",
        "Declare a model, and return its version; the same again changes nothing.",
        does.declare,
        _MODEL,
        Wanted(name="fields", kind=SOME, doc="each `NAME:TYPE` or `NAME:reference:TO`"),
        Wanted(name="required", kind=LIST, doc="fields that need a value", default=()),
        Wanted(name="index", kind=LIST, doc="fields to find objects by", default=()),
        Wanted(name="unique", kind=LIST, doc="those that differ in all", default=()),
    )
    yield actor("models", "Return the names of all models.", does.models)
    yield actor("create", "Store a new object.", does.create, _MODEL, others=_FIELDS)
    yield actor(
        "update",
        "Give fields of an object other values.",
        does.update,
        *(_MODEL, _OID),
        others=_FIELDS,
    )
    yield actor("get", "Return an object.", does.get, _MODEL, _OID)
    yield actor("exists", "Tell whether there is one.", does.exists, _MODEL, _OID)
    yield actor("delete", "Delete an object.", does.delete, _MODEL, _OID)
    field = Wanted(name="field", kind=TEXT, doc="an indexed field")
    yield actor(
        "find",
        "Return objects by a field, in the order of its values.",
        does.find,
        *(_MODEL, field, *_SOUGHT, *_PAGE),
    )
    yield actor(
        "list", "Return objects in the order of their ids.", does.listed, _MODEL, *_PAGE
    )
    optional = Wanted(name="field", kind=TEXT, doc="an indexed field", default=None)
    yield actor(
        "count",
        "Return how many there are, of all or of those that find returns.",
        does.count,
        *(_MODEL, optional, *_SOUGHT),
    )


class _Deeds:
    """What the actors do."""

    def __init__(self, find_objects: Callable[[], Objects]) -> None:
        self._find_objects = find_objects

    @property
    def _objects(self) -> Objects:
        return self._find_objects()

    def declare(
        self,
        model: str,
        fields: Sequence[str],
        required: Sequence[str],
        index: Sequence[str],
        unique: Sequence[str],
    ) -> int:
        made = [_field(one, is_required=required) for one in fields]
        for name in required:
            if name not in {one.name for one in made}:
                raise ActorError(f"{model} has no field {name} that could be required")
        indexes = [
            *map(make_index, index),
            *(make_index(name, is_unique=True) for name in unique),
        ]
        return self._objects.declare(make_model(model, made, indexes)).version

    def models(self) -> list[str]:
        return self._objects.models()

    def create(self, model: str, others: Mapping[str, str]) -> object:
        known = self._objects.model(model)
        return _shown(self._objects.add(model, _values(known, others)))

    def update(self, model: str, oid: int, others: Mapping[str, str]) -> object:
        objects = self._objects
        stored = objects.get(model, oid)
        values = {**stored.values, **_values(objects.model(model), others)}
        # What somebody else saved meanwhile is not overwritten.
        return _shown(objects.replace(model, oid, values, revision=stored.revision))

    def get(self, model: str, oid: int) -> object:
        return _shown(self._objects.get(model, oid))

    def exists(self, model: str, oid: int) -> bool:
        return self._objects.exists(self._objects.model(model).name, oid)

    def delete(self, model: str, oid: int) -> bool:
        return self._objects.delete(model, oid)

    def find(
        self,
        model: str,
        field: str,
        limit: int,
        after: int | None,
        **sought: str | None,
    ) -> object:
        known, page = self._objects.model(model), Page(limit=limit, after=after)
        wanted = _sought(known, field, sought)
        return [_shown(one) for one in self._objects.find(model, field, wanted, page)]

    def listed(self, model: str, limit: int, after: int | None) -> object:
        known, page = self._objects.model(model), Page(limit=limit, after=after)
        return [_shown(one) for one in self._objects.listed(known.name, page)]

    def count(self, model: str, field: str | None, **sought: str | None) -> int:
        known = self._objects.model(model)
        if field is None:
            return self._objects.count(model)
        return self._objects.count(model, field, _sought(known, field, sought))


def _field(text: str, *, is_required: Sequence[str]) -> Field:
    name, _, kind = text.partition(":")
    kind, _, to = kind.partition(":")
    more: dict[str, object] = {"to": to} if to else {}
    if name in is_required:
        more["required"] = True
    return make_field(name, kind, **more)


def _values(model: Model, others: Mapping[str, str]) -> dict[str, object]:
    return {name: _value(model, name, text) for name, text in others.items()}


def _value(model: Model, name: str, text: str, *, is_item: bool = False) -> object:
    """Read a text as a value of a field, or as an item of one."""
    kind = model.field(name).kind
    if is_item and kind is Kind.LIST:
        return text
    try:
        return _FROM_TEXT[kind](text)
    except ValueError as error:
        said = f"{name} of {model.name} must be {error}, not {text[:40]!r}"
        raise ActorError(said) from None


def _sought(model: Model, field: str, given: Mapping[str, str | None]) -> Sought:
    texts = {name: text for name, text in given.items() if text is not None}
    match sorted(texts):
        case ["value"]:
            return Equal(value=_value(model, field, texts["value"], is_item=True))
        case ["prefix"]:
            return Beginning(prefix=texts["prefix"])
        case ["from"] | ["to"] | ["from", "to"]:
            ends = {name: _value(model, field, text) for name, text in texts.items()}
            return Between(low=ends.get("from"), high=ends.get("to"))
        case _:
            raise ActorError("what is sought is a value, or a prefix, or from and to")


def _shown(stored: Stored) -> object:
    return {"id": stored.id, **stored.values}


def _time(text: str) -> object:
    return int(text) if text.isascii() and text.isdecimal() else text


def _items(text: str) -> object:
    return list(kinds.read_list(text))


_FROM_TEXT: Final[Mapping[Kind, Callable[[str], object]]] = MappingProxyType(
    {
        Kind.STRING: str,
        Kind.INT: kinds.read_i64,
        Kind.FLOAT: kinds.read_float,
        Kind.BOOL: kinds.read_bool,
        Kind.LIST: _items,
        Kind.MAP: read_pairs,
        Kind.TIME: _time,
        Kind.REFERENCE: kinds.read_i64,
    }
)
