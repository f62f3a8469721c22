"""What a text says: its actions in their order, or an error with its line.

Differs from the Hero CLI where that loses or guesses: a line with `!` inside a value of
several lines stays there, a comma that ends a list or runs into the next parameter is
an error, and so is a quote that stays open.
"""

from __future__ import annotations

import re
from typing import Final

from workers.heroscript.errors import ParseError
from workers.heroscript.given import GivenReader
from workers.heroscript.model import MARKS, NOBODY, Action
from workers.heroscript.names import SPACES, name_fix
from workers.heroscript.parameters import Parameters

_LINE_BREAK: Final = re.compile(r"\r\n|\n|\r")
_TAB: Final = "    "
#: By so much a line must be indented to belong to the action above it.
_INDENT: Final = 2
_MOST_PARTS: Final = 2


def parse(text: str) -> tuple[Action, ...]:
    """Return the actions of a script.

    Raises:
        ParseError: if it is no HeroScript, with the line.
    """
    lines = _LINE_BREAK.split(text.replace("\t", _TAB))
    reader = _Reader(_margin(lines))
    for number, line in enumerate(lines, 1):
        reader.feed(number, line)
    reader.close_action()
    return tuple(reader.actions)


def parse_parameters(text: str) -> Parameters:
    """Return what a text says that holds parameters only, and no action.

    Raises:
        ParseError: if it does not, with the line.
    """
    reader = GivenReader(1)
    for number, line in enumerate(_LINE_BREAK.split(text.replace("\t", _TAB)), 1):
        if line.strip(SPACES):
            reader.feed(number, line, 0)
    return reader.close()


class _Reader:
    """Goes through the lines once."""

    def __init__(self, margin: int) -> None:
        self.actions: list[Action] = []
        self._margin = margin
        self._comments: list[str] = []
        self._given: GivenReader | None = None
        self._head: tuple[str, str, str, int] = ("", "", "", 0)
        self._action_comments = ""

    def feed(self, number: int, line: str) -> None:
        if not line.strip(SPACES):
            return
        start = _indent(line)
        is_inside = self._given is not None and start >= self._margin + _INDENT
        if self._given is not None:
            if is_inside and (line[start] != "!" or self._given.is_in_block):
                self._given.feed(number, line, start)
                return
            self.close_action(is_end=False)
        if line[start] == "!" and not line.startswith("![", start):
            self._open_action(number, line, start)
        elif start == self._margin and line.startswith("//", start):
            self._comments.append(line[start:].lstrip("/ ").rstrip(SPACES))
        else:
            self._comments.clear()

    def _open_action(self, number: int, line: str, start: int) -> None:
        space = line.find(" ", start)
        end = len(line) if space < 0 else space
        word = line[start:end].rstrip(SPACES)
        name = word.lstrip("!")
        marks = word[: len(word) - len(name)]
        if marks not in MARKS:
            raise ParseError(
                "no action begins with five `!` or more", number, start + 1
            )
        parts = name.split(".")
        if len(parts) > _MOST_PARTS:
            said = f"{name} has more than two parts: an action is `actor.name`"
            raise ParseError(said, number, start + 1)
        actor = name_fix(parts[0]) if len(parts) == _MOST_PARTS else NOBODY
        self._head = (marks, actor, name_fix(parts[-1]), number)
        self._action_comments = "\n".join(self._comments)
        self._comments.clear()
        self._given = GivenReader(number)
        if line[end:].strip(SPACES):
            self._given.feed(number, line, end)

    def close_action(self, *, is_end: bool = True) -> None:
        if self._given is None:
            return
        marks, actor, name, line = self._head
        self.actions.append(
            Action(
                id=len(self.actions) + 1,
                actor=actor,
                name=name,
                actiontype=MARKS[marks],
                params=self._given.close(dropped="id", is_end=is_end),
                comments=self._action_comments,
                line=line,
            )
        )
        self._given = None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _margin(lines: list[str]) -> int:
    """Return by how much all lines are indented."""
    margin: int | None = None
    for line in lines:
        if line and line.strip(SPACES):
            margin = _indent(line) if margin is None else min(margin, _indent(line))
            if margin == 0:
                break
    return margin or 0
