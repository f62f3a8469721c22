"""Where the objects of a context lie: saved, found and deleted in one step each.

Every step is one script of the database (`scripts`), so that of several writers none
ever sees or leaves an index that is not that of the objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from workers.osis import values as ordering
from workers.osis.errors import (
    ChangeError,
    FieldError,
    ModelError,
    ModelUnknown,
    ObjectChanged,
    ObjectNotFound,
    OsisError,
    ValueTaken,
)
from workers.osis.model import Model, change_of, parse_name
from workers.osis.values import ORDERED, Kind, Value, behind, first_of, id_text, member

#: The most objects of one page, and how many there are unless somebody says.
LARGEST_PAGE: Final = 1000
USUAL_PAGE: Final = 100
#: Bytes of objects behind which a page ends early.
ROOM: Final = 8 << 20
#: Objects that are entered into new indexes at a time.
BATCH: Final = 200
#: Words of a step that enters them.
MOST_WORDS: Final = 2000
#: How often a model may change under one and the same step.
_PATIENCE: Final = 20
_FIRST: Final = b"-"
_LAST: Final = b"+"

_Word: TypeAlias = "str | bytes | int"


class Call(Protocol):
    """Sends a command to the database of a context and returns its reply."""

    def __call__(self, *words: str | bytes | int) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An object as it lies in the database."""

    model: str
    id: int
    #: Counts how often it was saved.
    revision: int
    #: A value for each field of its model.
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Equal:
    """Sought are the objects that have this value, or whose list has it as an item."""

    value: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """Sought are numbers or times from one to another, both of them too."""

    #: None is no end.
    low: object = None
    high: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Sought are texts that begin like this."""

    prefix: object


Sought: TypeAlias = "Equal | Between | Beginning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which of many objects are asked for."""

    limit: int = USUAL_PAGE
    #: The last one of the page before: itself, or its id.
    after: int | Stored | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= LARGEST_PAGE:
            raise FieldError(f"a page has between 1 and {LARGEST_PAGE} objects")


#: The first page.
FIRST_PAGE: Final = Page()


@dataclass(slots=True)
class _Span:
    """From and to where an index is read, as the database wants to be told."""

    low: bytes = _FIRST
    high: bytes = _LAST

    def after(self, last: bytes) -> _Span:
        """Return it without what stands up to a member of the index."""
        low = b"(" + last
        # What is given may lie before the span, which then begins where it did.
        begins_there = self.low == _FIRST or low[1:] >= self.low[1:]
        return _Span(low if begins_there else self.low, self.high)


