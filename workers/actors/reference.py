"""How `docs/heroscript.md` shows the actors: a table with a row for each of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from workers.actors.actor import Actor, Wanted

_HEAD = ("action", "parameters", "what it does")


def table(actors: Iterable[Actor]) -> str:
    """Return the table as Markdown."""
    rows = [_HEAD, ("---",) * len(_HEAD), *map(_row, actors)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(actor: Actor) -> tuple[str, ...]:
    does = actor.doc if actor.refusal is None else f"Refused: {actor.refusal}."
    return (
        f"`{actor.name}`",
        ", ".join([*map(_shown, actor.wanted), *_others(actor)]) or "-",
        does.replace("\n", " ").replace("|", "\\|"),
    )


def _others(actor: Actor) -> list[str]:
    return [] if actor.others is None else [actor.others]


def _shown(one: Wanted) -> str:
    names = f"`{one.name}`" if one.alias is None else f"`{one.name}` or `{one.alias}`"
    told = f" ({one.doc})" if one.doc else ""
    if one.is_required:
        return f"{names}{told}"
    default = _default(one.default)
    return f"[{names}{default}]{told}"


def _default(value: object) -> str:
    match value:
        case None | () | "":
            return ""
        case bool():
            return f" = {str(value).lower()}"
        case timedelta():
            return f" = {value // timedelta(seconds=1)}"
        case _:
            return f" = {value}"
