"""Measure HeroDB as scripts have it: a command through the front, beside Redis itself.

    python bench/herodb.py [--rounds N] [--calls N]

Both are asked by the same client over unix sockets, in turns, in one process: so the
front's thread and the client's share an interpreter, as they do not for a script. Every
figure is the median of the rounds, each of which is a median itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from horus_celery.api_secrets.shelf import RedisShelf
from horus_celery.clock import SystemClock
from horus_celery.herodb.estate import RedisEstate
from horus_celery.herodb.keyring import Keyring
from horus_celery.herodb.layout import Layout
from horus_celery.herodb.steward import Steward
from horus_celery.redis_server import find_server, wait_until_ready
from horus_celery.store.connection import connect
from workers.herodb.client import Database
from workers.herodb.service import HeroDb

LAYOUT: Final = Layout(namespace="bench")
MASTER: Final = bytes(32)
#: Jobs that are begun and ended without using HeroDB.
JOBS: Final = 200


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Start a server on a unix socket, and yield its address."""
    path = folder / "s"
    words = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder]
    process = subprocess.Popen(  # noqa: S603 - our own argv
        [str(find_server().path), *words], stdout=subprocess.DEVNULL
    )
    try:
        wait_until_ready(path, alive=lambda: process.poll() is None)
        yield f"unix://{path}"
    finally:
        process.terminate()
        process.wait()


def median_us(action: Callable[[], object], times: int) -> float:
    """Return the median time of an action in µs."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e6


def figures(service: HeroDb, url: str, folder: Path, calls: int) -> Mapping[str, float]:
    """Measure one round."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def idle_job() -> None:
        with service.serving("context", "idle", descriptor, owner=None):
            pass
        (folder / "idle").unlink()

    with ExitStack() as stack:
        stack.callback(os.close, descriptor)
        stack.enter_context(service.serving("context", "job", descriptor, owner=None))
        stack.callback((folder / "job").unlink)
        front, direct = Database(f"unix://{folder / 'job'}"), Database(url)
        stack.callback(front.close)
        stack.callback(direct.close)
        found = {}
        front.call("SETENC", "encrypted", "x" * 100)
        for name, words in (
            ("SET", ("SET", "k", "x" * 100)),
            ("GET", ("GET", "k")),
            ("HGETALL of 100 fields", ("HGETALL", "h")),
        ):
            for each in (front, direct):
                each.call("HSET", "h", *(str(i) for i in range(200)))
            found[f"{name}, front"] = median_us(lambda w=words: front.call(*w), calls)
            found[f"{name}, direct"] = median_us(lambda w=words: direct.call(*w), calls)
        found["GETENC, front"] = median_us(
            lambda: front.call("GETENC", "encrypted"), calls
        )
        found["a job that does not use it"] = median_us(idle_job, JOBS)
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2000)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="horus-") as name,
        server(Path(name)) as url,
        connect(url) as client,
    ):
        clock = SystemClock()
        shelf = RedisShelf(client, LAYOUT.contexts)
        steward = Steward(
            RedisEstate(client, LAYOUT),
            shelf,
            LAYOUT,
            master=MASTER,
            database=0,
            clock=clock,
        )
        steward.ensure("context")
        service = HeroDb(
            url=url,
            database=0,
            layout=LAYOUT,
            master=MASTER,
            keyring=Keyring(Path(name) / "keys"),
            clock=clock,
            scripts={},
        )
        rounds = [
            figures(service, url, Path(name), asked.calls) for _ in range(asked.rounds)
        ]
    middle = {
        what: statistics.median(one[what] for one in rounds) for what in rounds[0]
    }
    print(f"{'p50':32} {'µs':>8}  ratio to direct")
    for what, value in middle.items():
        direct = middle.get(what.replace("front", "direct"))
        is_ratio = direct is not None and direct != value
        ratio = f"{value / direct:8.1f}" if is_ratio and direct else ""
        print(f"{what:32} {value:8.1f}  {ratio}")


if __name__ == "__main__":
    main()
