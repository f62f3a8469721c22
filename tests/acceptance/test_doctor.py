"""`horus doctor` tells the truth of what is up, and what it says to do mends it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess

import pytest
import redis

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


def test_a_job_for_what_nobody_serves_is_told(up, doctor, horus, state_dir, eventually):
    up(*PYTHON)
    draft = state_dir.parent / "waits.toml"
    draft.write_text(
        "[steps.a]\nexecutor = 'perl'\nrun = 'print 1'\n"
        "[steps.b]\nexecutor = 'system'\nrun = 'true'\n"
    )
    run = horus(state_dir, "workflow", "run", "--detach", draft)
    workflow = run.stdout.strip()
    because = "waits: no live runner: it waits for any runner of"

    def waits():
        told = horus(state_dir, "workflow", "status", workflow)
        return set(told.stderr.splitlines()) == {
            f"a {because} perl, never seen",
            f"b {because} system, never seen",
        }

    eventually(waits)
    code, found = doctor()
    assert code == 1
    queued = f"horus job list --status queued --state-dir {state_dir}"
    assert found["jobs"] == [
        (
            "wrong",
            "1 waits for perl, and no runner of it is alive",
            f"{queued}  # there is no perl here",
        ),
        (
            "wrong",
            "1 waits for system, and no runner of it is alive",
            f"horus runner system --state-dir {state_dir}",
        ),
    ]


def test_a_job_for_a_context_or_a_runner_that_is_not_there_is_told(
    up, doctor, horus, state_dir, eventually
):
    (state_dir.parent / "horus.toml").write_text(
        '[[actors]]\nid = "one"\nexecutor = "python"\ncontexts = ["billing"]\n'
    )
    up("--port", "0", command="supervisor", ready="Actors")
    draft = state_dir.parent / "waits.toml"
    draft.write_text(
        "[steps.a]\nexecutor = 'python'\nrun = 'print(1)'\n"
        "[steps.b]\nexecutor = 'python'\nrun = 'print(1)'\nrunner = 'two'\n"
        "[steps.c]\nexecutor = 'python'\nrun = 'print(1)'\nrunner = 'one'\n"
    )
    assert horus(state_dir, "workflow", "run", "--detach", draft).returncode == 0
    eventually(lambda: len(doctor()[1].get("jobs", ())) == 3)
    code, found = doctor()
    assert code == 1
    assert found["runners"] == [("ok", "these take jobs: one", "")]
    queued = f"horus job list --status queued --state-dir {state_dir}"
    work = "python for the context default"
    stop = f"{queued}  # give a runner that context, or stop them"
    assert found["jobs"] == [
        ("wrong", f"1 waits for {work}, and no runner that is alive serves that", stop),
        ("wrong", f"1 waits for the runner one, and it does not serve {work}", stop),
        (
            "wrong",
            "1 waits for the runner two, and it is not alive",
            f"{queued}  # there is no two here",
        ),
    ]


def test_a_redis_that_takes_nothing_new_is_no_fault_of_the_runners(
    up, doctor, state_dir, eventually
):
    up(*PYTHON)
    socket = state_dir / "run" / "redis.sock"
    why = "it is not ready: redis: Redis takes nothing new: it is out of memory"
    with redis.Redis(unix_socket_path=str(socket)) as client:
        client.config_set("maxmemory", 1)
        eventually(lambda: doctor()[1]["api"] == [("wrong", why, "")])
        _, found = doctor()
        assert any(
            verdict == "wrong"
            and detail.endswith("cannot be used: it is out of memory")
            for verdict, detail, _ in found["redis"]
        )
        assert found["runners"] == [
            ("note", "nobody can tell now whether they take jobs", "")
        ]
        client.config_set("maxmemory", 0)
    eventually(lambda: doctor()[1]["runners"] == WELL)


def test_a_queue_that_is_none_is_told_with_what_removes_it(
    up, doctor, horus, state_dir, eventually
):
    up(*PYTHON)
    socket = state_dir / "run" / "redis.sock"
    with redis.Redis(unix_socket_path=str(socket)) as client:
        client.hset("python", "a", "b")

    def wrong():
        return [one for one in doctor()[1]["runners"] if one[0] == "wrong"]

    eventually(wrong)
    ((_, detail, remedy),) = wrong()
    assert 'python_runner_1 does not serve all: the key "python" in Redis' in detail
    mended = subprocess.run(  # noqa: S602 - as somebody pastes it
        remedy, shell=True, check=True, capture_output=True, text=True
    )
    assert mended.stdout == "1\n"
    eventually(lambda: doctor()[1]["runners"] == WELL)
    assert horus(state_dir, "run", "-c", "print(1)").stdout == "1\n"


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
