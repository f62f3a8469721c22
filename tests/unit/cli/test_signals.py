"""The first signal decides how a command ends, whenever it comes; no second does."""

from __future__ import annotations

import os
import signal
from typing import cast

import pytest

from horus_celery.cli.signals import follow, ignore, until_asked
from horus_celery.cli.up import watch
from horus_celery.errors import UnavailableError
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
    # Nor behind the block: all that is left is to exit, with the exit code of the end.
    for each in ASKING:
        ask(each)
    assert steps == ["ended"]


def test_who_is_not_asked_hears_signals_as_before():
    with until_asked():
        pass
    with until_asked():
        # As it does that ends because something broke.
        ignore()
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


# --- who waits for a job -----------------------------------------------------------


def interrupted(number):
    ask(number)
    pytest.fail("nobody heard it")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_an_interruption_stops_what_was_waited_for_as_a_shell_has_it(
    capfd, number, code
):
    assert (
        follow(
            lambda: interrupted(number), stop=lambda: "stopped 1", later="horus job 1"
        )
        == code
    )
    assert capfd.readouterr().err == "stopped 1\n"
    # Nothing changes the exit code any more.
    for each in ASKING:
        ask(each)


def test_who_is_not_interrupted_has_the_exit_code_of_the_end():
    assert follow(lambda: 7, stop=lambda: "stopped 1", later="horus job 1") == 7
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_second_signal_does_not_wait_for_the_stop(capfd):
    code = follow(
        lambda: interrupted(signal.SIGINT),
        stop=lambda: interrupted(signal.SIGTERM),
        later="horus job stop 1",
    )
    assert code == 130
    assert capfd.readouterr().err == (
        "not waited for its stop; to see that it is stopped: horus job stop 1\n"
    )


def test_a_stop_that_fails_is_told_with_the_command_for_later(capfd):
    def stop():
        raise UnavailableError("nobody answers")

    code = follow(
        lambda: interrupted(signal.SIGTERM), stop=stop, later="horus job stop 1"
    )
    assert code == 143
    assert capfd.readouterr().err == (
        "not stopped: nobody answers\n"
        "it may go on; to stop it later: horus job stop 1\n"
    )


def test_what_a_shell_starts_in_the_background_hears_no_ctrl_c():
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait():
        ask(signal.SIGINT)
        return 0

    assert follow(wait, stop=lambda: "stopped 1", later="horus job 1") == 0
