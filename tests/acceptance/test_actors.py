"""The runners that a deployment manages run jobs, come back, drain, and end with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from horus_celery import wiring
from horus_celery.client import Horus
from horus_celery.errors import HorusError
from horus_celery.processes.supervisord import control_of
from horus_celery.settings import load_settings
from horus_celery.statedir import StateDirectory
from horus_celery.statements.keys import read_key_file

pytestmark = pytest.mark.acceptance

LONG = timedelta(seconds=600)
#: Runs until somebody removes the file.
HELD = """\
import os, sys, time
print("begun", flush=True)
while os.path.exists(sys.argv[1]):
    time.sleep(0.01)
print("finished")
"""
#: A script that leaves a child behind that nobody would find by its parent.
HIDES = """\
setsid sleep 600 &
echo hidden
sleep 600
"""
CONFIGURATION = """\
sandbox = "plain"
executors = ["python"]

[[actors]]
id = "here"
executor = "python"

[[actors]]
id = "there"
executor = "python"
process_manager = "tmux:hero"

[[actors]]
id = "foreign"
executor = "osis"
binary_path = "{folder}/foreign"
db_path = "{folder}/data"

[[actors]]
id = "broken"
executor = "osis"
binary_path = "{folder}/broken"
"""
FOREIGN = "#!/bin/sh\nenv | grep HORUS_ | sort\necho told\nexec sleep 600\n"
BROKEN = "#!/bin/sh\necho no luck\nexit 1\n"


def put_program(path, text):
    path.write_text(text)
    path.chmod(0o700)


@pytest.fixture(scope="module")
def town(deploy):
    """A deployment with actors of every kind, the crash of one of them under way."""
    folder = Path(tempfile.mkdtemp(prefix="hs-"))
    put_program(folder / "foreign", FOREIGN)
    put_program(folder / "broken", BROKEN)
    config = folder / "town.toml"
    config.write_text(CONFIGURATION.format(folder=folder))
    flags = ("--port", "0", "--config", str(config))
    deployment = deploy(folder / "s", *flags, env={"TMUX_TMPDIR": str(folder)})
    yield deployment
    deployment.close()
    shutil.rmtree(folder)


def client_of(deployment, scope="admin"):
    state = StateDirectory(deployment.state_dir)
    return Horus(
        deployment.addresses["url"],
        state.secret(scope),
        key=read_key_file(state.key_file("default")),
        root=state.root_public(),
    )


@pytest.fixture
def client(town):
    with client_of(town) as made:
        yield made


def view(client, name):
    return client.call("get_runner_status", name=name)


def logs(client, name):
    return client.call("get_runner_logs", name=name)


def pid_of(deployment, name):
    settings = load_settings(env={}, state_dir=deployment.state_dir)
    beats = wiring.make_roster(settings).list()
    return next(beat.pid for beat in beats if beat.name == name)


def tmux(folder, *words):
    done = subprocess.run(  # noqa: S603 - our own argv
        ["tmux", *words],  # noqa: S607 - whichever there is
        env={**os.environ, "TMUX_TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_all_of_them_are_shown_with_what_manages_them(client, eventually):
    found = {each["name"]: each for each in client.call("list_runners")}
    kinds = {name: each["process_manager"] for name, each in found.items()}
    assert kinds == {
        "python_runner_1": "simple",
        "here": "simple",
        "there": "tmux:hero",
        "foreign": "simple",
        "broken": "simple",
    }
    assert found["here"]["concurrency"] == 1
    for name in ("here", "there"):
        eventually(lambda name=name: view(client, name)["status"] == "running")


def test_supervisord_listens_on_a_socket_for_this_user_alone(town):
    path = town.state_dir / "run" / "sup.sock"
    assert path.is_socket()
    assert path.stat().st_mode & 0o777 == 0o700
    supervisord = (town.state_dir / "run" / "supervisord.conf").read_text()
    assert "inet_http_server" not in supervisord


@pytest.mark.parametrize("name", ["here", "there"])
def test_an_actor_runs_jobs(client, name):
    outcome = client.run("print('done')", runner=name)
    assert outcome.result == "done\n"
    assert outcome.receipt.runner == name


def test_one_in_tmux_has_a_window_that_one_can_attach_to(town):
    told = tmux(town.state_dir.parent, "list-windows", "-t", "hero", "-F", "#W")
    assert told == "there\n"


@pytest.mark.parametrize("name", ["here", "there"])
def test_one_that_is_stopped_finishes_what_it_runs_and_takes_nothing_new(
    town, client, eventually, name
):
    held = town.state_dir.parent / "held"
    held.touch()
    running = client.submit(HELD, args=[str(held)], runner=name, timeout=LONG)
    assert next(client.logs(running.id)).text == "begun"
    waiting = client.submit("print('later')", runner=name)
    with client_of(town) as other:
        stopping = threading.Thread(
            target=other.call, args=["stop_runner"], kwargs={"name": name}
        )
        stopping.start()
        eventually(lambda: "Warm shutdown" in "".join(logs(client, name)))
        assert client.status(running.id)["status"] == "running"
        held.unlink()
        stopping.join()
    done = client.outcome(running)
    assert done.succeeded
    assert done.is_verified
    assert done.result == "begun\nfinished\n"
    assert view(client, name)["status"] == "stopped"
    assert client.status(waiting.id)["status"] == "queued"
    client.call("start_runner", name=name)
    assert client.outcome(waiting).result == "later\n"
    eventually(lambda: view(client, name)["status"] == "running")


def test_one_that_is_killed_comes_back_and_runs_jobs(town, client):
    before = pid_of(town, "here")
    os.kill(before, signal.SIGKILL)
    assert "is started again" in town.hear("here ended")
    assert client.run("print('back')", runner="here").result == "back\n"
    assert pid_of(town, "here") != before


def test_one_in_tmux_that_is_killed_is_crashed_until_it_is_started(
    town, client, eventually
):
    os.kill(pid_of(town, "there"), signal.SIGKILL)
    assert "stays down" in town.hear("there ended")
    eventually(lambda: view(client, "there")["status"] == "crashed")
    assert client.call("start_runner", name="there")["status"] != "crashed"
    assert client.run("print('back')", runner="there").result == "back\n"


def test_one_that_ends_again_and_again_is_crashed_until_it_is_started(
    client, eventually
):
    eventually(lambda: view(client, "broken")["status"] == "crashed")
    assert logs(client, "broken").count("no luck") == 5
    assert client.call("start_runner", name="broken")["status"] == "starting"
    eventually(lambda: logs(client, "broken").count("no luck") > 6)


def test_a_program_of_somebody_else_is_told_who_it_is_and_no_secret(
    town, client, eventually
):
    eventually(lambda: "told" in logs(client, "foreign"))
    told = dict(line.split("=", 1) for line in logs(client, "foreign") if "=" in line)
    assert told["HORUS_RUNNER_NAME"] == "foreign"
    assert told["HORUS_RUNNER_EXECUTOR"] == "osis"
    assert told["HORUS_DB_PATH"] == str(town.state_dir.parent / "data")
    assert told["HORUS_STATE_DIR"] == str(town.state_dir)
    assert told["HORUS_REDIS_URL"].startswith("unix://")
    state = StateDirectory(town.state_dir)
    secrets = [state.secret(scope) for scope in ("admin", "user", "register")]
    assert not {*secrets} & {*told.values()}


def test_a_supervisord_that_does_nothing_hides_no_runner(town, client):
    supervisord = town.supervisord
    os.kill(supervisord, signal.SIGSTOP)
    try:
        found = {each["name"]: each for each in client.call("list_runners")}
        with pytest.raises(HorusError, match="supervisord does not answer"):
            client.call("stop_runner", name="here")
    finally:
        os.kill(supervisord, signal.SIGCONT)
    assert set(found) == {"python_runner_1", "here", "there", "foreign", "broken"}
    assert found["here"]["status"] == found["there"]["status"] == "running"


# --- the end ------------------------------------------------------------------------


def test_a_runner_that_stays_down_takes_nothing_else_with_it(up, eventually):
    deployment = up("--port", "0", "--executors", "python,system")
    control = control_of(StateDirectory(deployment.state_dir))
    with client_of(deployment) as client:
        for _ in range(5):
            eventually(lambda: control.program("python").pid)
            os.kill(control.program("python").pid, signal.SIGKILL)
            eventually(lambda: control.program("python").word in {"BACKOFF", "FATAL"})
        assert "stays down" in deployment.hear("python ended again")
        assert view(client, "python_runner_1")["status"] == "crashed"
        assert client.run("echo on", executor="system").result == "on\n"
        client.call("start_runner", name="python_runner_1")
        assert client.run("print('back')").result == "back\n"


def test_a_supervisord_that_was_stopped_still_ends_in_order(up, processes_of):
    deployment = up("--port", "0", "--executors", "python")
    everything = processes_of(deployment.process.pid)
    os.kill(deployment.supervisord, signal.SIGSTOP)
    code, took = deployment.end()
    assert code == 0
    assert took < 10, "5 s on a machine that does nothing else, 13 if nobody wakes it"
    assert everything.left(within=0.1) == []
    log = (deployment.state_dir / "logs" / "redis.log").read_text()
    assert "ready to exit" in log


def test_a_stopped_supervisord_of_a_run_that_was_killed_is_in_nobody_s_way(
    up, processes_of
):
    deployment = up("--port", "0", "--executors", "python")
    everything = processes_of(deployment.process.pid)
    os.kill(deployment.supervisord, signal.SIGSTOP)
    deployment.process.kill()
    deployment.process.wait()
    again = up("--port", "0", "--executors", "python")
    assert everything.left(within=1) == []
    with client_of(again) as client:
        assert client.run("print('back')").result == "back\n"


@pytest.fixture
def in_tmux(state_dir):
    """A configuration with an actor in tmux, for a deployment of the test's own."""
    (state_dir.parent / "horus.toml").write_text(
        'executors = ["python"]\n'
        '[[actors]]\nid = "sys"\nexecutor = "system"\nprocess_manager = "tmux:one"\n'
    )
    return {"TMUX_TMPDIR": str(state_dir.parent)}


