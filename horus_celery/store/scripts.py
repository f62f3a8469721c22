"""The scripts that change the store: one Lua file each, behind what they all know."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, Final

import redis
from redis.exceptions import NoScriptError

from horus_celery.lifecycle import HELD, TERMINAL, TRANSITIONS, Status
from horus_celery.store import bell
from horus_celery.store.base import BUCKETS
from horus_celery.store.connection import ask
from horus_celery.store.keys import Keys

#: The fields of the hash that make a record, in the order in which scripts read them.
FIELDS: Final = (
    "summary",
    "envelope",
    "status",
    "reason",
    "priority",
    "not_before",
    "created_at",
    "queued_at",
    "started_at",
    "ended_at",
    "attempt",
    "ran_on",
    "exit_code",
    "result",
    "receipt",
    "queue",
    "seq",
)
#: Upper bounds of the histograms, in ms, as the scripts write them.
BUCKETS_MS: Final = tuple(round(bound * 1000) for bound in BUCKETS)
_LUA: Final = Path(__file__).parent / "lua"
#: What stands in front of scripts.
_PARTS: Final = ("prelude", "doorbell")


class Script:
    """A script that the server keeps, and is given again when it has lost it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def run(
        self,
        client: redis.Redis,
        keys: Sequence[str],
        args: Sequence[str | int | bytes],
    ) -> Any:  # noqa: ANN401 - what a script answers is read by its caller
        """Run it, and return what it answers; errors as those of `ask`."""
        try:
            return ask(client, "EVALSHA", self._sha, len(keys), *keys, *args)
        except NoScriptError:
            return ask(client, "EVAL", self._text, len(keys), *keys, *args)


@cache
def make_scripts(namespace: str) -> Mapping[str, Script]:
    """Return the scripts of a namespace by name: those of the folder `lua`."""
    return _scripts_in(_LUA, _head(namespace))


def make_scripts_of(
    folder: str,
    namespace: str,
    *,
    tables: Mapping[str, Mapping[str, str]],
    values: Mapping[str, str],
) -> Mapping[str, Script]:
    """Return the scripts of a folder in `lua`, behind what all and its own ones know.

    Args:
        folder: The name of the folder; it has a prelude of its own.
        namespace: The namespace of the deployment.
        tables: Tables that its scripts are given, by the name of the variable.
        values: Other values, as Lua has them.
    """
    given = [f"local {name} = {_table(table)}" for name, table in tables.items()]
    given += [f"local {name} = {value}" for name, value in values.items()]
    own = (_LUA / folder / "prelude.lua").read_text("utf-8")
    head = "\n".join([_head(namespace), *given, own])
    return _scripts_in(_LUA / folder, head)


def _scripts_in(folder: Path, head: str) -> Mapping[str, Script]:
    return {
        path.stem: Script(head + path.read_text("utf-8"))
        for path in folder.glob("*.lua")
        if path.stem not in _PARTS
    }


def _head(namespace: str) -> str:
    parts = ((_LUA / f"{name}.lua").read_text("utf-8") for name in _PARTS)
    return _tables(namespace) + "".join(parts)


def _tables(namespace: str) -> str:
    following = {
        status.value: _table(
            {event: to for (at, event), to in TRANSITIONS.items() if at == status}
        )
        for status in Status
    }
    return "\n".join(
        [
            f"local KEY = {_table(asdict(Keys.of(namespace)))}",
            f"local NEXT = {_table(following)}",
            f"local OVER = {_table(dict.fromkeys(sorted(TERMINAL), 'true'))}",
            f"local HELD = {_table(dict.fromkeys(sorted(HELD), 'true'))}",
            f"local FIELDS = {{ {', '.join(map(repr, FIELDS))} }}",
            f"local BUCKETS = {{ {', '.join(map(str, BUCKETS_MS))} }}",
            f"local BELL = [==[{bell.PATTERN}]==]",
            f"local BELL_QUEUE = '{bell.QUEUE}'",
            f"local BELL_MOST = {bell.MOST}",
            "",
        ]
    )


def _table(values: Mapping[str, str]) -> str:
    """Write a table for Lua; none of our words holds a quotation mark."""
    lines = (f"['{name}'] = {_value(value)}" for name, value in values.items())
    return f"{{ {', '.join(lines)} }}"


def _value(value: str) -> str:
    is_written = value == "true" or value.isdigit() or value.startswith("{")
    return value if is_written else f"'{value}'"
