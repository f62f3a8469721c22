"""A name that was written in any way becomes one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.heroscript.names import name_fix

FIXED = {
    "Hello World": "hello_world",
    "my.file.MD": "my_file.md",
    "a--b": "a__b",
    "a.b.c": "a_b.c",
    "a_-b": "a_b",
    ".hidden": "_hidden",
    "a-_b": "a__b",
    "x#y": "x",
    "A:B;C": "a_b_c",
    "__a__": "_a_",
    "": "",
    " a ": "a",
    "é": "",
    "dir.d/file": "dir_dfile",
    "end.": "end_",
}


@pytest.mark.parametrize(("name", "fixed"), FIXED.items())
def test_a_name_becomes_this_one(name, fixed):
    assert name_fix(name) == fixed


@given(st.text(alphabet="aB9_-;:. é#/"))
def test_but_for_an_extension_only_these_letters_are_left(name):
    stem = name_fix(name).partition(".")[0]
    assert set(stem) <= set("ab9_")
