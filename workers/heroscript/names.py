"""Which name a name becomes, so that the ways people write it are one."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

#: What counts as white space; not what Unicode calls so.
SPACES: Final = " \t\n\v\f\r"
_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_PLAIN: Final = re.compile(r"[a-z0-9]+")
_BECOMES_UNDERSCORE: Final = frozenset("-;:. ")
_KEPT: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
#: The shortest name that has an extension, as in `a.b`.
_SHORTEST: Final = 3


def lower(text: str) -> str:
    """Return the text with the letters of ASCII in lower case, and no other changed."""
    return text.translate(_LOWER)


@lru_cache(maxsize=4096)
def name_fix(name: str) -> str:
    """Return the name that a name is kept under.

    An extension stays as it is, and an underscore is dropped only directly after an
    underscore that was written.
    """
    if _PLAIN.fullmatch(name):
        return name
    stem, extension = _split(lower(name).strip(SPACES).partition("#")[0])
    kept: list[str] = []
    before = ""
    for letter in stem:
        if letter in _KEPT:
            written = letter
        elif letter in _BECOMES_UNDERSCORE:
            written = "_"
        else:
            continue
        if written != "_" or before != "_":
            kept.append(written)
        before = letter
    return "".join(kept) + extension


def _split(name: str) -> tuple[str, str]:
    """Split off the extension, which a hidden file's name is not."""
    start = name.rfind("/") + 1
    dot = name.rfind(".", start)
    if len(name) < _SHORTEST or dot <= start or dot + 1 == len(name):
        return name, ""
    return name[:dot], name[dot:]
