"""A signal that ends `horus up` may come at any moment, and loses no process."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
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


#: What a process of its own does, as all that stands below it is ended.
STARTS = """
import subprocess, sys
from pathlib import Path
from datetime import UTC, datetime
from horus_celery.processes import tree
from horus_celery.processes.platform import Platform
from horus_celery.settings import Settings

class Asked(BaseException):
    pass

def rise(frame, event, _):
    if event == "return" and frame.f_code is started:
        sys.setprofile(None)
        raise Asked

started = subprocess.Popen.__init__.__code__
platform = Platform(Settings(state_dir=sys.argv[1], port=0, flower_port=0))
platform.prepare(now=datetime.now(UTC))
sys.setprofile(rise)
try:
    platform.start()
except Asked:
    began = len(tree.descendants())
    for kept in sys.argv[2:]:
        (Path(sys.argv[1]) / "run" / kept).mkdir()
    platform.stop()
    print(began, len(tree.descendants()))
"""


@pytest.mark.parametrize("kept", [[], ["up.json"]], ids=["", "what cannot be removed"])
def test_what_was_started_as_the_signal_came_is_ended(tmp_path, kept):
    told = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", STARTS, str(tmp_path), *kept],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (told.stdout, told.stderr) == ("1 0\n", "")


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
