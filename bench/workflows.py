"""Measure workflows beside stock Celery's canvas and Prefect, and print the ratios.

    python bench/workflows.py [--rounds N] [--graphs DIR] [--without-peer]
        [--prefect PYTHON]

Coordination alone runs in one process without any script: bells are taken from Redis
one after the other and answered, by the coordinator and by a runner whose executor does
nothing. The rest runs on a `horus up` with two jobs at a time. Prefect is measured
where the given Python has it.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import httpx
from celery import chain, chord, group
from run import HERE, Deployment, peer_worker, until
from runner import SLOTS, deployment
from table import Table

from horus_celery import execution, redis_server, wiring
from horus_celery.authoring.drafts import StepDraft, WorkflowDraft
from horus_celery.authoring.signing import Signer, Submission, sign
from horus_celery.client import Horus
from horus_celery.crew import runners_of
from horus_celery.dag.compiler import critical_path
from horus_celery.dag.progress import WorkflowStatus
from horus_celery.lifecycle import Event
from horus_celery.runs import WorkflowRun
from horus_celery.settings import load_settings
from horus_celery.statedir import StateDirectory
from horus_celery.statements.keys import read_key_file
from horus_celery.store import bell
from horus_celery.store.connection import connect
from horus_celery.store.keys import queue

RUNNER: Final = "python_runner_1"
#: The list that carries bells of jobs of the usual priority.
JOBS: Final = queue("python", 4)
FIB: Final = """
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
print(fib({n}))
"""
SLEEP: Final = 0.01
#: What a step may cost besides its work, in the goals.
STEP: Final = 0.004


class Nothing:
    """An executor whose scripts do nothing."""

    def check(self, job: object) -> None:
        """Take every job."""

    def run(
        self, assignment: object, node: object, behind: object
    ) -> execution.Outcome:
        """Have it done."""
        return execution.Outcome(event=Event.COMPLETED, exit_code=0)


class InProcess:
    """A deployment in this process: supervisor, coordinator, and a runner."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        env = {
            "HORUS_STATE_DIR": str(folder / "state"),
            "HORUS_REDIS_URL": redis_url,
            "HORUS_NAMESPACE": "bench",
        }
        settings = load_settings(env=env)
        state = StateDirectory(settings.state_dir)
        now = datetime.now(UTC)
        state.initialise(namespace="bench", runners=runners_of(["python"]), now=now)
        home = wiring.make_supervisor(settings)
        self.conductor = wiring.make_conductor(settings, home)
        self.coordinator = wiring.make_coordinator(settings, home, self.conductor)
        self.node = wiring.make_node(settings, RUNNER, {"python": Nothing()})
        self.redis = connect(redis_url)
        key = read_key_file(state.key_file("default"))
        self.signer = Signer(
            aud="bench", caller_id="default", context_id="default", keys=[key]
        )
        #: Seconds that the coordinator was at work.
        self.coordinating = 0.0

    def sign(self, depends: Mapping[str, Sequence[str]]) -> Submission:
        """Sign a workflow of these steps."""
        return sign_steps(depends, "nothing", self.signer)

    def submit(self, signed: Submission) -> float:
        """Hand a workflow in, and return how many seconds that took."""
        wire = signed.to_wire()
        began = time.perf_counter()
        self.coordinator.submit(wire["manifest"], wire["jobs"])
        return time.perf_counter() - began

    def finish(self, signed: Submission) -> float:
        """Answer bells until a workflow is over; seconds that this took."""
        began = time.perf_counter()
        while True:
            rung = self.redis.rpop(bell.QUEUE)
            if rung is not None:
                self._coordinate(rung)
                continue
            job = self.redis.rpop(JOBS)
            if job is None:
                break
            job_id = json.loads(job)["headers"]["argsrepr"][2:-2]
            execution.execute(job_id, self.node)
        took = time.perf_counter() - began
        record, _ = self.coordinator.get(signed.digest)
        if record.status is not WorkflowStatus.COMPLETED:
            raise RuntimeError(f"{record.left} steps are left")
        return took

    def _coordinate(self, rung: Any) -> None:  # noqa: ANN401 - what Redis answers
        (workflow, job), *_ = json.loads(json.loads(rung)["body"])
        began = time.perf_counter()
        self.conductor.advance(workflow, job)
        self.coordinating += time.perf_counter() - began


