"""By which text actions and parameters are known, and the hashes over it.

The text is that of the Hero CLI, so that the hashes are the same. It is not meant to be
read again: of a value of several lines it keeps no line break. Use `writing` for that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, NamedTuple

from workers.heroscript.errors import UnwritableError
from workers.heroscript.model import MARKS, Action
from workers.heroscript.names import SPACES, name_fix
from workers.heroscript.parameters import Parameters

_DIGEST: Final = 20  # bytes
_INDENT: Final = "    "
#: Values of more bytes stand on a line of their own.
_LONG: Final = 25
_MARKS: Final = {kind: marks for marks, kind in MARKS.items()}
#: Whose values are quoted, whatever they are.
_ALWAYS_QUOTED: Final = frozenset({"cid", "oid", "gid"})


class _Order(NamedTuple):
    """Which keys come first and last, and after how many bytes a line is full."""

    first: tuple[str, ...]
    last: tuple[str, ...]
    width: int


_OF_ACTIONS: Final = _Order(
    ("id", "cid", "oid", "name"), ("mtime", "ctime", "time"), 30
)
_OF_ONE_LINE: Final = _Order(("id", "cid", "gid", "oid", "name", "alias"), (), 120)


class _Item(NamedTuple):
    key: str
    value: str
    comment: str


def known_text(action: Action) -> str:
    """Return the text that an action is known by.

    Raises:
        UnwritableError: if two of its arguments or keys are one name.
    """
    head = f"{_MARKS[action.actiontype]}{action.actor}.{action.name} "
    if action.id > 0:
        head += f"id:{action.id} "
    if not action.params.named and not action.params.arguments:
        return head
    words, items = _arranged(action.params, _OF_ACTIONS)
    fitting, further = items
    line = " ".join([*words, *map(_in_line, fitting)])
    comments = "\n".join(map(_commented, _argument_comments(action.params)))
    text = f"{comments}{line}\n" + "\n".join(
        f"{_INDENT}{_on_its_own(item)}" for item in further
    )
    first, *rest = text.removesuffix("\n").split("\n")
    return "".join([head, first, "\n", *(f"{_INDENT}{one}\n" for one in rest)])


def hashkey(action: Action) -> str:
    """Return the hash of an action: BLAKE2b of 160 bits, in lower hex."""
    return _blake(known_text(action))


def hashkey_of_all(actions: Iterable[Action]) -> str:
    """Return the hash of a whole script."""
    return _blake("\n".join(map(hashkey, actions)))


def export_line(params: Parameters) -> str:
    """Return parameters on one line, in the order that their hash is made of."""
    words, (fitting, further) = _arranged(params, _OF_ONE_LINE)
    comments = (f"//{_one_line(one)}-/" for one in _argument_comments(params))
    return " ".join([*comments, *words, *map(_in_line, fitting + further)])


def hexhash(params: Parameters) -> str:
    """Return the hash of parameters, whatever their order: SHA-256, in lower hex."""
    return hashlib.sha256(export_line(params).encode()).hexdigest()


def _blake(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST).hexdigest()


def _arranged(
    params: Parameters, order: _Order
) -> tuple[list[str], tuple[list[_Item], list[_Item]]]:
    """Return the arguments, and the parameters: those of the first line, and others."""
    words = [name_fix(one) for one in sorted(one.word for one in params.arguments)]
    items = {
        name_fix(one.key): _Item(name_fix(one.key), one.value, one.comment)
        for one in params
    }
    if len(set(words)) < len(words) or len(items) < len(params.named):
        said = "two of the arguments or keys are one name, so there is no hash of them"
        raise UnwritableError(said, params.line)
    fitting: list[_Item] = []
    further: list[_Item] = []
    size = sum(_size(word) + 1 for word in words)
    for key in sorted(items, key=lambda key: _rank(key, order)):
        item = items[key]
        is_long = _size(item.value) > _LONG or "\\n" in item.value
        if is_long or item.comment or size > order.width:
            further.append(_cleaned(item))
        else:
            fitting.append(_cleaned(item))
            size += _size(key) + _size(item.value) + 2
    return words, (fitting, further)


def _rank(key: str, order: _Order) -> tuple[int, int, str]:
    if key in order.first:
        return 0, order.first.index(key), key
    if key in order.last:
        return 2, order.last.index(key), key
    return 1, 0, key


def _size(text: str) -> int:
    return len(text.encode())


def _cleaned(item: _Item) -> _Item:
    value, comment = (
        text.replace("\\n", "\n").strip(SPACES) for text in (item.value, item.comment)
    )
    return _Item(item.key, value, comment)


def _in_line(item: _Item) -> str:
    text = f"{item.key}:{_quoted(item)}"
    return f"//{_one_line(item.comment)}-/ {text}" if item.comment else text


def _quoted(item: _Item) -> str:
    value = _one_line(item.value)
    is_special = " " in value or ":" in value or "\\n" in value
    if is_special or item.key in _ALWAYS_QUOTED:
        value = value.replace('"', "'").replace("'", "\\'")
        return f"'{value}'"
    return value or "''"


def _one_line(text: str) -> str:
    return text.replace("\n", "\\n")


def _on_its_own(item: _Item) -> str:
    if "\n" in item.value:
        before = _indented(item.comment, " // ") if item.comment else ""
        lines = _indented(item.value, _INDENT)
        return f"{before}{item.key}:'\n{lines}{_INDENT}'"
    if "\n" in item.comment:
        text = f"{_commented(item.comment)}{item.key}:{_quoted(item)}"
    else:
        text = f"{item.key}:{_quoted(item)}"
        text += f" //{item.comment}" if item.comment else ""
    return text.rstrip(" \n")


def _argument_comments(params: Parameters) -> list[str]:
    return [one.comment for one in params.arguments if one.comment]


def _commented(text: str) -> str:
    return _indented(text, "// ")


def _indented(text: str, by: str) -> str:
    return "".join(f"{by}{line}\n" for line in text.split("\n"))
