"""A job takes so much memory of its runner and no more."""

from __future__ import annotations

import pytest

from workers.herodb.budget import Budget, TooMuch


def test_all_accounts_together_hold_no_more_than_there_is():
    budget = Budget(10)
    one, other = budget.open(), budget.open()
    one.hold(6)
    with pytest.raises(TooMuch):
        other.hold(5)
    other.hold(4)
    with pytest.raises(TooMuch):
        one.hold(7)
    one.hold(2)
    other.hold(8)


def test_what_was_held_is_given_back():
    budget = Budget(10)
    one, other = budget.open(), budget.open()
    with one.released():
        one.hold(10)
    other.hold(10)
    other.hold(10)
