"""The README's commands and its Python do what the README shows.

Put in place of what is written there are only the home directory, which is a temporary
one, the ports, which are free ones, and the address of the given Redis.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import tomllib
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest

from horus_celery import wiring
from horus_celery.cli import COMMANDS
from horus_celery.lifecycle import Status
from horus_celery.settings import load_settings
from horus_celery.statedir import StateDirectory
from horus_celery.statements import dsse
from horus_celery.statements.job import make_job
from horus_celery.statements.keys import read_key_file

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEADLINE = 60  # seconds
UP = "horus up"
RUN = "horus run -c 'print(\"hello\")'"
EXPORT = "export HORUS_REDIS_URL=redis://localhost:6379"
INIT = "horus init"
HONCHO = "honcho start"  # test_up.py has the whole Procfile run by it
WORKER = "celery -A horus_celery worker -Q python"
FLOWER = "celery -A horus_celery flower"
#: What Flower's page of tasks asks for.
TABLE = {
    "draw": "1",
    "start": "0",
    "length": "10",
    "order[0][column]": "0",
    "order[0][dir]": "asc",
    "columns[0][data]": "name",
}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def console():
    """Return every command of the README with what it is shown to say."""
    shown: dict[str, str] = {}
    for line in "".join(blocks("console")).splitlines(keepends=True):
        if line.startswith("$ "):
            command = line.removeprefix("$ ").partition("  #")[0].rstrip()
            shown[command] = ""
        else:
            shown[command] += line
    return shown


class Home:
    """A person's home directory, and a shell that finds our commands."""

    def __init__(self, path, **more):
        self.path = path
        self.state = StateDirectory(path / ".horus")
        self.port, self.flower_port = free_port(), free_port()
        self.env = {
            "HOME": str(path),
            "PATH": os.pathsep.join(
                [str(Path(sys.executable).parent), os.environ["PATH"]]
            ),
            "PYTHONPATH": str(ROOT),
            "HORUS_PORT": str(self.port),
            "HORUS_FLOWER_PORT": str(self.flower_port),
            **more,
        }

    def run(self, *words):
        """Run a command to its end."""
        return subprocess.run(  # noqa: S603 - what the README shows
            words,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
            cwd=self.path,
            env=self.env,
        )

    def sh(self, command):
        """Run a line of the README to its end."""
        return self.run("/bin/sh", "-c", command)

    @contextmanager
    def running(self, command, **more):
        """Start a line of the README; it is ended with TERM."""
        process = subprocess.Popen(  # noqa: S603 - what the README shows
            ["/bin/sh", "-c", f"exec {command}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=self.path,
            env={**self.env, **more},
        )
        # What never becomes ready ends instead of keeping the tests.
        watchdog = threading.Timer(DEADLINE, process.terminate)
        watchdog.start()
        with process:
            try:
                yield process
            finally:
                watchdog.cancel()
                process.terminate()
                process.communicate(timeout=DEADLINE)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def make_home():
    """Make a home; its path is short, because a unix socket lies in it."""
    made = []

    def make(**more):
        made.append(Path(tempfile.mkdtemp(prefix="hs-")))
        return Home(made[-1], **more)

    yield make
    for path in made:
        shutil.rmtree(path)


def test_every_command_of_the_readme_is_one_that_is_tried():
    assert list(console()) == [UP, RUN, EXPORT, INIT, HONCHO, WORKER, FLOWER]


# --- the two commands of a newcomer ------------------------------------------------


def commands_of(block):
    return [shlex.split(command) for command in block.split("&&")]


def test_the_first_command_installs_this_and_shows_it():
    make, install, demo = commands_of(blocks("sh")[0])
    assert make == ["python3", "-m", "venv", ".venv"]
    assert install == [".venv/bin/pip", "install", "-q", "-e", "."]
    script, command = demo
    module, _, function = PROJECT["scripts"][Path(script).name].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert command in COMMANDS
    found = re.search(r"Python (\d\.\d+) or newer", README)
    assert found is not None
    assert PROJECT["requires-python"] == f">={found[1]}"


#: It installs, builds the Rhai engine where there is Rust, and tests.
SECOND = re.compile(
    r"(.*?) && \{ ! command -v cargo \|\| \.venv/bin/pip install -q (\S+)"
    r" \|\| echo '[^']+'; \} && (.*)"
)


def test_the_second_command_installs_what_the_tests_need():
    found = SECOND.fullmatch(blocks("sh")[1].strip())
    assert found is not None
    install, engine, test = found.groups()
    assert (ROOT / engine / "Cargo.toml").is_file()
    install, test = shlex.split(install), shlex.split(test)
    assert install[:-1] == [".venv/bin/pip", "install", "-q", "-e"]
    extra = re.fullmatch(r"\.\[(\w+)\]", install[-1])
    assert extra is not None
    needed = {
        re.split(r"\W", each)[0] for each in PROJECT["optional-dependencies"][extra[1]]
    }
    assert Path(test[0]).name in needed
    assert len(test) == 1, "plain pytest runs all of them"


def test_the_gate_runs_the_second_command_as_it_stands():
    gate = (ROOT / ".ci" / "run").read_text()
    found = re.search(r"^sh -ec .*<<'PY'\n(.*?)^PY$", gate, re.DOTALL | re.MULTILINE)
    assert found is not None
    told = subprocess.run(  # noqa: S603 - the gate's own words
        [sys.executable, "-c", found[1]],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert told.stdout.strip() == blocks("sh")[1].strip()


# --- one command -------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(make_home):
    """The home of somebody who typed `horus up`, and what it said."""
    home = make_home()
    with home.running(UP) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("Try"):
                break
        home.said = "".join(said)
        yield home


def test_the_line_to_try_is_the_one_that_is_shown(service):
    assert RUN in service.said
    told = service.sh(RUN)
    assert told.stdout == console()[RUN] == "hello\n"
    assert told.returncode == 0


def test_what_is_up_is_told_by_its_name(service):
    told = dict(re.findall(r"^(API|Flower) +(http\S+)$", service.said, re.MULTILINE))
    assert told == {
        "API": f"http://127.0.0.1:{service.port}",
        "Flower": f"http://127.0.0.1:{service.flower_port}",
    }


def test_the_python_that_is_shown_runs(service):
    [code] = blocks("python")
    assert "127.0.0.1:3030" in code
    told = service.run(
        sys.executable, "-c", code.replace(":3030", f":{service.port}", 1)
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_the_state_directory_is_where_it_is_said_to_be(service):
    assert "the state directory `~/.horus`" in README
    assert (service.path / ".horus" / "keys" / "default.key").is_file()
    assert {path.name for path in service.path.iterdir()} == {".horus"}


# --- Celery's own commands ---------------------------------------------------------


class Given:
    """A state directory and a Redis, for which a test starts Celery's commands."""

    def __init__(self, home, flower):
        self.home = home
        self.flower = flower
        self.url = f"http://127.0.0.1:{home.flower_port}"
        self.settings = load_settings(env=home.env, state_dir=home.state.path)
        self.supervisor = wiring.make_supervisor(self.settings)
        self.dispatcher = wiring.make_dispatcher(self.settings)

    def runners(self):
        return [beat.name for beat in wiring.make_roster(self.settings).list()]

    def run(self, payload):
        """Have a job run; return its record."""
        job = make_job(
            aud=self.settings.namespace,
            caller_id="default",
            context_id="default",
            executor="python",
            payload=payload,
            now=datetime.now(UTC),
        )
        key = read_key_file(self.home.state.key_file("default"))
        envelope = dsse.to_wire(dsse.sign(dsse.JOB, job.body(), [key]))
        made = self.supervisor.create_and_queue(envelope, priority=4, not_before=None)
        wait = timedelta(seconds=DEADLINE)
        return self.supervisor.result(made.summary.digest, wait=wait).record

    def flower_answers(self):
        try:
            return httpx.get(f"{self.url}/healthcheck").is_success
        except httpx.TransportError:
            return False

    def online(self):
        """Return the workers that Flower shows, with whether each is online."""
        shown = httpx.get(f"{self.url}/workers", params={"json": "1"}).json()["data"]
        return {one["hostname"].partition("@")[0]: one["status"] for one in shown}

    def shows_task(self, words):
        return words in httpx.post(f"{self.url}/tasks/datatable", data=TABLE).text


@pytest.fixture(scope="module")
def given_redis(make_home, redis_server, eventually):
    """What the README starts with a Redis that is given: a worker, and Flower."""
    url = f"{redis_server.url}?db=2"
    name = EXPORT.removeprefix("export ").partition("=")[0]
    # Flower's API is open, so that what refuses is that it is read-only.
    home = make_home(**{name: url, "FLOWER_UNAUTHENTICATED_API": "true"})
    told = home.sh(INIT)
    assert told.returncode == 0
    assert str(home.state.path) in told.stdout
    with home.running(WORKER), home.running(FLOWER) as flower:
        deployment = Given(home, flower)
        eventually(lambda: deployment.runners() == ["python_runner_1"])
        eventually(deployment.flower_answers)
        yield deployment
        deployment.supervisor.close()


def test_a_worker_of_celery_serves_and_flower_shows_it(given_redis, eventually):
    record = given_redis.run("print(1)")
    assert (record.status, record.result) == (Status.COMPLETED, "1\n")
    assert record.ran_on == "python_runner_1"
    eventually(lambda: given_redis.online().get("python_runner_1") is True)
    eventually(lambda: given_redis.shows_task(record.summary.id))


def test_flower_listens_on_loopback_only(given_redis):
    connections = psutil.Process(given_redis.flower.pid).net_connections("tcp")
    listening = {one.laddr for one in connections if one.status == psutil.CONN_LISTEN}
    assert listening == {("127.0.0.1", given_redis.home.flower_port)}


@pytest.mark.parametrize(
    "path",
    [
        "task/apply/horus.run_job",
        "task/async-apply/horus.run_job",
        "task/send-task/horus.run_job",
        "task/revoke/11111111-2222-4333-8444-555555555555?terminate=true",
        "task/abort/11111111-2222-4333-8444-555555555555",
        "worker/shutdown/python_runner_1",
        "worker/pool/grow/python_runner_1",
        "worker/queue/cancel-consumer/python_runner_1?queue=python",
    ],
)
def test_flower_changes_nothing_even_when_its_api_is_open(given_redis, path):
    assert httpx.get(f"{given_redis.url}/api/tasks").is_success
    asked = {"args": ["11111111-2222-4333-8444-555555555555"]}
    told = httpx.post(f"{given_redis.url}/api/{path}", json=asked)
    assert told.status_code == 403
    assert given_redis.dispatcher.queue_lengths(["python"]) == {"python": 0}
    assert given_redis.run("print('on')").result == "on\n"