@dataclass(slots=True)
class Objects:
    """The objects of a context."""

    call: Call
    _models: dict[str, Model] = field(default_factory=dict)

    def declare(self, wanted: Model) -> Model:
        """Make a model what is wanted, and enter what exists into new indexes.

        Declaring it again changes nothing.

        Raises:
            ModelError: if the objects that exist do not allow the change.
        """
        for _ in range(_PATIENCE):
            known = self._load(wanted.name)
            change = change_of(known, wanted)
            if change is None:
                return self._built(self.model(wanted.name))
            outcome, _rest = self._run(
                "declare",
                wanted.name,
                "0" if known is None else str(known.version),
                change.model.to_wire(),
                "1" if change.only_empty else "0",
                wanted.name,
                *_counted(change.to_build),
                *_counted(change.to_drop),
                more_keys=("m:",),
            )
            if outcome == "occupied":
                raise ModelError(f"{wanted.name} has objects: {change.only_empty}")
            if outcome != "stale":
                self._models[wanted.name] = change.model
                return self._built(change.model)
        raise _restless(wanted.name)

    def model(self, name: object) -> Model:
        """Return a model.

        Raises:
            ModelUnknown: if it was never declared.
        """
        known = self._models.get(name) if isinstance(name, str) else None
        if known is None:
            model_name = parse_name(name, what="a model")
            known = self._load(model_name)
            if known is None:
                raise ModelUnknown(model_name)
        return known

    def models(self) -> list[str]:
        """Return the names of all models."""
        _outcome, rest = _read(self.call("OSIS", "models", 1, "m:"))
        return [_bytes(name).decode() for name in rest]

    def add(self, name: str, values: Mapping[str, object]) -> Stored:
        """Store a new object; it gets the next id.

        Raises:
            FieldError: if a value is none of its field, or one is missing.
            ValueTaken: if a value is unique and another object has it.
        """
        return self._save(name, values, object_id=None, revision=None)

    def replace(
        self,
        name: str,
        object_id: int,
        values: Mapping[str, object],
        *,
        revision: int | None = None,
    ) -> Stored:
        """Store an object that exists as something else.

        Args:
            name: Its model.
            object_id: Its id.
            values: All that it has from now on.
            revision: Which one it must still be; None if any will do.

        Raises:
            FieldError: if a value is none of its field, or one is missing.
            ObjectChanged: if it is another revision by now.
            ObjectNotFound: if it was deleted.
            ValueTaken: if a value is unique and another object has it.
        """
        return self._save(name, values, object_id=object_id, revision=revision)

    def get(self, name: str, object_id: object) -> Stored:
        """Return an object.

        Raises:
            ObjectNotFound: if there is none of this id.
        """
        number = _id(object_id)

        def ask(model: Model) -> tuple[str, Sequence[object]]:
            return self._run("get", name, str(model.version), number)

        model, outcome, rest = self._settled(name, ask)
        if outcome == "absent":
            raise ObjectNotFound(name, number)
        return _objects(model, rest)[0]

    def exists(self, name: str, object_id: object) -> bool:
        """Return whether there is an object of this id."""
        text = id_text(_id(object_id))
        return self._count(name, "", lambda _: _Span(b"[" + text, b"[" + text)) > 0

    def delete(self, name: str, object_id: object) -> bool:
        """Delete an object; return whether there was one."""
        number = _id(object_id)
        outcome, _rest = self._run("delete", self.model(name).name, number)
        return outcome == "ok"

    def listed(self, name: str, page: Page = FIRST_PAGE) -> list[Stored]:
        """Return objects in the order of their ids, which is that of their creation."""
        after = page.after.id if isinstance(page.after, Stored) else page.after
        span = _Span() if after is None else _Span().after(id_text(_id(after)))
        return self._find(name, "", lambda _: span, page.limit)

    def find(
        self, name: str, by: str, sought: Sought, page: Page = FIRST_PAGE
    ) -> list[Stored]:
        """Return objects by an indexed field, in the order of values, then of ids.

        A page may be shorter than its limit where the objects are large: the end is an
        empty one.

        Raises:
            FieldError: if the field is not indexed, or cannot be sought like this.
            ObjectNotFound: if the page begins after an id that there is no more; where
                one value is sought, that does not matter.
        """
        after = page.after
        if isinstance(after, int) and not isinstance(sought, Equal):
            after = self.get(name, after)

        def span(model: Model) -> _Span:
            whole = _span(model, by, sought)
            return whole if after is None else _behind(whole, model, by, sought, after)

        return self._find(name, by, span, page.limit)

    def find_one(self, name: str, by: str, sought: Sought) -> Stored | None:
        """Return the first object that `find` returns, or None."""
        return next(iter(self.find(name, by, sought, Page(limit=1))), None)

    def count(
        self, name: str, by: str | None = None, sought: Sought | None = None
    ) -> int:
        """Return how many objects there are, of all or of those that are sought."""
        if by is None or sought is None:
            return self._count(name, "", lambda _: _Span())
        return self._count(name, by, lambda model: _span(model, by, sought))

    def _save(
        self,
        name: str,
        values: Mapping[str, object],
        *,
        object_id: int | None,
        revision: int | None,
    ) -> Stored:
        # What a model that has changed meanwhile makes of the values is known last.
        whole: dict[str, Value] = {}

        def ask(model: Model) -> tuple[str, Sequence[object]]:
            nonlocal whole
            whole = model.complete(values)
            entries = [
                word
                for by, key, is_unique in model.keys(whole)
                for word in (by, key, "1" if is_unique else "0")
            ]
            return self._run(
                "save",
                name,
                str(model.version),
                "" if object_id is None else object_id,
                "" if revision is None else revision,
                model.write(whole),
                *entries,
            )

        _model, outcome, rest = self._settled(name, ask)
        if outcome == "ok":
            new_id, new_revision = map(_number, rest)
            return Stored(model=name, id=new_id, revision=new_revision, values=whole)
        raise _refusal(outcome, rest, name, object_id or 0)

    def _find(
        self, name: str, by: str, span_of: Callable[[Model], _Span], limit: int
    ) -> list[Stored]:
        def ask(model: Model) -> tuple[str, Sequence[object]]:
            span = span_of(model)
            version = str(model.version)
            return self._run(
                "find", name, version, by, span.low, span.high, limit, ROOM
            )

        model, _outcome, rest = self._settled(name, ask)
        return _objects(model, rest)

    def _count(self, name: str, by: str, span_of: Callable[[Model], _Span]) -> int:
        def ask(model: Model) -> tuple[str, Sequence[object]]:
            span = span_of(model)
            return self._run("count", name, str(model.version), by, span.low, span.high)

        _model, _outcome, rest = self._settled(name, ask)
        return _number(rest[0])

    def _settled(
        self, name: str, ask: Callable[[Model], tuple[str, Sequence[object]]]
    ) -> tuple[Model, str, Sequence[object]]:
        """Ask until the model is the one that holds, and its indexes are built."""
        for _ in range(_PATIENCE):
            model = self.model(name)
            try:
                outcome, rest = ask(model)
            except FieldError:
                # It may be wrong only by a model that has changed since it was read.
                if self._load(name) == model:
                    raise
                continue
            if outcome == "building":
                # Who changed the model may be gone: so everybody goes on with it.
                self._build(model)
            elif outcome == "stale":
                self._models.pop(name, None)
            else:
                return model, outcome, rest
        raise _restless(name)

    def _built(self, model: Model) -> Model:
        self._build(model)
        return model

    def _build(self, model: Model) -> None:
        """Enter the objects that exist into the indexes that are new.

        It ends as well where the model is changed again: that begins anew.
        """
        version = str(model.version)
        outcome, rest = self._run("built", model.name, version)
        if outcome != "ok":
            return
        done = _number(rest[0])
        while True:
            span = _Span().after(id_text(done))
            outcome, rest = self._run(
                "find", model.name, version, "", span.low, span.high, BATCH, ROOM
            )
            if outcome != "ok":
                return
            found = _objects(model, rest)
            for upto, words in _steps(model, found):
                outcome, rest = self._run("reindex", model.name, version, upto, *words)
                if outcome != "ok":
                    return
            if not found:
                return
            done = found[-1].id

    def _load(self, name: str) -> Model | None:
        outcome, rest = self._run("model", name)
        if outcome == "unknown":
            self._models.pop(name, None)
            return None
        version, body = rest
        model = Model.from_wire(name, _number(version), _bytes(body))
        self._models[name] = model
        return model

    def _run(
        self, script: str, name: str, *args: _Word, more_keys: tuple[str, ...] = ()
    ) -> tuple[str, Sequence[object]]:
        keys = (f"m:{name}", f"o:{name}", f"i:{name}", *more_keys)
        return _read(self.call("OSIS", script, len(keys), *keys, *args))


