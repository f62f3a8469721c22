"""The first signal that asks for the end is heard, whenever it comes; no second is."""

from __future__ import annotations

import os
import signal
from typing import cast

import pytest

from horus_celery.cli.up import until_asked, watch
from horus_celery.processes.platform import Platform

ASKING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def _handlers():
    """What the test makes of the signals goes with it."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in ASKING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ask(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", ASKING)
def test_a_signal_leaves_the_block_and_the_next_one_changes_nothing(number):
    steps = []
    with until_asked():
        try:
            ask(number)
            steps.append("not left")
        finally:
            for each in ASKING:
                ask(each)
            steps.append("ended")
    assert steps == ["ended"]
    assert {signal.getsignal(each) for each in ASKING} == {signal.SIG_DFL}


def test_who_was_started_by_nohup_outlives_the_terminal():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    steps = []
    with until_asked():
        ask(signal.SIGHUP)
        steps.append("goes on")
        ask(signal.SIGTERM)
        steps.append("not left")
    assert steps == ["goes on"]


class Asking:
    """Asks for the end at a moment in which nothing can be raised."""

    def __del__(self):
        ask(signal.SIGINT)


class Interrupted:
    """A platform in the middle of whose looking a signal comes, once."""

    looks = 0

    def news(self):
        assert self.looks == 0, "nobody hears a signal any more"
        self.looks += 1
        Asking()
        return ()

    def mend(self, *, now):
        return ()


# That it is lost there is what this is about.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_meets_a_finalizer_is_heard_all_the_same():
    platform = Interrupted()
    with until_asked():
        watch(cast("Platform", platform))
    assert platform.looks == 1
