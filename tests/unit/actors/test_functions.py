"""A function of a table is an actor that reads text as the function's kinds."""

from __future__ import annotations

import inspect
from datetime import timedelta
from pathlib import PurePosixPath
from types import SimpleNamespace

import pytest

from workers.actors.actor import Cast
from workers.actors.functions import actors_of
from workers.heroscript.errors import ActionError, ParameterError


class Failure(Exception):
    """What a function raises that could not do it."""


def whole(value):
    if not isinstance(value, int) or value < 0:
        raise ValueError("must be a number that is not negative")
    return value


def as_it_is(value):
    return value


READERS = {"integer": whole, "seconds": lambda value: timedelta(seconds=value)}


def parameter(name, kind="string", default=inspect.Parameter.empty):
    read = READERS.get(kind, as_it_is)
    return SimpleNamespace(
        name=name, kind=SimpleNamespace(name=kind, read=read), default=default
    )


def function(name, call, *parameters):
    return SimpleNamespace(name=name, parameters=parameters, doc="Do.", call=call)


def cast(call, *parameters):
    functions = [function("do", call, *parameters)]
    return Cast.of(actors_of("sal", functions, lambda: "here", failures=[Failure]))


@pytest.fixture
def given():
    return []


def test_a_function_is_called_with_its_surroundings_and_values(play, given):
    actors = cast(
        lambda *values: given.append(values),
        parameter("path", "path"),
        parameter("count", "integer", 5),
        parameter("wait", "seconds", timedelta(0)),
        parameter("is_so", "bool", False),  # noqa: FBT003 - a default
        parameter("items", "array of strings", None),
        parameter("pairs", "map of strings", None),
    )
    play("!!sal.do path:'a b'", actors)
    play("!!sal.do path:x wait:1.5 is_so:true items:a,b pairs:'A=1, B=x=y'", actors)
    pairs = {"A": "1", "B": "x=y"}
    assert given == [
        ("here", "a b", 5, timedelta(0), False, None, None),
        ("here", "x", 5, timedelta(seconds=1.5), True, ["a", "b"], pairs),
    ]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("count:many", "must be a whole number from"),
        ("count:-1", "must be a number that is not negative, not '-1'"),
        ("count:1 pairs:x", "must be NAME=VALUE"),
        ("", "sal.do lacks count"),
    ],
)
def test_what_the_function_does_not_take_is_refused(play, given, value, told):
    actors = cast(
        lambda *values: given.append(values),
        parameter("count", "integer"),
        parameter("pairs", "map", None),
    )
    with pytest.raises(ParameterError) as refused:
        play(f"!!sal.do {value}", actors)
    assert told in str(refused.value)
    assert given == []


@pytest.mark.parametrize("error", [Failure("no such thing"), OSError("no such thing")])
def test_what_a_function_cannot_do_is_told_with_the_line(play, error):
    def fail(_):
        raise error

    with pytest.raises(ActionError, match=r"sal.do: no such thing \(line 1\)"):
        play("!!sal.do", cast(fail))


class Ran:
    """An object, as a function may return it."""

    table = SimpleNamespace(
        properties=(
            SimpleNamespace(name="code", get=lambda ran: ran.code),
            SimpleNamespace(name="where", get=lambda _: PurePosixPath("/a")),
        )
    )
    code = 3


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (PurePosixPath("/a/b"), "/a/b"),
        ((PurePosixPath("/a"), 1), '["/a", 1]'),
        ({1: PurePosixPath("/a")}, '{"1": "/a"}'),
        (Ran(), '{"code": 3, "where": "/a"}'),
        (None, ""),
    ],
)
def test_of_a_result_a_script_gets_what_can_be_written(play, result, text):
    assert play("!!sal.do", cast(lambda _: result)) == text


@pytest.mark.parametrize(
    "wrong", [parameter("x", "closure"), parameter("result"), parameter("id")]
)
def test_a_function_that_no_script_could_call_is_refused(wrong):
    with pytest.raises(ValueError, match="no script can give"):
        cast(print, wrong)
