"""How often somebody may call, for any order of callers and any passing of time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.limits import MINUTE, Failures, TokenBuckets, neighbourhood

STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(0, 30, allow_subnormal=False)),
    max_size=200,
)


def at_times(steps):
    """Return who comes when: each step says how long behind the one before."""
    now = 0.0
    for who, pause in steps:
        now += pause
        yield who, now


class TestFailures:
    @given(STEPS)
    def test_in_no_minute_more_than_ten_of_one_address_count_as_mistakes(self, steps):
        failures = Failures()
        mistakes = [
            (who, now) for who, now in at_times(steps) if not failures.note(who, now)
        ]
        for who, now in mistakes:
            latest = [
                at for one, at in mistakes if one == who and now - MINUTE < at <= now
            ]
            assert len(latest) <= 10

    @given(STEPS)
    def test_who_waits_as_told_is_not_barred(self, steps):
        failures = Failures()
        for who, now in at_times(steps):
            wait = failures.note(who, now)
            assert 0 <= wait <= MINUTE
        if steps and wait:
            assert failures.note(who, now + wait + 1e-6) == 0

    @given(STEPS)
    def test_one_address_says_nothing_of_another(self, steps):
        together, alone = Failures(), {name: Failures() for name in "abc"}
        for who, now in at_times(steps):
            assert together.note(who, now) == alone[who].note(who, now)

    def test_a_whole_network_of_the_sixth_version_is_one_address(self):
        failures = Failures(limit=3)
        for number in range(3):
            assert failures.note(f"2001:db8::{number}", 0.0) == 0
        assert failures.note("2001:db8::ffff", 0.0) > 0
        assert failures.note("2001:db8:0:1::1", 0.0) == 0

    def test_only_so_many_addresses_are_remembered_the_latest_ones(self):
        failures = Failures(limit=1, remembered=3)
        for number in range(100):
            failures.note(f"10.0.0.{number}", 0.0)
        assert len(failures) == 3
        assert failures.note("10.0.0.99", 1.0) > 0
        assert failures.note("10.0.0.0", 1.0) == 0


class TestTokenBuckets:
    @given(STEPS, st.floats(0.1, 10), st.integers(1, 20))
    def test_in_no_time_more_is_taken_than_burst_and_rate_allow(
        self, steps, rate, burst
    ):
        buckets = TokenBuckets(rate=rate, burst=burst)
        taken = [
            (who, now) for who, now in at_times(steps) if not buckets.take(who, now)
        ]
        for who in "abc":
            times = [now for one, now in taken if one == who]
            for first, start in enumerate(times):
                for last, end in enumerate(times[first:], first):
                    assert last - first + 1 <= burst + (end - start) * rate + 1e-6

    @given(STEPS, st.floats(0.1, 10), st.integers(1, 20))
    def test_who_waits_as_told_gets_one(self, steps, rate, burst):
        buckets = TokenBuckets(rate=rate, burst=burst)
        for who, now in at_times(steps):
            wait = buckets.take(who, now)
            if wait:
                break
        else:
            return
        assert buckets.take(who, now + wait + 1e-6) == 0

    @given(STEPS)
    def test_one_caller_takes_nothing_from_another(self, steps):
        together = TokenBuckets(rate=1, burst=3)
        alone = {name: TokenBuckets(rate=1, burst=3) for name in "abc"}
        for who, now in at_times(steps):
            assert together.take(who, now) == alone[who].take(who, now)

    def test_after_a_rest_there_is_no_more_than_the_burst(self):
        buckets = TokenBuckets(rate=10, burst=2)
        assert [buckets.take("a", 1e9) > 0 for _ in range(4)] == [False] * 2 + [
            True
        ] * 2

    def test_a_clock_that_goes_back_gives_and_takes_nothing(self):
        buckets = TokenBuckets(rate=1, burst=1)
        assert buckets.take("a", 100.0) == 0
        assert buckets.take("a", 50.0) > 0
        assert buckets.take("a", 100.5) > 0
        assert buckets.take("a", 101.0) == 0

    def test_only_so_many_callers_are_remembered(self):
        buckets = TokenBuckets(rate=1, burst=1, remembered=3)
        for number in range(100):
            buckets.take(str(number), 0.0)
        assert len(buckets) == 3


@pytest.mark.parametrize(
    ("one", "other", "are_neighbours"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:0:ffff::1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::1", "::2", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("", "", True),
        ("nonsense", "10.0.0.1", False),
    ],
)
def test_addresses_of_one_network_are_one(one, other, are_neighbours):
    assert (neighbourhood(one) == neighbourhood(other)) is are_neighbours
