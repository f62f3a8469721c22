"""What scripts do with the database of their context: `db`, command by command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from workers.osis.errors import FieldError, OsisError
from workers.osis.handles import Handle, Operation
from workers.osis.objects import Call

_Word: TypeAlias = "str | bytes | int"


class Db(Handle):
    """The database of the context, as the name `db` of a script."""

    name = "db"

    def __init__(self, call: Call) -> None:
        self.call = call


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What a command gives a script."""

    #: As the documents say it.
    kind: str
    #: Makes it of what the database replied.
    read: Callable[[object], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """A command of the database, as scripts have it."""

    #: How a script writes it; what stands behind `?` may be missing.
    usage: str
    #: The words of the database's own command, where it is called something else.
    words: tuple[str, ...] = ()
    answer: _Answer
    doc: str
    #: How what is given becomes words; each value one of them, unless said otherwise.
    given: Callable[[str, Sequence[object]], Iterator[_Word]] | None = None
    #: What is given where nothing is.
    usual: tuple[_Word, ...] = ()


def _text(value: object) -> object:
    """Return a reply as text, if it is text."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _texts(value: object) -> object:
    return [_text(each) for each in _items(value)]


def _sorted(value: object) -> object:
    # A set has no order: of equal ones scripts shall see the same.
    return [_text(each) for each in sorted(_items(value), key=_bytes)]


def _pairs(value: object) -> object:
    if isinstance(value, Mapping):
        return {_key(name): _text(each) for name, each in value.items()}
    items = _items(value)
    pairs = zip(items[::2], items[1::2], strict=True)
    return {_key(name): _text(each) for name, each in pairs}


def _flag(value: object) -> object:
    return value == 1


def _nothing(value: object) -> object:
    return None


def _as_is(value: object) -> object:
    return value


def _items(value: object) -> list[object]:
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    raise OsisError("the database answered no list where one was due")


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _key(value: object) -> str:
    # The names of a map are text: what is none in a hash keeps its bytes visibly.
    return _bytes(value).decode(errors="backslashreplace")


def _word(value: object, what: str) -> _Word:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise FieldError(f"{what} holds half a character") from None
        return value
    if isinstance(value, bytes | int):
        return value
    if isinstance(value, Mapping):
        raise FieldError(f"{what} is a map: give it as to_json()")
    if isinstance(value, list | tuple):
        raise FieldError(f"{what} is an array: give a map that has it as to_json()")
    raise FieldError(f"{what} is neither text nor number")


def _values_last(what: str, values: Sequence[object]) -> Iterator[_Word]:
    """Yield words whose last one may be an array of several."""
    *first, last = values
    for value in first:
        yield _word(value, what)
    if not isinstance(last, list | tuple):
        yield _word(last, what)
        return
    if not last:
        raise FieldError(f"{what} is an empty array")
    for value in last:
        yield _word(value, what)


def _hash_words(what: str, values: Sequence[object]) -> Iterator[_Word]:
    """Yield the key, then pairs: of a map, or one field and its value."""
    key, field, *value = values
    yield _word(key, what)
    if value:
        yield _word(field, what)
        yield _word(value[0], what)
        return
    if not isinstance(field, Mapping) or not field:
        raise FieldError(f"{what} is a key, a field and a value, or a key and a map")
    for name, each in field.items():
        yield _word(name, what)
        yield _word(each, what)


def _set_words(what: str, values: Sequence[object]) -> Iterator[_Word]:
    """Yield a key and a value, and how long they are kept."""
    key, value, *seconds = values
    yield _word(key, what)
    yield _word(value, what)
    if seconds:
        yield "EX"
        yield _word(seconds[0], what)


_NOTHING: Final = _Answer(kind="()", read=_nothing)
_FLAG: Final = _Answer(kind="bool", read=_flag)
_COUNT: Final = _Answer(kind="int", read=_as_is)
_VALUE: Final = _Answer(kind="string, blob or ()", read=_text)
_TEXT: Final = _Answer(kind="string", read=_text)
_MESSAGE: Final = _Answer(kind="string or blob", read=_text)
_LIST: Final = _Answer(kind="array", read=_texts)
_SORTED: Final = _Answer(kind="array", read=_sorted)
_MAP: Final = _Answer(kind="map", read=_pairs)

_COMMANDS: Final = (
    _Command(
        usage="set key value ? seconds",
        given=_set_words,
        answer=_NOTHING,
        doc="Keep a value, for so many seconds if that is said.",
    ),
    _Command(
        usage="get key", answer=_VALUE, doc="Return a value; () if there is none."
    ),
    _Command(
        usage="del key",
        given=_values_last,
        answer=_COUNT,
        doc="Delete a key, or an array of them; return how many there were.",
    ),
    _Command(usage="exists key", answer=_FLAG, doc="Return whether there is a key."),
    _Command(
        usage="expire key seconds",
        answer=_FLAG,
        doc="Have a key end after so many seconds; return whether there is one.",
    ),
    _Command(
        usage="ttl key",
        answer=_COUNT,
        doc="Return after how many seconds a key ends: -1 for never, -2 for no key.",
    ),
    _Command(
        usage="incr key ? by",
        words=("INCRBY",),
        usual=(1,),
        answer=_COUNT,
        doc="Add 1, or so much, to a whole number; return what it is then.",
    ),
    _Command(
        usage="keys ? pattern",
        usual=("*",),
        answer=_SORTED,
        doc="Return the keys that a pattern fits, in their order; all without one.",
    ),
    _Command(
        usage="hset key field ? value",
        given=_hash_words,
        answer=_COUNT,
        doc="Set a field of a hash, or those of a map; return how many are new.",
    ),
    _Command(
        usage="hget key field",
        answer=_VALUE,
        doc="Return a field of a hash; () if there is none.",
    ),
    _Command(usage="hgetall key", answer=_MAP, doc="Return a hash."),
    _Command(
        usage="hdel key field",
        given=_values_last,
        answer=_COUNT,
        doc="Delete fields of a hash, one or an array; return how many were there.",
    ),
    _Command(
        usage="hkeys key",
        answer=_SORTED,
        doc="Return the names of a hash's fields, in their order.",
    ),
    _Command(
        usage="lpush key value",
        given=_values_last,
        answer=_COUNT,
        doc="Put a value, or an array of them, before a list; return its length.",
    ),
    _Command(
        usage="rpush key value",
        given=_values_last,
        answer=_COUNT,
        doc="Put a value, or an array of them, behind a list; return its length.",
    ),
    _Command(
        usage="lpop key",
        answer=_VALUE,
        doc="Take the first value of a list; () if there is none.",
    ),
    _Command(
        usage="rpop key",
        answer=_VALUE,
        doc="Take the last value of a list; () if there is none.",
    ),
    _Command(usage="llen key", answer=_COUNT, doc="Return the length of a list."),
    _Command(
        usage="lrange key start stop",
        answer=_LIST,
        doc="Return values of a list, both ends included; -1 is the last one.",
    ),
    _Command(
        usage="sadd key member",
        given=_values_last,
        answer=_COUNT,
        doc="Put a member, or an array of them, into a set; return how many are new.",
    ),
    _Command(
        usage="srem key member",
        given=_values_last,
        answer=_COUNT,
        doc="Take a member, or an array of them, out of a set; return how many.",
    ),
    _Command(
        usage="smembers key",
        answer=_SORTED,
        doc="Return the members of a set, in their order.",
    ),
    _Command(
        usage="zadd key score member",
        answer=_COUNT,
        doc="Put a member with its score into a sorted set; return how many are new.",
    ),
    _Command(
        usage="zrange key start stop",
        answer=_LIST,
        doc="Return members of a sorted set, lowest first, both ends included.",
    ),
    _Command(
        usage="set_encrypted key value ? secret_name",
        words=("SETENC",),
        answer=_NOTHING,
        doc="Keep a value that lies encrypted, with the key of a name if one is said.",
    ),
    _Command(
        usage="get_encrypted key",
        words=("GETENC",),
        answer=_VALUE,
        doc="Return a value that lies encrypted; () if there is none.",
    ),
    _Command(
        usage="age_genenc",
        words=("AGE", "GENENC"),
        answer=_LIST,
        doc="Return a new recipient and its identity.",
    ),
    _Command(
        usage="age_encrypt recipient message",
        words=("AGE", "ENCRYPT"),
        answer=_TEXT,
        doc="Return a message encrypted for a recipient, in base64.",
    ),
    _Command(
        usage="age_decrypt identity encrypted",
        words=("AGE", "DECRYPT"),
        answer=_MESSAGE,
        doc="Return the message that was encrypted for an identity's recipient.",
    ),
    _Command(
        usage="age_gensign",
        words=("AGE", "GENSIGN"),
        answer=_LIST,
        doc="Return a new verification key and its signing key, in base64.",
    ),
    _Command(
        usage="age_sign signing_key message",
        words=("AGE", "SIGN"),
        answer=_TEXT,
        doc="Return the signature of a message, in base64.",
    ),
    _Command(
        usage="age_verify verification_key message signature",
        words=("AGE", "VERIFY"),
        answer=_FLAG,
        doc="Return whether a signature is that of a message.",
    ),
    _Command(
        usage="age_keygen name",
        words=("AGE", "KEYGEN"),
        answer=_LIST,
        doc='Have the node keep a new identity; return its recipient and "".',
    ),
    _Command(
        usage="age_encrypt_name name message",
        words=("AGE", "ENCRYPTNAME"),
        answer=_TEXT,
        doc="Encrypt for a recipient that the database keeps.",
    ),
    _Command(
        usage="age_decrypt_name name encrypted",
        words=("AGE", "DECRYPTNAME"),
        answer=_MESSAGE,
        doc="Decrypt by an identity that the database keeps.",
    ),
    _Command(
        usage="age_signkeygen name",
        words=("AGE", "SIGNKEYGEN"),
        answer=_LIST,
        doc='Have the node keep a signing key; return its verification key and "".',
    ),
    _Command(
        usage="age_sign_name name message",
        words=("AGE", "SIGNNAME"),
        answer=_TEXT,
        doc="Sign by a key that the database keeps.",
    ),
    _Command(
        usage="age_verify_name name message signature",
        words=("AGE", "VERIFYNAME"),
        answer=_FLAG,
        doc="Verify by a key that the database keeps.",
    ),
    _Command(
        usage="age_list",
        words=("AGE", "LIST"),
        answer=_LIST,
        doc="Return the names under which the database keeps keys.",
    ),
)


def _operation(command: _Command) -> Operation:
    needed, _, optional = command.usage.partition("?")
    name, *required = needed.split()
    parameters = (*required, *optional.split())
    own = command.words or (name.upper(),)

    def run(db: Db, *values: object) -> object:
        what = f"db.{name}"
        if command.given is not None:
            words = tuple(command.given(f"{what}: what is given", values))
        else:
            pairs = zip(parameters, values, strict=False)
            words = tuple(_word(value, f"{what}: the {each}") for each, value in pairs)
            words += command.usual[len(words) - len(required) :]
        return command.answer.read(db.call(*own, *words))

    return Operation(
        name=name,
        parameters=parameters,
        required=len(required),
        result=command.answer.kind,
        doc=command.doc,
        run=run,
    )


Db.operations = MappingProxyType(
    {each.name: each for each in map(_operation, _COMMANDS)}
)
