"""Measure the runner: a script's way through it, beside stock Celery and RQ.

    python bench/runner.py [--rounds N] [--jobs N] [--slots N]

Every figure is the median of the rounds. RQ forks for each job and keeps it apart from
nothing; stock Celery starts a new interpreter for a script, as people do.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import redis
from run import BIN, HERE, Deployment, peer_worker, round_trip, round_trip_peer, until
from table import Table

from horus_celery import redis_server
from horus_celery.runner.claiming import claim
from horus_celery.runner.node import Outcome
from horus_celery.settings import Settings, load_settings
from horus_celery.statedir import StateDirectory
from horus_celery.wiring import make_dispatcher, make_node, make_store

RUNNER: Final = "python_runner_1"
OUTPUT: Final = 1_000_000_000
ONE_LINE: Final = "print(1)"
SLOTS: Final = 2
LEVELS: Final = {"plain": "plain", "sandboxed": "auto"}


class Nobody:
    """An executor that runs nothing: only what comes before it is measured."""

    def check(self, job: object) -> None:
        """Take every job."""

    def run(self, assignment: object, node: object, behind: object) -> Outcome:
        """Be never called."""
        raise NotImplementedError


@contextmanager
def deployment(**env: str) -> Iterator[Deployment]:
    """A `horus up` of its own with some variables set."""
    before = dict(os.environ)
    os.environ.update({"HORUS_CONCURRENCY": str(SLOTS), **env})
    with tempfile.TemporaryDirectory(prefix="hb") as directory:
        try:
            running = Deployment(Path(directory))
        finally:
            os.environ.clear()
            os.environ.update(before)
        try:
            yield running
        finally:
            running.close()


def admin(running: Deployment, method: str, **params: Any) -> Any:  # noqa: ANN401 - any JSON
    """Call a method with the admin's secret."""
    secret = (running.directory / "secrets" / "admin").read_text().strip()
    headers = {"Authorization": f"Bearer {secret}"}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return running.http.post("/", json=body, headers=headers).json()["result"]


def drain(running: Deployment, *, jobs: int) -> float:
    """Queue one-line Python jobs while nobody serves; jobs a second once one does."""
    admin(running, "stop_runner", name=RUNNER)
    for start in range(0, jobs, 100):
        calls = [
            {
                "jsonrpc": "2.0",
                "id": number,
                "method": "create_job",
                "params": {"job": running.envelope(ONE_LINE)},
            }
            for number in range(start, min(start + 100, jobs))
        ]
        created = running.http.post("/", json=calls).json()
    admin(running, "start_runner", name=RUNNER)
    # Waited for by one call that sleeps, for the last: to read a thousand results
    # meanwhile would slow down who makes them, and nobody reads RQ's.
    for job in reversed(created):
        running.call("job.result", job_id=job["result"], wait=60)
    times: list[tuple[int, int]] = []
    after = None
    while page := running.call("jobs.list", limit=1000, after=after):
        times += [
            (one["started_at"], one["ended_at"])
            for one in page
            if one["status"] == "completed"
        ]
        after = page[-1]["id"]
    times.sort()
    latest = times[-jobs:]
    if len(latest) < jobs:
        raise RuntimeError(f"only {len(latest)} of {jobs} jobs completed")
    took = max(ended for _, ended in latest) - min(started for started, _ in latest)
    return jobs / (took / 1000)


