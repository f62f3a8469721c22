"""A deployment in small: a state directory, real Celery workers, a supervisor."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import httpx
import psutil
import pytest

from horus_celery import kernel, wiring
from horus_celery.crew import runners_of
from horus_celery.errors import UnavailableError
from horus_celery.lifecycle import Status
from horus_celery.processes.tree import descendants
from horus_celery.registry import Phase
from horus_celery.settings import load_settings
from horus_celery.statedir import StateDirectory
from horus_celery.statements import dsse
from horus_celery.statements.job import Limits, make_job
from horus_celery.statements.keys import read_key_file
from horus_celery.store.connection import connect
from tests.signing import sign_workflow
from tests.waiting import within
from workers.zygote import UNBORN

TOP = Path(__file__).parents[2]
CELERY = Path(sys.executable).with_name("celery")
_API = ("-c", "python:api.server", "api.wsgi:app")
EXECUTORS = ("python", "system")
SOON = timedelta(seconds=20)
_ZYGOTE = "workers.zygote"
#: How a runner is started that is a plain user's: in a namespace of users where it is.
_AS_USER = (
    *(shutil.which("unshare") or "unshare", "--user"),
    *("--map-user=1000", "--map-group=1000", "--"),
)


class Deployment:
    """What `horus init` makes, with workers that a test starts as it needs them.

    Its scripts are not kept apart unless a test says so: many of them meet the test in
    a file of its own.
    """

    def __init__(self, redis_url, folder, *, sandbox="plain", **env):
        self.folder = folder
        self.state = StateDirectory(folder / "state")
        self.namespace = f"test-{uuid.uuid4().hex[:8]}"
        self.env = {
            "PATH": os.environ["PATH"],
            "HORUS_STATE_DIR": str(self.state.path),
            "HORUS_NAMESPACE": self.namespace,
            "HORUS_REDIS_URL": redis_url,
            "HORUS_SANDBOX": sandbox,
            **env,
        }
        self.settings = load_settings(env=self.env)
        self.state.initialise(
            namespace=self.namespace,
            runners=runners_of(EXECUTORS),
            now=datetime.now(UTC),
        )
        # One worker serves both, so that a test starts only one.
        self.state.reissue(_each_serves_all, now=datetime.now(UTC))
        self.key = read_key_file(self.state.key_file("default"))
        self.supervisor = wiring.make_supervisor(self.settings)
        self.store = wiring.make_store(self.settings)
        self.registry = wiring.make_registry(self.settings)
        self.roster = wiring.make_roster(self.settings)
        self.fleet = wiring.make_fleet(self.settings)
        self.redis = connect(redis_url)
        self.workers = []

    def grant(self, **changes):
        """Change what the one grant covers."""

        def change(body):
            return {**body, "grants": [{**one, **changes} for one in body["grants"]]}

        self.state.reissue(change, now=datetime.now(UTC))

    def serve(self, *executors):
        """Let every runner serve these executors."""

        def change(body):
            runners = [{**one, "executors": [*executors]} for one in body["runners"]]
            return {**body, "runners": runners}

        self.state.reissue(change, now=datetime.now(UTC))

    def celery(
        self, *words, cwd=None, env=(), before=(), app="horus_celery", **options
    ):
        """Start one of Celery's own commands, in the state directory."""
        return subprocess.Popen(  # noqa: S603 - a command of our own environment
            [*before, CELERY, "-A", app, *words],
            cwd=cwd or self.state.path,
            env={**self.env, **dict(env)},
            **options,
        )

    def start_worker(self, *words, **options):
        """Start a worker and wait until it says that it is there."""
        log = (self.folder / f"worker{len(self.workers)}.log").open("w+b")
        worker = self.celery("worker", *words, stdout=log, stderr=log, **options)
        worker.log = log
        self.workers.append(worker)
        self.until(lambda: worker.poll() is not None or self.beat_of(worker))
        assert worker.poll() is None, self.log_of(worker)
        return worker

    def start_coordinator(self, *words, **options):
        """Start a worker of the queue `coordinator`; it is there a little later."""
        log = (self.folder / f"worker{len(self.workers)}.log").open("w+b")
        app = "horus_celery.coordinating"
        options = {"stdout": log, "stderr": log, **options}
        worker = self.celery("worker", "-Q", "coordinator", *words, app=app, **options)
        worker.log = log
        self.workers.append(worker)
        return worker

    def beat_of(self, worker):
        """Return what a worker says once it takes jobs."""
        # A machine that is busy starting workers may answer too late.
        with suppress(UnavailableError):
            for beat in self.roster.list():
                if (beat.pid, beat.phase) == (worker.pid, Phase.RUNNING):
                    return beat
        return None

    def log_of(self, worker):
        return Path(worker.log.name).read_text()

    def end(self, worker, number=signal.SIGTERM):
        worker.send_signal(number)
        worker.wait(SOON.total_seconds())

    def kill_workers(self):
        """End every worker at once, with all that runs in it: an end in order waits."""
        for worker in self.workers:
            if worker.poll() is not None:
                continue
            below = descendants(worker.pid)
            self.end(worker, signal.SIGKILL)
            for pid in below:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def close(self):
        self.kill_workers()
        for worker in self.workers:
            worker.log.close()
        self.supervisor.close()
        self.redis.close()

    # --- jobs --------------------------------------------------------------------

    def envelope(self, payload, *, output_kb=None, **facts):
        """Sign a job; the usual one is for python."""
        if output_kb is not None:
            limits = {"memory_mb": 512, "cpu_s": 60, "procs": 64}
            facts["limits"] = Limits.from_wire({**limits, "output_kb": output_kb})
        usual = {
            "aud": self.namespace,
            "caller_id": "default",
            "context_id": "default",
            "executor": "python",
            "now": datetime.now(UTC),
        }
        job = make_job(payload=payload, **{**usual, **facts})
        return dsse.to_wire(dsse.sign(dsse.JOB, job.body(), [self.key]))

    @cached_property
    def coordinator(self):
        """The coordinator of this very process."""
        return wiring.make_coordinator(self.settings, self.supervisor, self.conductor)

    @cached_property
    def conductor(self):
        """What moves workflows on in this process, when a test says so."""
        return wiring.make_conductor(self.settings, self.supervisor)

    def sign(self, *, jobs=None, **steps):
        """Sign a workflow whose jobs are Python scripts (see `sign_workflow`)."""
        usual = {
            "aud": self.namespace,
            "caller_id": "default",
            "context_id": "default",
        }
        return sign_workflow(
            steps,
            key=self.key,
            now=datetime.now(UTC),
            manifest=usual,
            job={**usual, "executor": "python"},
            jobs=jobs,
        )

    def workflow_of(self, signed):
        """Return the record of a workflow."""
        return self.coordinator.get(signed.digest)[0]

    def plant(self, envelope):
        """Put what nobody signed in the place of a job; return what its runner says.

        As whoever may do everything to the store: the record is about the envelope.
        """
        honest = self.supervisor.create(
            self.envelope("print(1)"), priority=4, not_before=None
        )
        said = json.loads(envelope.body)
        summary = replace(honest.summary, id=said["id"], digest=envelope.digest)
        record = self.store.add(
            summary,
            dsse.to_json(envelope),
            at=datetime.now(UTC),
            priority=4,
            not_before=None,
            queue="python",
        )
        wiring.make_dispatcher(self.settings).ring(said["id"], "python", 4)
        self.until(lambda: self.store.get(envelope.digest).is_over)
        over = self.store.get(record.summary.digest)
        assert over.status is Status.REJECTED
        return over.reason

    def submit_workflow(self, *, jobs=None, **steps):
        """Sign a workflow, and have it submitted."""
        signed = self.sign(jobs=jobs, **steps)
        self.coordinator.submit(signed.manifest, signed.jobs)
        return signed

    def ending_of(self, signed, *, wait=SOON):
        """Return how a workflow ended, as soon as it has."""
        return self.coordinator.result(signed.id, wait=wait)

    def steps_of(self, signed):
        """Return where each step of a workflow stands."""
        overview = self.coordinator.status(signed.id)
        return {
            name: step.status.value
            for name, step in zip(overview.graph.names, overview.steps, strict=True)
        }

    def submit(self, payload, *, priority=4, **facts):
        return self.supervisor.create_and_queue(
            self.envelope(payload, **facts), priority=priority, not_before=None
        )

    def over(self, record):
        """Wait until a job is over and return its record."""
        return self.supervisor.result(record.summary.digest, wait=SOON).record

    def run(self, payload, **facts):
        return self.over(self.submit(payload, **facts))

    def status(self, record):
        return self.supervisor.status(record.summary.digest).status

    def lines(self, record):
        return self.supervisor.logs(
            record.summary.digest, after=None, limit=1000, wait=timedelta(0)
        ).lines

    def until_it_says(self, record, text):
        """Wait until a job has printed a line, and return it."""
        after = None
        while True:
            page = self.supervisor.logs(
                record.summary.digest, after=after, limit=1000, wait=SOON
            )
            assert page.lines, f"{text!r} was never said"
            for line in page.lines:
                if text in line.text:
                    return line.text
            after = page.next

    def until(self, holds):
        """Look again until something holds, with a deadline."""
        within(SOON.total_seconds(), holds)

    # --- what is left -------------------------------------------------------------

    def processes_below_workers(self):
        """Return the processes that jobs have running."""
        pools = {
            pid
            for worker in self.workers
            for pid in (worker.pid, *(p.pid for p in _children(worker.pid)))
        }
        below = {pid for worker in self.workers for pid in descendants(worker.pid)}
        # A zygote stays with its keeper, to bear the scripts of later jobs.
        return {
            pid
            for pid in below - pools
            if not (_is_zygote(pid) or _is_keeper(pid) or _is_unborn(pid))
        }

    def pool_of(self, pid):
        """Return the pool's child that a script belongs to."""
        pools = {p.pid for worker in self.workers for p in _children(worker.pid)}
        above = [one.pid for one in psutil.Process(pid).parents()]
        return next(parent for parent in above if parent in pools)

    def busy_zygotes(self):
        """Return the zygotes below which something runs."""
        below = (pid for worker in self.workers for pid in descendants(worker.pid))
        return [
            pid
            for pid in below
            if _is_zygote(pid)
            and not all(
                _is_keeper(each) or _is_unborn(each) for each in descendants(pid)
            )
        ]

    def unborn(self):
        """Return the processes that wait for the script that they are to become."""
        below = (pid for worker in self.workers for pid in descendants(worker.pid))
        return [pid for pid in below if _is_unborn(pid)]

    def rooms(self):
        return list(self.state.rooms.iterdir())


