"""`horus up` is one command, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from horus_celery import wiring
from horus_celery.client import Horus
from horus_celery.crew import runners_of
from horus_celery.errors import HorusError
from horus_celery.settings import load_settings
from horus_celery.statedir import StateDirectory
from horus_celery.statements.keys import read_key_file

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
#: A script that leaves a child behind that nobody would find by its parent.
HIDES = """\
import subprocess, time
subprocess.Popen(["setsid", "sleep", "600"])
print("hidden", flush=True)
time.sleep(600)
"""
EXECUTORS = {"python_runner_1", "system_runner_1"}
#: No more runners than what a test is about.
PYTHON = ("--port", "0", "--executors", "python")


def client_of(deployment):
    state = StateDirectory(deployment.state_dir)
    return Horus(
        deployment.addresses["url"],
        state.secret("user"),
        key=read_key_file(state.key_file("default")),
        root=state.root_public(),
    )


def pid_of(deployment, runner):
    settings = load_settings(env={}, state_dir=deployment.state_dir)
    beats = wiring.make_roster(settings).list()
    return next(beat.pid for beat in beats if beat.name == runner)


def start_hiding(client):
    """Have a job running whose script has hidden a process; return its id."""
    job = client.submit(HIDES, timeout=timedelta(seconds=600))
    assert next(client.logs(job.id)).text == "hidden"
    return job.id


def begin_to_wait(deployment, job_id):
    """Wait for the end of a job, as a client does; return the thread that waits."""

    def wait():
        with client_of(deployment) as client, suppress(HorusError):
            client.call("job.result", job_id=job_id, wait=60)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_up_soon_and_ends_at_once_with_all_that_it_started(
    up, processes_of, number
):
    deployment = up()
    assert deployment.took < 20, "6 s on a machine that does nothing else"
    with urllib.request.urlopen(deployment.addresses["url"] + "/healthz") as answer:  # noqa: S310 - our own address
        assert answer.status == 200
    with client_of(deployment) as client:
        runners = client.info()["runners"]
        assert {each["name"] for each in runners} == EXECUTORS
        assert {each["status"] for each in runners} == {"running"}
        job_id = start_hiding(client)
    waiting = begin_to_wait(deployment, job_id)
    everything = processes_of(deployment.process.pid)
    code, took = deployment.end(number)
    waiting.join()
    assert code == 0
    assert took < 6, "5 s on a machine that does nothing else"
    assert everything.left(within=0.1) == []
    left = {path.name for path in (deployment.state_dir / "run").iterdir()}
    assert left <= {
        "changes.lock",
        "up.lock",
        "supervisord.conf",
        "rooms",
        "slots",
        "tmp",
    }


def test_a_killed_one_takes_everything_with_it_and_the_next_one_starts(
    up, processes_of
):
    deployment = up(*PYTHON)
    with client_of(deployment) as client:
        start_hiding(client)
    everything = processes_of(deployment.process.pid)
    deployment.process.kill()
    deployment.process.wait()
    again = up(*PYTHON)
    assert everything.left(within=1) == []
    assert again.process.poll() is None


def test_who_hangs_up_on_its_supervisord_is_no_news(up, state_dir):
    deployment = up()
    body = b"<methodCall><methodName>system.listMethods</methodName></methodCall>"
    asked = b"POST /RPC2 HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s"
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(state_dir / "run" / "sup.sock"))
            line.sendall(asked % (len(body), body))
    code, _ = deployment.end()
    assert code == 0
    assert deployment.said[-1] == "ended\n"
    assert not any("uncaptured" in line for line in deployment.said)


def test_without_its_supervisord_it_ends_and_says_so(up, processes_of):
    deployment = up(*PYTHON)
    with client_of(deployment) as client:
        start_hiding(client)
    everything = processes_of(deployment.process.pid)
    os.kill(deployment.supervisord, signal.SIGKILL)
    assert "supervisord has ended" in deployment.hear("horus: ")
    assert deployment.process.wait(15) == 1
    assert everything.left(within=1) == []


def test_a_program_that_dies_is_started_again_and_told(up, processes_of):
    deployment = up("--port", "0", "--executors", "system")
    with client_of(deployment) as client:
        os.kill(pid_of(deployment, "system_runner_1"), signal.SIGKILL)
        line = deployment.hear("system ended")
        assert "is started again" in line
        assert str(deployment.state_dir / "logs" / "system.log") in line
        assert client.run("echo back", executor="system").result == "back\n"


def test_what_killed_programs_leave_behind_goes_with_the_next_start(
    up, tmp_path, eventually
):
    system = tmp_path / "tmp"
    system.mkdir()
    deployment = up(env={"TMPDIR": str(system)})
    ours = deployment.state_dir / "run" / "tmp"
    assert ours.stat().st_mode & 0o777 == 0o700
    worker = pid_of(deployment, "python_runner_1")
    with client_of(deployment) as client:
        assert client.run("print(1)").result == "1\n"
        before = {each.name for each in ours.iterdir()}
        assert before, "a pool has some"
        os.kill(worker, signal.SIGKILL)
        deployment.hear("python ended")
        eventually(lambda: pid_of(deployment, "python_runner_1") != worker)
        assert client.run("print(2)").result == "2\n"
    left = before & {each.name for each in ours.iterdir()}
    assert left, "a killed pool leaves it behind"
    deployment.process.kill()
    deployment.process.wait()
    again = up(env={"TMPDIR": str(system)})
    assert not left & {each.name for each in ours.iterdir()}
    assert again.end()[0] == 0
    assert list(system.iterdir()) == []


def test_what_was_recorded_is_there_after_a_restart(up):
    deployment = up(*PYTHON)
    with client_of(deployment) as client:
        before = client.run("print(1)")
    deployment.end()
    with client_of(up(*PYTHON)) as client:
        after = client.outcome(before.job_id)
    assert after == before
    assert after.is_verified


def test_with_a_redis_that_is_given_none_is_started(up, redis_url, state_dir):
    deployment = up(*PYTHON, "--redis-url", redis_url)
    assert not (state_dir / "run" / "redis.sock").exists()
    with client_of(deployment) as client:
        assert client.run("print(1)").result == "1\n"
        assert {each["name"] for each in client.info()["runners"]} == {
            "python_runner_1"
        }


def test_no_secret_stands_on_a_command_line_or_in_a_log(up, state_dir, processes_of):
    deployment = up()
    with client_of(deployment) as client:
        client.run("print(1)")
    state = StateDirectory(state_dir)
    secrets = [state.secret(scope) for scope in ("admin", "user", "register")]
    keys = [state_dir / "root.key", *state_dir.glob("*/*.key")]
    secrets += [path.read_text().strip() for path in keys]
    commands = b" ".join(processes_of(deployment.process.pid).left(within=0)).decode()
    deployment.end()
    logs = "".join(path.read_text() for path in (state_dir / "logs").iterdir())
    for secret in secrets:
        assert secret not in commands
        assert secret not in logs
        assert secret not in "".join(deployment.said)


def test_the_procfile_works_with_honcho(
    state_dir, redis_url, processes_of, horus, eventually
):
    assert horus(state_dir, "init").returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as api:
        port = api.getsockname()[1]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "HORUS_STATE_DIR": str(state_dir),
        "HORUS_REDIS_URL": redis_url,
        "HORUS_PORT": str(port),
        "HORUS_FLOWER_PORT": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "honcho", "start"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=environment,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: is_up(url))
        told = horus(state_dir, "run", "-c", "print(1)", "--url", url)
        assert told.stdout == "1\n"
        given = ("HORUS_REDIS_URL", "HORUS_PORT", "HORUS_FLOWER_PORT")
        ours = {name: environment[name] for name in given}
        told = horus(state_dir, "doctor", env_more=ours)
        assert told.returncode == 0, told.stdout
        assert f"started piece by piece serves at {url}" in told.stdout
        everything = processes_of(process.pid)
    finally:
        process.terminate()
        process.wait(30)
    assert everything.left(within=5) == []


def is_up(url):
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/healthz").is_success
    return False


# --- what is said at the start -----------------------------------------------------


def test_a_second_start_says_so_and_changes_nothing(shared, horus):
    state_dir = shared.state_dir
    kept = [state_dir / "trust.json", state_dir / "run" / "up.json"]
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in kept]
    in_use = sorted((state_dir / "run" / "tmp").iterdir())
    told = horus(state_dir, "up", "--port", "0")
    assert told.returncode == 1
    assert f"pid {shared.process.pid}" in told.stderr
    assert shared.addresses["url"] in told.stderr
    assert told.stderr.count("\n") == 1
    assert [(path.stat().st_mtime_ns, path.read_bytes()) for path in kept] == before
    assert in_use
    assert sorted((state_dir / "run" / "tmp").iterdir()) == in_use
    assert horus(state_dir, "run", "-c", "print(1)").stdout == "1\n"


def test_a_port_that_is_taken_is_said(shared, horus, state_dir):
    port = shared.addresses["url"].rpartition(":")[2]
    told = horus(state_dir, "up", "--port", port)
    assert told.returncode == 1
    assert f"port {port} of 127.0.0.1 is taken" in told.stderr
    assert told.stderr.splitlines()[-1].startswith("horus: ")


def test_an_expired_bundle_without_a_root_key_is_said(horus, state_dir):
    make(state_dir, age=timedelta(days=91))
    (state_dir / "root.key").unlink()
    told = horus(state_dir, "up", "--port", "0")
    assert told.returncode == 1
    assert "expired on" in told.stderr
    assert "horus trust renew" in told.stderr


def test_an_expired_bundle_with_a_root_key_is_signed_again(up, state_dir):
    make(state_dir, age=timedelta(days=91))
    deployment = up(*PYTHON)
    assert any("signed the trust bundle again" in line for line in deployment.said)
    with client_of(deployment) as client:
        assert client.run("print(1)").succeeded


def test_a_wrong_clock_is_said(horus, state_dir):
    make(state_dir, age=timedelta(days=-1))
    told = horus(state_dir, "up", "--port", "0")
    assert told.returncode == 1
    assert "the clock is wrong" in told.stderr


def test_a_redis_that_does_not_answer_is_said_without_its_password(horus, state_dir):
    url = "redis://:hidden-password@127.0.0.1:1/0"
    told = horus(state_dir, "up", "--port", "0", "--redis-url", url)
    assert told.returncode == 1
    assert "redis://127.0.0.1:1" in told.stderr
    assert "hidden-password" not in told.stderr


def make(state_dir, *, age):
    StateDirectory(state_dir).initialise(
        namespace="hero",
        runners=runners_of(["python", "system"]),
        now=datetime.now(UTC) - age,
    )