def drain_rq(*, jobs: int, slots: int) -> float:
    """The same script in RQ's forked work horses: jobs a second."""
    with own_redis() as (client, url):
        # Written as RQ's own client writes them.
        code = (
            "import sys, redis, rq\n"
            "queue = rq.Queue(connection=redis.Redis.from_url(sys.argv[1]))\n"
            "queue.enqueue_many([rq.Queue.prepare_data('peer_rq.run', [sys.argv[2]])"
            " for _ in range(int(sys.argv[3]))])\n"
        )
        words = [sys.executable, "-c", code, url, ONE_LINE, str(jobs)]
        subprocess.run(words, cwd=HERE, check=True)  # noqa: S603 - our own words
        workers = [
            subprocess.Popen(  # noqa: S603 - the peer's own command
                [BIN / "rq", "worker", "--url", url, "--quiet", "default"],
                cwd=HERE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(slots)
        ]
        try:
            until(lambda: int(client.llen("rq:queue:default")) < jobs)
            start = time.perf_counter()
            finished = "rq:finished:default"
            until(lambda: int(client.zcard(finished)) >= jobs, limit=600)
            return jobs / (time.perf_counter() - start)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


@contextmanager
def own_redis() -> Iterator[tuple[redis.Redis, str]]:
    """A Redis server for the duration of a block."""
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        path = Path(name) / "redis.sock"
        server = subprocess.Popen(  # noqa: S603 - the server that Horus itself uses
            [redis_server.find_server().path, "--port", "0", "--unixsocket", path],
            cwd=name,
            stdout=subprocess.DEVNULL,
        )
        try:
            until(path.exists)
            yield redis.Redis(unix_socket_path=str(path)), f"unix://{path}"
        finally:
            server.terminate()
            server.wait(timeout=30)


def claims(running: Deployment, *, jobs: int) -> float:
    """Everything before a script: read, verify, claim in journal and store: p50 ms."""
    admin(running, "stop_runner", name=RUNNER)
    ids = [
        running.call("create_job", job=running.envelope(ONE_LINE)) for _ in range(jobs)
    ]
    settings = settings_of(running)
    node = make_node(settings, RUNNER, MappingProxyType({"python": Nobody()}))
    store = make_store(settings)
    took = []
    for job_id in ids:
        start = time.perf_counter()
        (record,) = store.named(job_id)
        assignment = claim(record, node)
        took.append(time.perf_counter() - start)
        if assignment is None:
            raise RuntimeError("not claimed")
    admin(running, "start_runner", name=RUNNER)
    return statistics.median(took) * 1e3


def output(running: Deployment, *, size: int) -> float:
    """A script that prints so many bytes, most of which are not kept: MB a second."""
    script = f"head -c {size} /dev/zero"
    job = running.envelope(script, executor="system")
    start = time.perf_counter()
    running.call("job.run", job=job, wait=60)
    return size / (time.perf_counter() - start) / 1e6


def output_bare(*, size: int) -> float:
    """The same into a pipe that is read and forgotten: MB a second."""
    words = ["/usr/bin/head", "-c", str(size), "/dev/zero"]
    start = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own words
        while os.read(process.stdout.fileno(), 64 * 1024):  # type: ignore[union-attr] # it is a pipe
            pass
    return size / (time.perf_counter() - start) / 1e6


def settings_of(running: Deployment) -> Settings:
    """Return the settings of whoever works beside a deployment."""
    server = redis_server.url(StateDirectory(running.directory))
    env = {"HORUS_STATE_DIR": str(running.directory), "HORUS_REDIS_URL": server}
    return load_settings(env=env)


def bells(running: Deployment, *, count: int) -> float:
    """Bells for jobs that are not there: messages a second through the screen."""
    dispatcher = make_dispatcher(settings_of(running))
    nobody = "00000000-0000-4000-8000-000000000000"
    return emptied(
        lambda: dispatcher.ring(nobody, "python", 4),
        lambda: dispatcher.queue_lengths(["python"])["python"],
        count=count,
    )


def tasks_peer(peer: Any, *, count: int) -> float:  # noqa: ANN401 - a module
    """Tasks that do nothing, through a stock worker: messages a second."""
    client = redis.Redis.from_url(peer.url.replace("redis+socket", "unix"))
    return emptied(
        lambda: peer.nothing.delay(""), lambda: int(client.llen("celery")), count=count
    )


def emptied(
    put: Callable[[], object], length: Callable[[], int], *, count: int
) -> float:
    """Fill a queue faster than it is emptied; return how fast that goes."""
    filling = threading.Thread(target=lambda: [put() for _ in range(count)])
    start = time.perf_counter()
    filling.start()
    filling.join()
    until(lambda: length() == 0, limit=300)
    return count / (time.perf_counter() - start)


def bare_python(*, times: int) -> float:
    """`python -I -c` by itself: p50 in ms."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run(  # noqa: S603 - our own words
            [sys.executable, "-I", "-c", ONE_LINE], check=True, capture_output=True
        )
        took.append(time.perf_counter() - start)
    return statistics.median(took) * 1e3


def main() -> None:
    """Measure everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=SLOTS)
    chosen = parser.parse_args()
    rounds = range(chosen.rounds)
    table = Table(chosen.rounds)
    slots = {"HORUS_CONCURRENCY": str(chosen.slots)}

    def median(measure: Callable[[], float]) -> float:
        return statistics.median(measure() for _ in rounds)

    bare = median(lambda: bare_python(times=30))
    with peer_worker() as peer:
        trip = median(lambda: round_trip_peer(peer, times=50))
        messages = median(lambda: tasks_peer(peer, count=5000))
    rq = median(lambda: drain_rq(jobs=chosen.jobs, slots=chosen.slots))
    goals = {"plain": "≤ 10 ms", "sandboxed": "≤ 16 ms"}
    for name, sandbox in LEVELS.items():
        with deployment(HORUS_SANDBOX=sandbox, **slots) as running:
            ours = median(lambda: round_trip(running, times=50))
            table.add(
                f"`job.run`, one line, p50, {name}", goals[name], ours, trip, "ms"
            )
            ours = median(lambda: drain(running, jobs=chosen.jobs))
            goal = "≥ 200/s, twice RQ"
            what = f"{chosen.jobs:,} queued one-line jobs, {name} (RQ)"
            table.add(what, goal, ours, rq, "/s")
    with deployment(**slots) as running:
        ours = median(lambda: output(running, size=OUTPUT))
        bare_pipe = median(lambda: output_bare(size=OUTPUT))
        table.add("1 GB of output (a pipe)", "≥ 200 MB/s", ours, bare_pipe, "MB/s")
        ours = median(lambda: claims(running, jobs=100))
        table.add("verify and claim, p50", "≤ 1 ms", ours, None, "ms")
        ours = median(lambda: bells(running, count=5000))
        table.add("messages without a script", "≥ stock", ours, messages, "/s")
    table.add("`python -I -c` by itself, p50", "-", bare, None, "ms")
    table.show()


if __name__ == "__main__":
    main()
