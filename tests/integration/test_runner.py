"""How a worker begins, is seen, and ends."""

import json
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx
import psutil
import pytest

from horus_celery import wiring
from horus_celery.journal import Journal
from horus_celery.lifecycle import TERMINAL, Status
from horus_celery.news import PatientDispatcher
from horus_celery.record import LEASE
from horus_celery.registry import PATIENCE
from horus_celery.statements import canonical, dsse
from horus_celery.statements.keys import read_key_file

pytestmark = pytest.mark.integration

TOP = Path(__file__).parents[2]

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what is shown not to happen
#: What Flower's page of tasks asks for.
TABLE = {
    "draw": "1",
    "start": "0",
    "length": "10",
    "order[0][column]": "0",
    "order[0][dir]": "asc",
    "columns[0][data]": "name",
}


def said(deployment, *words, **options):
    """Return the exit code and what a command says that is to end by itself."""
    with deployment.celery(
        *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    ) as command:
        try:
            text, _ = command.communicate(timeout=20)
        finally:
            command.kill()
    return command.returncode, text.strip()


@pytest.mark.parametrize(
    ("words", "env", "text"),
    [
        (["-n", "nobody@%h"], {}, "runners/nobody.key"),
        (["-n", "../x@%h"], {}, "'../x' is no name for a runner"),
        (["-Q", "osi"], {}, "there is no executor 'osi' here"),
        (["-P", "threads"], {}, "needs Celery's prefork pool"),
        (["-P", "solo"], {}, "needs Celery's prefork pool"),
        ([], {"CELERY_BROKER_URL": "memory://"}, "unset CELERY_BROKER_URL"),
        ([], {"HORUS_NAMESPACE": "other"}, "set HORUS_NAMESPACE"),
        ([], {"HORUS_PROT": "1"}, "HORUS_PROT is no setting"),
        ([], {"HORUS_REDIS_URL": "http://x"}, "redis_url"),
        ([], {"HORUS_STATE_DIR": "/nowhere"}, "/nowhere"),
    ],
    ids=str,
)
def test_what_is_wrong_at_the_start_is_one_line(deployment, words, env, text):
    code, line = said(deployment, "worker", *words, env=env)
    assert code == 1
    assert line.startswith("horus: ")
    assert text in line
    assert "\n" not in line


def test_a_runner_whose_bundle_has_expired_says_so(deployment):
    envelope = deployment.state.trust_file.read_text()
    root = read_key_file(deployment.state.root_key)
    body = deployment.state.trust_body()
    body["version"] += 1
    body["expires_at"] = body["issued_at"] + 1
    signed = dsse.sign(dsse.TRUST, canonical.encode(body), [root])
    deployment.state.trust_file.write_text(dsse.to_json(signed))
    try:
        code, line = said(deployment, "worker", "-Q", "system")
    finally:
        body["version"] += 1
        body["expires_at"] += 10**9
        signed = dsse.sign(dsse.TRUST, canonical.encode(body), [root])
        deployment.state.trust_file.write_text(dsse.to_json(signed))
    assert code == 1
    assert "the trust bundle expired on" in line
    assert "\n" not in line
    assert envelope != dsse.to_json(signed)


def test_modules_in_the_working_directory_do_not_take_the_place_of_ours(
    deployment, tmp_path
):
    (tmp_path / "celeryconfig.py").write_text("broker_url = 'memory://'")
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").write_text("raise SystemExit('taken')")
    worker = deployment.start_worker(
        "-Q", "python", "-c1", "-n", "system_runner_1@%h", cwd=tmp_path
    )
    deployment.end(worker)
    assert worker.returncode == 0


def test_a_worker_that_ends_in_order_says_so(deployment):
    worker = deployment.start_worker("-Q", "python", "-c1", "-n", "system_runner_1@%h")
    view = deployment.fleet.get("system_runner_1")
    assert (view.executor, view.concurrency, view.status) == ("python", 1, "running")
    deployment.end(worker)
    assert deployment.fleet.get("system_runner_1").status == "stopped"


def catches(pid, number):
    """Whether a process does something of its own when it gets a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    [caught] = re.findall(r"^SigCgt:\s+(\w+)$", status, re.MULTILINE)
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_so_does_one_that_ends_while_it_starts(deployment):
    with deployment.celery(
        *("worker", "-Q", "python", "-c1", "-n", "python_runner_1@%h"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as worker:

        def is_heard():
            beat = deployment.roster.look().beats.get("python_runner_1")
            return beat is not None and beat.pid == worker.pid

        deployment.until(is_heard)
        deployment.until(lambda: catches(worker.pid, signal.SIGTERM))
        deployment.end(worker)
    assert worker.returncode == 0
    assert deployment.fleet.get("python_runner_1").status == "stopped"


def test_what_is_shown_of_a_busy_runner_is_true_and_told_every_two_seconds(deployment):
    worker = deployment.start_worker("-Q", "python", "-c1", "-n", "system_runner_1@%h")
    running = deployment.submit("print('on', flush=True); import time; time.sleep(600)")
    deployment.until_it_says(running, "on")
    waiting = [deployment.submit("print(1)") for _ in range(2)]
    view = deployment.fleet.get("system_runner_1")
    assert (view.status, view.running, view.queued) == ("running", 1, 2)
    assert (view.executor, view.concurrency, view.contexts) == ("python", 1, ("*",))
    seen = [view.last_seen]

    def are_enough():
        last = deployment.fleet.get("system_runner_1").last_seen
        if last != seen[-1]:
            seen.append(last)
        return len(seen) == 4

    deployment.until(are_enough)
    for earlier, later in pairwise(seen):
        assert timedelta(seconds=1.5) < later - earlier < timedelta(seconds=4)
    for record in (*waiting, running):
        deployment.supervisor.stop(record.summary.digest)
    deployment.over(running)
    deployment.end(worker)


class Ahead:
    """The machine's clock, and what a test adds to it."""

    def __init__(self):
        self.by = timedelta(0)

    def now(self):
        return datetime.now(UTC) + self.by


