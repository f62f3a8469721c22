"""`horus sal`: the functions that scripts may call, in the terminal."""

from __future__ import annotations

import json

import pytest

from workers.sal import FUNCTIONS, MODULES


def test_every_function_is_shown_with_its_signature(horus):
    told = horus("sal", "docs")
    assert told.code == 0
    assert all(one.signature in told.out for one in FUNCTIONS.values())


def test_one_module_is_shown_alone(horus):
    told = horus("sal", "docs", "git")
    assert "git_clone(" in told.out
    assert "file_read(" not in told.out


def test_programs_are_given_json(horus):
    told = json.loads(horus("sal", "docs", "--json").out)
    assert [one["module"] for one in told] == [one.name for one in MODULES]
    (git,) = json.loads(horus("sal", "docs", "git", "--json").out)
    assert git["functions"][1]["parameters"] == [
        {"name": "url", "kind": "string"},
        {"name": "path", "kind": "path", "default": "()"},
    ]


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("nope", ""),
        ("--markdown", ""),
        ("gti", " (did you mean git?)"),
        ("Redis", " (did you mean redis?)"),
    ],
)
def test_a_module_that_is_not_there_is_told_with_those_that_are(horus, word, hint):
    told = horus("sal", "docs", "--", word)
    names = ", ".join(one.name for one in MODULES)
    assert (told.code, told.out) == (1, "")
    assert told.err == (
        f"horus: there is no module {word!r} of SAL{hint}: there are {names}\n"
    )