def _span(model: Model, by: str, sought: Sought) -> _Span:
    """Return where in its index the sought values stand."""
    what = f"{model.name}.{by}"
    model.index(by)
    kind = model.field(by).kind
    match sought:
        case Equal(value=value):
            key = ordering.key_of(kind, value, what=what)
            return _Span(b"[" + first_of(key), b"(" + behind(key))
        case Between(low=low, high=high):
            if kind not in ORDERED:
                raise FieldError(
                    f"{what} is a {kind}: only numbers and times are between"
                )
            span = _Span()
            if low is not None:
                span.low = b"[" + first_of(ordering.key_of(kind, low, what=what))
            if high is not None:
                span.high = b"(" + behind(ordering.key_of(kind, high, what=what))
            return span
        case Beginning(prefix=prefix):
            if kind is not Kind.STRING or not isinstance(prefix, str):
                raise FieldError(
                    f"{what} is a {kind}: only strings begin with a string"
                )
            first, end = ordering.beginnings(prefix, what=what)
            return _Span(b"[" + first, _LAST if end is None else b"(" + end)


def _behind(
    span: _Span, model: Model, by: str, sought: Sought, after: int | Stored
) -> _Span:
    """Return what of a span stands behind an object."""
    what = f"{model.name}.{by}"
    last = after.id if isinstance(after, Stored) else _id(after)
    value: object = None
    if isinstance(sought, Equal):
        value = sought.value
    elif isinstance(after, Stored):
        value = after.values.get(by)
    if value is None:
        raise FieldError(
            f"{what} of the object that comes before the page has no value"
        )
    key = ordering.key_of(model.field(by).kind, value, what=what)
    return span.after(member(key, last))


