"""How supervisord starts a program again: by our policy, in its own states."""

from __future__ import annotations

import logging
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pytest
from supervisor import process
from supervisor.options import ServerOptions
from supervisor.states import ProcessStates, SupervisorStates

from horus_celery.processes import watched
from horus_celery.processes.base import GRACE
from horus_celery.processes.policy import Policy
from horus_celery.processes.supervisord import Program, configuration
from horus_celery.processes.watched import RETRIES, WatchedProgram

WORD = "by which it knows us"


@pytest.fixture
def original():
    kept = process.Subprocess
    yield kept
    process.Subprocess = kept


@pytest.fixture
def options(tmp_path, monkeypatch):
    """The options of a supervisord that reads what we write for it."""
    monkeypatch.chdir(tmp_path)
    for folder in ("run", "logs"):
        Path(folder).mkdir()
    program = Program(
        name="p", command=["/nowhere/program"], stop_timeout=timedelta(seconds=90)
    )
    Path("run/supervisord.conf").write_text(
        configuration([program], redis=None, password=WORD)
    )
    made = ServerOptions()
    made.realize(["-c", "run/supervisord.conf"])
    made.logger = logging.getLogger("supervisor-of-a-test")
    made.mood = SupervisorStates.RUNNING
    return made


@pytest.fixture
def program(original, options):
    """A program whose every start fails, as supervisord makes it."""
    watched.put_in_place()
    (group,) = options.process_group_configs
    (config,) = group.process_configs
    return config.make_process()


def test_supervisord_makes_its_programs_of_our_kind(program):
    assert isinstance(program, WatchedProgram)
    assert program.policy == Policy()


def test_what_we_use_of_supervisor_is_there(original):
    for name in ("spawn", "change_state", "kill", "finish", "transition", "give_up"):
        assert callable(getattr(original, name))
    for name in ("state", "delay", "backoff"):
        assert hasattr(original, name)
    assert SupervisorStates.SHUTDOWN < SupervisorStates.RUNNING


def test_the_first_end_is_followed_by_a_start_a_second_later(program):
    program.spawn()
    assert program.get_state() == ProcessStates.BACKOFF
    assert program.backoff == 1
    assert 0 < program.delay - time.time() <= 1
    # Not before its time.
    program.transition()
    assert program.get_state() == ProcessStates.BACKOFF
    program.delay = time.time() - 1
    program.transition()
    assert program.backoff == 2


def test_it_waits_longer_after_each_end_and_is_given_up(program):
    waits = []
    while program.get_state() != ProcessStates.FATAL:
        program.spawn()
        waits.append(program.backoff)
        program.transition()
    assert waits == [1, 2, 4, 8, RETRIES + 1]


def test_an_end_after_it_had_begun_well_counts_as_well(program):
    program.state = ProcessStates.RUNNING
    program.change_state(ProcessStates.EXITED, expected=True)
    assert program.get_state() == ProcessStates.BACKOFF
    assert program.backoff == 1


@pytest.mark.parametrize(
    "state", [ProcessStates.FATAL, ProcessStates.STOPPED, ProcessStates.EXITED]
)
def test_who_starts_it_begins_anew(program, state):
    for _ in range(3):
        program.spawn()
    assert program.backoff == 4
    program.state = state
    program.spawn()
    assert program.backoff == 1


def test_the_longest_wait_is_below_what_supervisord_gives_up_at(options, program):
    assert program.config.startretries == RETRIES
    assert Policy().longest.total_seconds() < RETRIES


@pytest.fixture
def running():
    with subprocess.Popen(["sleep", "600"]) as child:  # noqa: S607 - whichever there is
        yield child.pid
        child.kill()


def test_stopped_alone_it_has_its_time_and_at_the_end_of_all_less(
    options, program, running
):
    assert program.config.stopwaitsecs == 90
    stop = program.config.stopsignal
    program.state, program.pid = ProcessStates.RUNNING, running
    program.kill(stop)
    assert program.delay - time.time() > 80
    options.mood = SupervisorStates.SHUTDOWN
    program.transition()
    assert program.delay - time.time() <= GRACE.total_seconds()
    program.state = ProcessStates.RUNNING
    program.kill(stop)
    assert program.delay - time.time() <= GRACE.total_seconds()
