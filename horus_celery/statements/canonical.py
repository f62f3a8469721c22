"""Which bytes are a body: strict JSON in its one canonical form (protocol section 2).

The canonical form is a check of form. Nothing is written again in order to verify.
"""

from __future__ import annotations

import json
from typing import Final, NoReturn, TypeAlias

import orjson

from horus_celery.errors import MalformedError

JSONValue: TypeAlias = (
    "bool | int | str | list[JSONValue] | dict[str, JSONValue] | None"
)

#: The largest integer, in either direction, that every JSON reader reads exactly.
MAX_INTEGER: Final = 2**53 - 1
#: How many arrays and objects may stand inside each other.
MAX_DEPTH: Final = 32

_MAX_INTEGER_CHARS: Final = len(str(-MAX_INTEGER))


def parse(body: bytes) -> JSONValue:
    """Read a body that must be strict JSON in canonical form.

    U+0000 in a string is left to the schema, which knows the name of the field.

    Raises:
        MalformedError: `json.*`.
    """
    found = _read_as_written(body, orjson.OPT_SORT_KEYS)
    value = load(body) if found is None else found[0]
    if found is None and _write(value) != body:
        raise _not_canonical("the body is not in its one canonical form")
    if not body.isascii() and not _keys_are_ascii(value):
        raise _not_canonical("the key of an object is not ASCII")
    return value


def load(text: bytes | str) -> JSONValue:
    """Read strict JSON in any form: duplicate keys, floats and NaN are refused.

    Raises:
        MalformedError: `json.*`.
    """
    found = _read_as_written(text)
    if found is not None:
        return found[0]
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError:
            raise MalformedError("json.utf8", "it is not UTF-8 text") from None
    try:
        value: JSONValue = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise MalformedError(
            "json.syntax", f"it is not JSON: {error.msg} at character {error.pos}"
        ) from None
    except RecursionError:
        raise _too_deep() from None
    if _is_too_deep(value, text.count("[") + text.count("{")):
        raise _too_deep()
    return value


def encode(value: object) -> bytes:
    """Write a value of the restricted form as its one canonical form.

    Raises:
        MalformedError: `json.float` or `json.not_canonical`, if the value lies outside
            the restricted form; `json.syntax`, if it is nested too deep.
    """
    _require_restricted(value, MAX_DEPTH)
    return _write(value)


def _write(value: object) -> bytes:
    """Write a value whose integers and depth were looked at.

    Equal to RFC 8785 on the restricted form, where it is many times faster.

    Raises:
        MalformedError: `json.not_canonical`, if a string is no text.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        raise _not_canonical("a string holds half a surrogate pair") from None


def _read_as_written(text: bytes | str, option: int = 0) -> tuple[JSONValue] | None:
    """Read a text that is letter for letter what orjson would write; None for others.

    Most texts are, and then a key that stands twice, a number of another form or half a
    surrogate pair cannot be in them. All others are left to the standard library, which
    is slower and says what is wrong.
    """
    try:
        value = orjson.loads(text)
        written = orjson.dumps(value, option=option | orjson.OPT_STRICT_INTEGER)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    if written != (text if isinstance(text, bytes) else text.encode()):
        return None
    if _holds_float(value):
        return None
    is_deep = _is_too_deep(value, written.count(b"[") + written.count(b"{"))
    return None if is_deep else (value,)


def _holds_float(value: JSONValue) -> bool:
    found = [value]
    for one in found:  # which grows meanwhile
        if isinstance(one, dict):
            found.extend(one.values())
        elif isinstance(one, list):
            found.extend(one)
        elif isinstance(one, float):
            return True
    return False


def _integer(digits: str) -> int:
    # Python refuses to read thousands of digits with an error of its own.
    if len(digits) <= _MAX_INTEGER_CHARS:
        number = int(digits)
        if -MAX_INTEGER <= number <= MAX_INTEGER:
            return number
    raise _not_canonical("an integer is larger than 2^53-1")


def _float(digits: str) -> NoReturn:
    raise MalformedError("json.float", "a number is not written as an integer")


def _constant(name: str) -> NoReturn:
    raise MalformedError("json.const", f"{name} is not JSON")


def _object(pairs: list[tuple[str, JSONValue]]) -> dict[str, JSONValue]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise MalformedError("json.duplicate_key", "an object has a key twice")
    return value


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_constant,
)


def _is_too_deep(value: JSONValue, brackets: int) -> bool:
    # Only brackets that are there can be nested: most texts need no walk.
    if brackets <= MAX_DEPTH:
        return False
    # Level by level, not by recursion: it may be nested as deep as Python's stack.
    level: list[JSONValue] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[JSONValue] = []
        for one in level:
            if isinstance(one, dict):
                inner.extend(one.values())
            elif isinstance(one, list):
                inner.extend(one)
        level = [one for one in inner if isinstance(one, (dict, list))]
    return bool(level)


def _keys_are_ascii(value: JSONValue) -> bool:
    if isinstance(value, dict):
        return "".join(value).isascii() and all(map(_keys_are_ascii, value.values()))
    return not isinstance(value, list) or all(map(_keys_are_ascii, value))


def _require_restricted(value: object, depth: int) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise _not_canonical("a string holds U+0000")
    elif isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise _not_canonical("an integer is larger than 2^53-1")
    elif isinstance(value, float):
        raise MalformedError("json.float", "a number is not an integer")
    elif isinstance(value, (dict, list, tuple)):
        if depth == 0:
            raise _too_deep()
        if isinstance(value, dict):
            for key in value:
                if not (isinstance(key, str) and key.isascii() and "\0" not in key):
                    raise _not_canonical("the key of an object is not ASCII")
            value = value.values()
        for inner in value:
            _require_restricted(inner, depth - 1)
    elif value is not None:
        raise _not_canonical(f"JSON has no {type(value).__name__}")


def _too_deep() -> MalformedError:
    return MalformedError("json.syntax", f"it is nested deeper than {MAX_DEPTH} levels")


def _not_canonical(detail: str) -> MalformedError:
    return MalformedError("json.not_canonical", detail)