def _counted(words: tuple[str, ...]) -> Sequence[_Word]:
    return len(words), *words


def _steps(
    model: Model, found: Sequence[Stored]
) -> Iterator[tuple[int | str, Sequence[_Word]]]:
    """Yield what `reindex` is told of objects: up to which id, and their entries.

    Without objects it is told that all are done.
    """
    words: list[_Word] = []
    for each in found:
        entries = model.keys(each.values)
        words += (each.id, each.revision, len(entries))
        words += [word for by, key, _is_unique in entries for word in (by, key)]
        if len(words) >= MOST_WORDS:
            yield each.id, words
            words = []
    if words or not found:
        yield (found[-1].id if found else ""), words


def _objects(model: Model, rest: Sequence[object]) -> list[Stored]:
    """Return the objects that a script answered, each behind its id.

    Raises:
        OsisError: if one is not what `save` writes.
    """
    try:
        return _parsed(model, rest)
    except ValueError:
        raise OsisError(f"what is stored of {model.name} is damaged") from None


def _parsed(model: Model, rest: Sequence[object]) -> list[Stored]:
    heads = [_bytes(record).split(b" ", 2) for record in rest[1::2]]
    values = model.read([(int(version), text) for _, version, text in heads])
    return [
        Stored(model=model.name, id=_number(number), revision=int(head[0]), values=each)
        for number, head, each in zip(rest[::2], heads, values, strict=True)
    ]


def _refusal(
    outcome: str, rest: Sequence[object], name: str, object_id: int
) -> OsisError:
    match outcome:
        case "absent":
            return ObjectNotFound(name, object_id)
        case "changed":
            return ObjectChanged(name, object_id)
        case "taken":
            by, holder = rest
            return ValueTaken(name, _bytes(by).decode(), _number(holder))
        case "full":
            return ChangeError(f"{name} has no ids left")
        case _:
            return _garbled()


def _restless(name: str) -> ModelError:
    return ModelError(f"the model {name} is changed all the time: try again later")


def _garbled() -> OsisError:
    return OsisError("the database answered what no script of osis does")


def _read(reply: object) -> tuple[str, Sequence[object]]:
    """Return the outcome of a script, and what comes behind it."""
    if not isinstance(reply, list) or not reply:
        raise _garbled()
    return _bytes(reply[0]).decode(), reply[1:]


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, bytes):
        raise _garbled()
    return value


def _number(value: object) -> int:
    return value if isinstance(value, int) else int(_bytes(value))


def _id(value: object) -> int:
    number = ordering.accept(Kind.REFERENCE, value, what="the id")
    assert isinstance(number, int)  # noqa: S101 - the kind says so
    return number
