"""Which runners are managed here: what the deployment wrote down, and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from horus_celery.errors import NotFoundError, UnavailableError
from horus_celery.fleet import Planned
from horus_celery.processes.base import ManagedProcess
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


def test_without_the_process_manager_that_is_said(settings, state):
    write_runners(state, [runner("one", "simple")])
    managed = ManagedRunners.of(settings)
    for method in (managed.start, managed.stop, managed.status):
        with pytest.raises(UnavailableError, match="supervisord does not answer"):
            method("one")
    assert managed.logs("one", lines=10) == ()
