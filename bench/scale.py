"""Measure the supervisor: lists, memory, load, beside what stock Celery has for it.

    python bench/scale.py [--rounds N] [--records N]

Fills a deployment with finished and waiting jobs whose envelopes and receipts are
really signed, then asks the API. Every figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import socket
import statistics
import string
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import redis
from run import BIN, HERE, UNSERVED, Deployment, deployment, peer_worker, seconds, until
from table import Table

from horus_celery import redis_server
from horus_celery.admission import Gate, admit, summary
from horus_celery.instants import to_ms
from horus_celery.lifecycle import Event
from horus_celery.record import Change
from horus_celery.statedir import StateDirectory
from horus_celery.statements import dsse
from horus_celery.statements.job import make_job
from horus_celery.statements.keys import read_key_file
from horus_celery.statements.receipt import OutputDigest, Receipt, ResultDigest
from horus_celery.store.base import Chunk, Stream
from horus_celery.store.connection import connect
from horus_celery.store.redis import RedisStore
from horus_celery.store.redis_logs import RedisLogs

#: Draws the same letters in every run.
CHANCE: Final = random.Random(1)  # noqa: S311 - nobody has to guess them
EXECUTORS: Final = ("osis", "sal", "hero", "v")
RUNNER: Final = "python_runner_1"
CONNECTIONS: Final = 16
HOUR: Final = timedelta(hours=1)
_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def payload() -> str:
    """Return a script of 1 KB: letters at random, so that it can hardly be packed."""
    return "".join(CHANCE.choices(string.ascii_letters, k=1024))


class Filler:
    """Puts jobs into a deployment's store as its API and its runner would."""

    def __init__(self, running: Deployment, namespace: str = "hero") -> None:
        self._state = StateDirectory(running.directory)
        self.redis = connect(redis_server.url(self._state))
        self.store = RedisStore(self.redis, namespace)
        self._logs = RedisLogs(self.redis, namespace)
        # Its receipts are about executors that nobody serves here.
        self._trust = self._state.reissue(with_every_executor, now=datetime.now(UTC))
        self._key = running.key
        self._runner = read_key_file(self._state.runner_key_file(RUNNER))
        self._seq = 0

    def add(self, *, executor: str, queue: bool = True) -> str:
        """Record a job of 1 KB and return its digest."""
        now = datetime.now(UTC)
        job = make_job(
            aud="hero",
            caller_id="default",
            context_id="default",
            executor=executor,
            payload=payload(),
            now=now,
        )
        envelope = dsse.sign(dsse.JOB, job.body(), [self._key])
        admitted = admit(
            envelope,
            Gate(
                aud="hero",
                name=None,
                executors=None,
                contexts=None,
                trust=self._trust,
                now=now,
            ),
        )
        self.store.add(
            summary(admitted),
            admitted.envelope,
            at=now,
            priority=4,
            not_before=None,
            queue=executor if queue else None,
        )
        return admitted.digest

    def finish(
        self, digest: str, *, event: Event, ended_at: datetime | None = None
    ) -> None:
        """Claim a job, print a line, and end it with a receipt."""
        now = datetime.now(UTC)
        record = self.store.apply(
            digest, Change(event=Event.CLAIMED, at=now, attempt=1, ran_on=RUNNER)
        )
        now = ended_at or now
        line = b"hello\n"
        self._logs.append(digest, [Chunk(at=now, stream=Stream.STDOUT, data=line)])
        reason, code = (None, 0) if event is Event.COMPLETED else ("exit_code", 1)
        self._seq += 1
        receipt = Receipt.from_wire(
            {
                "v": 1,
                "aud": "hero",
                "runner": RUNNER,
                "seq": self._seq,
                "prev": None,
                "job": digest,
                "job_id": record.summary.id,
                "attempt": 1,
                "status": event.value,
                "reason": reason,
                "exit_code": code,
                "started_at": to_ms(now),
                "ended_at": to_ms(now),
                "inputs": [],
                "stdout": dict(OutputDigest.of(line)),
                "stderr": dict(OutputDigest.of(b"")),
                "result": dict(ResultDigest.of(line)),
                "sandbox": "plain",
                "software": "horus, a benchmark",
            }
        )
        signed = dsse.sign(dsse.RECEIPT, receipt.body(), [self._runner])
        self.store.apply(
            digest,
            Change(
                event=event,
                at=now,
                reason=reason,
                ran_on=RUNNER,
                exit_code=code,
                result=line.decode(),
                receipt=dsse.to_json(signed),
                if_attempt=1,
            ),
        )

    def memory(self) -> int:
        """Return the bytes that the server's data takes."""
        self.redis.execute_command("MEMORY", "PURGE")  # type: ignore[no-untyped-call]  # so is redis-py
        return int(self.redis.info("memory")["used_memory_dataset"])


