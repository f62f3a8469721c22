"""Measure the executors: a one-line script of each through `job.run`.

    python bench/executors.py [--rounds N]

Every figure is the median of the rounds; the peer is a stock Celery task that starts an
interpreter for the same line of Python, as people do. How fast objects are saved and
found is measured by a script of `osis` itself, from inside its sandbox.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Final

from run import Deployment, peer_worker, round_trip_peer
from runner import LEVELS, deployment
from table import Table

ONE_LINERS: Final = {
    "python": "print(2)",
    "osis": "1 + 1",
    "sal": "1 + 1",
    "hero": "!!play.echo content:2",
}
GOALS: Final = {"osis": "≤ 8 ms", "sal": "≤ 8 ms"}
OBJECTS: Final = """
osis.model("bench", #{ fields: #{ title: "string", rank: "int" }, indexes: ["rank"] });
let begun = timestamp();
for i in 0..500 { osis.new("bench").title("a title").rank(i).save(); }
let saved = begun.elapsed;
begun = timestamp();
for i in 0..500 { osis.find("bench", "rank", i); }
#{ save: saved * 1000.0 / 500.0, find: begun.elapsed * 1000.0 / 500.0 }
"""


def trip(running: Deployment, executor: str, *, times: int) -> float:
    """One-line jobs of an executor, one after the other: p50 in ms."""
    took = []
    for _ in range(times):
        net = "none" if executor == "sal" else None
        job = running.envelope(ONE_LINERS[executor], executor=executor, net=net)
        start = time.perf_counter()
        answer = running.call("job.run", job=job, wait=30)
        took.append(time.perf_counter() - start)
        if answer.get("success", "").strip() != "2":
            raise RuntimeError(f"{executor}: {answer}")
    return statistics.median(took) * 1e3


def objects(running: Deployment) -> dict[str, float]:
    """Return how long an object takes to be saved, and to be found, in ms."""
    job = running.envelope(OBJECTS, executor="osis")
    answer = running.call("job.run", job=job, wait=60)
    found: dict[str, float] = json.loads(answer["success"])
    return found


def main() -> None:
    """Measure everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = range(parser.parse_args().rounds)
    table = Table(len(rounds))

    def median(measure: Callable[[], float]) -> float:
        return statistics.median(measure() for _ in rounds)

    with peer_worker() as peer:
        stock = median(lambda: round_trip_peer(peer, times=50))
    for level, sandbox in LEVELS.items():
        served = ",".join(ONE_LINERS)
        with deployment(HORUS_SANDBOX=sandbox, HORUS_EXECUTORS=served) as running:
            for name in ONE_LINERS:
                trip(running, name, times=10)  # until everybody has a zygote
                ours = median(lambda name=name: trip(running, name, times=60))
                what = f"`job.run` of `{name}`, one line, p50, {level}"
                table.add(what, GOALS.get(name, "-"), ours, stock, "ms")
            found = [objects(running) for _ in rounds]
            for what in ("save", "find"):
                took = statistics.median(one[what] for one in found)
                table.add(f"`osis`: {what}, {level}", "≤ 1 ms", took, None, "ms")
    table.show()


if __name__ == "__main__":
    main()
