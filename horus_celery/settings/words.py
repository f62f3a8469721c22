"""What is said of a wrong setting: where it stands, its name, what it must be."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from horus_celery.settings.lines import Place
from horus_celery.settings.values import OWN_EXECUTORS, SettingError, Settings


def complaint(error: ValidationError, where: Callable[[Place], object]) -> str:
    """Return what is said of the first thing that is wrong; never a value.

    Args:
        error: What is wrong with the settings.
        where: Says where the value at a place was chosen.
    """
    found = error.errors(include_url=False, include_input=False)
    # What is missing has mostly been written in another way.
    unknown = (one for one in found if one["type"] == "extra_forbidden")
    first = next(unknown, found[0])
    kind, place = first["type"], first["loc"]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, SettingError):
        place = cause.place
    known, field_place, field = _follow(place)
    if kind == "extra_forbidden":
        hint = nearest(str(place[-1]), known)
        return f"{where(place)}: {shown(place)} is no setting{hint}"
    if kind == "missing":
        said = f"is missing: it must be {field.description}"
    elif kind == "value_error":
        return f"{where(place)}: {shown(place)} {cause}"
    else:
        said = f"must be {field.description}"
    return f"{where(place)}: {shown(field_place)} {said}"


def shown(place: Place) -> str:
    """Write a place as in `actors[2].concurrency`; a secret is what it stands in.

    A command of the site is called as a file calls it, where people write them.
    """
    if place[0] == OWN_EXECUTORS and len(place) > 1:
        place = ("executors", *place[1:])
    if place[-1] == "secret":
        place = place[:-1]
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in place]
    return "".join(steps).removeprefix(".")


def nearest(key: str, known: Iterable[str]) -> str:
    """Return a question that names the known word that looks most like this one."""
    close = difflib.get_close_matches(key, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _follow(place: Place) -> tuple[Iterable[str], Place, FieldInfo]:
    """Return the names known where a place ends, and the last field on the way."""
    model: type[BaseModel] = Settings
    found: Place = ()
    field = FieldInfo()
    is_item = False
    for index, step in enumerate(place):
        if is_item or isinstance(step, int):
            model, is_item = _item(field, model), False
        elif step in model.model_fields:
            found, field = place[: index + 1], model.model_fields[step]
            # What follows is a name that somebody chose, whatever it is called.
            is_item = get_origin(field.annotation) is Mapping
    return model.model_fields, found, field


def _item(field: FieldInfo, model: type[BaseModel]) -> type[BaseModel]:
    """Return the model of which a field holds a list or a table, else the given one."""
    for kind in get_args(field.annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return model
