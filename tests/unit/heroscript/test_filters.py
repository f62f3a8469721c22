"""A filter finds actions by who does what, and puts them in an order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from workers.heroscript.filters import filtersort, find
from workers.heroscript.reading import parse

ACTIONS = parse("!!web.start\n!!web.stop\n!!core.note\n!!db.start")


def found(wanted):
    return [action.full_name for action in find(ACTIONS, wanted)]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("web.start", ["web.start"]),
        ("web:start", ["web.start"]),
        ("WEB.Start", ["web.start"]),
        ("note", ["core.note"]),
        ("web.", ["web.start", "web.stop"]),
        ("web.*", ["web.start", "web.stop"]),
        ("WEB.*", ["web.start", "web.stop"]),
        ("start", []),
        (".start", ["web.start", "db.start"]),
        ("*.start", ["web.start", "db.start"]),
        ("db.*,web.st?rt", ["web.start", "db.start"]),
        ("*.*", ["web.start", "web.stop", "core.note", "db.start"]),
        (".", ["web.start", "web.stop", "core.note", "db.start"]),
        ("W*.start", []),
        ("[wd]*.start", ["web.start", "db.start"]),
        ("[^w]*.start", ["db.start"]),
        (" db . start ", ["db.start"]),
    ],
)
def test_a_filter_finds_these(wanted, names):
    assert found(wanted) == names


def test_what_is_done_is_found_only_if_it_is_asked_for():
    actions = [replace(ACTIONS[0], done=True), *ACTIONS[1:]]
    assert len(find(actions, "*.*")) == 3
    assert len(find(actions, "*.*", include_done=True)) == 4


def test_each_action_gets_the_lowest_number_that_finds_it():
    for _ in range(2):
        placed = filtersort(ACTIONS, {2: "web.*", 1: "*.start", 49: "web.stop"})
        assert [(one.priority, one.full_name) for one in placed] == [
            (1, "web.start"),
            (1, "db.start"),
            (2, "web.stop"),
            (50, "core.note"),
        ]


@pytest.mark.parametrize("number", [-1, 50])
def test_a_number_that_no_filter_may_have_is_refused(number):
    with pytest.raises(ValueError, match="0 to 49"):
        filtersort(ACTIONS, {number: "*.*"})