@pytest.mark.parametrize("by", [-180, 180])
def test_a_runner_with_a_wrong_clock_is_shown_as_it_does(deployment, by):
    worker = deployment.start_worker(
        *("-Q", "python", "-c1", "-n", "system_runner_1@%h"),
        before=(sys.executable, "-m", "tests.integration.wrong_clock", str(by)),
        env={"PYTHONPATH": str(TOP)},
    )
    with busy(deployment):
        view = deployment.fleet.get("system_runner_1")
        assert (view.status, view.running) == ("running", 1)
        assert abs(datetime.now(UTC) - view.last_seen) < PATIENCE
        waiting = deployment.submit("print(1)")
        assert deployment.supervisor.why(waiting.summary.digest).gate == "queue"
        deployment.supervisor.stop(waiting.summary.digest)
    deployment.end(worker, signal.SIGKILL)
    deployment.until(lambda: deployment.fleet.get("system_runner_1").status == "lost")


@contextmanager
def busy(deployment):
    """Have a job run until the block ends."""
    record = deployment.submit("print('on', flush=True); import time; time.sleep(600)")
    deployment.until_it_says(record, "on")
    yield
    deployment.supervisor.stop(record.summary.digest)
    deployment.over(record)


def test_a_runner_that_grows_is_shown_with_the_most_that_it_runs(deployment):
    worker = deployment.start_worker(
        "-Q", "python", "--autoscale=3,1", "-n", "system_runner_1@%h"
    )
    assert deployment.fleet.get("system_runner_1").concurrency == 3
    deployment.end(worker)


def test_a_job_says_that_a_runner_which_ends_takes_no_more(deployment):
    worker = deployment.start_worker("-Q", "python", "-c1", "-n", "system_runner_1@%h")
    with busy(deployment):
        worker.send_signal(signal.SIGTERM)
        waiting = deployment.submit("print(1)")

        def why():
            return deployment.supervisor.why(waiting.summary.digest)

        deployment.until(lambda: why().gate == "runner")
        assert "system_runner_1 is there, but takes no jobs now" in why().detail
        view = deployment.fleet.get("system_runner_1")
        assert (view.status, view.running, view.queued) == ("running", 1, 1)
    worker.wait(20)
    assert deployment.fleet.get("system_runner_1").status == "stopped"
    assert why().detail.startswith("no live runner: it waits for any runner of python")
    deployment.supervisor.stop(waiting.summary.digest)


def test_a_runner_that_dies_while_busy_is_lost_and_its_job_is_found(deployment):
    worker = deployment.start_worker("-Q", "python", "-c1", "-n", "system_runner_1@%h")
    record = deployment.submit("print('on', flush=True); import time; time.sleep(600)")
    deployment.until_it_says(record, "on")
    assert deployment.fleet.get("system_runner_1").running == 1
    deployment.end(worker, signal.SIGKILL)
    last = deployment.fleet.get("system_runner_1").last_seen
    deployment.until(lambda: deployment.fleet.get("system_runner_1").status == "lost")
    assert PATIENCE < datetime.now(UTC) - last < timedelta(seconds=10)
    # Any process may sweep. This one sees the leases end in a few moments.
    clock = Ahead()
    sweep = wiring.make_sweep(deployment.settings, clock=clock)
    while deployment.status(record) not in TERMINAL:
        assert clock.by < 3 * LEASE
        sweep.once()
        clock.by += timedelta(seconds=3)
    over = deployment.over(record)
    assert (over.status, over.reason) == (Status.FAILED, "worker_lost")
    assert deployment.fleet.get("system_runner_1").running == 0


def test_a_worker_without_a_queue_or_a_name_serves_all(deployment):
    worker = deployment.start_worker("-c1")
    beat = deployment.beat_of(worker)
    assert (beat.name, beat.executors) == ("python_runner_1", ("python", "system"))
    record = deployment.run("echo both", executor="system")
    assert record.result == "both\n"
    deployment.end(worker)


