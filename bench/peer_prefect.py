"""A peer: Prefect with its ephemeral server, and tasks that do nothing.

    python bench/peer_prefect.py < GRAPH

GRAPH is JSON, each step's name with the names of those before it. It prints how many
seconds the run took, once the server was there.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from prefect import flow, task


def nothing() -> None:
    """Have a step done."""


def run(depends: Mapping[str, Sequence[str]]) -> None:
    """Run a graph, each step once those before it are done."""
    step = task(nothing)
    futures: dict[str, Any] = {}
    for name, above in depends.items():
        futures[name] = step.submit(wait_for=[futures[one] for one in above])
    for future in futures.values():
        future.result()


if __name__ == "__main__":
    graph = json.load(sys.stdin)
    runs = flow(run)
    runs({"first": []})
    began = time.perf_counter()
    runs(graph)
    print(time.perf_counter() - began)
