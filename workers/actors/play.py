"""The actors `play` and `session`: what a script says, and its variables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping

from workers.actors.actor import TEXT, Actor, Wanted
from workers.heroscript.names import name_fix


def play_actors(say: Callable[[str], None]) -> Iterator[Actor]:
    """Yield the actors that say something."""

    def echo(content: str) -> str:
        say(content)
        return content

    yield Actor(
        name="play.echo",
        doc="Write a line to standard output; the result is the same text.",
        wanted=(Wanted(name="content", kind=TEXT, doc="what is written"),),
        call=echo,
    )
    yield Actor(
        name="play.include",
        doc="Refused.",
        wanted=(),
        call=_nothing,
        refusal=(
            "a job is its signed text and nothing else: put what you would include"
            " into the script"
        ),
    )


def session_actors(variables: MutableMapping[str, str]) -> Iterator[Actor]:
    """Yield the actors that set variables."""

    def env_set(key: str, value: str) -> None:
        variables[name_fix(key)] = value

    def env_set_once(key: str, value: str) -> None:
        variables.setdefault(name_fix(key), value)

    wanted = (
        Wanted(name="key", kind=TEXT, doc="the name of the variable"),
        Wanted(name="value", kind=TEXT, doc="what it becomes", alias="val"),
    )
    yield Actor(
        name="session.env_set",
        doc="Set a variable: in every later value, `{KEY}` becomes this.",
        wanted=wanted,
        call=env_set,
    )
    yield Actor(
        name="session.env_set_once",
        doc="Set a variable unless it is set.",
        wanted=wanted,
        call=env_set_once,
    )


def _nothing() -> None:
    """Do what a refused action does."""
