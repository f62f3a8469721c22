"""What scripts do with objects: the name `osis`, the objects, and models in making."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Final

from workers.osis.errors import FieldError, NameUnknown
from workers.osis.handles import Handle, operation
from workers.osis.model import (
    Field,
    Index,
    Model,
    make_field,
    make_index,
    make_model,
    parse_model,
    parse_name,
)
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
from workers.osis.values import Kind, Value

_PAGE_WORDS: Final = frozenset({"limit", "after"})
_BETWEEN_WORDS: Final = frozenset({"from", "to"})
_BEGINNING_WORDS: Final = frozenset({"prefix"})
_FIELD_WORDS: Final = frozenset({"required", "initial", "to"})


class Osis(Handle):
    """The objects of the context, as the name `osis` of a script."""

    name = "osis"

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    @operation(result="model")
    def model(self, name: object, spec: object = None) -> ModelHandle:
        """Declare a model; without a spec, begin one that is declared by save()."""
        if spec is None:
            return ModelHandle(self._objects, parse_name(name, what="a model"))
        wanted = parse_model(name, _map(spec, what="a model"))
        return ModelHandle(self._objects, wanted.name, self._objects.declare(wanted))

    @operation(result="array of strings")
    def models(self) -> list[str]:
        """Return the names of all models of the context."""
        return self._objects.models()

    @operation(result="object")
    def new(self, model: object, values: object = None) -> ObjectHandle:
        """Begin an object; it is stored by its save()."""
        made = ObjectHandle(self._objects, self._objects.model(model))
        for name, value in _map(values or {}, what="the values").items():
            made.rhai_set(name, value)
        return made

    @operation(result="object")
    def create(self, model: object, values: object = None) -> ObjectHandle:
        """Do the same as new."""
        return self.new(model, values)

    @operation(result="object")
    def get(self, model: object, id: object) -> ObjectHandle:  # noqa: A002 - what scripts call it
        """Return an object; it is an error if there is none."""
        known = self._objects.model(model)
        return self._handle(known.name, self._objects.get(known.name, id))

    @operation(result="bool")
    def exists(self, model: object, id: object) -> bool:  # noqa: A002 - as above
        """Return whether there is an object."""
        return self._objects.exists(self._objects.model(model).name, id)

    @operation(result="bool")
    def delete(self, model: object, id: object) -> bool:  # noqa: A002 - as above
        """Delete an object; return whether there was one."""
        return self._objects.delete(self._objects.model(model).name, id)

    @operation(result="array of objects")
    def find(
        self, model: object, field: object, value: object, page: object = None
    ) -> list[ObjectHandle]:
        """Return objects by an indexed field, in the order of its values, then of ids.

        The value is one that the field, or an item of it, equals; or a map: of from and
        to, for numbers and times (both included, either may be missing); or of prefix,
        for strings; or a range of whole numbers. The page is a map of limit (100 unless
        said, 1,000 at most) and after: the last object of the page before, or its id.
        """
        name = self._objects.model(model).name
        by, sought = _field_name(field), _sought(value)
        found = self._objects.find(name, by, sought, _page(page))
        return [self._handle(name, each) for each in found]

    @operation(result="object or ()")
    def find_one(
        self, model: object, field: object, value: object
    ) -> ObjectHandle | None:
        """Return the first object that find returns, or nothing."""
        name = self._objects.model(model).name
        found = self._objects.find_one(name, _field_name(field), _sought(value))
        return None if found is None else self._handle(name, found)

    @operation(result="array of objects", name="list")
    def listed(self, model: object, page: object = None) -> list[ObjectHandle]:
        """Return objects in the order of their ids; the page is that of find."""
        name = self._objects.model(model).name
        found = self._objects.listed(name, _page(page))
        return [self._handle(name, each) for each in found]

    @operation(result="int")
    def count(self, model: object, field: object = None, value: object = None) -> int:
        """Return how many objects there are, of all or of those that find returns."""
        name = self._objects.model(model).name
        if field is None:
            return self._objects.count(name)
        return self._objects.count(name, _field_name(field), _sought(value))

    def _handle(self, name: str, stored: Stored) -> ObjectHandle:
        return ObjectHandle(self._objects, self._objects.model(name), stored)


class ObjectHandle(Handle):
    """An object that a script makes or has found."""

    name = "an object"
    properties: ClassVar[Mapping[str, Callable[[Any], object]]] = MappingProxyType(
        {
            "id": lambda self: self.id,
            "revision": lambda self: self.revision,
        }
    )

    def __init__(
        self, objects: Objects, model: Model, stored: Stored | None = None
    ) -> None:
        self._objects = objects
        self._model = model
        #: As it lies in the database, or did when it was read.
        self.stored = stored
        self._values: dict[str, Value] = dict(stored.values) if stored else {}

    @property
    def id(self) -> int | None:
        """Its id; None until it is saved."""
        return self.stored.id if self.stored else None

    @property
    def revision(self) -> int:
        """How often it was saved."""
        return self.stored.revision if self.stored else 0

    @property
    def model_name(self) -> str:
        """The name of its model."""
        return self._model.name

    def rhai_call(self, name: str, args: Sequence[object]) -> object:
        """Call a function, or set the field of that name and return the object."""
        if name in self.operations:
            return super().rhai_call(name, args)
        if len(args) != 1:
            raise self._unknown(f"{name} of {len(args)} values")
        self._set(name, args[0])
        return self

    def rhai_get(self, name: str) -> object:
        """Return a field, `id` or `revision`; what has no value is ()."""
        if name in self._model.fields:
            # A script may change what it gets without changing the object.
            return copy.deepcopy(self._values.get(name))
        return super().rhai_get(name)

    def rhai_set(self, name: str, value: object) -> None:
        """Set a field."""
        self._set(name, value)

    @operation(result="object")
    def save(self) -> ObjectHandle:
        """Store it, whatever was stored before; return it, with an id."""
        return self._save(revision=None)

    @operation(result="object")
    def save_if_unchanged(self) -> ObjectHandle:
        """Store it; it is an error if somebody saved it since it was read."""
        return self._save(revision=self.revision)

    @operation(result="bool")
    def delete(self) -> bool:
        """Delete it; return whether it was there."""
        if self.stored is None:
            return False
        return self._objects.delete(self.stored.model, self.stored.id)

    def rhai_plain(self) -> object:
        """Return its id and its fields."""
        return self.to_map()

    @operation(result="map")
    def to_map(self) -> dict[str, Value]:
        """Return its id and its fields."""
        fields = {name: self._values.get(name) for name in self._model.fields}
        return {"id": self.id, **copy.deepcopy(fields)}

    @operation(result="string")
    def to_json(self) -> str:
        """Return its id and its fields as JSON."""
        return json.dumps(self.to_map(), ensure_ascii=False)

    def __str__(self) -> str:
        return f"{self._model.name} {self.to_json()}"

    def _set(self, name: str, value: object) -> None:
        if name not in self._model.fields:
            raise self._unknown(name)
        if isinstance(value, ObjectHandle):
            value = self._id_of(name, value)
        self._values[name] = self._model.accept(name, value)

    def _save(self, *, revision: int | None) -> ObjectHandle:
        model = self._model.name
        if self.stored is None:
            self.stored = self._objects.add(model, self._values)
        else:
            self.stored = self._objects.replace(
                model, self.stored.id, self._values, revision=revision
            )
        self._model = self._objects.model(model)
        self._values = dict(self.stored.values)
        return self

    def _id_of(self, name: str, other: ObjectHandle) -> int:
        field = self._model.field(name)
        what = f"{self._model.name}.{name}"
        if field.kind is not Kind.REFERENCE:
            raise FieldError(f"{what} is a {field.kind}, not a reference to an object")
        if field.to not in {None, other.model_name}:
            raise FieldError(f"{what} refers to a {field.to}, not a {other.model_name}")
        if other.id is None:
            raise FieldError(f"{what}: save that {other.model_name} first")
        return other.id

    def _unknown(self, name: str) -> NameUnknown:
        fields = ", ".join(self._model.fields)
        return NameUnknown(f"{self._model.name} has no {name}, only {fields}")


class ModelHandle(Handle):
    """A model that a script declares."""

    name = "a model"
    properties: ClassVar[Mapping[str, Callable[[Any], object]]] = MappingProxyType(
        {
            "name": lambda self: self.model_name,
            "version": lambda self: self.version,
        }
    )

    def __init__(
        self, objects: Objects, name: str, declared: Model | None = None
    ) -> None:
        self._objects = objects
        self.model_name = name
        self._declared = declared
        self._fields: list[Field] = []
        self._indexes: list[Index] = []
        if declared is not None:
            self._fields += declared.fields.values()
            self._indexes += declared.indexes.values()

    @property
    def version(self) -> int:
        """How often the model was changed; 0 before it is declared."""
        return self._declared.version if self._declared else 0

    @operation(result="model")
    def field(self, name: object, type: object, more: object = None) -> ModelHandle:  # noqa: A002 - what scripts call it
        """Add a field; more is a map of required, initial and to."""
        given = _map(more or {}, what="the rest of a field")
        _only(given, _FIELD_WORDS, what="the rest of a field")
        self._fields.append(make_field(name, type, **given))
        return self

    @operation(result="model")
    def index(self, field: object) -> ModelHandle:
        """Have objects found by a field."""
        self._indexes.append(make_index(field))
        return self

    @operation(result="model")
    def unique(self, field: object) -> ModelHandle:
        """Have objects found by a field whose value no two of them share."""
        self._indexes.append(make_index(field, is_unique=True))
        return self

    @operation(result="model")
    def save(self) -> ModelHandle:
        """Declare it; return it. The same again changes nothing."""
        wanted = make_model(self.model_name, self._fields, self._indexes)
        self._declared = self._objects.declare(wanted)
        return self


def _sought(value: object) -> Sought:
    if isinstance(value, range):
        return Between(low=value.start, high=value.stop - 1)
    if not isinstance(value, Mapping):
        return Equal(value=value.id if isinstance(value, ObjectHandle) else value)
    words = frozenset(value)
    if words and words <= _BETWEEN_WORDS:
        return Between(low=value.get("from"), high=value.get("to"))
    if words == _BEGINNING_WORDS:
        return Beginning(prefix=value["prefix"])
    raise FieldError("what is sought is a value, or a map of from and to, or of prefix")


def _page(given: object) -> Page:
    if given is None:
        return Page()
    page = _map(given, what="a page")
    _only(page, _PAGE_WORDS, what="a page")
    limit, after = page.get("limit", USUAL_PAGE), page.get("after")
    if isinstance(after, ObjectHandle):
        after = after.stored
        if after is None:
            raise FieldError("a page is after an object that is stored: save it first")
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise FieldError("the limit of a page is a whole number")
    if isinstance(after, bool) or not isinstance(after, int | Stored | None):
        raise FieldError("a page is after an object or an id")
    return Page(limit=limit, after=after)


def _field_name(value: object) -> str:
    if not isinstance(value, str):
        raise FieldError("the name of a field is a string")
    return value


def _map(value: object, *, what: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise FieldError(f"{what} is given as a map")
    return value


def _only(given: Mapping[str, object], words: frozenset[str], *, what: str) -> None:
    for name in given:
        if name not in words:
            known = ", ".join(sorted(words))
            raise FieldError(f"{what} is given by {known}, not by {name}")
