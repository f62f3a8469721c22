"""The real `horus up` and the real command line, on free ports, in short folders."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from horus_celery.processes import tree

ROOT = Path(__file__).parents[2]
HORUS = (sys.executable, "-c", "from horus_celery.cli import main; main()")
DEADLINE = 60.0  # seconds

# A shell that starts pytest in the background has it ignore SIGINT, and what the tests
# start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def clean_environment(**more):
    kept = {name: value for name, value in os.environ.items() if "HORUS_" not in name}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


class Up:
    """A `horus up` of the test's own, or a command like it."""

    def __init__(self, state_dir, *flags, env=None, command="up", ready="Try"):
        self.state_dir = state_dir
        self.began = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            [*HORUS, *command.split(), "--state-dir", str(state_dir), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=state_dir.parent,
            # Flower's default port may be somebody else's.
            env=clean_environment(HORUS_FLOWER_PORT="0", **(env or {})),
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout
        self.said = []
        self.hear(ready)
        self.took = time.monotonic() - self.began

    def hear(self, beginning):
        """Read lines until one begins so."""
        # It ends if it does not say so, and what it says ends with it.
        watchdog = threading.Timer(DEADLINE, self.process.terminate)
        watchdog.start()
        try:
            for line in self.output:
                self.said.append(line)
                if line.startswith(beginning):
                    return line
        finally:
            watchdog.cancel()
        raise AssertionError(f"it never said {beginning!r}: {''.join(self.said)}")

    @property
    def addresses(self):
        return json.loads((self.state_dir / "run" / "up.json").read_text())

    @property
    def supervisord(self):
        return int((self.state_dir / "run" / "supervisord.pid").read_text())

    def end(self, number=signal.SIGINT):
        """Ask for the end; return the exit code and how long it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE)
        self.said += self.output
        return code, time.monotonic() - began

    def close(self):
        if self.process.poll() is None:
            # An end in order waits; but what is in windows of tmux is not below it.
            if (self.state_dir / "run" / "windows").exists():
                self.process.terminate()
            else:
                self._kill()
            self.process.wait(DEADLINE)
        self.output.close()

    def _kill(self):
        everything = Processes(self.process.pid)
        below = tree.descendants(self.process.pid)
        self.process.kill()
        tree.signal_all(below, signal.SIGKILL)
        assert everything.left(within=DEADLINE) == []


class Processes:
    """Everything below a process, watched until the last of it is gone."""

    def __init__(self, pid):
        self._watched = {}
        for each in [pid, *tree.descendants(pid)]:
            with suppress(ProcessLookupError):
                self._watched[os.pidfd_open(each)] = each

    def left(self, within):
        """Return the command lines of those that are there after so many seconds."""
        poll = select.poll()
        for descriptor in self._watched:
            poll.register(descriptor, select.POLLIN)
        waiting = dict(self._watched)
        deadline = time.monotonic() + within
        while waiting and (rest := deadline - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(rest * 1000):
                poll.unregister(descriptor)
                del waiting[descriptor]
        for descriptor in self._watched:
            os.close(descriptor)
        return [_command_of(pid) for pid in waiting.values()]


def _command_of(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    return b""


def make_folder():
    return Path(tempfile.mkdtemp(prefix="hs-"))


@pytest.fixture
def state_dir():
    folder = make_folder()
    yield folder / "s"
    shutil.rmtree(folder)


@pytest.fixture
def up(state_dir):
    """Start `horus up` on the test's state directory; it ends with the test."""
    started = []

    def start(*flags, **options):
        one = Up(state_dir, *(flags or ("--port", "0")), **options)
        started.append(one)
        return one

    yield start
    for one in started:
        one.close()


@pytest.fixture(scope="session")
def deploy():
    """Start `horus up`, or a command like it, where the caller wants it to be."""
    return Up


@pytest.fixture(scope="session")
def processes_of():
    """Watch a process and everything below it."""
    return Processes


@pytest.fixture(scope="session")
def eventually():
    """Ask until it is so."""

    def ask(condition, within=DEADLINE):
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline
            threading.Event().wait(0.05)

    return ask


@pytest.fixture(scope="session")
def horus():
    """Run a command on a state directory, to its end."""
    return _run


def _run(state_dir, *arguments, env_more=None, **options):
    return subprocess.run(  # noqa: S603 - our own command
        [*HORUS, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        cwd=state_dir.parent,
        env=_environment_for(state_dir, env_more),
        **options,
    )


def _environment_for(state_dir, more):
    return clean_environment(HORUS_STATE_DIR=str(state_dir), **(more or {}))


@pytest.fixture(scope="session")
def shared():
    """One deployment for tests that leave it as it is.

    Its scripts are not kept apart: some of them meet the test in a file of its own.
    """
    folder = make_folder()
    deployment = Up(folder / "s", "--port", "0", env={"HORUS_SANDBOX": "plain"})
    yield deployment
    deployment.close()
    shutil.rmtree(folder)


@pytest.fixture
def command(shared):
    """Run a command against the shared deployment."""

    def run(*arguments, **options):
        return _run(shared.state_dir, *arguments, **options)

    return run


@pytest.fixture
def start(shared):
    """Start a command against the shared deployment, to be listened to."""

    def begin(*arguments, env_more=None):
        return subprocess.Popen(  # noqa: S603 - our own command
            [*HORUS, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=shared.state_dir.parent,
            env=_environment_for(shared.state_dir, env_more),
        )

    return begin
