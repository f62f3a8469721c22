"""What a model is: which fields its objects have, and by which they are found."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Self

from workers.osis.errors import FieldError, ModelError
from workers.osis.values import UNINDEXED, Kind, Value, accept, keys_of

MOST_FIELDS: Final = 64
MOST_INDEXES: Final = 16
#: Bytes of an object as it is stored.
LARGEST: Final = 1 << 20
#: Lower case, so that no two names look like one.
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
#: What an object has besides its fields.
OWN_WORDS: Final = frozenset(
    {"delete", "id", "revision", "save", "save_if_unchanged", "to_json", "to_map"}
)
_RHAI: Final = """
    as async await break case catch const continue default do else exit export false
    fn for global go goto if import in is let loop match module new nil null package
    print debug eval private protected public return shared spawn static super
    switch sync this thread throw true try type_of until use var void while with
    yield
"""
#: Words of Rhai itself: no script could write them behind a dot.
_RHAI_WORDS: Final = frozenset(_RHAI.split())
#: `default` would be the word for the third one, but Rhai keeps that for itself.
_SPEC_WORDS: Final = frozenset({"type", "required", "initial", "to"})
_INDEX_WORDS: Final = frozenset({"field", "unique"})
_MODEL_WORDS: Final = frozenset({"fields", "indexes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a model."""

    name: str
    kind: Kind
    #: Whether no object is saved without it.
    is_required: bool = False
    #: What an object has that was saved without it, or before there was this field.
    default: Value = None
    #: The model whose objects a reference names; any, if it is None.
    to: str | None = None
    #: The version of the model that brought it: what older objects have under this
    #: name belonged to another field.
    since: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A field by which objects are found."""

    field: str
    #: Whether no two objects have the same value.
    is_unique: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What all objects of a name have in common."""

    name: str
    fields: Mapping[str, Field]
    indexes: Mapping[str, Index] = field(default_factory=dict)
    #: Counts the changes of the model; 0 before it is declared.
    version: int = 0

    def field(self, name: str) -> Field:
        """Return a field.

        Raises:
            FieldError: if there is none of that name.
        """
        found = self.fields.get(name)
        if found is None:
            raise FieldError(
                f"{self.name} has no field {name}, only {_listed(self.fields)}"
            )
        return found

    def index(self, name: str) -> Index:
        """Return the index of a field.

        Raises:
            FieldError: if the field has none.
        """
        found = self.indexes.get(self.field(name).name)
        if found is None:
            raise FieldError(
                f"{self.name} is not found by {name}, for that is not indexed:"
                f' declare the model with index("{name}")'
            )
        return found

    def accept(self, name: str, value: object) -> Value:
        """Return a value as a field holds it; None is none.

        Raises:
            FieldError: if there is no such field, or it cannot have the value.
        """
        chosen = self.field(name)
        if value is None:
            return None
        return accept(chosen.kind, value, what=f"{self.name}.{name}")

    def complete(self, values: Mapping[str, object]) -> dict[str, Value]:
        """Return what an object with certain values is stored as.

        Raises:
            FieldError: if it has other fields, values that are none, or lacks one.
        """
        known = {name: self.accept(name, value) for name, value in values.items()}
        whole: dict[str, Value] = {}
        for name, each in self.fields.items():
            value = known.get(name)
            whole[name] = each.default if value is None else value
            if whole[name] is None and each.is_required:
                raise FieldError(f"{self.name}.{name} is required, and has no value")
        return whole

    def keys(self, values: Mapping[str, Value]) -> list[tuple[str, bytes, bool]]:
        """Return under which keys an object stands in which indexes.

        Each comes with the name of the index and whether it is unique there.

        Raises:
            FieldError: if a list does not fit into its index.
        """
        found: list[tuple[str, bytes, bool]] = []
        for name, index in self.indexes.items():
            what = f"{self.name}.{name}"
            keys = keys_of(self.fields[name].kind, values[name], what=what)
            found += [(name, key, index.is_unique) for key in keys]
        return found

    def write(self, values: Mapping[str, Value]) -> bytes:
        """Return complete values as they are stored.

        Raises:
            FieldError: if they are too many bytes.
        """
        held = {name: value for name, value in values.items() if value is not None}
        text = json.dumps(held, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > LARGEST:
            raise FieldError(f"a {self.name} of more than {LARGEST} bytes is too large")
        return text

    def read(self, stored: Sequence[tuple[int, bytes]]) -> list[dict[str, Value]]:
        """Return the values of objects.

        Args:
            stored: Of each one the version of the model by which it was stored, and
                what `write` made of it.
        """
        # One text costs its reader a third of what so many small ones do.
        texts = json.loads(b"[%b]" % b",".join(text for _version, text in stored))
        defaults = {name: each.default for name, each in self.fields.items()}
        return [
            {**defaults, **self._still_known(version, held)}
            for (version, _text), held in zip(stored, texts, strict=True)
        ]

    def to_wire(self) -> str:
        """Return it as it is stored, but for the version."""
        return json.dumps(
            {
                "fields": [_field_to_wire(each) for each in self.fields.values()],
                "indexes": [
                    {"field": each.field, "unique": each.is_unique}
                    for each in self.indexes.values()
                ],
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_wire(cls, name: str, version: int, text: bytes) -> Self:
        """Return what `to_wire` wrote."""
        held = json.loads(text)
        fields = [
            replace(_parse_field(each.pop("name"), each), since=since)
            for each in held["fields"]
            for since in [each.pop("since")]
        ]
        return cls(
            name=name,
            version=version,
            fields=_by_name(fields),
            indexes=_indexes(held["indexes"]),
        )

    def _still_known(self, version: int, held: dict[str, Value]) -> dict[str, Value]:
        """Return what of an object's values belongs to fields that there are."""
        if version == self.version:
            return held
        return {
            name: held[name]
            for name, each in self.fields.items()
            if name in held and version >= each.since
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How a model becomes the next version of itself."""

    model: Model
    #: Indexes in which the objects that exist have to be entered anew.
    to_build: tuple[str, ...]
    #: Indexes that are no more.
    to_drop: tuple[str, ...]
    #: Why no object may exist yet, if so.
    only_empty: str | None


def parse_model(name: object, spec: Mapping[str, object]) -> Model:
    """Return the model that a script describes.

    Args:
        name: Its name.
        spec: `fields`, each with its type or a map of `type`, `required`, `initial`
            and `to`; and `indexes`, each a field or a map of `field` and `unique`.

    Raises:
        ModelError: if that is no model.
    """
    model_name = parse_name(name, what="a model")
    _only(spec, _MODEL_WORDS, what="a model")
    fields = spec.get("fields", {})
    indexes = spec.get("indexes", [])
    if not isinstance(fields, Mapping) or not isinstance(indexes, list | tuple):
        raise ModelError("a model has a map of fields and a list of indexes")
    return make_model(
        model_name,
        [_parse_field(field_name, each) for field_name, each in fields.items()],
        [_parse_index(each) for each in indexes],
    )


def make_model(name: str, fields: Iterable[Field], indexes: Iterable[Index]) -> Model:
    """Return a model of certain fields and indexes.

    Raises:
        ModelError: if they do not go together.
    """
    model = Model(name=name, fields=_by_name(fields), indexes=_by_field(indexes))
    if not 1 <= len(model.fields) <= MOST_FIELDS:
        raise ModelError(f"a model has between 1 and {MOST_FIELDS} fields")
    if len(model.indexes) > MOST_INDEXES:
        raise ModelError(f"a model has at most {MOST_INDEXES} indexes")
    for indexed in model.indexes:
        if indexed not in model.fields:
            raise ModelError(f"the index is of {indexed}, which is no field of {name}")
        kind = model.fields[indexed].kind
        if kind in UNINDEXED:
            raise ModelError(f"{name}.{indexed} is a {kind}, which cannot be indexed")
    _defaults_fit(model)
    return model


def make_field(name: object, kind: object, **more: object) -> Field:
    """Return a field; the rest are `required`, `initial` and `to`.

    Raises:
        ModelError: if that is no field.
    """
    return _parse_field(name, {"type": kind, **more})


def make_index(name: object, *, is_unique: bool = False) -> Index:
    """Return an index of a field."""
    return Index(field=parse_name(name, what="a field"), is_unique=is_unique)


def parse_name(name: object, *, what: str) -> str:
    """Return a name, if it is one.

    Raises:
        ModelError: if it is none.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ModelError(
            f"the name of {what} begins with a lower-case letter and goes on with at"
            f" most 63 of those, digits and _, unlike {_shown(name)}"
        )
    return name


def change_of(old: Model | None, wanted: Model) -> Change | None:
    """Return how a declared model becomes the wanted one; None if it is that.

    Raises:
        ModelError: if a field would change its type.
    """
    if old is None:
        first = replace(wanted, version=1)
        return Change(model=first, to_build=(), to_drop=(), only_empty=None)
    version = old.version + 1
    fields = [_kept(old, each, version) for each in wanted.fields.values()]
    new = replace(wanted, version=version, fields=_by_name(fields))
    if (new.fields, new.indexes) == (old.fields, old.indexes):
        return None
    return Change(
        model=new,
        to_build=tuple(name for name in new.indexes if _is_to_build(old, new, name)),
        to_drop=tuple(name for name in old.indexes if name not in new.indexes),
        only_empty=_only_empty(old, new),
    )


def _defaults_fit(model: Model) -> None:
    defaults = {name: each.default for name, each in model.fields.items()}
    try:
        model.keys(defaults)
    except FieldError as error:
        raise ModelError(f"an initial value does not fit: {error}") from None


def _kept(old: Model, wanted: Field, version: int) -> Field:
    before = old.fields.get(wanted.name)
    if before is None:
        return replace(wanted, since=version)
    if (before.kind, before.to) != (wanted.kind, wanted.to):
        raise ModelError(
            f"{old.name}.{wanted.name} is a {_typed(before)}, and its objects hold"
            f" those: a {_typed(wanted)} needs another name"
        )
    return replace(wanted, since=before.since)


def _is_to_build(old: Model, new: Model, name: str) -> bool:
    before, after = old.fields.get(name), new.fields[name]
    if name not in old.indexes or before is None:
        return True
    return (before.default, before.since) != (after.default, after.since)


def _only_empty(old: Model, new: Model) -> str | None:
    for name, each in new.fields.items():
        before = old.fields.get(name)
        was_required = before is not None and before.is_required
        if each.is_required and each.default is None and not was_required:
            return f"{name} is required from now on: give it an initial value"
    for name, index in new.indexes.items():
        before, after = old.fields.get(name), new.fields[name]
        has_values = before is not None or after.default is not None
        earlier = old.indexes.get(name)
        if index.is_unique and has_values:
            if earlier is None or not earlier.is_unique:
                return f"{name} is unique from now on: begin that without objects"
            if before != after and (before is None or before.default != after.default):
                return f"{name} is unique: change its initial value without objects"
        if after.kind is Kind.LIST and before is not None and earlier is None:
            return f"{name} is a list: begin its index with it, or without objects"
    return None


def _parse_field(name: object, spec: object) -> Field:
    field_name = parse_name(name, what="a field")
    if field_name in OWN_WORDS:
        raise ModelError(
            f"a field cannot be called {field_name}: every object has that"
        )
    if field_name in _RHAI_WORDS:
        raise ModelError(f"no field is called {field_name}: that is a word of Rhai")
    if isinstance(spec, str):
        spec = {"type": spec}
    if not isinstance(spec, Mapping):
        raise ModelError(f"the field {field_name} has a type, or a map with one")
    _only(spec, _SPEC_WORDS, what=f"the field {field_name}")
    kind = _parse_kind(field_name, spec.get("type"))
    is_required = _parse_flag(spec.get("required", False), what="required")
    to = spec.get("to")
    if to is not None:
        if kind is not Kind.REFERENCE:
            raise ModelError(f"{field_name} is a {kind}: only a reference has a to")
        to = parse_name(to, what="a model")
    default = spec.get("initial")
    if default is not None:
        try:
            default = accept(kind, default, what=f"the initial value of {field_name}")
        except FieldError as error:
            raise ModelError(str(error)) from None
    return Field(
        name=field_name, kind=kind, is_required=is_required, default=default, to=to
    )


def _parse_kind(name: str, text: object) -> Kind:
    if not isinstance(text, str) or text not in list(Kind):
        raise ModelError(
            f"the type of {name} is one of {_listed(Kind)}, not {_shown(text)}"
        )
    return Kind(text)


def _parse_flag(value: object, *, what: str) -> bool:
    if not isinstance(value, bool):
        raise ModelError(f"{what} is true or false, not {_shown(value)}")
    return value


def _parse_index(spec: object) -> Index:
    if isinstance(spec, str):
        return make_index(spec)
    if not isinstance(spec, Mapping):
        raise ModelError("an index is the name of a field, or a map with field")
    _only(spec, _INDEX_WORDS, what="an index")
    is_unique = _parse_flag(spec.get("unique", False), what="unique")
    return make_index(spec.get("field"), is_unique=is_unique)


def _indexes(specs: Iterable[object]) -> Mapping[str, Index]:
    return _by_field(map(_parse_index, specs))


def _by_name(fields: Iterable[Field]) -> Mapping[str, Field]:
    found: dict[str, Field] = {}
    for each in fields:
        if each.name in found:
            raise ModelError(f"the field {each.name} is declared twice")
        found[each.name] = each
    return MappingProxyType(found)


def _by_field(indexes: Iterable[Index]) -> Mapping[str, Index]:
    found: dict[str, Index] = {}
    for each in indexes:
        if each.field in found:
            raise ModelError(f"the index of {each.field} is declared twice")
        found[each.field] = each
    return MappingProxyType(found)


def _field_to_wire(each: Field) -> dict[str, Any]:
    wire: dict[str, Any] = {"name": each.name, "type": each.kind, "since": each.since}
    if each.is_required:
        wire["required"] = True
    if each.default is not None:
        wire["initial"] = each.default
    if each.to is not None:
        wire["to"] = each.to
    return wire


def _only(spec: Mapping[str, object], words: frozenset[str], *, what: str) -> None:
    for name in spec:
        if name not in words:
            raise ModelError(
                f"{what} is described by {_listed(sorted(words))}, not by"
                f" {_shown(name)}"
            )


def _typed(each: Field) -> str:
    return each.kind if each.to is None else f"{each.kind} to {each.to}"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def _shown(value: object) -> str:
    """Return a value as an error may show it: not at any length."""
    most = 40
    text = repr(value) if isinstance(value, str) else f"a {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}…"