@contextmanager
def in_process() -> Iterator[InProcess]:
    """A deployment in this process, over a Redis of its own."""
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        socket = Path(name) / "redis.sock"
        command = [
            redis_server.find_server().path,
            "--port",
            "0",
            "--appendonly",
            "yes",
        ]
        server = subprocess.Popen(  # noqa: S603 - the server that Horus itself uses
            [*command, "--unixsocket", socket], cwd=name, stdout=subprocess.DEVNULL
        )
        try:
            until(socket.exists)
            yield InProcess(f"unix://{socket}", Path(name))
        finally:
            server.terminate()
            server.wait(timeout=30)


def sign_steps(
    depends: Mapping[str, Sequence[str]], payload: str, signer: Signer
) -> Submission:
    """Sign a workflow of these steps, all of which run the same script."""
    steps = tuple(
        StepDraft(name=name, payload=payload, depends_on=tuple(above))
        for name, above in depends.items()
    )
    draft = WorkflowDraft(name="bench", steps=steps)
    return sign(draft, signer, now=datetime.now(UTC))


# --- graphs ------------------------------------------------------------------------


def line(size: int) -> dict[str, list[str]]:
    """One step behind the other."""
    return {f"s{n}": [f"s{n - 1}"] if n else [] for n in range(size)}


def fan(size: int) -> dict[str, list[str]]:
    """One step, then so many, then one."""
    middle = {f"m{number}": ["a"] for number in range(size)}
    return {"a": [], **middle, "z": list(middle)}


def layers(depth: int, width: int, chance: float, seed: int) -> dict[str, list[str]]:
    """Layers, each step of which waits for some of the layer before."""
    dice = random.Random(seed)  # noqa: S311 - the same graph each time
    steps: dict[str, list[str]] = {}
    for level, place in itertools.product(range(depth), range(width)):
        above = [f"s{level - 1}.{other}" for other in range(width) if level]
        steps[f"s{level}.{place}"] = [
            one for one in above if dice.random() < chance
        ] or above[:1]
    return steps


def recorded(path: Path) -> dict[str, list[str]]:
    """Read a recorded workflow in WfFormat."""
    tasks = json.loads(path.read_text())["workflow"]["specification"]["tasks"]
    return {task["id"]: task["parents"] for task in tasks}


# --- the peer ----------------------------------------------------------------------


def peer_line(peer: Any, size: int) -> float:  # noqa: ANN401 - a module
    """A chain of no-op tasks on stock Celery, in seconds."""
    return _timed(lambda: chain(peer.echo.si("") for _ in range(size)))


def peer_fan(peer: Any, size: int) -> float:  # noqa: ANN401 - a module
    """A task, a chord of so many, its body, on stock Celery, in seconds."""
    return _timed(
        lambda: chain(
            peer.echo.si(""),
            chord(group(peer.echo.si("") for _ in range(size)), peer.echo.si("")),
        )
    )


def peer_layers(peer: Any, depth: int, width: int) -> float:  # noqa: ANN401 - a module
    """Level by level, as canvas can: a group, a task that joins it, the next group."""

    def make() -> Any:  # noqa: ANN401 - a signature of Celery
        def level() -> Any:  # noqa: ANN401 - as above
            return group(peer.echo.si("") for _ in range(width))

        parts = itertools.chain.from_iterable(
            (level(), peer.echo.si("")) for _ in range(depth)
        )
        return chain(*parts)

    return _timed(make)


def _timed(make: Callable[[], Any]) -> float:
    began = time.perf_counter()
    make().apply_async().get(timeout=300)
    return time.perf_counter() - began


