"""What the level `plain` keeps from a script, seen from inside the script."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from workers.launch import SYSTEM_PATH

ROOT = Path(__file__).parents[2]
DEADLINE = 20  # seconds
LOOK = textwrap.dedent("""
    import json, os, sys
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    seen = os.umask(0)
    print(json.dumps({
        "no_new_privs": status["NoNewPrivs"].strip(),
        "umask": seen,
        "is_session_leader": os.getsid(0) == os.getpid(),
        "descriptors": sorted(map(int, os.listdir("/proc/self/fd")))[:3],
        "open": len(os.listdir("/proc/self/fd")),
        "stdin": os.readlink("/proc/self/fd/0"),
        "environment": dict(os.environ),
        "cwd": os.getcwd(),
    }))
""")
SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
#: A runner's process: it starts a script, passes on what that says first, and waits.
#: Not the process of the tests, because all that is below a runner counts as its own.
STARTER = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    from workers.launch import Command, PlainLauncher
    os.set_inheritable(os.open("/dev/null", os.O_RDONLY), True)
    argv = (sys.executable, "-I", "-c", sys.argv[2])
    env = {"GREETING": "hello"}
    process = PlainLauncher().start(
        Command(argv=argv, env=env, cwd=Path(sys.argv[1]))
    )
    os.set_blocking(process.stdout, True)
    os.write(1, os.read(process.stdout, 65536))
    signal.pause()
""")
needs_setpriv = pytest.mark.skipif(
    shutil.which("setpriv", path=SYSTEM_PATH) is None, reason="there is no setpriv here"
)


@contextmanager
def started(tmp_path, code):
    """Start a script in a runner's process; it is killed at the end."""
    with subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", STARTER, tmp_path, code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as starter:
        assert starter.stdout is not None
        try:
            yield starter.stdout.readline()
        finally:
            starter.kill()


@pytest.fixture
def seen(tmp_path):
    """What a script sees of itself, beside a descriptor that was left inheritable."""
    with started(tmp_path, LOOK) as line:
        return json.loads(line)


@needs_setpriv
def test_a_script_gains_no_privileges(seen):
    assert seen["no_new_privs"] == "1"


def test_what_a_script_writes_is_for_its_user_alone(seen):
    assert seen["umask"] == 0o077


def test_a_script_has_a_session_of_its_own(seen):
    assert seen["is_session_leader"]


def test_a_script_inherits_its_three_streams_and_nothing_else(seen):
    assert seen["descriptors"] == [0, 1, 2]
    assert seen["open"] == 4, "the fourth is the listing itself"
    assert seen["stdin"] == "/dev/null"


def test_the_environment_is_what_was_given(seen, tmp_path):
    # Python itself sets LC_CTYPE where no locale is given.
    seen["environment"].pop("LC_CTYPE", None)
    assert seen["environment"] == {"GREETING": "hello"}
    assert seen["cwd"] == str(tmp_path)


@needs_setpriv
def test_a_script_dies_with_the_process_that_started_it(tmp_path):
    with started(tmp_path, SLEEP) as line:
        script = os.pidfd_open(int(line))
    try:
        gone, _, _ = select.select([script], [], [], DEADLINE)
        assert gone
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(script, signal.SIGKILL)
        os.close(script)
