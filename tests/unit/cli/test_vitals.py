"""What the doctor says of a runner, by what it said and what manages it."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from horus_celery.cli.connection import pasted
from horus_celery.cli.findings import Patient
from horus_celery.cli.vitals import of_a_runner
from horus_celery.fleet import Planned
from horus_celery.processes.base import ManagedProcess
from horus_celery.processes.managed import ManagedRunner
from horus_celery.processes.simple import STATUS
from horus_celery.processes.supervisord import ProgramStatus
from horus_celery.registry import Phase, RunnerBeat
from horus_celery.settings import Settings
from horus_celery.statedir import StateDirectory

STARTED = " -------------- [queues]"
DEGRADED = json.dumps({"event": "runner degraded", "detail": "the key k holds a hash"})
WELL = json.dumps({"event": "runner no longer degraded"})
START = "horus runners start r1 --state-dir '/s p'"
STOP = "horus runners stop r1 --state-dir '/s p'"


@pytest.fixture
def say(tmp_path, clock):
    """Return what is said of the runner r1."""
    state = StateDirectory(tmp_path)
    state.logs.mkdir()
    log = state.logs / "actor.r1.log"
    patient = Patient(
        settings=Settings(state_dir=tmp_path),
        state=state,
        clock=clock,
        paste=partial(pasted, state_dir=Path("/s p")),
    )
    runner = ManagedRunner(
        name="r1",
        kind="simple",
        process=ManagedProcess(program="actor.r1", stop_timeout=timedelta(seconds=60)),
        planned=Planned(executor="python", contexts=("*",), concurrency=1),
    )

    def say(word, *said, phase=Phase.RUNNING, age=timedelta(seconds=1)):
        log.write_text("".join(f"{line}\n" for line in said))
        program = ProgramStatus(name="actor.r1", pid=0, word=word)
        beat = RunnerBeat(
            name="r1",
            executors=("python",),
            contexts=("*",),
            concurrency=1,
            phase=phase,
            at=clock.at - age,
        )
        found = of_a_runner(patient, runner, program, STATUS[word], beat, clock.at)
        return [
            (verdict.value, detail.replace(str(log), "LOG"), remedy)
            for verdict, detail, remedy in found
        ]

    return say


def test_of_one_that_is_well_nothing_is_said(say):
    assert say("RUNNING", STARTED) == []
    assert say("RUNNING", DEGRADED, WELL) == []
    assert say("RUNNING", DEGRADED, STARTED, "{no json", "[]") == []


def test_what_it_does_not_serve_is_said_in_its_own_words(say):
    assert say("RUNNING", STARTED, DEGRADED, "a line") == [
        ("wrong", "r1 does not serve all: the key k holds a hash", "")
    ]


def test_why_it_takes_no_jobs_is_said(say):
    assert say("RUNNING", DEGRADED, phase=Phase.STARTING) == [
        ("wrong", "r1 is there, and takes no jobs: the key k holds a hash", "")
    ]
    assert say("RUNNING", phase=Phase.STARTING) == [
        ("wrong", "r1 is there, and takes no jobs: its log says why: LOG", "")
    ]


def test_one_that_is_not_heard_is_to_be_started_again(say):
    assert say("RUNNING", age=timedelta(hours=1)) == [
        (
            "wrong",
            "r1 has not been heard since 23:00:00 UTC; its log: LOG",
            f"{STOP}; {START}",
        )
    ]


def test_one_that_ends_again_and_again_is_told_with_its_last_words(say):
    assert say("BACKOFF", "no room", phase=Phase.STOPPED) == [
        ("wrong", "r1 ended, and is started again: no room (its log: LOG)", "")
    ]
    assert say("FATAL", "no room", phase=Phase.STOPPED) == [
        (
            "wrong",
            "r1 ended again and again and stays down: no room (its log: LOG)",
            START,
        )
    ]


def test_one_that_somebody_stopped_is_no_fault(say):
    assert say("STOPPED", phase=Phase.STOPPED) == [("note", "r1 was stopped", START)]
    assert say("RUNNING", phase=Phase.STOPPED) == [
        ("note", "r1 is starting; its log: LOG", "")
    ]


# --- in a window of tmux ------------------------------------------------------------


@pytest.fixture
def in_tmux(tmp_path, clock, monkeypatch):
    """Return what is said of a runner whose window shows some lines."""
    program = tmp_path / "tmux"
    shown = tmp_path / "shown"
    # It has one window, that of r1, whatever it is asked.
    whose = hashlib.sha256(bytes(tmp_path / "run" / "windows")).hexdigest()[:16]
    program.write_text(
        "#!/bin/sh\n"
        f"case $2 in list-panes) echo '%0|0|1||{whose} r1';; *) cat {shown};; esac\n"
    )
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    patient = Patient(
        settings=Settings(state_dir=tmp_path),
        state=StateDirectory(tmp_path),
        clock=clock,
        paste=partial(pasted, state_dir=Path("/s p")),
    )
    runner = ManagedRunner(
        name="r1",
        kind="tmux:hero",
        process=ManagedProcess(program="r1", stop_timeout=timedelta(seconds=60)),
        planned=Planned(executor="python", contexts=("*",), concurrency=1),
    )

    def say(managed, *said, phase=Phase.RUNNING):
        shown.write_text("".join(f"{line}\n" for line in said))
        beat = RunnerBeat(
            name="r1",
            executors=("python",),
            contexts=("*",),
            concurrency=1,
            phase=phase,
            at=clock.at,
        )
        found = of_a_runner(patient, runner, None, managed, beat, clock.at)
        return [(verdict.value, *rest) for verdict, *rest in found]

    return say


LOGS = "horus runners logs r1 --state-dir '/s p'"


def test_of_one_in_a_window_the_last_words_are_read_there(in_tmux):
    assert in_tmux("running", STARTED) == []
    assert in_tmux("running", STARTED, DEGRADED) == [
        ("wrong", "r1 does not serve all: the key k holds a hash", "")
    ]
    assert in_tmux("crashed", "no room", "", "Pane is dead (status 1)") == [
        ("wrong", f"r1 ended and stays down: no room (its log: {LOGS})", START)
    ]
    assert in_tmux("running", phase=Phase.STARTING) == [
        ("wrong", f"r1 is there, and takes no jobs: its log says why: {LOGS}", "")
    ]
