"""Which value of Python is which of Rhai, both ways."""

from __future__ import annotations

from enum import IntEnum, StrEnum

import pytest

from tests.unit.rhai.engine import horus_rhai, run


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


SAME = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    1.5,
    float("inf"),
    "",
    "äö朝\0",
    b"",
    b"\x00\xff",
    [],
    [1, [2, [3]]],
    {},
    {"a": {"b c": [None]}},
    range(2, 5),
    range(0),
]

CHANGED = [
    ((1, (2,)), [1, [2]]),
    (bytearray(b"ab"), b"ab"),
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    (range(1, 5, 1), range(1, 5)),
]

TYPES: list[tuple[object, str]] = [
    (None, "()"),
    (True, "bool"),
    (1, "i64"),
    (1.0, "f64"),
    ("x", "string"),
    (b"x", "blob"),
    ([], "array"),
    ((), "array"),
    ({}, "map"),
    (range(3), "range"),
    (Colour, "object"),
]

REFUSED = [
    (2**63, OverflowError, "64 bits"),
    (-(2**63) - 1, OverflowError, "64 bits"),
    ({1: 2}, TypeError, "a key of a Rhai map is a string, not of type int"),
    (range(0, 9, 2), ValueError, "step 1"),
    ("\ud800", UnicodeEncodeError, "surrogates"),
]


def nested(levels):
    value: list[object] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize("value", SAME, ids=repr)
def test_a_value_comes_back_as_it_went(value):
    back = run("x", variables={"x": value})
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(("value", "expected"), CHANGED, ids=repr)
def test_a_value_without_an_equal_comes_back_as_the_nearest(value, expected):
    back = run("x", variables={"x": value})
    assert back == expected
    assert type(back) is type(expected)


@pytest.mark.parametrize(("value", "name"), TYPES, ids=repr)
def test_a_script_sees_its_own_types(value, name):
    assert run("type_of(x)", variables={"x": value}) == name


@pytest.mark.parametrize(("value", "error", "text"), REFUSED, ids=repr)
def test_what_has_no_form_in_rhai_is_refused_as_a_variable(value, error, text):
    with pytest.raises(error, match=text):
        run("1", variables={"x": value})


@pytest.mark.parametrize(("value", "error", "text"), REFUSED, ids=repr)
def test_and_as_what_a_function_returns(value, error, text):
    with pytest.raises(error, match=text):
        run("f()", {"f": lambda: value})


@pytest.mark.parametrize(
    ("script", "kind"),
    [("|x| x", "function"), ('Fn("f")', "function"), ("timestamp()", "timestamp")],
)
def test_what_cannot_leave_its_script_is_named(script, kind):
    with pytest.raises(
        horus_rhai.RhaiValueError, match=f"a {kind} cannot leave its script"
    ):
        run(script)


def test_characters_are_strings_and_bytes_of_blobs_are_integers():
    assert run("'x'") == "x"
    assert run("let o = []; for b in blob(2, 7) { o.push(b) } o") == [7, 7]


def test_values_nest_64_deep_and_no_deeper():
    assert run("x", variables={"x": nested(64)}) == nested(64)
    with pytest.raises(ValueError, match="more than 64 deep"):
        run("1", variables={"x": nested(65)})
    grow = "let a = []; for i in 0..N { a = [a] } a"
    assert run(grow.replace("N", "63")) == nested(64)
    with pytest.raises(ValueError, match="more than 64 deep"):
        run(grow.replace("N", "64"))


def test_a_list_within_itself_is_refused():
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="more than 64 deep"):
        run("1", variables={"x": endless})


def test_a_script_changes_its_own_copy():
    mine = {"items": [1]}
    script = "x.items.push(2); x.items"
    assert run(script, variables={"x": mine}) == [1, 2]
    assert mine == {"items": [1]}


@pytest.mark.parametrize("name", ["", "1x", "a b", "ä", "_", "let", "this", "print"])
def test_a_name_that_no_script_can_say_is_refused(name):
    with pytest.raises(ValueError, match="Rhai"):
        run("1", variables={name: 1})
    with pytest.raises(ValueError, match="Rhai"):
        horus_rhai.Engine({}, names={name: 1})
    with pytest.raises(ValueError, match="Rhai"):
        horus_rhai.Engine({name: len})


def test_names_are_seen_everywhere_and_are_constant():
    names = {"LIMIT": 5}
    assert run("fn f() { LIMIT + 1 } f() + LIMIT", names=names) == 11
    assert run("[1].map(|x| x + LIMIT)", names=names) == [6]
    assert run("let f = |x| x + LIMIT; fn g(f) { f.call(1) } g(f)", names=names) == 6
    assert run("fn f() { [1].map(|x| x + LIMIT) } f()", names=names) == [6]
    for script in ("LIMIT = 6", "LIMIT += 1", "fn f() { LIMIT = 6 } f()"):
        with pytest.raises(horus_rhai.RhaiError, match="constant LIMIT"):
            run(script, names=names)
    assert run("let LIMIT = 7; LIMIT += 1; LIMIT", names=names) == 8
    assert run("fn f(LIMIT) { LIMIT } f(9)", names=names) == 9
    assert run("LIMIT", names=names, variables={"LIMIT": 1}) == 1


def test_one_run_leaves_no_variable_to_the_next():
    engine = horus_rhai.Engine({})
    assert engine.run(engine.compile("let x = 1; x")) == 1
    with pytest.raises(horus_rhai.RhaiError, match="Variable not found: x"):
        engine.run(engine.compile("x"))
