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
class _Command:
    """A command of the database, as scripts have it."""

    #: How a script writes it; what stands behind `?` may be missing.
    usage: str
    #: The words of the database's own command.
    words: tuple[str, ...]
    result: str
    reply: Callable[[object], object]
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


_TEXT: Final = "string, blob or ()"
_COMMANDS: Final = (
    _Command(
        usage="set key value ? seconds",
        words=("SET",),
        given=_set_words,
        result="()",
        reply=_nothing,
        doc="Keep a value, for so many seconds if that is said.",
    ),
    _Command(
        usage="get key",
        words=("GET",),
        result=_TEXT,
        reply=_text,
        doc="Return a value; () if there is none.",
    ),
    _Command(
        usage="del key",
        words=("DEL",),
        given=_values_last,
        result="int",
        reply=_as_is,
        doc="Delete a key, or an array of them; return how many there were.",
    ),
    _Command(
        usage="exists key",
        words=("EXISTS",),
        result="bool",
        reply=_flag,
        doc="Return whether there is a key.",
    ),
    _Command(
        usage="expire key seconds",
        words=("EXPIRE",),
        result="bool",
        reply=_flag,
        doc="Have a key end after so many seconds; return whether there is one.",
    ),
    _Command(
        usage="ttl key",
        words=("TTL",),
        result="int",
        reply=_as_is,
        doc="Return after how many seconds a key ends: -1 for never, -2 for no key.",
    ),
    _Command(
        usage="incr key ? by",
        words=("INCRBY",),
        usual=(1,),
        result="int",
        reply=_as_is,
        doc="Add 1, or so much, to a whole number; return what it is then.",
    ),
    _Command(
        usage="keys ? pattern",
        words=("KEYS",),
        usual=("*",),
        result="array",
        reply=_sorted,
        doc="Return the keys that a pattern fits, in their order; all without one.",
    ),
    _Command(
        usage="hset key field ? value",
        words=("HSET",),
        given=_hash_words,
        result="int",
        reply=_as_is,
        doc="Set a field of a hash, or those of a map; return how many are new.",
    ),
    _Command(
        usage="hget key field",
        words=("HGET",),
        result=_TEXT,
        reply=_text,
        doc="Return a field of a hash; () if there is none.",
    ),
    _Command(
        usage="hgetall key",
        words=("HGETALL",),
        result="map",
        reply=_pairs,
        doc="Return a hash.",
    ),
    _Command(
        usage="hdel key field",
        words=("HDEL",),
        given=_values_last,
        result="int",
        reply=_as_is,
        doc="Delete fields of a hash, one or an array; return how many were there.",
    ),
    _Command(
        usage="hkeys key",
        words=("HKEYS",),
        result="array",
        reply=_sorted,
        doc="Return the names of a hash's fields, in their order.",
    ),
    _Command(
        usage="lpush key value",
        words=("LPUSH",),
        given=_values_last,
        result="int",
        reply=_as_is,
        doc="Put a value, or an array of them, before a list; return its length.",
    ),
    _Command(
        usage="rpush key value",
        words=("RPUSH",),
        given=_values_last,
        result="int",
        reply=_as_is,
        doc="Put a value, or an array of them, behind a list; return its length.",
    ),
    _Command(
        usage="lpop key",
        words=("LPOP",),
        result=_TEXT,
        reply=_text,
        doc="Take the first value of a list; () if there is none.",
    ),
    _Command(
        usage="rpop key",
        words=("RPOP",),
        result=_TEXT,
        reply=_text,
        doc="Take the last value of a list; () if there is none.",
    ),
    _Command(
        usage="llen key",
        words=("LLEN",),
        result="int",
        reply=_as_is,
        doc="Return the length of a list.",
    ),
    _Command(
        usage="lrange key start stop",
        words=("LRANGE",),
        result="array",
        reply=_texts,
        doc="Return values of a list, both ends included; -1 is the last one.",
    ),
    _Command(
        usage="sadd key member",
        words=("SADD",),
        given=_values_last,
        result="int",
        reply=_as_is,
        doc="Put a member, or an array of them, into a set; return how many are new.",
    ),
    _Command(
        usage="srem key member",
        words=("SREM",),
        given=_values_last,
        result="int",
        reply=_as_is,
        doc="Take a member, or an array of them, out of a set; return how many.",
    ),
    _Command(
        usage="smembers key",
        words=("SMEMBERS",),
        result="array",
        reply=_sorted,
        doc="Return the members of a set, in their order.",
    ),
    _Command(
        usage="zadd key score member",
        words=("ZADD",),
        result="int",
        reply=_as_is,
        doc="Put a member with its score into a sorted set; return how many are new.",
    ),
    _Command(
        usage="zrange key start stop",
        words=("ZRANGE",),
        result="array",
        reply=_texts,
        doc="Return members of a sorted set, lowest first, both ends included.",
    ),
    _Command(
        usage="set_encrypted key value ? secret_name",
        words=("SETENC",),
        result="()",
        reply=_nothing,
        doc="Keep a value that lies encrypted, with the key of a name if one is said.",
    ),
    _Command(
        usage="get_encrypted key",
        words=("GETENC",),
        result=_TEXT,
        reply=_text,
        doc="Return a value that lies encrypted; () if there is none.",
    ),
    _Command(
        usage="age_genenc",
        words=("AGE", "GENENC"),
        result="array",
        reply=_texts,
        doc="Return a new recipient and its identity.",
    ),
    _Command(
        usage="age_encrypt recipient message",
        words=("AGE", "ENCRYPT"),
        result="string",
        reply=_text,
        doc="Return a message encrypted for a recipient, in base64.",
    ),
    _Command(
        usage="age_decrypt identity encrypted",
        words=("AGE", "DECRYPT"),
        result="string or blob",
        reply=_text,
        doc="Return the message that was encrypted for an identity's recipient.",
    ),
    _Command(
        usage="age_gensign",
        words=("AGE", "GENSIGN"),
        result="array",
        reply=_texts,
        doc="Return a new verification key and its signing key, in base64.",
    ),
    _Command(
        usage="age_sign signing_key message",
        words=("AGE", "SIGN"),
        result="string",
        reply=_text,
        doc="Return the signature of a message, in base64.",
    ),
    _Command(
        usage="age_verify verification_key message signature",
        words=("AGE", "VERIFY"),
        result="bool",
        reply=_flag,
        doc="Return whether a signature is that of a message.",
    ),
    _Command(
        usage="age_keygen name",
        words=("AGE", "KEYGEN"),
        result="array",
        reply=_texts,
        doc='Have the node keep a new identity; return its recipient and "".',
    ),
    _Command(
        usage="age_encrypt_name name message",
        words=("AGE", "ENCRYPTNAME"),
        result="string",
        reply=_text,
        doc="Encrypt for a recipient that the database keeps.",
    ),
    _Command(
        usage="age_decrypt_name name encrypted",
        words=("AGE", "DECRYPTNAME"),
        result="string or blob",
        reply=_text,
        doc="Decrypt by an identity that the database keeps.",
    ),
    _Command(
        usage="age_signkeygen name",
        words=("AGE", "SIGNKEYGEN"),
        result="array",
        reply=_texts,
        doc='Have the node keep a signing key; return its verification key and "".',
    ),
    _Command(
        usage="age_sign_name name message",
        words=("AGE", "SIGNNAME"),
        result="string",
        reply=_text,
        doc="Sign by a key that the database keeps.",
    ),
    _Command(
        usage="age_verify_name name message signature",
        words=("AGE", "VERIFYNAME"),
        result="bool",
        reply=_flag,
        doc="Verify by a key that the database keeps.",
    ),
    _Command(
        usage="age_list",
        words=("AGE", "LIST"),
        result="array",
        reply=_texts,
        doc="Return the names under which the database keeps keys.",
    ),
)


def _operation(command: _Command) -> Operation:
    needed, _, optional = command.usage.partition("?")
    name, *required = needed.split()
    parameters = (*required, *optional.split())

    def run(db: Db, *values: object) -> object:
        what = f"db.{name}"
        if command.given is not None:
            words = tuple(command.given(f"{what}: what is given", values))
        else:
            pairs = zip(parameters, values, strict=False)
            words = tuple(_word(value, f"{what}: the {each}") for each, value in pairs)
            words += command.usual[len(words) - len(required) :]
        return command.reply(db.call(*command.words, *words))

    return Operation(
        name=name,
        parameters=parameters,
        required=len(required),
        result=command.result,
        doc=command.doc,
        run=run,
    )


Db.operations = MappingProxyType(
    {each.name: each for each in map(_operation, _COMMANDS)}
)