def start_hiding(deployment):
    with client_of(deployment) as client:
        job = client.submit(HIDES, executor="system", timeout=LONG)
        assert next(client.logs(job.id)).text == "hidden"


def test_what_runs_in_tmux_ends_with_all_the_rest(up, in_tmux, processes_of):
    deployment = up(env=in_tmux)
    start_hiding(deployment)
    everything = processes_of(deployment.process.pid)
    code, took = deployment.end()
    assert code == 0
    assert took < 10, "5 s on a machine that does nothing else, 13 if nobody wakes it"
    assert everything.left(within=0.1) == []
    assert not (deployment.state_dir / "run" / "windows").exists()


def test_what_runs_in_tmux_ends_with_a_deployment_that_was_killed(
    up, in_tmux, processes_of
):
    deployment = up(env=in_tmux)
    start_hiding(deployment)
    everything = processes_of(deployment.process.pid)
    deployment.process.kill()
    deployment.process.wait()
    again = up(env=in_tmux)
    assert everything.left(within=1) == []
    with client_of(again) as client:
        assert client.run("echo back", executor="system").result == "back\n"


def test_what_else_is_in_that_tmux_stays(up, in_tmux, state_dir):
    deployment = up(env=in_tmux)
    folder = state_dir.parent
    tmux(folder, "new-session", "-d", "-s", "mine", "sleep", "600")
    deployment.end()
    told = tmux(folder, "list-windows", "-a", "-F", "#{session_name} #{pane_dead}")
    tmux(folder, "kill-server")
    assert told == "mine 0\n"


