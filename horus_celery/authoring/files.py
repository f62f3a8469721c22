"""How a workflow is written as a file, TOML or YAML; every key that it has is known.

What is wrong is told with the file, the line, the step, and what to write instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from horus_celery.authoring.drafts import (
    LIFETIME,
    TIMEOUT,
    StepDraft,
    StepResult,
    WorkflowDraft,
)
from horus_celery.authoring.schema import (
    KEYS,
    Defaults,
    FileEntry,
    StepEntry,
    model_at,
)
from horus_celery.authoring.scripts import executor_for, read_script, usual_executor
from horus_celery.authoring.texts import Written, read_values
from horus_celery.errors import ConfigurationError, WorkflowError
from horus_celery.settings.lines import Place
from horus_celery.settings.words import nearest


def read_file(path: Path) -> WorkflowDraft:
    """Read a workflow whose steps can be run.

    Raises:
        ConfigurationError: if the file, or a script that it names, is not as it must
            be; the text names file, line and step.
        WorkflowError: `workflow.*`, if the steps cannot be run, with the same.
    """
    written = read_values(path)
    values, places = _by_name(written)
    try:
        entry = FileEntry.model_validate(values)
    except ValidationError as error:
        raise _complaint(written, places, values, error) from None
    steps = tuple(
        _draft(name, one, entry.defaults, written, places)
        for name, one in entry.steps.items()
    )
    draft = WorkflowDraft(
        name=path.stem if entry.name is None else entry.name,
        steps=steps,
        max_parallel=entry.max_parallel,
        lifetime=entry.expires_in or LIFETIME,
    )
    try:
        draft.graph()
    except WorkflowError as error:
        raise _placed(written, places, steps, error) from None
    return draft


#: What must stand where pydantic finds a value of another kind.
_KINDS: Final[Mapping[str, str]] = {
    "tuple_type": 'a list, such as ["…"]',
    "dict_type": "a table",
    "int_type": "a whole number",
    "too_short": "a table with one entry at least",
}
#: Where each step really stands: by its name, or by its place in a list.
_Places = Mapping[str, Place]


def _by_name(written: Written) -> tuple[dict[str, Any], _Places]:
    """Return the file with its steps by their names, however it has them."""
    values = written.values
    if not isinstance(values, dict):
        raise ConfigurationError(
            f"{written.path} must be a table with the keys {', '.join(KEYS[FileEntry])}"
        )
    steps = values.get("steps")
    if isinstance(steps, dict):
        return values, {str(name): ("steps", str(name)) for name in steps}
    if not isinstance(steps, list):
        raise ConfigurationError(
            f"{written.where(('steps',))}: steps is missing or no table: write"
            " [steps.NAME] (TOML) or steps: with a name for each (YAML)"
        )
    found: dict[str, Any] = {}
    places: dict[str, Place] = {}
    for number, step in enumerate(steps):
        place = ("steps", number)
        name = step.get("name") if isinstance(step, dict) else None
        if not isinstance(name, str):
            raise ConfigurationError(
                f'{written.where(place)}: step {number + 1} has no name: add name = "…"'
            )
        if name in found:
            raise ConfigurationError(
                f"{written.where(place)}: the step {name} stands there twice: choose"
                " another name"
            )
        found[name] = {key: one for key, one in step.items() if key != "name"}
        places[name] = place
    return {**values, "steps": found}, places


def _draft(
    name: str, step: StepEntry, defaults: Defaults, written: Written, places: _Places
) -> StepDraft:
    payload, executor = _script(name, step, defaults, written, places)
    return StepDraft(
        name=name,
        payload=payload,
        executor=executor,
        depends_on=step.depends_on,
        when=step.when,
        on_failure=step.on_failure or defaults.on_failure or "fail",
        supervisor=step.supervisor or defaults.supervisor,
        runner=step.runner or defaults.runner,
        args=step.args,
        env_vars={**defaults.env, **step.env},
        secrets=_first(step.secrets, defaults.secrets, ()),
        inputs={key: one.source() for key, one in step.inputs.items()},
        needs=step.needs,
        timeout=step.timeout or defaults.timeout or TIMEOUT,
        limits={**defaults.limits.chosen(), **step.limits.chosen()},
        net=step.net or defaults.net,
        attempts=step.attempts or defaults.attempts or 1,
    )


def _first(*given: tuple[str, ...] | None) -> tuple[str, ...]:
    return next(one for one in given if one is not None)


def _script(
    name: str, step: StepEntry, defaults: Defaults, written: Written, places: _Places
) -> tuple[str, str]:
    """Return the script of a step, and the executor that runs it."""
    here = f"{written.where(places[name])}: the step {name}"
    if step.run is not None and step.file is None:
        return step.run, step.executor or defaults.executor or usual_executor(None)
    if step.file is not None and step.run is None:
        file = written.path.parent / step.file
        by_file = step.executor or executor_for(file) or defaults.executor
        try:
            return read_script(file), by_file or usual_executor(file)
        except ConfigurationError as error:
            at = written.where((*places[name], "file"))
            raise ConfigurationError(f"{at}: the step {name}: {error.detail}") from None
    raise ConfigurationError(f"{here} needs one script: write run or file")


def _complaint(
    written: Written, places: _Places, values: object, error: ValidationError
) -> ConfigurationError:
    """Say what is wrong with the first thing that is, and never show its value."""
    first = error.errors(include_url=False, include_input=False)[0]
    is_key = "[key]" in first["loc"]
    place = tuple(part for part in first["loc"] if part != "[key]")
    here = f"{written.where(_real(place, places))}: {_spoken(place)}"
    if first["type"] == "extra_forbidden":
        keys = KEYS[model_at(place)]
        hint = nearest(str(place[-1]), keys)
        return ConfigurationError(
            f"{here} is no key{hint}; the keys are {', '.join(keys)}"
        )
    is_unquoted = (
        not isinstance(place[-1], str)
        if is_key
        else _is_unquoted(values, place, first["type"])
    )
    quoted = "; put it in quotes" if is_unquoted else ""
    return ConfigurationError(f"{here}: {_said(first, place)}{quoted}")


def _said(wrong: ErrorDetails, place: Place) -> str:
    """Say what a value must be in the words of a file, not in those of Python."""
    match wrong["type"]:
        case "model_type":
            return f"must be a table with the keys {', '.join(KEYS[model_at(place)])}"
        case kind if kind in _KINDS:
            return f"must be {_KINDS[kind]}"
        case _:
            return wrong["msg"].replace("Input should be", "must be")


def _real(place: Place, places: _Places) -> Place:
    """Return where a place stands in the file."""
    match place:
        case ("steps", name, *rest) if str(name) in places:
            return (*places[str(name)], *rest)
        case _:
            return place


def _spoken(place: Place) -> str:
    """Write a place for a person: the step first, then the key in it."""
    match place:
        case ("steps", name, *rest) if rest:
            return f"the step {ascii(name)[1:-1]}: {_joined(rest)}"
        case _:
            return _joined(place)


def _joined(place: tuple[str | int, ...] | list[str | int]) -> str:
    return ascii(".".join(map(str, place)))[1:-1]


def _is_unquoted(values: object, place: Place, kind: str) -> bool:
    """Say whether a text is wanted where another kind of value stands."""
    value: Any = values
    for part in place:
        try:
            value = value[part]
        except (LookupError, TypeError):
            return False
    wants_text = kind in {"string_type", "form"}
    return wants_text and not isinstance(value, str | dict | list | None)


def _placed(
    written: Written,
    places: _Places,
    steps: tuple[StepDraft, ...],
    error: WorkflowError,
) -> WorkflowError:
    place = places[error.names[0]] if error.names else ("steps",)
    hint = ""
    if error.reason == "workflow.unknown_step":
        waiting, missing = error.names[0], error.names[-1]
        step = next(one for one in steps if one.name == waiting)
        place = (*place, *_names(step, missing))
        hint = nearest(missing, places)
    return WorkflowError(
        error.reason,
        f"{written.where(place)}: {error.detail}{hint}",
        names=error.names,
    )


def _names(step: StepDraft, other: str) -> Place:
    """Return where a step names another one."""
    if other in step.depends_on:
        return ("depends_on",)
    sources = (
        key
        for key, one in step.inputs.items()
        if isinstance(one, StepResult) and one.step == other
    )
    return ("inputs", next(sources))
