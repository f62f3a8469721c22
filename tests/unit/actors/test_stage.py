"""A script is checked as a whole, and then done in the order of its text."""

from __future__ import annotations

from datetime import timedelta

import pytest

from workers.actors.actor import (
    BOOL,
    INTEGER,
    LIST,
    SECONDS,
    SOME,
    TEXT,
    Actor,
    ActorError,
    Cast,
    Wanted,
)
from workers.actors.stage import text_of
from workers.heroscript.errors import (
    ActionError,
    ParameterError,
    UnknownActionsError,
)


@pytest.fixture
def done():
    return []


@pytest.fixture
def cast(done):
    """Actors of which each notes what it was given."""

    def note(**values):
        done.append(values)
        return values.get("text")

    def fail(**_):
        raise ActorError("no way")

    wanted = (
        Wanted(name="text", kind=TEXT, doc="what is noted"),
        Wanted(name="count", kind=INTEGER, default=1, alias="n"),
        Wanted(name="flag", kind=BOOL, default=False),
        Wanted(name="items", kind=LIST, default=()),
        Wanted(name="some", kind=SOME, default=()),
        Wanted(name="wait", kind=SECONDS, default=timedelta()),
    )
    return Cast.of(
        [
            Actor(name="log.note", doc="Note.", wanted=wanted, call=note),
            Actor(name="log.fail", doc="Fail.", call=fail),
            Actor(name="log.never", doc="No.", call=note, refusal="nobody may"),
            Actor(name="log.break", doc="Break.", call=lambda: 1 // 0),
            Actor(name="log.object", doc="Return.", call=lambda: {"a": [1, None]}),
        ]
    )


def test_actions_are_done_in_the_order_of_the_text(play, cast, done):
    play("!!log.note text:1\n!!log.object\n!!log.note text:2\n", cast)
    assert [one["text"] for one in done] == ["1", "2"]


def test_each_value_is_of_its_kind(play, cast, done):
    play("!!log.note text:1 n:2 flag:yes items:a,b some:c wait:60", cast)
    assert done == [
        {
            "text": "1",
            "count": 2,
            "flag": True,
            "items": ("a", "b"),
            "some": ("c",),
            "wait": timedelta(minutes=1),
        }
    ]


def test_unknown_actions_are_all_listed_and_nothing_is_done(play, cast, done):
    with pytest.raises(UnknownActionsError) as refused:
        play("!!log.note text:1\n!!log.not text:2\n\n!!x.y\n!important", cast)
    assert str(refused.value).splitlines() == [
        "nobody does log.not (line 2); did you mean log.note?",
        "nobody does x.y (line 4)",
        "nobody does core.important (line 5)",
    ]
    assert done == []


@pytest.mark.parametrize(
    ("action", "line", "told"),
    [
        ("!!log.note", 2, "log.note lacks text: what is noted"),
        (
            "!!log.note\n  text:1\n  cont:1",
            4,
            "knows no parameter cont; did you mean",
        ),
        ("!!log.note\n  text:1\n  xyz:1", 4, "xyz; it takes text, count, flag, items"),
        ("!!log.note text:1\n  count:many", 3, "count of log.note must be a whole num"),
        ("!!log.note text:1 flag:on", 2, "flag of log.note must be true or false"),
        ("!!log.note text:1 flag:''", 2, "must be true or false, not ''"),
        ("!!log.note text:1 wait:-1", 2, "must be a whole number of seconds"),
        ("!!log.note text:1 some:'[]'", 2, "one item, or several"),
        ("!!log.note text:1 count:1 n:2", 2, "is given count twice, as n, too"),
        ("!!log.note\n  word\n  text:1", 3, "takes no word without a key"),
        ("!!log.fail x:1", 2, "log.fail knows no parameter x; it takes nothing"),
        ("!!log.note text:1 result:''", 2, "names no variable"),
        ("!!log.never", 2, "log.never: nobody may"),
    ],
)
def test_what_an_actor_cannot_take_is_refused_before_anything_is_done(
    play, cast, done, action, line, told
):
    with pytest.raises((ParameterError, ActionError)) as refused:
        play(f"!!log.note text:first\n{action}", cast)
    assert told in str(refused.value)
    assert refused.value.line == line
    assert done == []


def test_an_action_that_fails_ends_the_script_with_its_line(play, cast, done):
    with pytest.raises(ActionError, match=r"log.fail: no way \(line 2\)"):
        play("!!log.note text:1\n!!log.fail\n!!log.note text:2", cast)
    assert [one["text"] for one in done] == ["1"]


def test_a_fault_of_ours_is_not_called_a_failure_of_the_action(play, cast):
    with pytest.raises(ZeroDivisionError):
        play("!!log.break", cast)


def test_a_result_becomes_a_variable_for_later_values(play, cast, done):
    note = "!!log.note text:'{Got It}'"
    result = play(f"{note}\n!!log.object result:got-it\n{note}", cast)
    assert [one["text"] for one in done] == ["{Got It}", '{"a": [1, null]}']
    assert result == '{"a": [1, null]}'


def test_a_value_with_a_variable_is_judged_when_that_is_set(play, cast, done):
    play("!!log.note text:7 result:n\n!!log.note text:x count:{n}", cast)
    assert done[1]["count"] == 7
    with pytest.raises(ParameterError, match=r"count of log.note .*'7x' \(line 3\)"):
        play("!!log.note text:7x result:n\n!!log.note text:x\n  count:{n}", cast)


@pytest.mark.parametrize(
    ("result", "text"),
    [("as it is", "as it is"), (None, ""), (7, "7"), (["é", True], '["é", true]')],
)
def test_a_result_is_a_text(result, text):
    assert text_of(result) == text


def test_two_actors_of_one_name_are_refused():
    one, other = (Actor(name="a.b", doc="", call=dict) for _ in range(2))
    with pytest.raises(ValueError, match=r"two actors are called a\.b"):
        Cast.of([one, other])
