"""Names in a text, and variables in a value, give way to what they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.heroscript.replacements import fill_in, replace_all, variables_in


@pytest.mark.parametrize(
    ("text", "replacements", "expected"),
    [
        ("@a ${a} {a} $a a", {"a": "1"}, "1 1 1 $a a"),
        ("@a $b [c] {d}", {"@a": "1", "$b": "2", "[c]": "3", "{d}": "4"}, "1 2 3 4"),
        ("@@a", {"@a": "1"}, "@1"),
        ("@ab @a", {"a": "1", "ab": "2"}, "2 1"),
        ("@a", {"a": "@b", "b": "no"}, "@b"),
        ("x@", {"": "no"}, "x@"),
        ("@a.b", {"a.b": "1"}, "1"),
    ],
)
def test_a_key_is_replaced_in_its_forms(text, replacements, expected):
    assert replace_all(text, replacements) == expected


@pytest.mark.parametrize(
    ("value", "filled"),
    [
        ("{NAME}", "n"),
        ("a{ na-me }{name}", "a{x}n"),
        ("{other} {} {{name}} {", "{other} {} {n} {"),
    ],
)
def test_a_variable_that_is_set_is_filled_in(value, filled):
    assert fill_in(value, {"name": "n", "na_me": "{x}"}) == filled


def test_the_variables_of_a_value_are_known_by_their_fixed_names():
    assert variables_in("{My Name} {x} {}") == {"my_name", "x"}


@given(st.text(alphabet="@{}$ab "), st.text(alphabet="@{}$ab "))
def test_without_variables_nothing_changes(text, value):
    assert replace_all(text, {}) == text
    assert fill_in(value, {}) == value
