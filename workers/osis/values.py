"""Which values a field can have, and how they are ordered as bytes.

Indexes compare bytes. So each kind has a way of writing its values in which a lower
value is a lower text, none of which is the beginning of another one with its end.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from workers.osis.errors import FieldError

#: What a field holds; lists and maps hold the same again.
Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"

#: The ids of objects, as in the family: positive, of 32 bits.
LAST_ID: Final = 2**32 - 1
#: Bytes of a text that stand in an index; of a longer one these and a digest do.
WHOLE_KEY: Final = 512
#: Items of a list that stands in an index.
MOST_KEYS: Final = 100
#: How deep lists and maps lie in one another.
DEEPEST: Final = 16
#: Seconds since the epoch at the end of the year 9999.
_LAST_SECOND: Final = 253_402_300_799
_INTEGERS: Final = range(-(2**63), 2**63)
#: What ends a text in an index, before the id; a NUL in the text itself is escaped.
_END: Final = b"\0"
_NUL: Final = b"\0\xff"
#: What stands before a digest: no byte of a text.
_CUT: Final = b"\xfe"
_DIGITS: Final = len(str(LAST_ID))
#: The byte behind the last digit.
_BEHIND: Final = b":"


class Kind(StrEnum):
    """The types of fields."""

    STRING = "string"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    LIST = "list"
    MAP = "map"
    #: Whole seconds since the epoch; may be given as a text of ISO 8601.
    TIME = "time"
    #: The id of another object.
    REFERENCE = "reference"


#: The kinds whose values may be looked up between two others.
ORDERED: Final = frozenset({Kind.INT, Kind.FLOAT, Kind.TIME})
#: The kinds that cannot stand in an index.
UNINDEXED: Final = frozenset({Kind.MAP})


def accept(kind: Kind, value: object, *, what: str) -> Value:
    """Return a value as a field of a kind holds it; containers are copied.

    Args:
        kind: The kind of the field.
        value: What a script gives.
        what: The field, as the error is to name it.

    Raises:
        FieldError: if the field cannot have it.
    """
    try:
        return _ACCEPT[kind](value)
    except ValueError as error:
        raise FieldError(f"{what}: {error}") from None


def keys_of(kind: Kind, value: Value, *, what: str) -> tuple[bytes, ...]:
    """Return under which keys an accepted value stands in an index; None under none.

    A list stands there once for each of its different items.

    Raises:
        FieldError: if it is a list of other things than texts, or of too many.
    """
    if value is None:
        return ()
    if kind is not Kind.LIST or not isinstance(value, list):
        return (key_of(kind, value, what=what),)
    if len(value) > MOST_KEYS:
        raise FieldError(f"{what} is indexed and holds more than {MOST_KEYS} items")
    keys = (key_of(kind, item, what=f"an item of {what}") for item in value)
    return tuple(dict.fromkeys(keys))


def key_of(kind: Kind, value: object, *, what: str) -> bytes:
    """Return the one key under which a value, or an item of a list, is looked up.

    Raises:
        FieldError: if no such field can have the value.
    """
    kind = Kind.STRING if kind is Kind.LIST else kind
    return _KEY[kind](accept(kind, value, what=what))


def member(key: bytes, object_id: int) -> bytes:
    """Return what stands in an index for an object that has a key."""
    return key + _END + id_text(object_id)


def first_of(key: bytes) -> bytes:
    """Return what no member of a key is lower than."""
    return key + _END


def behind(key: bytes) -> bytes:
    """Return what is higher than all members of a key, and lower than those behind."""
    return key + _END + _BEHIND


def beginnings(prefix: str, *, what: str) -> tuple[bytes, bytes | None]:
    """Return where the texts with a beginning start, and before what they end.

    The end is None where there is nothing behind them.

    Raises:
        FieldError: if the beginning is too long to be told apart from others.
    """
    accept(Kind.STRING, prefix, what=what)
    key = _escaped(prefix)
    if len(key) > WHOLE_KEY:
        raise FieldError(f"{what} is sought by beginnings of up to {WHOLE_KEY} bytes")
    stem = key.rstrip(b"\xff")
    return key, stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def id_text(object_id: int) -> bytes:
    """Return an id as it is ordered."""
    return str(object_id).rjust(_DIGITS, "0").encode()


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise _other("a string", value)
    if not _is_text(value):
        raise ValueError("the string holds half a character, which is no text")
    return value


def _int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _other("a whole number", value)
    if value not in _INTEGERS:
        raise ValueError("the number has more than 64 bits")
    return value


def _float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _other("a number", value)
    number = float(value if isinstance(value, float) else _int(value))
    if not math.isfinite(number):
        raise ValueError("the number is not finite")
    # There is one zero, so that it is found.
    return number or 0.0


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise _other("true or false", value)
    return value


def _list(value: object) -> list[Value]:
    if not isinstance(value, list | tuple):
        raise _other("a list", value)
    return [_any(item, 2) for item in value]


def _map(value: object) -> dict[str, Value]:
    if not isinstance(value, Mapping):
        raise _other("a map", value)
    return {_string(name): _any(item, 2) for name, item in value.items()}


def _time(value: object) -> int:
    if isinstance(value, str):
        at = datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise ValueError(f"{value} is in no time zone: end it with Z for UTC")
        seconds = math.floor((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    else:
        seconds = _int(value)
    if not 0 <= seconds <= _LAST_SECOND:
        raise ValueError("a time lies between the years 1970 and 9999")
    return seconds


def _reference(value: object) -> int:
    number = _int(value)
    if not 1 <= number <= LAST_ID:
        raise ValueError(f"an id lies between 1 and {LAST_ID}")
    return number


def _any(value: object, depth: int) -> Value:
    """Return what lies in a list or map."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return _int(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        return _string(value)
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} lists and maps lie in one another")
    if isinstance(value, list | tuple):
        return [_any(item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        return {_string(name): _any(item, depth + 1) for name, item in value.items()}
    raise ValueError(f"{_kind_of(value)} cannot be stored")


_ACCEPT: Final[Mapping[Kind, Callable[[object], Value]]] = MappingProxyType(
    {
        Kind.STRING: _string,
        Kind.INT: _int,
        Kind.FLOAT: _float,
        Kind.BOOL: _bool,
        Kind.LIST: _list,
        Kind.MAP: _map,
        Kind.TIME: _time,
        Kind.REFERENCE: _reference,
    }
)


def _string_key(value: object) -> bytes:
    key = _escaped(_string(value))
    if len(key) <= WHOLE_KEY:
        return key
    import hashlib  # noqa: PLC0415 - a whole library of ciphers, for the longest keys

    return key[:WHOLE_KEY] + _CUT + hashlib.sha256(key).hexdigest().encode()


def _escaped(text: str) -> bytes:
    return text.encode().replace(b"\0", _NUL)


def _int_key(value: object) -> bytes:
    return b"%016x" % (_int(value) + 2**63)


def _float_key(value: object) -> bytes:
    (bits,) = struct.unpack(">Q", struct.pack(">d", _float(value)))
    # Of negative numbers a lower one has the higher bits.
    is_negative = bits >> 63
    return b"%016x" % (bits ^ (2**64 - 1 if is_negative else 2**63))


def _bool_key(value: object) -> bytes:
    return b"1" if value else b"0"


_KEY: Final[Mapping[Kind, Callable[[object], bytes]]] = MappingProxyType(
    {
        Kind.STRING: _string_key,
        Kind.INT: _int_key,
        Kind.FLOAT: _float_key,
        Kind.BOOL: _bool_key,
        Kind.TIME: _int_key,
        Kind.REFERENCE: _int_key,
    }
)
#: How a script calls what it has.
_NAMES: Final[Mapping[type, str]] = MappingProxyType(
    {
        type(None): "()",
        bool: "a bool",
        int: "a whole number",
        float: "a float",
        str: "a string",
        bytes: "a blob",
        list: "a list",
        dict: "a map",
    }
)


def _other(needed: str, value: object) -> ValueError:
    return ValueError(f"{needed} is needed, not {_kind_of(value)}")


def _kind_of(value: object) -> str:
    return _NAMES.get(type(value), "something else")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
