"""How actions are written as a script that says the same again.

Unlike the text that hashes are made of, this keeps everything: the order, comments, and
values of several lines, which stand between quotes with `<BR>` for each line break, or
line by line where they hold the other kind of quote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from workers.heroscript.errors import UnwritableError
from workers.heroscript.given import WORD, normal
from workers.heroscript.model import MARKS, Action
from workers.heroscript.names import SPACES, lower, name_fix
from workers.heroscript.parameters import Parameter

_INDENT: Final = "    "
_MARKS: Final = {kind: marks for marks, kind in MARKS.items()}
#: Values that need no quotes.
_PLAIN: Final = re.compile(r"(?:[A-Za-z0-9_.+@%=:-]|/(?!/))+")
#: What no line can hold: these end it, or become something else.
_NOT_IN_LINES: Final = re.compile(r"[\t\r]")
_ONLY_QUOTES: Final = frozenset({"'", '"', "'''", '"""'})


def write(actions: Iterable[Action]) -> str:
    """Return a script that says these actions, numbered from 1.

    Raises:
        UnwritableError: if a name, a value or a comment is one that no script says.
    """
    return "\n".join(map(_written, actions))


def _written(action: Action) -> str:
    given = (f"{_INDENT}{line}" for line in _given(action))
    lines = [*_comment_lines(action.comments), _head(action), *given]
    return "".join(f"{line}\n" for line in lines)


def _head(action: Action) -> str:
    actor, name = (_name(part, action.line) for part in (action.actor, action.name))
    return f"{_MARKS[action.actiontype]}{actor}.{name}"


def _name(part: str, line: int) -> str:
    # Of two underscores the second would go; what becomes one stays.
    written = part.replace("_", "-")
    if name_fix(written) != part or " " in written or "." in written:
        raise _unwritable(f"{part!r} is no name that an action has", line)
    return written if "__" in part else part


def _given(action: Action) -> Iterator[str]:
    params = action.params
    known: set[str] = set()
    for argument in params.arguments:
        if WORD.fullmatch(argument.word) is None:
            raise _unwritable(f"{argument.word!r} is no argument", argument.line)
        if {argument.word, lower(argument.word)} & known:
            raise _unwritable(f"the argument {argument.word} is twice", argument.line)
        known.add(argument.word)
        yield from _comment_lines(argument.comment)
        yield argument.word
    keys: set[str] = {"id"}
    for one in params:
        if WORD.fullmatch(one.key) is None or lower(one.key) != one.key:
            raise _unwritable(f"{one.key!r} is no key", one.line)
        if one.key in keys:
            raise _unwritable(f"no script keeps this key {one.key}", one.line)
        keys.add(one.key)
        yield from _comment_lines(one.comment)
        yield from _parameter(one)


def _comment_lines(comment: str) -> Iterator[str]:
    if not comment:
        return
    lines = comment.split("\n")
    if comment.strip(SPACES) != comment or any(map(_is_changed_comment, lines)):
        raise _unwritable(f"the comment {comment!r} would be another", None)
    for line in lines:
        yield f"// {line}".rstrip(" ")


def _is_changed_comment(line: str) -> bool:
    return line.lstrip("/ ").strip(SPACES) != line or bool(_NOT_IN_LINES.search(line))


def _parameter(one: Parameter) -> tuple[str, ...]:
    value = one.value
    if _PLAIN.fullmatch(value):
        return (f"{one.key}:{value}",)
    if not _NOT_IN_LINES.search(value):
        if (quoted := _quoted(value)) is not None:
            return (f"{one.key}:'{quoted}'",)
        if (block := _block(value)) is not None:
            return (f"{one.key}:'", *block, "'")
    said = f"no script says the value of {one.key}: {value[:40]!r}"
    raise _unwritable(said, one.line)


def _quoted(value: str) -> str | None:
    """Return what stands between the quotes; None if that would be another value."""
    text = value.replace("\n", "<BR>").replace("'", "\\'")
    is_kept = '"' not in text and not text.endswith("\\") and normal(text) == value
    return text if is_kept else None


def _block(value: str) -> tuple[str, ...] | None:
    """Return the lines of a value that stands line by line; None if it cannot."""
    lines = value.split("\n")
    is_kept = "'" not in value and normal(value) == value
    if not is_kept or any(line.strip(SPACES) in _ONLY_QUOTES for line in lines):
        return None
    if all(line.strip(SPACES) for line in lines):
        return tuple(f"{_INDENT}{line}" for line in lines)
    # Blank lines would be lost.
    text = value.replace("\n", "<BR>")
    return (f"{_INDENT}{text}",) if normal(text) == value else None


def _unwritable(message: str, line: int | None) -> UnwritableError:
    return UnwritableError(message, line)
