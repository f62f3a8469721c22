"""Measure the main loop beside stock Celery in the same run, and print the ratios.

    python bench/run.py [--rounds N]

Every figure is the median of the rounds. Both systems share one machine, one Redis
server binary and one Python; whichever is not measured idles.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
from table import Table

from horus_celery import redis_server
from horus_celery.admission import Gate, admit
from horus_celery.statements import dsse
from horus_celery.statements.fields import Net
from horus_celery.statements.job import make_job
from horus_celery.statements.keys import KeyPair, read_key_file
from horus_celery.statements.trust import Trust

BIN = Path(sys.executable).parent
HERE = Path(__file__).parent
#: Nobody serves it, so jobs wait in its queue and only the API is measured.
UNSERVED = "v"


def seconds(action: Callable[[], object]) -> float:
    """Return how long the action took."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def until(ready: Callable[[], bool], *, limit: float = 60.0) -> None:
    """Look again every 10 ms until it is ready."""
    end = time.monotonic() + limit
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError("it never became ready")
        time.sleep(0.01)


class Deployment:
    """A `horus up` of its own, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            [BIN / "horus", "up", "--state-dir", directory, "--port", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until((directory / "run" / "up.json").exists)
        self.url = json.loads((directory / "run" / "up.json").read_text())["url"]
        secret = (directory / "secrets" / "user").read_text().strip()
        self.http = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {secret}"}, timeout=60
        )
        self.key = read_key_file(directory / "keys" / "default.key")
        until(self.is_ready)

    def is_ready(self) -> bool:
        """Say whether the API answers and every runner beats."""
        try:
            if self.http.get("/healthz").status_code != httpx.codes.OK:
                return False
            info = self.call("get_supervisor_info")
        except (httpx.HTTPError, KeyError):
            return False
        alive = [r["name"] for r in info["runners"] if r["status"] == "running"]
        served = os.environ.get("HORUS_EXECUTORS", "python,system").split(",")
        return {f"{executor}_runner_1" for executor in served} <= set(alive)

    def call(self, method: str, **params: Any) -> Any:  # noqa: ANN401 - any JSON
        """Call one method."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return self.http.post("/", json=request).json()["result"]

    def envelope(
        self, code: str, *, executor: str = "python", net: Net | None = None
    ) -> dict[str, Any]:
        """Sign a job."""
        job = make_job(
            aud="hero",
            caller_id="default",
            context_id="default",
            executor=executor,
            payload=code,
            net=net,
            now=datetime.now(UTC),
        )
        return dsse.to_wire(dsse.sign(dsse.JOB, job.body(), [self.key]))

    def close(self) -> None:
        """End it as Ctrl-C does."""
        self.http.close()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=30)


@contextmanager
def deployment() -> Iterator[Deployment]:
    """A fresh `horus up` for the duration of a block."""
    with tempfile.TemporaryDirectory(prefix="hb") as directory:
        running = Deployment(Path(directory))
        try:
            yield running
        finally:
            running.close()


