"""What the command line shows of a job's output, while somebody writes to Redis."""

from __future__ import annotations

import json
import threading
import time

import pytest

from horus_celery import wiring
from horus_celery.settings import load_settings
from horus_celery.store.connection import connect

pytestmark = pytest.mark.acceptance

#: Says one thing, and the other only when the test has done its part.
WAITS = """\
import os, sys, time
print("one", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
print("two")
"""
NOT_SIGNED = "horus: the output above is not what the runner signed"


@pytest.fixture
def redis(shared, tmp_path):
    config = tmp_path / "horus.toml"
    config.touch()
    settings = load_settings(env={}, config=config, state_dir=shared.state_dir)
    with connect(wiring.redis_url(settings)) as client:
        yield client


@pytest.fixture
def newest(command):
    """Return the record of the newest job."""

    def look():
        (record,) = json.loads(command("job", "list", "--limit", "1", "--json").stdout)
        return record

    return look


def forge(redis, record, data):
    line = b"o%d  %s" % (time.time_ns() // 1_000_000, data)
    redis.rpush(f"hero:log:{record['digest']}", line)


def test_a_forged_line_is_told_and_nothing_is_called_verified(
    start, command, redis, newest, tmp_path
):
    go = tmp_path / "go"
    with start("run", "-c", WAITS, go) as process:
        assert process.stdout.readline() == "one\n"
        record = newest()
        forge(redis, record, b"forged\n")
        go.touch()
        told = process.stderr.read()
        assert process.stdout.read() == "forged\ntwo\n"
    assert told == f"{NOT_SIGNED} (job {record['id']})\n"
    assert process.returncode == 1
    logs = command("job", "logs", record["id"])
    assert (logs.returncode, logs.stderr) == (1, told)


def test_a_job_whose_output_nobody_reads_is_named_with_how_to_stop_it(
    start, command, newest, tmp_path
):
    with start("run", "-c", "while True: print('x' * 1000)") as process:
        process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read()
    job = newest()["id"]
    assert told.startswith("the job may go on; to stop it: horus job stop ")
    assert job in told
    assert process.returncode == 1
    assert command("job", "stop", job).returncode == 0


def test_a_workflow_whose_steps_nobody_reads_is_named_with_how_to_stop_it(
    start, command, tmp_path
):
    file = tmp_path / "long.toml"
    file.write_text('[steps.a]\nexecutor = "system"\nrun = "sleep 60"\n')
    with start("workflow", "run", file) as process:
        process.stdout.close()
        named, told = process.stderr.read().splitlines()
    workflow = named.removeprefix("workflow ").removesuffix(": long")
    assert told.startswith("the workflow may go on; to stop it: horus workflow stop ")
    assert workflow in told
    assert process.returncode == 1
    assert command("workflow", "stop", workflow).returncode == 0


def test_a_line_that_was_taken_out_is_told(command, redis, newest):
    assert command("run", "-c", "print('one'); print('two')").returncode == 0
    record = newest()
    assert command("job", "logs", record["id"]).returncode == 0
    key = f"hero:log:{record['digest']}"
    redis.lpop(key)
    logs = command("job", "logs", record["id"])
    assert (logs.returncode, logs.stdout) == (1, "two\n")
    assert logs.stderr.startswith(NOT_SIGNED)


@pytest.mark.parametrize(
    "said",
    ["no newline", "a" * 100_000, "a\n\nb\r\n", "\x1b[31m\n", "k\u00e4se\n"],
    ids=["open", "long", "lines", "escape", "utf-8"],
)
def test_a_pipe_gets_the_output_as_it_is(command, said):
    told = command(
        "run", "-c", f"import sys; sys.stdout.buffer.write({said.encode()!r})"
    )
    assert told.stdout.encode() == said.replace("\r\n", "\n").encode()
    assert told.returncode == 0
    assert told.stderr.startswith("completed; ")


def test_output_that_was_cut_is_told(command):
    big = "print('a' * (2 << 20))"
    told = command("run", "-c", big)
    assert told.stdout == "a" * (1 << 20)
    assert told.stderr.endswith(", output cut at 1048576 bytes\n")
    assert json.loads(command("run", "--json", "-c", big).stdout)["truncated"] is True


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_what_a_job_waits_for_is_told(start, newest, command, flags):
    with start("run", *flags, "--runner", "nobody", "-c", "1") as process:
        # It would wait for ever.
        watchdog = threading.Timer(30, process.terminate)
        watchdog.start()
        line = process.stderr.readline()
        watchdog.cancel()
        command("job", "stop", newest()["id"])
        process.stdout.read()
    assert line.startswith("waiting: ")
    assert "nobody" in line
    assert process.returncode == 1
