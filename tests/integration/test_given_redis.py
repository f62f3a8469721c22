"""A Redis that was named is used if it does what we need; else one line tells."""

from __future__ import annotations

import socketserver
import threading

import pytest

from horus_celery.errors import ConfigurationError
from horus_celery.redis_server import require_usable

pytestmark = pytest.mark.integration
PASSWORD = "hidden-password"  # noqa: S105 - opens a server of this test


class Server(socketserver.ThreadingTCPServer):
    """Gives one answer."""

    daemon_threads = True
    answer = b""


class Speaker(socketserver.StreamRequestHandler):
    """Lets everybody in, and then says the same to every command."""

    def handle(self):
        while line := self.rfile.readline():
            if not line.startswith(b"*"):
                continue
            words = [self.rfile.readline() for _ in range(2 * int(line[1:]))]
            assert isinstance(self.server, Server)
            is_greeting = words[1] in {b"AUTH\r\n", b"SELECT\r\n"}
            self.wfile.write(b"+OK\r\n" if is_greeting else self.server.answer)


@pytest.fixture
def speaking():
    """Start a server that gives one answer; return its address."""
    servers = []

    def start(answer):
        server = Server(("127.0.0.1", 0), Speaker)
        server.answer = answer
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        servers.append(server)
        return f"redis://:{PASSWORD}@127.0.0.1:{server.server_address[1]}/0"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def greeting(**told):
    words = [word.encode() for pair in told.items() for word in pair]
    lines = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n%s" % (len(words), lines)


def refusal(url):
    with pytest.raises(ConfigurationError) as caught:
        require_usable(url, namespace="hero")
    said = caught.value.detail
    assert PASSWORD not in said
    assert "\n" not in said
    assert "cannot be used: " in said
    assert "redis_url" in said
    return said


def test_one_that_serves_is_used_and_left_as_it_is(private_redis):
    version = require_usable(private_redis.url, namespace="hero")
    assert int(version.partition(".")[0]) >= 7
    with private_redis.client() as client:
        assert client.keys() == []


def test_one_that_asks_for_a_password_is_refused(private_redis):
    with private_redis.client() as client:
        client.config_set("requirepass", PASSWORD)
        assert "the user or the password" in refusal(private_redis.url)
        wrong = f"{private_redis.url.replace('unix://', 'unix://:wrong@')}"
        assert "the user or the password" in refusal(wrong)
        right = private_redis.url.replace("unix://", f"unix://:{PASSWORD}@")
        assert require_usable(right, namespace="hero")


def test_one_that_may_only_be_read_is_refused(private_redis):
    with private_redis.client() as client:
        client.replicaof("127.0.0.1", "1")
    assert "read-only" in refusal(private_redis.url)


def test_one_that_is_out_of_memory_is_refused(private_redis):
    with private_redis.client() as client:
        client.config_set("maxmemory", 1)
        assert "out of memory" in refusal(private_redis.url)
        client.config_set("maxmemory", 0)
        assert require_usable(private_redis.url, namespace="hero")


def test_one_whose_user_may_too_little_is_refused(private_redis):
    with private_redis.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "resetkeys", "~other:*")
    assert "may not do this" in refusal(private_redis.url)


@pytest.mark.parametrize(
    ("version", "said"),
    [("6.2.14", "its version is 6.2"), ("4.0", "its version is 4.0"), ("x", "unknown")],
)
def test_one_that_is_too_old_is_refused(speaking, version, said):
    assert said in refusal(speaking(greeting(server="redis", version=version)))


@pytest.mark.parametrize(
    ("mode", "said"), [("sentinel", "sentinel://"), ("cluster", "of a cluster")]
)
def test_one_that_is_something_else_is_refused(speaking, mode, said):
    assert said in refusal(speaking(greeting(version="7.2.0", mode=mode)))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-MOVED 1 10.0.0.1:6379\r\n",
        b"-ERR unknown command\r\n",
        b"+OK\r\n",
    ],
)
def test_what_is_no_redis_is_refused_without_its_words(speaking, answer):
    said = refusal(speaking(answer))
    assert "10.0.0.1" not in said
    assert "unknown command" not in said


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-ERR unknown command 'SENTINEL'\r\n",
        b"+OK\r\n",
        b"*1\r\n:5\r\n",
        b"*1\r\n*2\r\n$4\r\nname\r\n$4\r\nmain\r\n",
    ],
)
def test_what_is_no_sentinel_is_refused(speaking, answer):
    place = speaking(answer).rpartition("@")[2].removesuffix("/0")
    assert "is no sentinel" in refusal(f"sentinel://{place}/main")


def test_one_that_is_not_there_is_refused():
    assert "no connection" in refusal("redis://127.0.0.1:1/0")


@pytest.mark.parametrize("option", ["db=99999", "ssl_cert_reqs=sometimes"])
def test_an_option_that_cannot_be_used_is_told(private_redis, option):
    url = private_redis.url if "db" in option else "rediss://127.0.0.1:1"
    refusal(f"{url}?{option}")
