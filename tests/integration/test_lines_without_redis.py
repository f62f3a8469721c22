"""No line of a script is lost, doubled or out of order, however Redis is away."""

from __future__ import annotations

import os
import textwrap
from datetime import timedelta

import pytest

from horus_celery.journal import Journal
from horus_celery.lifecycle import Status

pytestmark = pytest.mark.integration

RUNNER = "python_runner_1"
#: Says lines 0 to 2, 3 to 1499 and 1500 to 1502, each part when it is told to.
SCRIPT = textwrap.dedent("""
    import sys
    number = 0
    for count, gate in ((3, 1), (1497, 2), (3, 3)):
        for _ in range(count):
            print(number)
            number += 1
        if gate < 3:
            open(sys.argv[gate]).read()
            print("", end="", flush=True)
""")
ALL = [str(number) for number in range(1503)]


@pytest.fixture
def gates(tmp_path):
    paths = [tmp_path / "first", tmp_path / "second"]
    for path in paths:
        os.mkfifo(path)
    return paths


@pytest.fixture
def begun(private_deployment, gates):
    """A job that has said its first lines."""
    private_deployment.start_worker("-Q", "python", "-c1")
    record = private_deployment.submit(SCRIPT, args=[str(gate) for gate in gates])
    private_deployment.until_it_says(record, "2")
    return record


@pytest.fixture(params=["hangs", "is down"])
def redis_away(request, private_redis):
    """Two functions: one lets Redis be away, the other lets it come back."""
    if request.param == "hangs":
        return private_redis.pause, private_redis.resume
    return private_redis.stop, private_redis.start


def all_lines(deployment, record):
    lines: list[str] = []
    after = None
    while True:
        page = deployment.supervisor.logs(
            record.summary.digest, after=after, limit=1000, wait=timedelta(0)
        )
        if not page.lines:
            return lines
        lines += [line.text for line in page.lines]
        after = page.next


def test_lines_of_a_script_that_ends_meanwhile_are_kept(
    private_deployment, begun, gates, redis_away
):
    leave, come_back = redis_away
    leave()
    for gate in gates:
        gate.write_text("")
    journal = Journal(private_deployment.state.journal)
    private_deployment.until(lambda: journal.undelivered(RUNNER))
    journal.close()
    come_back()
    assert private_deployment.over(begun).status is Status.COMPLETED
    assert all_lines(private_deployment, begun) == ALL


def test_lines_of_a_script_that_goes_on_are_kept(
    private_deployment, begun, gates, redis_away
):
    leave, come_back = redis_away
    leave()
    first, second = gates
    first.write_text("")
    # It is opened for reading once the lines have been said.
    second_open = second.open("w")
    come_back()
    private_deployment.until_it_says(begun, "1499")
    second_open.close()
    assert private_deployment.over(begun).status is Status.COMPLETED
    assert all_lines(private_deployment, begun) == ALL
