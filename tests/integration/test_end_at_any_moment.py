"""A signal that ends `horus up` may come at any moment, and loses no process."""

from __future__ import annotations

import random
import signal
import subprocess
from contextlib import suppress

import pytest

from horus_celery.processes.platform import Platform
from horus_celery.settings import Settings

#: Seconds until a signal comes, so that it meets every line of what it interrupts.
AT_ONCE, SOON = 1e-6, 40e-6
TIMES = 3000


class Asked(BaseException):
    """What the signal raises."""


@pytest.fixture
def alarms():
    """Each alarm raises, and none comes behind the test."""

    def rise(*_):
        raise Asked

    before = signal.signal(signal.SIGALRM, rise)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def process():
    """Stands for the process that keeps all programs."""
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        yield process
        process.kill()


@pytest.mark.usefixtures("alarms")
# One that meets a finalizer is told of, not raised.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_end_is_heard_of_whenever_the_looking_was_interrupted(tmp_path, process):
    platform = Platform(Settings(state_dir=tmp_path))
    vars(platform)["_supervisord"] = process
    moments = random.Random(1)  # noqa: S311 - no secret
    for _ in range(TIMES):
        with suppress(Asked):
            signal.setitimer(signal.ITIMER_REAL, moments.uniform(AT_ONCE, SOON))
            while True:
                platform.news()
    process.kill()
    assert process.wait(timeout=10) == -signal.SIGKILL
