"""On which line of a TOML text each of its values stands.

`tomllib` has read the text before and found it valid: all that is left to find is where
a key ends, and where its value does.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Final, cast

#: The way to a value: keys of tables, indexes of lists.
Place = tuple[str | int, ...]

_GAP: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_DOT: Final = r"[ \t]*\.[ \t]*"
_PART: Final = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*')"""
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_KEY: Final = re.compile(rf"{_PART}(?:{_DOT}{_PART})*")
_HEADER: Final = re.compile(rf"(\[\[?)[ \t]*({_KEY.pattern})[ \t]*\]\]?")
_EQUALS: Final = re.compile(r"[ \t]*=[ \t]*")
_SCALAR: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'"
    r"|[^,\]}#\n]+",
    re.DOTALL,
)


def lines_of(text: str) -> Mapping[Place, int]:
    """Return the line, counted from 1, on which each value of a valid text begins.

    A table has the line of its header, or of the first key that leads into it.

    Raises:
        RecursionError: if its lists are nested too deeply.
    """
    walk = _Walk(text)
    walk.document()
    return walk.lines


class _Walk:
    """Goes through a text once, and notes where it is."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Place, int] = {}
        self._text = text
        self._at = 0
        #: The line at `_counted`: newlines are counted once.
        self._line = 1
        self._counted = 0
        #: How many tables each list of tables has so far.
        self._tables: dict[Place, int] = {}

    def document(self) -> None:
        table: Place = ()
        self._take(_GAP)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._take(_GAP)

    def _header(self) -> Place:
        line = self._here()
        found = self._take(_HEADER)
        *outer, last = _parts(found[2])
        table: Place = ()
        for part in outer:
            table = self._latest((*table, part))
            self.lines.setdefault(table, line)
        table = (*table, last)
        if found[1] == "[":
            table = self._latest(table)
            self.lines.setdefault(table, line)
            return table
        self.lines.setdefault(table, line)
        count = self._tables.get(table, 0)
        self._tables[table] = count + 1
        table = (*table, count)
        self.lines[table] = line
        return table

    def _latest(self, table: Place) -> Place:
        """Return the newest table of a list of tables, any other as it is."""
        count = self._tables.get(table)
        return table if count is None else (*table, count - 1)

    def _pair(self, table: Place) -> None:
        line = self._here()
        place = table
        for part in _parts(self._take(_KEY)[0]):
            place = (*place, part)
            self.lines.setdefault(place, line)
        self._take(_EQUALS)
        self._value(place)

    def _value(self, place: Place) -> None:
        opening = self._text[self._at]
        if opening == "[":
            self._list(place)
        elif opening == "{":
            self._inline_table(place)
        else:
            self._take(_SCALAR)

    def _list(self, place: Place) -> None:
        for index, _ in enumerate(self._items("]")):
            item = (*place, index)
            self.lines[item] = self._here()
            self._value(item)

    def _inline_table(self, place: Place) -> None:
        for _ in self._items("}"):
            self._pair(place)

    def _items(self, closing: str) -> Iterator[None]:
        """Stand before each item of a list or an inline table, at last behind it."""
        self._at += 1
        self._take(_GAP)
        while self._text[self._at] != closing:
            yield
            self._take(_GAP)
            if self._text[self._at] == ",":
                self._at += 1
                self._take(_GAP)
        self._at += 1

    def _here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        # In a valid text what is looked for is there.
        found = cast("re.Match[str]", pattern.match(self._text, self._at))
        self._at = found.end()
        return found


def _parts(key: str) -> tuple[str, ...]:
    if _BARE.fullmatch(key):
        return (key,)
    parts: list[str] = []
    value: object = tomllib.loads(f"{key} = 0")
    while isinstance(value, dict):
        ((part, value),) = value.items()
        parts.append(part)
    return tuple(parts)
