"""A clock that was set is not believed at once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from horus_celery.clock import Steadiness

HOUR = timedelta(hours=1)


class Watched:
    """A clock, the machine's own count of seconds, and how steady the one is."""

    def __init__(self, clock):
        self.clock = clock
        self.seconds = 1000.0
        self.steadiness = Steadiness(clock, lambda: self.seconds)

    def passes(self, seconds, *, clock_by=0.0):
        """Let time pass, and look."""
        self.seconds += seconds
        self.clock.advance(seconds=seconds + clock_by)
        return self.steadiness.lasts()


@pytest.fixture
def watched(clock):
    return Watched(clock)


def test_a_clock_that_goes_on_is_steady_since_it_is_watched(watched):
    for number in range(1, 100):
        # One that is brought into line by and by was not set.
        assert watched.passes(2, clock_by=0.1) == timedelta(seconds=2 * number)


@pytest.mark.parametrize("jump", [3600, -3600, 10 * 365 * 86400, -86400, 31, -33])
def test_a_clock_that_was_set_is_steady_from_then_on_only(watched, jump):
    watched.passes(3600)
    assert watched.passes(2, clock_by=jump) == timedelta(0)
    assert watched.passes(2) == timedelta(seconds=2)
    # Setting it right is setting it, too.
    assert watched.passes(2, clock_by=-jump) == timedelta(0)


def test_it_is_counted_anew_when_it_is_told_to(watched):
    assert watched.passes(3600) == HOUR
    watched.steadiness.begin_anew()
    assert watched.passes(5) == timedelta(seconds=5)
