"""The scripts by which objects change and are found: a closed set, one Lua file each.

The database runs them for a context: a caller names one and gives it keys and
arguments, and never the script itself. KEYS are those of one model:

    m:MODEL           hash: version, body (what the model is), last (the last id); while
                      indexes are built: building (which), built (up to which id)
    o:MODEL           hash: id → revision, version of the model, and values of an object
    o:MODEL:ids       sorted set: the ids as texts
    o:MODEL:entries   hash: id → where the object stands in indexes (MessagePack)
    i:MODEL:FIELD     sorted set: each value as bytes, with the id behind it (`values`)
    m:                set: the names of all models
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

_LUA: Final = Path(__file__).parent / "lua"
_PRELUDE: Final = "prelude"
#: Those that change something.
_WRITING: Final = frozenset({"declare", "delete", "reindex", "save"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A script of the closed set."""

    source: str
    #: Whether it changes anything.
    writes: bool


def _read() -> Mapping[str, Script]:
    prelude = (_LUA / f"{_PRELUDE}.lua").read_text("utf-8")
    return MappingProxyType(
        {
            path.stem: Script(
                source=prelude + path.read_text("utf-8"), writes=path.stem in _WRITING
            )
            for path in sorted(_LUA.glob("*.lua"))
            if path.stem != _PRELUDE
        }
    )


SCRIPTS: Final = _read()