# --- the other commands ---------------------------------------------------------------


def test_a_supervisor_runs_the_api_and_its_actors_and_no_more(
    up, state_dir, redis_url, processes_of
):
    (state_dir.parent / "horus.toml").write_text(
        '[[actors]]\nid = "only"\nexecutor = "python"\n'
    )
    flags = ("--port", "0", "--redis-url", redis_url, "--bind-address", "127.0.0.1")
    deployment = up(*flags, command="supervisor", ready="Actors")
    with client_of(deployment) as client:
        assert client.run("print(1)").receipt.runner == "only"
        names = [each["name"] for each in client.call("list_runners")]
    assert names == ["only"]
    assert deployment.addresses["flower_url"] is None
    logs = {path.name for path in (state_dir / "logs").iterdir()}
    assert logs == {"api.log", "actor.only.log", "supervisord.log"}
    everything = processes_of(deployment.process.pid)
    code, took = deployment.end(signal.SIGTERM)
    assert code == 0
    assert took < 6
    assert everything.left(within=0.1) == []


def test_one_runner_in_the_foreground_runs_jobs_until_it_is_told_to_end(
    shared, deploy, tmp_path
):
    runner = deploy(
        shared.state_dir,
        *("--concurrency", "1", "--name", "extra"),
        command="runner python,system",
        ready=" -------------- [queues]",
        env={"TMPDIR": str(tmp_path)},
    )
    try:
        (own,) = (shared.state_dir / "run" / "tmp").glob("own-*")
        variables = (
            Path(f"/proc/{runner.process.pid}/environ").read_bytes().split(b"\0")
        )
        assert f"TMPDIR={own}".encode() in variables
        with client_of(shared) as client:
            for executor in ("python", "system"):
                outcome = client.run("", executor=executor, runner="extra")
                assert outcome.succeeded
                assert outcome.receipt.runner == "extra"
        code, _ = runner.end(signal.SIGTERM)
        assert code == 0
        assert list(tmp_path.iterdir()) == []
    finally:
        runner.close()


def test_a_runner_without_a_redis_says_what_to_do(horus, state_dir):
    told = horus(state_dir, "runner", "python")
    assert told.returncode == 1
    assert "--redis-url" in told.stderr
    assert "horus up" in told.stderr
    assert sys.executable not in told.stderr


def test_an_actor_without_tmux_is_said_before_anything_starts(horus, state_dir):
    (state_dir.parent / "horus.toml").write_text(
        '[[actors]]\nid = "a"\nexecutor = "python"\nprocess_manager = "tmux:one"\n'
    )
    told = horus(state_dir, "up", "--port", "0", env_more={"PATH": "/nowhere"})
    assert told.returncode == 1
    assert "apt-get install tmux" in told.stderr
    assert not state_dir.exists()
