"""Which runners are managed here: what the deployment wrote down, and nothing else."""

from __future__ import annotations

import socket
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from horus_celery.errors import NotFoundError, UnavailableError
from horus_celery.fleet import Planned
from horus_celery.processes.base import LOOK, ManagedProcess
from horus_celery.processes.managed import (
    ManagedRunner,
    ManagedRunners,
    forget_runners,
    write_runners,
)
from horus_celery.settings import Settings
from horus_celery.statedir import StateDirectory


def runner(name, kind):
    return ManagedRunner(
        name=name,
        kind=kind,
        process=ManagedProcess(
            program=f"actor.{name}", stop_timeout=timedelta(seconds=7)
        ),
        planned=Planned(executor="python", contexts=("a", "b"), concurrency=3),
    )


@pytest.fixture
def state(tmp_path):
    made = StateDirectory(tmp_path)
    made.run.mkdir()
    return made


@pytest.fixture
def short_state():
    """A state directory in which a socket can have its path, with its password."""
    with tempfile.TemporaryDirectory(prefix="hs-") as folder:
        made = StateDirectory(Path(folder))
        made.run.mkdir()
        made.initialise(namespace="hero", runners=(), now=datetime.now(UTC))
        yield made


@pytest.fixture
def settings(state):
    # The configuration lists an actor that the running deployment does not know.
    return Settings(state_dir=state.path, actors=[{"id": "x", "executor": "python"}])


def test_where_nothing_runs_nothing_is_managed(settings, state):
    assert ManagedRunners.of(settings).names() == ()
    write_runners(state, [runner("one", "simple")])
    forget_runners(state)
    forget_runners(state)
    assert ManagedRunners.of(settings).names() == ()


def test_what_was_written_down_is_managed(settings, state):
    write_runners(state, [runner("one", "simple"), runner("two", "tmux:hero")])
    managed = ManagedRunners.of(settings)
    assert managed.names() == ("one", "two")
    assert [managed.kind(name) for name in managed.names()] == ["simple", "tmux:hero"]
    assert managed.plan("two") == runner("two", "simple").planned


@pytest.mark.parametrize("method", ["plan", "kind", "start", "stop", "status"])
def test_no_other_name_is_managed(settings, state, method):
    write_runners(state, [runner("one", "simple")])
    for name in ("x", "actor.one", "api", ""):
        with pytest.raises(NotFoundError):
            getattr(ManagedRunners.of(settings), method)(name)


class Hangs:
    """What stands in the place of supervisord, hears everybody and answers nobody."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()

    def heard(self):
        """Return how many have called so far."""
        self.socket.settimeout(0)
        count = 0
        with suppress(BlockingIOError):
            while True:
                self.socket.accept()[0].close()
                count += 1
        return count


@pytest.fixture
def hanging(short_state):
    one = Hangs(short_state.run / "sup.sock")
    yield one
    one.socket.close()


def test_a_process_manager_that_hangs_is_waited_for_once_for_all_its_runners(
    short_state, hanging
):
    write_runners(short_state, [runner(name, "simple") for name in "abcde"])
    managed = ManagedRunners.of(Settings(state_dir=short_state.path))
    began = time.monotonic()
    for name in managed.names():
        with pytest.raises(UnavailableError, match="does not answer"):
            managed.status(name)
    assert time.monotonic() - began < 2 * LOOK.total_seconds()
    assert hanging.heard() == 1


def test_without_the_process_manager_that_is_said(settings, state):
    write_runners(state, [runner("one", "simple")])
    managed = ManagedRunners.of(settings)
    for method in (managed.start, managed.stop, managed.status):
        with pytest.raises(UnavailableError, match="supervisord does not answer"):
            method("one")
    assert managed.logs("one", lines=10) == ()
