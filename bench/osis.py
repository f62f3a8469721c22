"""Measure objects: saved and found, beside the same done by hand with redis-py.

    python bench/osis.py [--rounds N] [--objects N]

Both talk to the same server through the same client, in turns. By hand means what a
careful programmer writes: a pipeline of HSET and ZADD in a transaction, watched, and a
pipeline of ZRANGEBYLEX and HMGET. It checks no types, and nobody is told of a change of
the model. Every figure is the median of the rounds, each of which is a median itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from horus_celery.redis_server import find_server
from workers.osis.model import parse_model
from workers.osis.objects import Equal, Objects, Page
from workers.osis.scripts import SCRIPTS

NOTE: Final = {
    "fields": {"title": "string", "rank": "int", "text": "string", "tags": "list"},
    "indexes": ["title", "rank"],
}
#: Objects of one title.
PAGE: Final = 10
TIMES: Final = 300
_PATIENCE: Final = Retry(ConstantBackoff(0.01), 500)


@contextmanager
def server() -> Iterator[redis.Redis]:
    """Start a server on a unix socket, and yield a client of it."""
    with tempfile.TemporaryDirectory(prefix="horus-") as folder:
        path = str(Path(folder) / "s")
        words = ["--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        process = subprocess.Popen(  # noqa: S603 - our own argv
            [str(find_server().path), *words], stdout=subprocess.DEVNULL
        )
        try:
            with redis.Redis(unix_socket_path=path, retry=_PATIENCE) as client:
                client.ping()
                yield client
        finally:
            process.terminate()
            process.wait()


def caller(client: redis.Redis) -> Callable[..., object]:
    """Return what gives commands to the server as the front of the database does."""
    for each in SCRIPTS.values():
        client.script_load(each.source)

    def call(*words: str | bytes | int) -> object:
        _osis, name, *args = words
        return client.execute_command("EVALSHA", SCRIPTS[str(name)].digest, *args)

    return call


class ByHand:
    """Notes as a programmer stores them who has only the client."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def add(self, values: dict[str, Any]) -> int:
        """Store a note."""
        number: Any = self._client.incr("hand:last")
        with self._client.pipeline(transaction=True) as pipeline:
            self._write(pipeline, number, values)
            pipeline.execute()
        return int(number)

    def replace(self, number: int, values: dict[str, Any]) -> None:
        """Store it as something else, unless somebody does so meanwhile."""
        key = f"hand:note:{number}"
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.watch(key)
            before: Any = pipeline.hget(key, "body")
            former = json.loads(before)
            pipeline.multi()
            for by in NOTE["indexes"]:
                pipeline.zrem(f"hand:by:{by}", f"{former[by]}\0{number:010d}")
            self._write(pipeline, number, values)
            pipeline.execute()

    def find(self, title: str) -> Sequence[Any]:
        """Return the notes of a title."""
        low, high = f"[{title}\0", f"({title}\0:"
        found: Any = self._client.zrangebylex("hand:by:title", low, high, 0, PAGE)
        with self._client.pipeline(transaction=False) as pipeline:
            for member in found:
                pipeline.hget(f"hand:note:{int(member[-10:])}", "body")
            return [json.loads(body) for body in pipeline.execute()]

    @staticmethod
    def _write(
        pipeline: redis.client.Pipeline, number: int, values: dict[str, Any]
    ) -> None:
        pipeline.hset(f"hand:note:{number}", "body", json.dumps(values))
        for by in NOTE["indexes"]:
            pipeline.zadd(f"hand:by:{by}", {f"{values[by]}\0{number:010d}": 0})


def values(number: int) -> dict[str, Any]:
    """Return a note of about 500 bytes."""
    title = f"title {number // PAGE}"
    return {"title": title, "rank": number, "text": "x" * 400, "tags": ["a", "b"]}


def median_ms(work: Callable[[int], object]) -> float:
    """Return what one of many calls takes."""
    taken = []
    for at in range(TIMES):
        begun = time.perf_counter()
        work(at)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1000


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--objects", type=int, default=10_000)
    options = parser.parse_args()
    with server() as client:
        objects, by_hand = Objects(caller(client)), ByHand(client)
        objects.declare(parse_model("note", NOTE))
        for number in range(options.objects):
            objects.add("note", values(number))
            by_hand.add(values(number))
        titles = options.objects // PAGE
        small = [f"title {at * 7919 % titles}" for at in range(TIMES)]
        whole = Page(limit=1000)
        works: dict[str, tuple[Callable[[int], object], Callable[[int], object] | None]]
        works = {
            "save a new object": (
                lambda at: objects.add("note", values(-1 - at)),
                lambda at: by_hand.add(values(-1 - at)),
            ),
            "save one that exists": (
                lambda at: objects.replace("note", at + 1, values(at)),
                lambda at: by_hand.replace(at + 1, values(at)),
            ),
            f"find {PAGE} by index": (
                lambda at: objects.find(
                    "note", "title", Equal(value=small[at]), Page(limit=PAGE)
                ),
                lambda at: by_hand.find(small[at]),
            ),
            "get one": (lambda at: objects.get("note", at + 1), None),
            "list a page of 1,000": (lambda at: objects.listed("note", whole), None),
        }
        found = objects.find("note", "title", Equal(value=small[0]))
        assert len(found) == PAGE == len(by_hand.find(small[0]))  # noqa: S101 - of the same
        print(
            f"{options.objects:,} objects, median of {options.rounds} rounds, in ms\n"
        )
        print("| what | osis | by hand | ratio |\n| --- | --- | --- | --- |")
        for what, (ours, theirs) in works.items():
            pairs = [
                (median_ms(ours), median_ms(theirs) if theirs else None)
                for _ in range(options.rounds)
            ]
            mine = statistics.median(each for each, _ in pairs)
            peer = [each for _, each in pairs if each is not None]
            if peer:
                other = statistics.median(peer)
                print(f"| {what} | {mine:.3f} | {other:.3f} | {mine / other:.2f} |")
            else:
                print(f"| {what} | {mine:.3f} | - | - |")


if __name__ == "__main__":
    main()