def peer_prefect(python: Path, depends: Mapping[str, Sequence[str]]) -> float:
    """The same graph of tasks that do nothing on Prefect, in seconds."""
    with tempfile.TemporaryDirectory(prefix="hb") as folder:
        quiet = {
            "PREFECT_HOME": folder,
            "PREFECT_LOGGING_LEVEL": "CRITICAL",
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        done = subprocess.run(  # noqa: S603 - our own command
            [python, HERE / "peer_prefect.py"],
            input=json.dumps(depends),
            env={**os.environ, **quiet},
            capture_output=True,
            text=True,
            check=True,
        )
    return float(done.stdout)


# --- measuring ---------------------------------------------------------------------


def coordination(
    table: Table, rounds: int, *, with_peer: bool, prefect: Path | None
) -> None:
    """What a step costs where scripts do nothing."""
    graphs = {
        "chain of 1,000": (line(1000), lambda peer: peer_line(peer, 1000)),
        "1 → 1,000 → 1": (fan(1000), lambda peer: peer_fan(peer, 1000)),
        "random 50 by 20": (
            layers(50, 20, 0.1, 1),
            lambda peer: peer_layers(peer, 50, 20),
        ),
        "chain of 5,000": (line(5000), None),
    }
    with in_process() as deployed:
        for name, (depends, peer_of) in graphs.items():
            whole, part = [], []
            for _ in range(rounds):
                signed = deployed.sign(depends)
                deployed.submit(signed)
                deployed.coordinating = 0.0
                whole.append(deployed.finish(signed) / len(depends) * 1e3)
                part.append(deployed.coordinating / len(depends) * 1e3)
            theirs = None
            if with_peer and peer_of is not None:
                with peer_worker() as peer:
                    theirs = peer_of(peer) / len(depends) * 1e3
            mine = statistics.median(part)
            table.add(f"{name}, a step's coordination", "≤ 4 ms", mine, None, "ms")
            mine = statistics.median(whole)
            what = f"{name}, with the no-op runner's part"
            table.add(what, "", mine, theirs, "ms")
        if prefect is not None:
            _beside_prefect(table, deployed, prefect)
        size = float(len(bell.message("0" * 64, "0" * 64)))
        table.add("a message", "≤ 2,048", size, None, "bytes")
        large = deployed.sign(layers(500, 20, 0.2, 2))
        mine = deployed.submit(large)
        what = f"submit 10,000 steps, {large.graph.edges:,} edges"
        table.add(what, "≤ 5 s", mine, None, "s")


def _beside_prefect(table: Table, deployed: InProcess, python: Path) -> None:
    graphs = {"chain of 100": line(100), "1 → 100 → 1": fan(100)}
    for name, depends in graphs.items():
        signed = deployed.sign(depends)
        deployed.submit(signed)
        mine = deployed.finish(signed) / len(depends) * 1e3
        theirs = peer_prefect(python, depends) / len(depends) * 1e3
        what = f"{name}, with the no-op runner's part (Prefect)"
        table.add(what, "", mine, theirs, "ms")


class Running:
    """A `horus up`, and what is signed for it."""

    def __init__(self, deployed: Deployment) -> None:
        self._deployed = deployed
        key = deployed.key
        self._signer = Signer(
            aud="hero", caller_id="default", context_id="default", keys=[key]
        )

    def submit_large(self) -> tuple[float, dict[str, float]]:
        """Hand in 10,000 steps over HTTP; seconds, and p99 of calls beside it in ms."""
        signed = sign_steps(layers(500, 20, 0.2, 2), "nothing", self._signer)
        deployed = self._deployed
        secret = (deployed.directory / "secrets" / "user").read_text().strip()
        job_id = deployed.call("create_job", job=deployed.envelope("", executor="v"))
        with (
            Horus(deployed.url, secret, verify=False) as client,
            ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool,
        ):
            end = deployed.directory / "end"
            probes = {
                what: pool.submit(probe, deployed.url, secret, job, end)
                for what, job in (("/healthz", None), ("job.status", job_id))
            }
            until(lambda: len([*end.parent.glob("probe.*")]) == len(probes))
            began = time.perf_counter()
            WorkflowRun(client, signed).submit()
            took = time.perf_counter() - began
            end.touch()
            slow = {what: one.result() for what, one in probes.items()}
            deployed.call("workflow.stop", workflow_id=signed.id)
        return took, slow

    def run(
        self,
        depends: Mapping[str, Sequence[str]],
        payload: str,
        strategy: str = "reference",
    ) -> float:
        """Run a workflow; seconds from its submission to its result."""
        signed = sign_steps(depends, payload, self._signer)
        wire = signed.to_wire()
        began = time.perf_counter()
        self._deployed.call("workflow.submit", **wire, strategy=strategy)
        ending = self._deployed.call("workflow.result", workflow_id=signed.id, wait=290)
        took = time.perf_counter() - began
        if ending["status"] != "completed":
            raise RuntimeError(f"it {ending['status']}")
        return took


def scripts(table: Table, rounds: int, folder: Path | None) -> None:
    """Workflows of real scripts."""
    levels = (("plain", "plain", 1.0), ("sandboxed", "auto", 1.4))
    for name, sandbox, goal in levels:
        with deployment(HORUS_SANDBOX=sandbox) as deployed:
            running = Running(deployed)
            running.run(line(3), FIB.format(n=10))
            took = [running.run(line(40), FIB.format(n=10)) for _ in range(rounds)]
            what = f"40 sequential fib(10), {name}"
            table.add(what, f"≤ {goal} s", statistics.median(took), None, "s")
            took = [
                running.run(line(40), FIB.format(n=10), "canvas") for _ in range(rounds)
            ]
            table.add(f"{what}, by canvas", "", statistics.median(took), None, "s")
            if sandbox == "plain":
                _long(table, running, rounds)
                _large(table, running)
                _graphs(table, running, folder)


def _long(table: Table, running: Running, rounds: int) -> None:
    base, took = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(10):
            fib(33)
        base.append(time.perf_counter() - began)
        took.append(running.run(line(10), FIB.format(n=33)))
    mine, theirs = statistics.median(took), statistics.median(base)
    table.add("10 sequential fib(33) (bare functions)", "≤ 1.05", mine, theirs, "s")


def _large(table: Table, running: Running) -> None:
    took, slow = running.submit_large()
    table.add("submit 10,000 steps over HTTP", "≤ 5 s", took, None, "s")
    for what, p99 in slow.items():
        table.add(f"{what} meanwhile, p99", "≤ 100 ms", p99, None, "ms")


def probe(url: str, secret: str, job_id: str | None, end: Path) -> float:
    """Call until there is a file, 200 times a second at most; p99 in ms.

    Without a job it asks for `/healthz`.
    """
    call = {"jsonrpc": "2.0", "id": 1, "method": "job.status"}
    took = []
    headers = {"Authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
        http.get("/healthz")
        end.with_name(f"probe.{os.getpid()}").touch()
        while not end.exists():
            began = time.perf_counter()
            if job_id is None:
                http.get("/healthz")
            else:
                http.post("/", json={**call, "params": {"job_id": job_id}})
            took.append((time.perf_counter() - began) * 1e3)
            time.sleep(0.005)
    return statistics.quantiles(took, n=100)[-1]


def _graphs(table: Table, running: Running, folder: Path | None) -> None:
    if folder is None or not folder.is_dir():
        return
    for path in sorted(folder.glob("*.json")):
        depends = recorded(path)
        signed = sign_steps(depends, "", SIGNER)
        longest = len(critical_path(signed.graph, [1.0] * len(depends))) * SLEEP
        bound = max(longest, len(depends) * SLEEP / SLOTS)
        goal = 1.5 * bound + len(depends) * STEP
        took = running.run(depends, f"import time; time.sleep({SLEEP})")
        what = f"{path.stem}, {len(depends)} steps of 10 ms"
        table.add(what, f"≤ {goal:.2f} s", took, None, "s")


def fib(number: int) -> int:
    """Be the function of the scripts."""
    return number if number < 2 else fib(number - 1) + fib(number - 2)  # noqa: PLR2004 - as theirs


SIGNER: Final = Signer(aud="x", caller_id="x", context_id="x", keys=[])


def main() -> None:
    """Measure everything and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--graphs", type=Path)
    options.add_argument("--without-peer", action="store_true")
    options.add_argument("--prefect", type=Path, metavar="PYTHON")
    chosen = options.parse_args()
    table = Table(chosen.rounds)
    prefect = chosen.prefect
    if prefect is None and importlib.util.find_spec("prefect") is not None:
        prefect = Path(sys.executable)
    coordination(
        table,
        chosen.rounds,
        with_peer=not chosen.without_peer,
        prefect=None if chosen.without_peer else prefect,
    )
    scripts(table, chosen.rounds, chosen.graphs)
    table.show()


if __name__ == "__main__":
    main()
