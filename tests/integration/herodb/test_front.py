"""Scripts are served by a socket for as long as their job runs, whatever they send."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from horus_celery.errors import ConfigurationError
from horus_celery.herodb.keyring import Kind
from horus_celery.herodb.requests import MAX_REQUEST, MAX_WORDS
from workers.herodb.client import Database, DatabaseError
from workers.herodb.front import MAX_CONNECTIONS
from workers.osis.model import parse_model
from workers.osis.objects import Equal, Objects, Page

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[3] / "docs" / "herodb.md"


@pytest.fixture
def path(estate):
    return estate.job("a")


@pytest.fixture
def database(estate):
    return estate.database("a")


def connected(path):
    channel = socket.socket(socket.AF_UNIX)
    channel.settimeout(20)
    channel.connect(str(path))
    return channel


def everything(channel):
    """Return what comes until the other end closes."""
    data = b""
    with suppress(ConnectionResetError):
        while part := channel.recv(65536):
            data += part
    return data


def test_the_usual_commands_do_what_they_do_elsewhere(database):
    assert database.call("SET", "k", "v") == b"OK"
    assert database.call("get", "k") == b"v"
    assert database.call("GET", "none") is None
    assert database.call("INCR", "n") == 1
    assert database.call("HSET", "h", "f", b"\x00\xff") == 1
    assert database.call("HGETALL", "h") == [b"f", b"\x00\xff"]
    assert database.call("RPUSH", "l", "a", "b") == 2
    assert database.call("LRANGE", "l", 0, -1) == [b"a", b"b"]
    assert database.call("ZADD", "z", 1, "m") == 1
    assert database.call("PING") == b"PONG"
    assert database.call("SELECT", 0) == b"OK"
    assert database.call("CLIENT", "SETNAME", "me") == b"OK"
    assert dict(zip(*[iter(database.call("HELLO", 2))] * 2, strict=True))[b"proto"] == 2
    with pytest.raises(DatabaseError, match="NOPROTO"):
        database.call("HELLO", 3)
    with pytest.raises(DatabaseError, match="WRONGTYPE"):
        database.call("INCR", "h")
    with pytest.raises(DatabaseError, match="NOPERM"):
        database.call("SELECT", 1)
    with pytest.raises(DatabaseError, match="wrong number"):
        database.call("GET")


def test_jobs_of_one_context_share_it(estate, database):
    database.call("SET", "k", "v")
    assert estate.database("a").call("GET", "k") == b"v"
    assert estate.database("b").call("GET", "k") is None


def test_a_transaction_is_done_as_a_whole_or_not_at_all(estate, database):
    database.call("WATCH", "k")
    database.call("MULTI")
    assert database.call("SET", "k", "1") == b"QUEUED"
    assert database.call("EXEC") == [b"OK"]
    database.call("WATCH", "k")
    estate.database("a").call("SET", "k", "2")
    database.call("MULTI")
    database.call("SET", "k", "3")
    assert database.call("EXEC") is None
    for refused in (["EVAL", "x", 0], ["KEYS", "*"], ["MSET"], ["GET"]):
        database.call("MULTI")
        database.call("SET", "k", "4")
        with pytest.raises(DatabaseError):
            database.call(*refused)
        with pytest.raises(DatabaseError, match="EXECABORT"):
            database.call("EXEC")
    assert database.call("GET", "k") == b"2"
    with pytest.raises(DatabaseError, match="EXEC without MULTI"):
        database.call("EXEC")


def test_a_transaction_has_redis_keep_no_more_than_a_request(estate, database):
    large = b"x" * (MAX_REQUEST // 4)
    database.call("MULTI")
    for _ in range(3):
        assert database.call("SET", "k", large) == b"QUEUED"
    with pytest.raises(DatabaseError, match="no larger than one request"):
        database.call("SET", "k", large)
    with pytest.raises(DatabaseError, match="EXECABORT"):
        database.call("EXEC")
    assert database.call("GET", "k") is None
    names = [f"name{number}" for number in range(MAX_WORDS // 2)]
    assert database.call("WATCH", *names) == b"OK"
    with pytest.raises(DatabaseError, match="no larger than one request"):
        database.call("WATCH", *names)
    assert database.call("UNWATCH") == b"OK"
    assert database.call("WATCH", *names) == b"OK"
    # What ends it is no part of it.
    database.call("MULTI")
    assert database.call("EXISTS", *names[: MAX_WORDS - len(names) - 3]) == b"QUEUED"
    assert len(database.call("EXEC")) == 1


def test_a_value_is_encrypted_where_it_lies(estate, database):
    assert database.call("SETENC", "k", b"\x00secret") == b"OK"
    assert database.call("GETENC", "k") == b"\x00secret"
    raw = database.call("GET", "k")
    assert raw.startswith(b"hdb1.default:")
    database.call("SET", "elsewhere", raw)
    with pytest.raises(DatabaseError, match="another place"):
        database.call("GETENC", "elsewhere")
    assert database.call("GETENC", "none") is None
    database.call("SET", "plain", "text")
    with pytest.raises(DatabaseError, match="no encrypted value"):
        database.call("GETENC", "plain")
    with pytest.raises(DatabaseError, match="no secret key own"):
        database.call("SETENC", "k", "v", "own")
    estate.keyring.create("a", Kind.SECRET, "own")
    database.call("SETENC", "k", "v", "own")
    estate.keyring.rotate("a", Kind.SECRET, "own")
    assert database.call("GETENC", "k") == b"v"
    estate.keyring.delete("a", Kind.SECRET, "own")
    with pytest.raises(DatabaseError, match="not on this node, or was deleted"):
        database.call("GETENC", "k")


def test_messages_are_encrypted_and_signed(database):
    recipient, nothing = database.call("AGE", "KEYGEN", "mail")
    assert nothing == b""
    sealed = database.call("AGE", "ENCRYPT", recipient, "hello")
    assert database.call("AGE", "DECRYPTNAME", "mail", sealed) == b"hello"
    database.call("AGE", "SIGNKEYGEN", "mail")
    signature = database.call("AGE", "SIGNNAME", "mail", "hello")
    assert database.call("AGE", "VERIFYNAME", "mail", "hello", signature) == 1
    assert database.call("AGE", "LIST") == [b"mail"]


def test_objects_of_the_context_are_kept_by_it(estate, database):
    objects = Objects(database.call)
    fields = {"fields": {"title": "string"}, "indexes": ["title"]}
    objects.declare(parse_model("note", fields))
    kept = objects.add("note", {"title": "hello"})
    others = Objects(estate.database("a").call)
    page = others.find("note", "title", Equal(value="hello"), Page())
    assert [one.id for one in page] == [kept.id]
    assert Objects(estate.database("b").call).models() == []


def test_the_page_shows_what_works(estate, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.setenv("HERODB_URL", f"unix://{estate.job('a')}")
    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102 - our own page
    names["db"].close()
    assert estate.database("a").call("GET", "invoice:1") == b"paid"


# --- what is hostile ---------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"*4294967295\r\n",
        b"*1\r\n$999999999999\r\n",
        b"*1\r\n$%d\r\n" % (MAX_REQUEST + 1),
        b"*1\r\n$-1\r\n",
        b"\x00" * 1000,
    ],
)
def test_who_speaks_nonsense_is_told_so_and_sent_away(path, database, data):
    with closing(connected(path)) as channel:
        channel.sendall(data)
        assert everything(channel).startswith(b"-ERR Protocol error")
    assert database.call("PING") == b"PONG"


HALVES = [
    *(b"", b"*", b"*2\r\n$3\r\nGET\r\n", b"*1\r\n$1000000\r\nx"),
    b"*1\r\n$4\r\nPING",
]


@pytest.mark.parametrize("data", HALVES)
def test_half_a_request_hurts_nobody_and_ends_with_the_job(estate, path, data):
    channel = connected(path)
    channel.sendall(data)
    assert estate.database("a").call("PING") == b"PONG"
    began = time.monotonic()
    estate.end_jobs()
    assert time.monotonic() - began < 2
    assert everything(channel) == b""
    channel.close()


def test_many_requests_at_once_are_answered_in_their_order(path):
    with closing(connected(path)) as channel:
        channel.sendall(b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n" * 1000)
        wanted = b"".join(b":%d\r\n" % (number + 1) for number in range(1000))
        data = b""
        while len(data) < len(wanted):
            data += channel.recv(65536)
        assert data == wanted


def test_who_takes_no_answers_hurts_nobody_and_ends_with_the_job(estate, path):
    database = estate.database("a")
    database.call("SET", "large", b"x" * 10**6)
    channel = connected(path)
    channel.settimeout(0)
    with suppress(BlockingIOError):
        while True:
            channel.send(b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n" * 100)
    assert database.call("STRLEN", "large") == 10**6
    began = time.monotonic()
    estate.end_jobs()
    assert time.monotonic() - began < 3
    channel.close()


def test_a_job_has_so_many_connections_and_no_more(path, estate):
    databases = [Database(f"unix://{path}") for _ in range(MAX_CONNECTIONS)]
    for one in databases:
        assert one.call("PING") == b"PONG"
    with closing(connected(path)) as more:
        assert b"max number of clients" in everything(more)
    assert estate.database("a").call("PING") == b"PONG"
    for one in databases:
        one.close()
    # It takes a moment until it is seen that they are gone.
    deadline = time.monotonic() + 10
    again = Database(f"unix://{path}")
    while True:
        try:
            assert again.call("PING") == b"PONG"
            break
        except DatabaseError:
            assert time.monotonic() < deadline
    again.close()


def test_all_connections_of_a_job_together_hold_so_much_and_no_more(estate, path):
    large = b"*2\r\n$3\r\nSET\r\n$%d\r\n" % (15 * 1024 * 1024)
    with ExitStack() as channels:
        refused = []
        for _ in range(4):
            channel = channels.enter_context(closing(connected(path)))
            with suppress(BrokenPipeError, ConnectionResetError):
                channel.sendall(large[:8])
                channel.sendall(large[8:] + b"x" * (14 * 1024 * 1024))
                channel.settimeout(1)
            with suppress(TimeoutError):
                refused.append(everything(channel))
        assert refused
        assert set(refused) <= {b"", refused[0]}
        assert b"hold more than" in b"".join(refused)
    other = Database(f"unix://{estate.job('a')}")
    assert other.call("PING") == b"PONG"
    other.close()
    # What was held is given back with the connections.
    deadline = time.monotonic() + 10
    again = Database(f"unix://{path}")
    while True:
        try:
            assert again.call("SET", "k", b"x" * (14 * 1024 * 1024)) == b"OK"
            break
        except DatabaseError:
            assert time.monotonic() < deadline
    again.close()


def test_a_request_that_is_too_large_is_told_so_and_the_next_one_is_answered(database):
    with pytest.raises(DatabaseError, match="the request is too large"):
        database.call("SET", "a", b"x" * 17 * 2**20)
    assert database.call("GET", "a") is None


def test_an_answer_that_is_too_large_is_an_error(database):
    piece = b"x" * (15 * 1024 * 1024)
    for number in range(5):
        database.call("SET", f"k{number}", piece)
    with pytest.raises(DatabaseError, match="larger than"):
        database.call("MGET", *[f"k{number}" for number in range(5)])
    assert database.call("STRLEN", "k1") == len(piece)


def test_nothing_is_left_when_the_job_ends(estate, path):
    before = threading.active_count()
    databases = [Database(f"unix://{path}") for _ in range(5)]
    for one in databases:
        one.call("PING")
    assert threading.active_count() > before
    estate.end_jobs()
    names = [one.name for one in threading.enumerate()]
    assert not [name for name in names if name.startswith("herodb")]
    for one in databases:
        with pytest.raises(DatabaseError, match="does not answer"):
            one.call("PING")
        one.close()
    logins = [one["user"] for one in estate.client.client_list()]
    assert set(logins) == {"default"}


def test_what_was_sent_before_the_job_ended_is_not_done_after_it(estate, path):
    channel = connected(path)
    estate.client.client_pause(60_000, all=False)
    channel.sendall(b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n" * 1000)
    # The first one waits in Redis.
    key = f"{estate.layout.data('a')}n"
    deadline = time.monotonic() + 20
    while not any(one["cmd"] == "incr" for one in estate.client.client_list()):
        assert time.monotonic() < deadline
    began = time.monotonic()
    estate.end_jobs()
    assert time.monotonic() - began < 2
    estate.client.client_unpause()
    assert int(estate.client.get(key) or 0) <= 1
    assert not [one for one in threading.enumerate() if one.name == "herodb-talk"]
    channel.close()


# --- what becomes of the server ------------------------------------------------------


def test_a_password_of_another_day_is_no_matter(estate):
    database = estate.database("a")
    database.call("SET", "k", "v")
    for days in (1, 1, 5):
        estate.clock.advance(days=days)
        estate.steward.make_round()
        assert database.call("GET", "k") == b"v"
        assert estate.database("a").call("GET", "k") == b"v"


def test_between_two_rounds_the_next_day_is_no_matter(estate):
    estate.steward.ensure("a")
    estate.clock.advance(days=1)
    assert estate.database("a").call("PING") == b"PONG"


def test_what_a_server_has_forgotten_is_made_again(estate, private_redis):
    database = estate.database("a")
    database.call("SET", "k", "v")
    private_redis.stop()
    private_redis.start()
    assert estate.client.execute_command("ACL USERS") == ["default"]
    found = []

    def ask():
        found.append(database.call("GET", "k"))

    # It is asked before the users are there again, and waits for them.
    thread = threading.Thread(target=ask)
    thread.start()
    assert not found
    estate.steward.make_round()
    thread.join(20)
    assert found == [b"v"]
    assert database.call("GET", "k") == b"v"


def test_a_transaction_does_not_outlive_its_connection(estate, private_redis):
    database = estate.database("a")
    database.call("MULTI")
    database.call("SET", "k", "v")
    private_redis.stop()
    private_redis.start()
    estate.steward.make_round()
    with pytest.raises(DatabaseError, match="cut off"):
        database.call("EXEC")
    assert estate.database("a").call("GET", "k") is None


def test_who_was_removed_is_cut_off(estate):
    database = estate.database("a")
    database.call("SET", "k", "v")
    estate.steward.delete("a")
    users = estate.client.execute_command("ACL USERS")
    assert estate.layout.jobs_user("a") not in users
    assert estate.client.keys(f"{estate.layout.root}{{*") == []
    with pytest.raises(DatabaseError, match="users are not there"):
        database.call("GET", "k")
    estate.steward.ensure("a")
    assert database.call("GET", "k") is None


def test_over_the_quota_a_script_reads_and_deletes_until_it_is_not(estate):
    database = estate.database("a")
    for number in range(5):
        database.call("SET", f"k{number}", "x" * 1000)
    estate.steward.set_quota("a", max_bytes=2000, max_keys=None)
    assert database.call("SET", "more", "x") == b"OK"
    estate.steward.make_round()
    (view,) = estate.steward.list()
    assert view.is_over
    assert view.usage.keys == 6
    assert view.usage.size > 5000
    for words in (["SET"], ["SETENC"], ["OSIS", "put", 1]):
        with pytest.raises(DatabaseError, match="OOM over quota"):
            database.call(*words, "k", "v")
    assert database.call("GET", "k1") == b"x" * 1000
    assert database.call("OSIS", "see", 1, "d:k1") == b"x" * 1000
    assert database.call("DEL", *[f"k{number}" for number in range(5)]) == 5
    estate.steward.make_round()
    assert database.call("SET", "k", "v") == b"OK"
    estate.steward.set_quota("a", max_bytes=None, max_keys=1)
    estate.steward.make_round()
    with pytest.raises(DatabaseError, match="OOM over quota"):
        database.call("SET", "k", "v")
    estate.steward.set_quota("a", max_bytes=None, max_keys=None)
    assert database.call("SET", "k", "v") == b"OK"


@pytest.mark.parametrize("lacking", ["-@all", "-acl", "-hgetall", "-eval", "-scan"])
def test_a_login_that_may_not_administer_is_told_what_to_do(
    make_estate, private_redis, lacking
):
    with private_redis.client() as client:
        words = ("on", ">weak", "~*", "+@all", lacking)
        client.execute_command("ACL SETUSER", "weak", *words)
    steward = make_estate(f"unix://weak:weak@{private_redis.socket}").steward

    def begin():
        steward.ensure("a")
        steward.make_round()

    with pytest.raises(ConfigurationError, match="herodb_url may not administer"):
        begin()


def test_without_a_server_a_script_is_told_so(estate, private_redis):
    path = estate.job("a")
    private_redis.stop()
    began = time.monotonic()
    database = Database(f"unix://{path}")
    with pytest.raises(DatabaseError, match="its Redis does not serve"):
        database.call("PING")
    database.close()
    assert timedelta(seconds=time.monotonic() - began) < timedelta(seconds=12)


@pytest.mark.parametrize("url", ["redis://x", "unix:relative", "unix://host/x", ""])
def test_another_address_is_refused(url):
    with pytest.raises(DatabaseError, match="unix:///PATH"):
        Database(url)


def test_an_address_where_nobody_listens_is_told(tmp_path):
    for path, why in (
        (tmp_path / "s", "No such file"),
        (tmp_path / ("x" * 99), "long"),
    ):
        with pytest.raises(DatabaseError, match=why):
            Database(f"unix://{path}").call("PING")
