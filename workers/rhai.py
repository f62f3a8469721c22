"""How a Rhai script is run in the process that was born for it.

Its functions and names are made in the zygote; what they reach is opened when a script
first uses it.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from horus_rhai import Engine, Function, RhaiError, RhaiValueError

#: No limit: with one, Rhai sums up a whole array whenever an item is added to it, and
#: what all values may take together is the job's own limit.
_ANY_SIZE: Final = 0


class ScriptFault(Exception):
    """What a function refused a script, and the script did not catch: a sentence."""


class Host:
    """Runs the Rhai scripts of one executor."""

    def __init__(
        self,
        functions: Mapping[str, Function],
        names: Mapping[str, object],
        *,
        faults: Iterable[type[Exception]] = (),
    ) -> None:
        """Make the engine.

        Args:
            functions: What scripts may call, besides what every script may.
            names: Objects that stand for themselves everywhere in a script.
            faults: What the functions raise that is a sentence for people.
        """
        self._engine = Engine(
            {**_EVERYBODYS, **functions},
            names=names,
            max_string_size=_ANY_SIZE,
            max_array_size=_ANY_SIZE,
            max_map_size=_ANY_SIZE,
        )
        self._faults: tuple[type[Exception], ...] = (
            ScriptFault,
            RhaiValueError,
            *faults,
        )

    def run(self, path: str, args: Sequence[str]) -> int:
        """Run the script of a file, and return its exit code.

        Standard output is what it prints, and the result is its value.
        """
        try:
            source = Path(path).read_bytes().decode()
        except UnicodeDecodeError as error:
            return _fail(f"the script is no UTF-8 text (byte {error.start})")
        return self._run(source, args, os.environ["HORUS_RESULT"])

    def rehearse(self) -> None:
        """Do all that scripts make this process do."""
        self._run(_REHEARSED, [], os.devnull)

    def warm_up(self) -> None:
        """Do the least that every script makes this process do."""
        self._run(_LEAST, [], os.devnull)

    def _run(self, source: str, args: Sequence[str], result: str) -> int:
        try:
            script = self._engine.compile(source)
            value = self._engine.run(
                script, {"args": list(args)}, print=_print, debug=_debug
            )
            text = text_of(value)
        except RhaiError as error:
            return _fail(_described(error))
        except Exception as error:
            if not isinstance(error, self._faults):
                raise
            return _fail(_placed(error))
        Path(result).write_text(text, "utf-8", newline="")
        return 0


def text_of(value: object) -> str:
    """Return a script's value as a result: text as it is, all else as JSON.

    Raises:
        ScriptFault: if it is none that can be written so.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


def _plain(value: object) -> object:
    """Return what JSON has for a value."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            # As Rhai's own `to_json` does.
            return value if math.isfinite(value) else None
        case bytes():
            return list(value)
        case Mapping():
            return {name: _plain(each) for name, each in value.items()}
        case Sequence():
            return [_plain(each) for each in value]
        case _:
            pass
    if (made := getattr(value, "rhai_plain", None)) is not None:
        return _plain(made())
    raise ScriptFault(
        f"the script's value is a {type(value).__name__}, which is no result: end with"
        " a value, or with () for none"
    )


def _described(error: RhaiError) -> str:
    """Return what is said of an error, as Rhai writes it."""
    return _with_place(error, error.line, error.column)


def _placed(fault: Exception) -> str:
    """Return what is said of what a function refused, at its place in the script."""
    line = getattr(fault, "rhai_line", None)
    return _with_place(fault, line, getattr(fault, "rhai_column", None))


def _with_place(error: Exception, line: int | None, column: int | None) -> str:
    if line is None:
        return str(error)
    place = "" if column is None else f", position {column}"
    return f"{error} (line {line}{place})"


def _fail(message: str) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"{message}\n")
    return 1


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _debug(text: str, line: int | None, column: int | None) -> None:
    where = "" if line is None else f"{line}:{column} | "
    sys.stderr.write(f"{where}{text}\n")


def _env(name: str) -> str:
    """Return a variable of the script's environment; empty if there is none."""
    return os.environ.get(name, "")


def _input(name: str) -> str:
    """Return the result of the job that is the input of this name."""
    return _given("HORUS_INPUTS", name, "input")


def _secret(name: str) -> str:
    """Return a secret of the node that the job names."""
    return _given("HORUS_SECRETS", name, "secret")


def _given(variable: str, name: str, what: str) -> str:
    folder = os.environ.get(variable, "")
    known = sorted(os.listdir(folder)) if folder else []  # noqa: PTH208 - names alone
    if name not in known:
        has = ", ".join(known) or "none"
        raise ScriptFault(f"the job has no {what} {name!r}; it has {has}")
    try:
        return Path(folder, name).read_bytes().decode()
    except UnicodeDecodeError:
        raise ScriptFault(f"the {what} {name!r} is no UTF-8 text") from None


#: What every Rhai script may call.
_EVERYBODYS: Final[Mapping[str, Function]] = {
    name: Function.of(call)
    for name, call in {"env": _env, "input": _input, "secret": _secret}.items()
}
_LEAST: Final = "2 * 3"
#: Some of everything, so that what it touches is there when a script needs it.
_REHEARSED: Final = """
fn twice(x) { x * 2 }
let all = [];
for i in 0..10 { all.push(twice(i)); }
let text = `${all.len()} of ${env("HOME")}`;
let seen = #{ text: text, all: all.map(|x| x + 1) };
try { throw "nothing" } catch (e) { seen.said = e; }
seen
"""