def _is_zygote(pid):
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        parent = process.parent()
        above = [] if parent is None else parent.cmdline()
        return _ZYGOTE in process.cmdline() and _ZYGOTE not in above
    return False


def _is_keeper(pid):
    """Whether a zygote's child is the first process of a namespace."""
    with suppress(OSError, psutil.Error):
        status = Path(f"/proc/{pid}/status").read_text()
        numbers = re.search(r"^NSpid:\s+(.*)$", status, re.MULTILINE)
        is_first = numbers is not None and numbers[1].split()[1:][-1:] == ["1"]
        return is_first and _is_zygote(psutil.Process(pid).ppid())
    return False


def _is_unborn(pid):
    """Whether it waits for the script that it is to become."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n") == UNBORN
    return False


def has_a_script(child: psutil.Process) -> bool:
    """Whether a child of a pool has a script running.

    Its own child is the zygote, which is always there, as is who waits below it.
    """
    return any(
        below.name() != UNBORN
        for zygote in child.children()
        for below in zygote.children()
    )


def _children(pid):
    return psutil.Process(pid).children() if psutil.pid_exists(pid) else []


def _each_serves_all(body):
    runners = [{**one, "executors": list(EXECUTORS)} for one in body["runners"]]
    return {**body, "runners": runners}


@contextmanager
def _deployed(redis_url, **chosen):
    # The path of a unix socket in it has to be short.
    folder = Path(tempfile.mkdtemp(prefix="horus-"))
    deployment = Deployment(redis_url, folder, **chosen)
    try:
        yield deployment
    finally:
        deployment.close()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def deployment(redis_server):
    """A deployment that the tests of a module share."""
    # Celery's queues have no namespace: a database of their own keeps others out.
    with redis_server.client(db=1) as client:
        client.flushdb()
    with _deployed(f"{redis_server.url}?db=1") as made:
        yield made


@pytest.fixture(scope="module")
def make_deployment(redis_server):
    """Make deployments that differ in what is set, each in a database of its own."""
    with ExitStack() as made:
        numbers = itertools.count(2)

        def make(**chosen):
            number = next(numbers)
            with redis_server.client(db=number) as client:
                client.flushdb()
            block = _deployed(f"{redis_server.url}?db={number}", **chosen)
            return made.enter_context(block)

        yield make


@pytest.fixture(scope="module")
def deployment_at(make_deployment):
    """Make deployments whose runners, started as they say (`before`), have a level."""

    def make(level, **chosen):
        if level == "bwrap" and shutil.which("bwrap") is None:
            pytest.skip("bubblewrap is not installed")
        word = level.partition(" ")[0]
        if word == "landlock" and not _has_landlock():
            pytest.skip("this kernel has no Landlock")
        sandbox = word if word in {"bwrap", "landlock", "plain"} else "auto"
        made = make_deployment(sandbox=sandbox, **chosen)
        made.before = _AS_USER if level == "bwrap" or "user" in level else ()
        return made

    return make


def _has_landlock():
    try:
        return kernel.landlock_version() > 0
    except OSError:
        return False


@pytest.fixture
def private_deployment(private_redis):
    """A deployment for one test, which may stop its Redis."""
    with _deployed(private_redis.url) as made:
        yield made


class Web:
    """A process of a deployment that answers over HTTP."""

    def __init__(self, deployment, command, port, **env):
        self._deployment = deployment
        self.url = f"http://127.0.0.1:{port}"
        self._log = deployment.folder / f"{Path(command[0]).name}{port}.log"
        self._command, self._env = command, env
        self.http = httpx.Client(timeout=SOON.total_seconds() + 5)
        self.start()

    def start(self):
        """Start it, also once more where it was killed."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                self._command,
                cwd=self._deployment.state.path,
                env={**self._deployment.env, "PYTHONPATH": str(TOP), **self._env},
                stdout=log,
                stderr=log,
            )
        self._deployment.until(self._answers)

    def log(self):
        return self._log.read_text()

    def close(self):
        self.http.close()
        if self._process.poll() is None:
            self.kill()

    def kill(self):
        """End all its processes at once, without a word to anybody."""
        master = psutil.Process(self._process.pid)
        for process in (master, *master.children(recursive=True)):
            process.kill()
        self._process.wait()

    def end(self):
        """End it in order."""
        self._process.terminate()
        self._process.wait(SOON.total_seconds())

    def call(self, method, *, as_="user", **params):
        """Call a method of the API and return the whole answer."""
        secret = self._deployment.state.secret(as_)
        answer = self.http.post(
            self.url,
            json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
            headers={"Authorization": f"Bearer {secret}"},
        )
        return answer.json()

    def ask(self, method, **params):
        """Call a method of the API and return its result."""
        answer = self.call(method, **params)
        assert "result" in answer, answer
        return answer["result"]

    def envelope(self, payload, **facts):
        """Sign a job."""
        return self._deployment.envelope(payload, **facts)

    def run(self, payload, **facts):
        """Have a job run, and return what the caller gets."""
        job = self.envelope(payload, **facts)
        return self.ask("job.run", job=job, wait=int(SOON.total_seconds()))

    def _answers(self):
        assert self._process.poll() is None, self.log()
        try:
            self.http.get(f"{self.url}/healthz")
        except httpx.TransportError:
            return False
        return True


class Flower(Web):
    """Flower's pages."""

    def shows(self, queue, messages):
        """Wait until its page of queues shows that many messages."""
        row = re.compile(rf"<td>{re.escape(queue)}</td>\s*<td[^>]*>{messages}</td>")
        self._deployment.until(
            lambda: row.search(self.http.get(f"{self.url}/broker").text)
        )


@pytest.fixture
def api_of():
    """Start the API of a deployment as gunicorn serves it."""
    yield from _starting_apis()


@pytest.fixture(scope="module")
def lasting_api_of():
    """Start it for all tests of a module."""
    yield from _starting_apis()


@pytest.fixture
def flower_of():
    """Start Flower beside a deployment."""
    command = [str(CELERY), "-A", "horus_celery", "flower"]
    yield from _starting(Flower, command, "HORUS_FLOWER_PORT")


def _starting_apis():
    yield from _starting(Web, [sys.executable, "-m", "gunicorn", *_API], "HORUS_PORT")


def _starting(kind, command, port_variable):
    started = []

    def start(deployment, **env):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        env = {port_variable: str(port), **env}
        started.append(kind(deployment, command, port, **env))
        return started[-1]

    yield start
    for each in started:
        each.close()
