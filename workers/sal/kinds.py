"""Which kinds of value a script may give, and how each is read: once, strictly.

An annotation of a SAL function is the name of a kind. The readers raise ValueError with
what the value should have been; who calls them says of which parameter.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

#: One word that a program is given: a name, a host, a pattern; never an option.
Word: TypeAlias = str
#: One word, or nothing at all.
OptionalWord: TypeAlias = str
#: A command line as an array of its words.
Words: TypeAlias = list[str]
#: A port of TCP.
Port: TypeAlias = int
#: An address of the web.
WebAddress: TypeAlias = str
#: How long something may take; a script says it in seconds.
Seconds: TypeAlias = timedelta

#: Bytes of the longest text that a function takes.
LONGEST_TEXT: Final = 16 * 2**20
#: Bytes of the longest word, and of the longest path that Linux knows.
LONGEST_WORD: Final = 4096
#: Items of the longest array, and keys of the largest map.
MOST_ITEMS: Final = 100_000
#: Nobody waits longer than a job may take.
LONGEST_WAIT: Final = timedelta(days=1)
#: What Rhai's integers hold.
_INTEGERS: Final = range(-(2**63), 2**63)
_PORTS: Final = range(1, 2**16)
_LINE_BREAKS: Final = re.compile(r"[\r\n]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of value that a parameter takes."""

    #: How the documents call it.
    name: str
    read: Callable[[object], object]


def kind_name(value: object) -> str:
    """Say what a value is, in the words of scripts."""
    for python, name in _NAMES.items():
        if isinstance(value, python):
            return name
    return type(value).__name__


def _other(wanted: str, value: object) -> ValueError:
    return ValueError(f"must be {wanted}, not {kind_name(value)}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _other("a string", value)
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError("must be text that can be written as UTF-8") from None
    if size > LONGEST_TEXT:
        raise ValueError(f"must have at most {LONGEST_TEXT} bytes, not {size}")
    return value


def _clean(value: object) -> str:
    text = _text(value)
    if "\0" in text:
        raise ValueError("must not contain the character NUL")
    if len(text.encode()) > LONGEST_WORD:
        raise ValueError(f"must have at most {LONGEST_WORD} bytes")
    return text


def _optional_word(value: object) -> str:
    word = _clean(value)
    if word.startswith("-"):
        raise ValueError("must not begin with '-': it would be read as an option")
    if _LINE_BREAKS.search(word):
        raise ValueError("must be a single line")
    return word


def printable(text: str) -> str:
    """Write bytes of a file's name that are no text so that they can be read."""
    return text.encode(errors="backslashreplace").decode()


def _word(value: object) -> str:
    word = _optional_word(value)
    if not word.strip():
        raise ValueError("must not be empty")
    return word


def _path(value: object) -> Path:
    text = _clean(value)
    if not text:
        raise ValueError("must not be empty")
    return Path(text)


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _other("an integer", value)
    if value not in _INTEGERS:
        raise ValueError("must be an integer of 64 bits")
    return value


def _port(value: object) -> int:
    number = _integer(value)
    if number not in _PORTS:
        raise ValueError(f"must be between 1 and 65535, not {number}")
    return number


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise _other("true or false", value)
    return value


def _seconds(value: object) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _other("a number of seconds", value)
    most = LONGEST_WAIT.total_seconds()
    # Written so that NaN is refused as well.
    if not 0 <= value <= most:
        raise ValueError(f"must be between 0 and {most:.0f} seconds")
    return timedelta(seconds=value)


def _array(value: object) -> list[object]:
    if not isinstance(value, list | tuple):
        raise _other("an array", value)
    if len(value) > MOST_ITEMS:
        raise ValueError(f"must have at most {MOST_ITEMS} items")
    return list(value)


def _strings(value: object) -> list[str]:
    return [_item(number, one) for number, one in enumerate(_array(value))]


def _item(number: int, value: object) -> str:
    try:
        return _text(value)
    except ValueError as error:
        raise ValueError(
            f"must be an array of strings; item {number} {error}"
        ) from None


def _strings_among(value: object) -> list[str]:
    """Skip what is no string, as SAL does for containers."""
    return [_text(one) for one in _array(value) if isinstance(one, str)]


def _map(value: object) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise _other("a map", value)
    if len(value) > MOST_ITEMS:
        raise ValueError(f"must have at most {MOST_ITEMS} keys")
    return {_text(key): one for key, one in value.items()}


def _string_map(value: object) -> dict[str, str]:
    entries: dict[str, str] = {}
    for key, one in _map(value).items():
        try:
            entries[key] = _text(one)
        except ValueError as error:
            raise ValueError(f"must be a map of strings; {key!r} {error}") from None
    return entries


def _environment(value: object) -> dict[str, str]:
    entries = _string_map(value)
    for name, one in entries.items():
        if not name or "=" in name or "\0" in name + one:
            raise ValueError(f"must be environment variables, and {name!r} is none")
    return entries


def _words(value: object) -> list[str]:
    """Read a command line: no shell ever sees it."""
    if isinstance(value, str):
        try:
            words = shlex.split(_text(value))
        except ValueError as error:
            raise ValueError(f"must be a command line: {error}".lower()) from None
    else:
        words = _strings(value)
    if not words or not words[0]:
        raise ValueError("must name a program")
    if any("\0" in word for word in words):
        raise ValueError("must not contain the character NUL")
    return words


def _web_address(value: object) -> str:
    text = _word(value)
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"must be an address of the web: {error}") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise ValueError("must begin with http:// or https:// and name a host")
    return text


def _anything(value: object) -> object:
    return value


#: By the annotation of a parameter.
KINDS: Final[Mapping[str, Kind]] = {
    "str": Kind(name="string", read=_text),
    "Word": Kind(name="string", read=_word),
    "OptionalWord": Kind(name="string", read=_optional_word),
    "WebAddress": Kind(name="string", read=_web_address),
    "Path": Kind(name="path", read=_path),
    "int": Kind(name="integer", read=_integer),
    "Port": Kind(name="integer", read=_port),
    "bool": Kind(name="bool", read=_boolean),
    "Seconds": Kind(name="seconds", read=_seconds),
    "Words": Kind(name="command line, or array of words", read=_words),
    "list[str]": Kind(name="array of strings", read=_strings),
    "StringsAmong": Kind(name="array of strings", read=_strings_among),
    "list[object]": Kind(name="array", read=_array),
    "dict[str, str]": Kind(name="map of strings", read=_string_map),
    "Environment": Kind(name="map of strings", read=_environment),
    "dict[str, object]": Kind(name="map", read=_map),
    "object": Kind(name="anything", read=_anything),
}
#: An array of which only the strings count.
StringsAmong: TypeAlias = list[str]
#: Variables for the environment of a program.
Environment: TypeAlias = dict[str, str]

_NAMES: Final[Mapping[type, str]] = {
    type(None): "nothing",
    bool: "a bool",
    int: "an integer",
    float: "a float",
    str: "a string",
    bytes: "a blob",
    list: "an array",
    tuple: "an array",
    dict: "a map",
}


def given_back(value: object) -> object:
    """Turn what a function returned into what scripts know.

    Raises:
        ValueError: if a name of a file in it is no text; a script has no other.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str) and (shown := printable(value)) != value:
        raise ValueError(f"the name {shown} is not text in UTF-8; rename the file")
    if isinstance(value, list | tuple):
        return [given_back(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): given_back(one) for key, one in value.items()}
    return value
