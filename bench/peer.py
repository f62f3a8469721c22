"""The peer: a stock Celery application, its settings as they come."""

from __future__ import annotations

import os
import subprocess
import sys

from celery import Celery

url = os.environ["PEER_REDIS_URL"]
app = Celery("peer", broker=url, backend=url)


@app.task(name="peer.run")  # type: ignore[untyped-decorator] # Celery ships no types
def run(code: str) -> str:
    """Run a script the way people do it on Celery: a new interpreter, no isolation."""
    done = subprocess.run(  # noqa: S603 - the benchmark's own script
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout


@app.task(name="peer.nothing", ignore_result=True)  # type: ignore[untyped-decorator] # as above
def nothing(payload: str) -> None:
    """Be published and forgotten."""


@app.task(name="peer.echo")  # type: ignore[untyped-decorator] # as above
def echo(payload: str) -> str:
    """Have a result of the size of the argument."""
    return payload
