"""The scripts by which objects change and are found: a closed set, one Lua file each.

The database runs them for a context: a caller names one and gives it keys and
arguments, and never the script itself. KEYS are those of one model:

    m:MODEL           hash: version, and body: what the model is
    m:                set: the names of all models
    o:MODEL           hash: id → revision, version of the model, and values of an object
    o:MODEL:ids       sorted set: the ids as texts
    o:MODEL:entries   hash: id → where the object stands in indexes (MessagePack)
    o:MODEL:last      the last id that was given
    i:MODEL:FIELD     sorted set: each value as bytes, with the id behind it (`values`)
    i:MODEL           hash, while indexes are built: which ones, and up to which id

Below `m:` writes only who declares.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from horus_celery.herodb.scripts import Script

_LUA: Final = Path(__file__).parent / "lua"
_PRELUDE: Final = "prelude"
#: Those that change something.
_WRITING: Final = frozenset({"declare", "delete", "reindex", "save"})


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
