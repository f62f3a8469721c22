"""SAL's functions for HeroDB: which commands they send, and what they make of it."""

from __future__ import annotations

import pytest

from workers import sal
from workers.herodb.client import DatabaseError
from workers.sal import Net

from .conftest import make_script

URL = "unix:///herodb"


class MemoryDatabase:
    """Answers as it was told, and remembers what it was asked."""

    def __init__(self, url):
        self.url = url
        self.asked = []
        self.answer: object = None

    def call(self, *words):
        self.asked.append(words)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def script():
    made: list[MemoryDatabase] = []

    def connect(url):
        made.append(MemoryDatabase(url))
        return made[-1]

    script = make_script(
        net=Net.HERODB,
        herodb_url=URL,
        connect=connect,
    )
    script.made = made  # type: ignore[attr-defined]
    script.session.database = connect(URL)
    return script


CALLS = [
    ("redis_ping", [], ("PING",), b"PONG", "PONG"),
    ("redis_set", ["k", "v"], ("SET", "k", "v"), b"OK", None),
    ("redis_get", ["k"], ("GET", "k"), "é".encode(), "é"),
    ("redis_get", ["k"], ("GET", "k"), None, ""),
    ("redis_del", ["k"], ("DEL", "k"), 1, 1),
    ("redis_hset", ["k", "f", "v"], ("HSET", "k", "f", "v"), 1, 1),
    ("redis_hget", ["k", "f"], ("HGET", "k", "f"), b"v", "v"),
    ("redis_hget", ["k", "f"], ("HGET", "k", "f"), None, ""),
    ("redis_hgetall", ["k"], ("HGETALL", "k"), [b"f", b"v"], {"f": "v"}),
    ("redis_hdel", ["k", "f"], ("HDEL", "k", "f"), 0, 0),
    ("redis_rpush", ["k", "v"], ("RPUSH", "k", "v"), 2, 2),
    ("redis_lpush", ["k", "v"], ("LPUSH", "k", "v"), 2, 2),
    ("redis_llen", ["k"], ("LLEN", "k"), 2, 2),
    ("redis_lrange", ["k", 0, -1], ("LRANGE", "k", "0", "-1"), [b"a"], ["a"]),
]


@pytest.mark.parametrize(("name", "args", "words", "reply", "result"), CALLS)
def test_a_function_is_one_command(script, name, args, words, reply, result):
    script.session.database.answer = reply
    assert script(name, *args) == result
    assert script.session.database.asked == [words]


@pytest.mark.parametrize(("name", "args"), [call[:2] for call in CALLS])
def test_what_the_server_refuses_is_told(script, name, args):
    script.session.database.answer = DatabaseError("WRONGTYPE of value")
    assert script.refusal(name, *args) == f"{name}: WRONGTYPE of value"


@pytest.mark.parametrize("name", ["redis_hgetall", "redis_llen", "redis_lrange"])
def test_a_reply_of_another_kind_is_an_error(script, name):
    script.session.database.answer = b"text"
    args = ["k", 0, 1] if name == "redis_lrange" else ["k"]
    assert "HeroDB replies with bytes" in script.refusal(name, *args)


@pytest.mark.parametrize(
    ("name", "args"), [*(c[:2] for c in CALLS), ("redis_reset", [])]
)
def test_without_the_network_nothing_is_sent(name, args):
    said = make_script(herodb_url=URL).refusal(name, *args)
    assert said.startswith(f"{name}: this reaches HeroDB, and the job has net: none")
    assert "HERODB_URL is not set" in make_script(net=Net.HOST).refusal(name, *args)


def test_one_connection_serves_until_it_is_reset(script):
    script("redis_ping")
    script("redis_ping")
    assert len(script.made) == 1
    assert script("redis_reset") is None
    script("redis_ping")
    assert [one.url for one in script.made] == [URL, URL]


@pytest.mark.parametrize("value", [1, None, b"a", ["a"]])
def test_keys_and_values_are_text(script, value):
    assert "key must be a string" in script.refusal("redis_get", value)
    assert "value must be a string" in script.refusal("redis_set", "k", value)


def test_what_is_no_address_of_a_redis_is_refused():
    script = make_script(net=Net.HERODB, herodb_url="http://example.org")
    assert "HERODB_URL is no address of the form unix:///PATH" in script.refusal(
        "redis_ping"
    )


def test_a_server_that_is_away_is_told(tmp_path):
    script = make_script(net=Net.HERODB, herodb_url=f"unix://{tmp_path}/none")
    assert "HeroDB does not answer: No such file" in script.refusal("redis_ping")


def test_a_session_is_read_from_the_environment():
    environment = {
        "HORUS_NET": "herodb",
        "HERODB_URL": URL,
        "HORUS_SAL": "ssh, packages",
    }
    session = sal.session_of(environment)
    assert (session.net, session.herodb_url) == (Net.HERODB, URL)
    assert session.allowed == {sal.Power.SSH, sal.Power.PACKAGES}
    bare = sal.session_of({})
    assert (bare.net, bare.allowed, bare.herodb_url) == (Net.NONE, frozenset(), None)


@pytest.mark.parametrize("variable", ["HORUS_NET", "HORUS_SAL"])
def test_a_word_that_nobody_knows_allows_nothing(variable):
    with pytest.raises(sal.SalError, match=f"{variable} names 'everything'; it knows"):
        sal.session_of({variable: "everything"})
