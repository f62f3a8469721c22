"""The peer for drains: what an RQ worker runs in each process that it forks."""

from __future__ import annotations


def run(code: str) -> None:
    """Run a script as people do it on RQ: in the forked process, apart from nothing."""
    exec(code)  # noqa: S102 - the benchmark's own script
