"""JSON-RPC 2.0 as gunicorn serves it: the whole suite, over one connection."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.conformance import HEADERS, REQUESTS, assert_answered

pytestmark = pytest.mark.integration

TOP = Path(__file__).parents[3]
DEADLINE = 15.0  # seconds
MODULE = "tests.integration.api.conformance_server"


@pytest.fixture(scope="module")
def served():
    """A client that keeps its connection to a real server."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        # gunicorn takes a socket over; so whoever connects now is answered when it can.
        process = subprocess.Popen(  # noqa: S603 - our own command line
            [
                *(sys.executable, "-m", "gunicorn", "-c", f"python:{MODULE}"),
                *("--bind", f"fd://{listening.fileno()}", f"{MODULE}:app"),
            ],
            cwd=TOP,
            pass_fds=[listening.fileno()],
        )
        url = "http://{}:{}".format(*listening.getsockname())
    try:
        with httpx.Client(base_url=url, timeout=DEADLINE, headers=HEADERS) as client:
            # If it cannot start, every test would wait for it.
            client.get("/")
            yield client
    finally:
        process.terminate()
        process.wait(DEADLINE)


@pytest.mark.parametrize(
    ("body", "expected"),
    [pytest.param(body, expected, id=name) for name, body, expected in REQUESTS],
)
def test_a_real_server_answers_every_request_as_the_specification_says(
    served, body, expected
):
    raw = body if isinstance(body, (str, bytes)) else json.dumps(body)
    got = served.post("/", content=raw)
    kind = got.headers.get("Content-Type")
    assert_answered(got.status_code, kind, got.content, expected)