def with_every_executor(body: dict[str, Any]) -> dict[str, Any]:
    """Return a trust body whose runners may speak about any executor."""
    runners = [{**runner, "executors": ["*"]} for runner in body["runners"]]
    return {**body, "runners": runners}


def fill(filler: Filler, count: int) -> None:
    """Record many jobs: most have ended, well or not; a few are only created."""
    for number in range(count):
        executor = EXECUTORS[number % len(EXECUTORS)]
        kind = CHANCE.random()
        digest = filler.add(executor=executor, queue=kind > 0.05)  # noqa: PLR2004 - the share of each kind
        if kind > 0.15:  # noqa: PLR2004 - as above
            event = Event.FAILED if kind > 0.9 else Event.COMPLETED  # noqa: PLR2004 - as above
            filler.finish(digest, event=event)


def bytes_a_job(filler: Filler, *, count: int = 2000) -> float:
    """Memory in Redis for a finished job of 1 KB, with its log and receipt: KB."""
    before = filler.memory()
    for _ in range(count):
        digest = filler.add(executor=UNSERVED)
        filler.finish(digest, event=Event.COMPLETED)
    return (filler.memory() - before) / count / 1024


def bytes_a_task(peer: Any, *, count: int = 2000) -> float:  # noqa: ANN401 - a module
    """Memory in Redis for what stock Celery keeps of a task with its arguments: KB."""
    client = redis.Redis(unix_socket_path=os.environ["PEER_REDIS_URL"].split("//")[1])
    before = int(client.info("memory")["used_memory_dataset"])
    results = [peer.echo.delay(payload()) for _ in range(count)]
    for result in results:
        result.get(timeout=60)
    after = int(client.info("memory")["used_memory_dataset"])
    return (after - before) / count / 1024


def p95_of_lists(running: Deployment, *, times: int) -> dict[str, float]:
    """`jobs.list` of 100 with each single filter: p95 in ms."""
    filters: dict[str, dict[str, str]] = {
        "no filter": {},
        "context_id": {"context_id": "default"},
        "caller_id": {"caller_id": "default"},
        "executor": {"executor": "osis"},
        "status completed": {"status": "completed"},
        "status failed": {"status": "failed"},
        "runner (none)": {"runner": "nobody"},
        "workflow_id (none)": {"workflow_id": "00000000-0000-4000-8000-000000000000"},
    }
    return {
        name: percentile(
            [
                seconds(lambda w=wanted: running.call("jobs.list", limit=100, **w))
                for _ in range(times)
            ],
            95,
        )
        * 1e3
        for name, wanted in filters.items()
    }


def p95_of_pages(running: Deployment, *, times: int) -> float:
    """`jobs.list` of 100, page after page, none of them seen before: p95 in ms."""
    after: list[str | None] = [None]

    def turn() -> None:
        page = running.call("jobs.list", limit=100, after=after[0])
        after[0] = page[-1]["id"]

    return percentile([seconds(turn) for _ in range(times)], 95) * 1e3


def peer_results(peer: Any, *, times: int) -> float:  # noqa: ANN401 - a module
    """100 results of stock Celery read from its backend, p95 in ms."""
    ids = [peer.echo.delay(payload()).id for _ in range(100)]
    for each in ids:
        peer.app.AsyncResult(each).get(timeout=60)

    def read() -> None:
        for each in ids:
            _ = peer.app.AsyncResult(each).result

    return percentile([seconds(read) for _ in range(times)], 95) * 1e3


def peer_info(peer: Any) -> float:  # noqa: ANN401 - a module
    """What `celery inspect` takes to tell who is there, in ms."""
    return seconds(lambda: peer.app.control.inspect(timeout=1.0).stats()) * 1e3


@contextmanager
def peer_api(directory: Path) -> Iterator[str]:
    """Flask in front of stock Celery, served as Horus is; yields its address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    server = subprocess.Popen(  # noqa: S603 - the peer's own command
        [
            BIN / "gunicorn",
            *("-k", "gthread", "--threads", "256", "--no-control-socket"),
            *("-b", f"127.0.0.1:{port}", "peer_api:app"),
        ],
        cwd=HERE,
        stdout=subprocess.DEVNULL,
        stderr=(directory / "peer.log").open("wb"),
    )
    try:
        until(lambda: answers(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def answers(port: int) -> bool:
    """Say whether somebody listens on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def load(url: str, secret: str, bodies: Sequence[bytes]) -> tuple[float, float]:
    """Post bodies over 16 connections at once: calls a second, p99 in ms."""
    shares = [bodies[start::CONNECTIONS] for start in range(CONNECTIONS)]
    began = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        took = [
            one
            for share in pool.map(lambda share: post_all(url, secret, share), shares)
            for one in share
        ]
    return len(bodies) / (time.perf_counter() - began), percentile(took, 99) * 1e3


