"""`horus doctor` tells the truth of what is up, and what it says to do mends it."""

from __future__ import annotations

import json
import os
import shlex
import signal

import pytest

from horus_celery.processes import tree
from horus_celery.processes.supervisord import control_of
from horus_celery.statedir import StateDirectory

pytestmark = pytest.mark.acceptance

PYTHON = ("--port", "0", "--executors", "python")


@pytest.fixture
def doctor(horus, state_dir):
    """Ask the doctor; return the exit code, and what he says by the check."""

    def ask(**more):
        told = horus(
            state_dir, "doctor", "--state-dir", state_dir, "--json", env_more=more
        )
        found: dict[str, list[tuple[str, str, str]]] = {}
        for one in json.loads(told.stdout):
            said = (one["verdict"], one["detail"], one["remedy"])
            found.setdefault(one["name"], []).append(said)
        return told.returncode, found

    return ask


@pytest.fixture
def pid_of(state_dir):
    def ask(program):
        return control_of(StateDirectory(state_dir)).program(program).pid

    return ask


WELL = [("ok", "these take jobs: python_runner_1", "")]


def test_it_looks_at_what_is_up_and_not_at_what_the_settings_say(up, doctor):
    deployment = up(*PYTHON)
    code, found = doctor(HORUS_ACTORS='[{"id": "spare", "executor": "python"}]')
    assert code == 0
    url = deployment.addresses["url"]
    assert found["api"] == [("ok", f"{url} answers, and is ready", "")]
    assert found["runners"] == WELL
    ((verdict, detail, _),) = found["programs"]
    assert (verdict, detail) == (
        "ok",
        "supervisord runs api, coordinator, flower, redis",
    )
    assert "spare" not in json.dumps(found)
    assert "system_runner_1" not in json.dumps(found)


def test_what_it_says_to_do_of_a_runner_mends_it(
    up, doctor, horus, state_dir, pid_of, eventually
):
    up(*PYTHON)
    pid = pid_of("python")
    os.kill(pid, signal.SIGSTOP)
    code, found = doctor()
    assert code == 1
    ((verdict, detail, remedy),) = found["runners"]
    assert verdict == "wrong"
    assert detail == f"python_runner_1 does nothing: its process {pid} was stopped"
    assert remedy == f"kill -CONT {pid}"
    os.kill(pid, signal.SIGCONT)
    assert doctor()[1]["runners"] == WELL
    assert horus(state_dir, "runners", "stop", "python_runner_1").returncode == 0
    code, found = doctor()
    ((verdict, detail, remedy),) = found["runners"]
    assert (verdict, detail) == ("note", "python_runner_1 was stopped")
    assert remedy == f"horus runners start python_runner_1 --state-dir {state_dir}"
    assert horus(state_dir, *shlex.split(remedy)[1:]).returncode == 0
    eventually(lambda: doctor()[1]["runners"] == WELL)


def test_one_that_was_removed_is_missed_by_nobody(up, doctor, horus, state_dir):
    up(*PYTHON)
    assert horus(state_dir, "runners", "remove", "python_runner_1").returncode == 0
    code, found = doctor()
    assert "runners" not in found
    assert found["api"] == [
        ("wrong", "it is not ready: runners: no runner is alive", "")
    ]
    assert code == 1


def test_an_api_that_does_not_answer_is_told(up, doctor, pid_of):
    deployment = up(*PYTHON)
    pid = pid_of("api")
    everything = [pid, *tree.descendants(pid)]
    tree.signal_all(everything, signal.SIGSTOP)
    try:
        code, found = doctor()
    finally:
        tree.signal_all(everything, signal.SIGCONT)
    assert code == 1
    ((verdict, detail, remedy),) = found["api"]
    url = deployment.addresses["url"]
    assert (verdict, detail) == ("wrong", f"nothing answers at {url} (ReadTimeout)")
    assert remedy == f"look into {deployment.state_dir / 'logs' / 'api.log'}"
    assert found["programs"] == [
        ("wrong", f"api does nothing: process {pid} was stopped", f"kill -CONT {pid}")
    ]
