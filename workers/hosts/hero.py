"""Runs a HeroScript: every action by its actor, in the order of the text.

The job's arguments are replacements, each `NAME=VALUE`, which are made in the text
before it is read. Standard output is what the script says; the result is that of the
last action.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from workers.actors.actor import Cast
from workers.actors.ensemble import Surroundings, gather
from workers.actors.functions import actors_of
from workers.actors.stage import check, perform
from workers.herodb.client import Database, DatabaseError
from workers.heroscript.errors import HeroScriptError, ParseError
from workers.heroscript.reading import parse
from workers.heroscript.replacements import replace_all
from workers.sal import FUNCTIONS, SalError, Session, session_of

#: Every form that a script has, for what Python learns by reading it.
_REHEARSED = """\
// a comment
!!session.env_set key:name val:'a value'
!!play.echo content:'{name}' // another
    result: said
!!session.env_set_once
    key: list
    value: a, 'b c'
"""
_LEAST = "!!play.echo content:nothing\n"


def run(path: str, args: Sequence[str]) -> int:
    """Run the script of a file, and return its exit code."""
    return perform_file(path, args, _JOB, _ACTORS)


def rehearse() -> None:
    """Do all that scripts make this process do, and say nothing."""
    _result(_REHEARSED, {}, _UNHEARD, _SILENCE.variables)


def warm_up() -> None:
    """Do the least that every script makes this process do, and say nothing."""
    _result(_LEAST, {}, _UNHEARD, _SILENCE.variables)


def perform_file(
    path: str, args: Sequence[str], around: Surroundings, cast: Cast
) -> int:
    """Do the actions of a file's script by those who are there for its job."""
    try:
        told = _result(_text(path), _replacements(args), cast, around.variables)
    except HeroScriptError as error:
        sys.stdout.flush()
        sys.stderr.write(f"{error}\n")
        return 1
    place = around.environment.get("HORUS_RESULT")
    if place:
        Path(place).write_text(told, "utf-8", "surrogateescape", newline="")
    return 0


def _around(environment: Mapping[str, str], say: Callable[[str], None]) -> Surroundings:
    return Surroundings(
        environment=environment,
        say=say,
        open_database=Database,
        database_failures=(DatabaseError,),
        further=_SAL,
    )


@cache
def _session() -> Session:
    """Return the script's use of SAL, which its first action of that begins."""
    return session_of(connect=Database, database_errors=(DatabaseError,))


_SAL: Final = tuple(
    actors_of("sal", FUNCTIONS.values(), _session, failures=(SalError,))
)


def _result(
    text: str,
    replacements: Mapping[str, str],
    cast: Cast,
    variables: MutableMapping[str, str],
) -> str:
    actions = parse(replace_all(text, replacements))
    check(actions, cast)
    return perform(actions, cast, variables)


def _text(path: str) -> str:
    data = Path(path).read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ParseError("the script is no UTF-8 text", line) from None


def _replacements(args: Sequence[str]) -> dict[str, str]:
    pairs = [arg.partition("=") for arg in args]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise ParseError(
                "an argument of a HeroScript is NAME=VALUE, which replaces @NAME,"
                f" ${{NAME}} and {{NAME}} in its text; {name!r} is none"
            )
    return {name: value for name, _, value in pairs}


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _say_nothing(text: str) -> None:
    """Take what a rehearsed script says."""


#: What the script of this process's job has, and who is there for it: made in the
#: zygote for all of them.
_JOB: Final = _around(os.environ, _say)
_ACTORS: Final = gather(_JOB)
#: The same where nobody hears anything.
_SILENCE: Final = _around(MappingProxyType({}), _say_nothing)
_UNHEARD: Final = gather(_SILENCE)