def post_all(url: str, secret: str, bodies: Sequence[bytes]) -> list[float]:
    """Post bodies over one connection, one after the other; return the seconds.

    By hand: a client library would need more of the two cores than the server.
    """
    address = urlsplit(url)
    took = []
    with socket.create_connection((address.hostname, address.port)) as connection:
        for body in bodies:
            head = (
                f"POST / HTTP/1.1\r\nHost: {address.netloc}\r\n"
                f"Authorization: Bearer {secret}\r\n"
                "Content-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            start = time.perf_counter()
            connection.sendall(head.encode() + body)
            answer = read_answer(connection)
            took.append(time.perf_counter() - start)
            if b'"result"' not in answer:
                raise RuntimeError(answer)
    return took


def read_answer(connection: socket.socket) -> bytes:
    """Read one HTTP answer with a length, and return its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    found = _LENGTH.search(head)
    if found is None:
        raise RuntimeError(head)
    while len(body) < int(found[1]):
        body += connection.recv(65536)
    return body


def call(params: dict[str, Any]) -> bytes:
    """Write one `create_job` call."""
    return json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "create_job", "params": params}
    ).encode()


def percentile(values: Sequence[float], of: int) -> float:
    """Return the value under which so many of a hundred lie."""
    return statistics.quantiles(values, n=100)[of - 1]


def retirement(running: Deployment, *, count: int = 2000) -> float:
    """Records that one process retires in a second, where no other sweeps."""
    filler = Filler(running, namespace="bench")
    old = datetime.now(UTC) - timedelta(days=8)
    for _ in range(count):
        digest = filler.add(executor=UNSERVED)
        filler.finish(digest, event=Event.COMPLETED, ended_at=old)

    def retire() -> None:
        while digests := filler.store.finished(before=old + HOUR, limit=100):
            for digest in digests:
                filler.store.retire(digest)

    return count / seconds(retire)


def main() -> None:
    """Measure everything and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=100_000)
    given = parser.parse_args()
    rounds: int = given.rounds
    table = Table(rounds)

    def median(measure: Callable[[], float]) -> float:
        return statistics.median(measure() for _ in range(rounds))

    with peer_worker() as peer, tempfile.TemporaryDirectory(prefix="hb") as folder:
        task_memory = bytes_a_task(peer)
        results = median(lambda: peer_results(peer, times=50))
        info = median(lambda: peer_info(peer))
        with peer_api(Path(folder)) as url:
            bodies = [call({"payload": payload()})] * 2000
            theirs = [load(url, "none", bodies) for _ in range(rounds)]

    with deployment() as running:
        secret = (running.directory / "secrets" / "user").read_text().strip()
        ours = []
        for _ in range(rounds):
            bodies = [
                call({"job": running.envelope(payload(), executor="v")})
                for _ in range(2000)
            ]
            ours.append(load(running.url, secret, bodies))
        table.add(
            "`create_job`, 16 connections (Flask and `delay()`)",
            "≥ 600/s",
            statistics.median(rate for rate, _ in ours),
            statistics.median(rate for rate, _ in theirs),
            "/s",
        )
        table.add(
            "the same, p99",
            "≤ 100 ms",
            statistics.median(late for _, late in ours),
            statistics.median(late for _, late in theirs),
            "ms",
        )
    with deployment() as running:
        filler = Filler(running)
        table.add(
            "memory of a finished 1 KB job (stock: the result alone)",
            "≤ 6 KB",
            bytes_a_job(filler),
            task_memory,
            "KB",
        )
        fill(filler, given.records)
        for name, late in p95_of_lists(running, times=100).items():
            what = f"`jobs.list` of 100 of {given.records:,}, {name}, p95"
            table.add(what, "≤ 50 ms", late, results, "ms")
        # More proofs are made in a round than are kept in mind: all are new in each.
        late = median(lambda: p95_of_pages(running, times=100))
        table.add("the same, page after page, p95", "≤ 50 ms", late, results, "ms")
        took = [seconds(lambda: running.call("get_supervisor_info")) for _ in range(50)]
        what = "`get_supervisor_info`, p95 (`celery inspect`)"
        table.add(what, "≤ 50 ms", percentile(took, 95) * 1e3, info, "ms")
        table.add("records retired", "-", retirement(running), None, "/s")

    table.show()


if __name__ == "__main__":
    main()