def test_a_job_outlives_the_absence_of_redis(
    private_deployment, private_redis, tmp_path
):
    deployment = private_deployment
    gate = tmp_path / "gate"
    worker = deployment.start_worker("-Q", "python", "-c1")
    record = deployment.submit(
        f"import os; os.mkfifo({str(gate)!r}); print('here', flush=True);"
        f" open({str(gate)!r}).read(); print('meanwhile', flush=True)"
    )
    deployment.until_it_says(record, "here")
    private_redis.stop()
    gate.write_text("")
    journal = Journal(deployment.state.journal)
    deployment.until(lambda: journal.undelivered("python_runner_1"))
    journal.close()
    private_redis.start()
    over = deployment.over(record)
    assert (over.status, over.result) == (Status.COMPLETED, "here\nmeanwhile\n")
    deployment.until(lambda: deployment.beat_of(worker))
    assert deployment.run("print('again')").result == "again\n"


def test_what_a_killed_worker_leaves_is_ended_by_the_next(deployment):
    worker = deployment.start_worker("-Q", "python", "-c1")
    record = deployment.submit(
        "import os, time\n"
        "if os.fork() == 0:\n    os.setsid()\n"
        "os.write(1, b'%d\\n' % os.getpid())\ntime.sleep(600)"
    )
    deployment.until(lambda: len(deployment.lines(record)) == 2)
    left = [int(line.text) for line in deployment.lines(record)]
    deployment.end(worker, signal.SIGKILL)
    deployment.end(deployment.start_worker("-Q", "python", "-c1"))
    deployment.until(lambda: not any(map(psutil.pid_exists, left)))
    assert deployment.rooms() == []


def told_by(deployment, code, **env):
    """Return what a line of Python says in a process that has the application."""
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", f"from horus_celery.celery import app; {code}"],
        cwd=deployment.state.path,
        env={**deployment.env, **env},
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout.strip()


def test_flower_listens_beyond_loopback_only_behind_a_password(deployment):
    code = "import os; print(os.environ['FLOWER_ADDRESS'])"
    beyond = {"HORUS_BIND_ADDRESS": EVERYWHERE, "HORUS_INSECURE_HTTP": "true"}
    assert told_by(deployment, code) == "127.0.0.1"
    assert told_by(deployment, code, **beyond) == "127.0.0.1"
    login = {"HORUS_FLOWER_BASIC_AUTH": "user:password"}
    assert told_by(deployment, code, **beyond, **login) == EVERYWHERE


def test_what_a_runner_tells_flower_never_holds_it_up(deployment):
    code = "print(app.events.Dispatcher.__mro__[1].__name__)"
    assert told_by(deployment, code) == PatientDispatcher.__name__


def test_a_runner_has_one_task(deployment):
    code = "import workers.app; print(*app.tasks)"
    assert told_by(deployment, code) == "horus.run_job"


def test_celery_shows_no_password_of_redis(deployment):
    code = "print(app.conf.humanize(with_defaults=False), app.conf.task_queues)"
    url = "redis://user:hunter2hunter2@localhost/3"
    shown = told_by(deployment, code, HORUS_REDIS_URL=url)
    assert "localhost" in shown
    assert "hunter2" not in shown


def test_flower_is_read_only_and_on_loopback_and_shows_the_queues(deployment):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flower = deployment.celery(
        "flower",
        env={
            "HORUS_FLOWER_PORT": str(port),
            "HORUS_BIND_ADDRESS": EVERYWHERE,
            "HORUS_INSECURE_HTTP": "true",
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        worker = deployment.start_worker("-Q", "python", "-c1")
        url = f"http://127.0.0.1:{port}"
        deployment.until(lambda: is_up(url))
        listening = {
            one.laddr.ip
            for one in psutil.Process(flower.pid).net_connections("tcp")
            if one.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}
        record = deployment.run("print(1)")
        deployment.until(lambda: "python_runner_1" in httpx.get(f"{url}/workers").text)
        table = f"{url}/tasks/datatable"
        deployment.until(
            lambda: record.summary.id in httpx.post(table, data=TABLE).text
        )
        assert "args" in httpx.get(f"{url}/tasks").text
        queues = httpx.get(f"{url}/broker").text
        named = ("python", "system", "python.at.python_runner_1")
        assert all(name in queues for name in named)
        refused = httpx.post(f"{url}/api/worker/shutdown/{worker.pid}")
        assert refused.status_code in (401, 403)
        deployment.end(worker)
    finally:
        flower.terminate()
        flower.wait(20)


def test_what_somebody_asks_flower_for_is_text_in_its_log(deployment, flower_of):
    flower = flower_of(deployment)
    for asked in ("/task/%1b%5b2J%0aforged", "/worker/%E2%80%AEevird%C2%9b31m"):
        assert httpx.get(f"{flower.url}{asked}").status_code == 404
    lines = flower.log().splitlines()
    assert any("evird" in line for line in lines)
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert all(json.loads(line)["at"] for line in lines)


def is_up(url):
    try:
        return httpx.get(f"{url}/healthcheck").status_code == 200
    except httpx.TransportError:
        return False
