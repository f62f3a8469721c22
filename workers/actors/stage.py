"""How a script is run: checked as a whole first, then in the order of the text."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final

from workers.actors.actor import Actor, Cast, Wanted, nearest
from workers.heroscript.errors import (
    ActionError,
    ParameterError,
    UnknownActionsError,
)
from workers.heroscript.model import Action
from workers.heroscript.names import name_fix
from workers.heroscript.parameters import Parameter
from workers.heroscript.replacements import fill_in, variables_in

#: The parameter of every action that names the variable which gets its result.
RESULT: Final = "result"
#: Characters of a wrong value that are shown.
_SHOWN: Final = 40


def check(actions: Sequence[Action], cast: Cast) -> None:
    """See that there is somebody for each action, who can take what it gives.

    Values in which a variable of the script stands are judged when it is set.

    Raises:
        UnknownActionsError: listing all that nobody does.
        ParameterError: for the first that gives something else than is wanted.
        ActionError: for the first that no script may use.
    """
    if unknown := [one for one in actions if cast.find(one.full_name) is None]:
        raise UnknownActionsError(
            "\n".join(_unknown(one, cast) for one in unknown), unknown[0].line
        )
    for action in actions:
        actor = cast.actors[action.full_name]
        if actor.refusal is not None:
            raise ActionError(f"{actor.name}: {actor.refusal}", action.line)
        _check_given(action, actor)


def perform(
    actions: Sequence[Action], cast: Cast, variables: MutableMapping[str, str]
) -> str:
    """Do all actions, which were checked, and return the result of the last as text.

    Raises:
        ActionError: if one could not be done; those before it are.
        ParameterError: if a variable made a value of it something else than is wanted.
    """
    told = ""
    for action in actions:
        actor = cast.actors[action.full_name]
        values = _values(action, actor, variables)
        try:
            told = text_of(actor.call(**values))
        except actor.failures as error:
            raise ActionError(f"{actor.name}: {error}", action.line) from None
        if (named := action.params.find(RESULT)) is not None:
            variables[name_fix(named.value)] = told
    return told


def text_of(result: object) -> str:
    """Write a result: a text as it is, None as an empty one, all else as JSON."""
    if result is None:
        return ""
    if isinstance(result, str):
        return result
    return json.dumps(result, ensure_ascii=False)


def _unknown(action: Action, cast: Cast) -> str:
    near = cast.nearest(action.full_name)
    hint = "" if near is None else f"; did you mean {near}?"
    return f"nobody does {action.full_name} (line {action.line}){hint}"


def _check_given(action: Action, actor: Actor) -> None:
    if action.params.arguments:
        word = action.params.arguments[0]
        said = f"{actor.name} takes no word without a key, and is given {word.word!r}"
        raise ParameterError(f"{said}; {_takes(actor)}", word.line)
    given: dict[str, Parameter] = {}
    for one in action.params:
        if one.key == RESULT:
            if not name_fix(one.value):
                said = f"{RESULT} of {actor.name} names no variable"
                raise ParameterError(said, one.line)
            continue
        wanted = actor.find(one.key)
        if wanted is None:
            if actor.others is None:
                raise ParameterError(_unwanted(one.key, actor), one.line)
            continue
        if wanted.name in given:
            said = f"{actor.name} is given {wanted.name} twice, as {wanted.alias}, too"
            raise ParameterError(said, one.line)
        given[wanted.name] = one
        if not variables_in(one.value):
            _read(one, one.value, wanted, actor)
    for wanted in actor.wanted:
        if wanted.is_required and wanted.name not in given:
            said = f"{actor.name} lacks {wanted.name}: {wanted.doc or wanted.kind.name}"
            raise ParameterError(said, action.line)


def _values(
    action: Action, actor: Actor, variables: Mapping[str, str]
) -> dict[str, object]:
    values = {one.name: one.default for one in actor.wanted}
    others: dict[str, str] = {}
    for one in action.params:
        wanted = actor.find(one.key)
        text = fill_in(one.value, variables)
        if wanted is not None:
            values[wanted.name] = _read(one, text, wanted, actor)
        elif one.key != RESULT:
            others[one.key] = text
    return values if actor.others is None else {**values, "others": others}


def _read(one: Parameter, text: str, wanted: Wanted, actor: Actor) -> object:
    try:
        return wanted.kind.read(text)
    except ValueError as error:
        shown = f"{text[:_SHOWN]}…" if len(text) > _SHOWN else text
        said = f"{one.key} of {actor.name} must be {error}, not {shown!r}"
        raise ParameterError(said, one.line) from None


def _unwanted(key: str, actor: Actor) -> str:
    near = nearest(key, [one.name for one in actor.wanted])
    hint = _takes(actor) if near is None else f"did you mean {near}?"
    return f"{actor.name} knows no parameter {key}; {hint}"


def _takes(actor: Actor) -> str:
    names = ", ".join(one.name for one in actor.wanted)
    return f"it takes {names}" if names else "it takes nothing"