@contextmanager
def peer_worker() -> Iterator[Any]:
    """A stock Celery worker over a Redis server of its own, and its application."""
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        directory = Path(name)
        socket = directory / "redis.sock"
        server = subprocess.Popen(  # noqa: S603 - the server that Horus itself uses
            [redis_server.find_server().path, "--port", "0", "--unixsocket", socket],
            cwd=directory,
            stdout=subprocess.DEVNULL,
        )
        os.environ["PEER_REDIS_URL"] = f"redis+socket://{socket}"
        until(socket.exists)
        sys.path.insert(0, str(HERE))
        # It reads the address when it is imported, and this server is a new one.
        sys.modules.pop("peer", None)
        peer = importlib.import_module("peer")
        worker = subprocess.Popen(  # noqa: S603 - the peer's own command
            [BIN / "celery", "-A", "peer", "worker", "-c", "2", "-l", "ERROR"],
            cwd=HERE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            peer.run.delay("print(1)").get(timeout=60)
            yield peer
        finally:
            # Nothing of it is needed any more, and now and then TERM does not end it.
            worker.kill()
            worker.wait(timeout=30)
            server.terminate()
            server.wait(timeout=30)


def start_up() -> tuple[float, float]:
    """Cold start until everything is ready, in seconds: ours, stock worker's."""

    def ours() -> None:
        nonlocal running
        running = Deployment(Path(directory))

    running: Deployment | None = None
    with tempfile.TemporaryDirectory(prefix="hb") as directory:
        mine = seconds(ours)
        if running is not None:
            running.close()
    block = peer_worker()
    theirs = seconds(block.__enter__)
    block.__exit__(None, None, None)
    return mine, theirs


def command(running: Deployment) -> float:
    """`horus run -c` on the command line, in seconds."""
    argv = [BIN / "horus", "run", "-c", "print(1)", "--state-dir", running.directory]
    return seconds(
        lambda: subprocess.run(argv, check=True, capture_output=True)  # noqa: S603 - our own command
    )


def command_peer() -> float:
    """The same wish on stock Celery, in seconds."""
    code = "import peer; print(peer.run.delay('print(1)').get())"
    return seconds(
        lambda: subprocess.run(  # noqa: S603 - the peer's own command
            [sys.executable, "-c", code], cwd=HERE, check=True, capture_output=True
        )
    )


def round_trip(running: Deployment, *, times: int) -> float:
    """`job.run` of a one-line Python job over HTTP with keep-alive: p50 in ms."""
    took = []
    for _ in range(times):
        envelope = running.envelope("print(1)")
        took.append(seconds(lambda e=envelope: running.call("job.run", job=e)))
    return statistics.median(took) * 1e3


def round_trip_peer(peer: Any, *, times: int) -> float:  # noqa: ANN401 - a module
    """A task that runs the same script in a new interpreter: p50 in ms."""
    took = [
        seconds(lambda: peer.run.delay("print(1)").get(timeout=60))
        for _ in range(times)
    ]
    return statistics.median(took) * 1e3


def create_singly(running: Deployment, *, times: int) -> float:
    """`jobs.create` with one client, one call a request: jobs a second."""
    envelopes = [running.envelope("pass", executor=UNSERVED) for _ in range(times)]
    took = seconds(
        lambda: [running.call("create_job", job=envelope) for envelope in envelopes]
    )
    return times / took


def create_in_batches(running: Deployment, *, batches: int) -> float:
    """`create_job` with one client in batches of 100: jobs a second."""
    bodies = [
        json.dumps(
            [
                {
                    "jsonrpc": "2.0",
                    "id": n,
                    "method": "create_job",
                    "params": {"job": running.envelope("pass", executor=UNSERVED)},
                }
                for n in range(100)
            ]
        )
        for _ in range(batches)
    ]
    headers = {"Content-Type": "application/json"}

    def post_all() -> None:
        for body in bodies:
            answers = running.http.post("/", content=body, headers=headers).json()
            if any("error" in answer for answer in answers):
                raise RuntimeError(answers)

    return batches * 100 / seconds(post_all)


def publish_peer(peer: Any, *, times: int) -> float:  # noqa: ANN401 - a module
    """`apply_async` of a 1 KB argument with one client: tasks a second."""
    payload = "x" * 1024
    took = seconds(lambda: [peer.nothing.delay(payload) for _ in range(times)])
    return times / took


def probe_beside_waiters(running: Deployment, *, waiters: int, times: int) -> float:
    """`GET /healthz` while many callers wait for a result: p99 in ms."""
    job = running.call("create_job", job=running.envelope("pass", executor=UNSERVED))
    wait = {"jsonrpc": "2.0", "id": 1, "method": "job.result"}
    wait["params"] = {"job_id": job, "wait": 60}

    def wait_for_it() -> None:
        with httpx.Client(headers=running.http.headers, timeout=90) as http:
            http.post(running.url, json=wait)

    with ThreadPoolExecutor(waiters) as pool:
        for _ in range(waiters):
            pool.submit(wait_for_it)
        # Each of them holds a connection to the API as soon as it waits.
        until(lambda: connections_to(running.url) >= waiters)
        took = [seconds(lambda: running.http.get("/healthz")) for _ in range(times)]
        running.call("job.stop", job_id=job)
    return statistics.quantiles(took, n=100)[98] * 1e3


def connections_to(url: str) -> int:
    """Return how many connections of this process to a URL are established."""
    port = urlsplit(url).port
    mine = psutil.Process().net_connections("tcp")
    return sum(one.raddr.port == port for one in mine if one.raddr)


def statement() -> tuple[float, float]:
    """Sign, verify, parse and check a 1 KB job, against the bare signature: µs."""
    key, now = KeyPair.generate(), datetime.now(UTC)
    job = make_job(
        aud="hero",
        caller_id="a",
        context_id="b",
        executor="python",
        payload="x" * 600,
        now=now,
    )
    trust = Trust.from_wire(
        {
            "v": 1,
            "aud": "hero",
            "version": 1,
            "issued_at": 0,
            "expires_at": 10**13,
            "keys": {key.keyid: key.public.hex()},
            "grants": [
                {
                    "context_id": "b",
                    "caller_id": "a",
                    "keys": [key.keyid],
                    "threshold": 1,
                    "executors": ["*"],
                    "nets": ["none"],
                    "max_timeout": 60,
                }
            ],
            "runners": [],
        }
    )
    gate = Gate(
        aud="hero", name=None, executors=None, contexts=None, trust=trust, now=now
    )
    body = job.body()

    def whole() -> None:
        admit(dsse.read(dsse.to_json(dsse.sign(dsse.JOB, body, [key])), dsse.JOB), gate)

    def bare() -> None:
        signed = dsse.sign(dsse.JOB, body, [key])
        dsse.signers(signed, {key.keyid: key.public})

    return micros(whole), micros(bare)


def micros(action: Callable[[], object], *, times: int = 2000) -> float:
    """Return the median time of one action in µs."""
    return statistics.median(seconds(action) for _ in range(times)) * 1e6


def median_of(rounds: int, measure: Callable[[], float]) -> float:
    """Return the median of several rounds."""
    return statistics.median(measure() for _ in range(rounds))


def main() -> None:
    """Measure everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds

    table = Table(rounds)

    starts = [start_up() for _ in range(rounds)]
    table.add(
        "`horus up` to ready (stock: broker and worker, first task)",
        "≤ 6 s",
        statistics.median(ours for ours, _ in starts),
        statistics.median(theirs for _, theirs in starts),
        "s",
    )
    with peer_worker() as peer:
        peer_command = median_of(rounds, command_peer)
        peer_trip = median_of(rounds, lambda: round_trip_peer(peer, times=50))
        peer_publish = median_of(rounds, lambda: publish_peer(peer, times=1000))
    with deployment() as running:
        ours = median_of(rounds, lambda: command(running))
        table.add("`horus run -c 'print(1)'`", "≤ 0.7 s", ours, peer_command, "s")
        ours = median_of(rounds, lambda: round_trip(running, times=50))
        table.add("`job.run` of one line, p50", "≤ 40 ms", ours, peer_trip, "ms")
        ours = probe_beside_waiters(running, waiters=200, times=500)
        table.add(
            "`/healthz` beside 200 waiting callers, p99", "< 100 ms", ours, None, "ms"
        )
    with deployment() as running:
        ours = median_of(rounds, lambda: create_singly(running, times=500))
        table.add("`create_job`, single calls", "≥ 400/s", ours, peer_publish, "/s")
        ours = median_of(rounds, lambda: create_in_batches(running, batches=10))
        table.add("`create_job`, batches of 100", "≥ 1,500/s", ours, peer_publish, "/s")
    whole, bare = statement()
    table.add("sign, verify, parse, schema, 1 KB", "≤ 150 µs", whole, bare, "µs")

    table.show()


if __name__ == "__main__":
    main()
