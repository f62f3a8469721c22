"""When a program that ended by itself is started again, and when it is given up."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from horus_celery.processes.policy import Policy, Series

POLICY = Policy()
MINUTE = timedelta(minutes=1)
#: How long a program lived, each time.
LIVES = st.lists(
    st.timedeltas(min_value=timedelta(), max_value=timedelta(minutes=2)), max_size=30
)


def run(lives):
    """Let a program live and end so often, until it is given up; return the waits."""
    series, at, waits = Series(), timedelta(), []
    for life in lives:
        series = POLICY.after_end(series, born_at=at, ended_at=at + life)
        wait = POLICY.wait(series)
        waits.append(wait)
        if wait is None:
            break
        at += life + wait
    return waits


def seconds(*numbers):
    return [timedelta(seconds=number) for number in numbers]


def test_the_first_waits_are_those_that_are_promised():
    lives = seconds(*[30] * 8)
    assert run(lives) == seconds(1, 2, 4, 8, 16, 32, 60, 60)


def test_one_that_ends_at_once_is_given_up_at_its_fifth_end():
    assert run(seconds(*[0] * 9)) == [*seconds(1, 2, 4, 8), None]


def test_five_ends_within_a_minute_are_given_up_and_five_in_more_are_not():
    # Between the first end and the fifth lie four lives and 1 + 2 + 4 + 8 seconds.
    assert run(seconds(0, *[11.25] * 4))[-1] is None
    assert None not in run(seconds(0, *[11.26] * 4))


@given(LIVES)
def test_it_waits_between_a_second_and_a_minute_and_longer_after_each_end(lives):
    waits = [wait for wait in run(lives) if wait is not None]
    assert all(POLICY.first <= wait <= POLICY.longest for wait in waits)
    for (before, after), life in zip(pairwise(waits), lives[1:], strict=False):
        if life < POLICY.long_life:
            assert after == min(2 * before, POLICY.longest)


@given(LIVES)
def test_after_a_long_life_it_begins_anew(lives):
    for wait, life in zip(run(lives), lives, strict=False):
        if life >= POLICY.long_life:
            assert wait == POLICY.first


@given(LIVES)
def test_it_is_given_up_if_and_only_if_it_ended_five_times_within_a_minute(lives):
    ends: list[timedelta] = []
    at, series = timedelta(), Series()
    for life in lives:
        at += life
        if life >= POLICY.long_life:
            ends = []
        ends.append(at)
        series = POLICY.after_end(series, born_at=at - life, ended_at=at)
        wait = POLICY.wait(series)
        has_ended_often = len(ends) >= 5 and ends[-1] - ends[-5] <= MINUTE
        assert (wait is None) == has_ended_often
        at += wait or timedelta()


@given(st.integers(min_value=1, max_value=10**9))
def test_however_often_it_ended_the_wait_is_found_at_once(length):
    wait = POLICY.wait(Series(length=length))
    assert wait is not None
    assert wait <= POLICY.longest
