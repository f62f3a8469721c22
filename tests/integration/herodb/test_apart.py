"""A context can neither read, write, list nor flush another one, by any command.

Every command that the server has is tried with keys of the other context: through the
socket of a job, with the login of jobs, with those of users of each role, and with the
login that lists names.
"""

from __future__ import annotations

import pytest
import redis

from horus_celery.herodb import layout
from horus_celery.herodb.commands import COMMANDS
from horus_celery.herodb.layout import Role
from workers.herodb.client import Database, DatabaseError

pytestmark = pytest.mark.integration

SECRET = b"the-secret-of-b"
#: The name of a key that nobody else was told.
HIDDEN = b"a-name-that-only-b-knows"
#: What would end the server's service for everybody, or the connection it is asked on.
_NOT_TRIED = frozenset({"shutdown", "debug", "quit"})


@pytest.fixture
def both(make_estate, private_redis):
    """Two contexts; the second has one key of each kind, which the first wants.

    Nobody comes in as the default user: else who logs out would be somebody else.
    """
    with private_redis.client() as client:
        boss = ("boss", "on", ">boss", "~*", "&*", "+@all")
        client.execute_command("ACL SETUSER", *boss)
        client.execute_command("ACL SETUSER", "default", "off")
    estate = make_estate(f"unix://boss:boss@{private_redis.socket}")
    for name in ("a", "b"):
        estate.steward.ensure(name)
    prefix = estate.layout.data("b")
    client = estate.client
    client.set(f"{prefix}string", SECRET)
    client.hset(f"{prefix}hash", mapping={"field": SECRET})
    client.rpush(f"{prefix}list", SECRET)
    client.sadd(f"{prefix}set", SECRET)
    client.zadd(f"{prefix}zset", {SECRET: 1})
    client.xadd(f"{prefix}stream", {"field": SECRET})
    client.set(f"{prefix}{HIDDEN.decode()}", "1")
    return estate


def held(estate):
    """Return all that the second context holds, as it lies there."""
    prefix = estate.layout.data("b").encode()
    keys = sorted(key for key in estate.client.keys("*") if key.startswith(prefix))
    assert len(keys) == 7
    return {key: (estate.client.dump(key), estate.client.pttl(key)) for key in keys}


def commands(client):
    """Return every command of the server with its subcommands, as words."""
    found = []
    for entry in client.execute_command("COMMAND"):
        name = entry[0].decode() if isinstance(entry, list) else entry
        found.append(name.split("|"))
    listed = client.execute_command("COMMAND LIST")
    found += [name.decode().split("|") for name in listed]
    for name in ("config", "acl", "client", "script", "function", "memory", "object"):
        answer = client.execute_command("COMMAND INFO", name)
        infos = list(answer.values()) if isinstance(answer, dict) else answer
        for info in infos:
            for sub in info.get("subcommands", []) if isinstance(info, dict) else []:
                words = sub[0].decode() if isinstance(sub, list) else str(sub)
                found.append(words.split("|"))
    assert len(found) > 200
    names = {tuple(words) for words in found if words[0] not in _NOT_TRIED}
    return sorted(names)


def attempts(words, keys):
    """Yield a command with the wanted keys in every place where keys may stand."""
    own = f"own-{'-'.join(words)}"
    yield (*words, own)
    yield (*words, own, "x")
    yield (*words, own, "x", "x")
    for key in keys:
        yield (*words, key)
        yield (*words, key, "x")
        yield (*words, key, "0", "x")
        yield (*words, key, "x", "x")
        yield (*words, key, "1", "1")
        yield (*words, key, "0", "-1")
        yield (*words, own, key)
        yield (*words, key, own)
        yield (*words, own, key, "x")
        yield (*words, key, own, "LEFT", "RIGHT")
        yield (*words, own, key, "LEFT", "RIGHT")
        yield (*words, "1", key)
        yield (*words, "1", key, "LEFT")
        yield (*words, own, "1", key)
        yield (*words, "1", own, key)
        yield (*words, "AND", own, key)
        yield (*words, "return redis.call('GET', KEYS[1])", "1", key)
        yield (*words, "return redis.call('GET', ARGV[1])", "0", key)
        yield (*words, "STREAMS", key, "0")
        yield (*words, "COUNT", "1", "STREAMS", key, "0")
        yield (*words, key, "DB", "1")
        yield (*words, own, "BY", key, "GET", key)
    yield words
    yield (*words, "*")
    yield (*words, "0")
    yield (*words, "0", "MATCH", "*", "COUNT", "1000")
    yield (*words, "1", "2")
    yield (*words, "ASYNC")


def keys_of(estate):
    prefix = estate.layout.data("b")
    kinds = ("string", "hash", "list", "set", "zset", "stream")
    return [f"{prefix}{kind}" for kind in kinds]


def told(answer):
    """Return all texts in an answer, as one."""
    if isinstance(answer, (list, tuple, set)):
        return b"|".join(map(told, answer))
    if isinstance(answer, dict):
        return b"|".join(told(part) for pair in answer.items() for part in pair)
    return answer if isinstance(answer, bytes) else str(answer).encode()


def try_all(estate, ask, *, keys):
    """Try every command, and return those that were answered with no error."""
    before = held(estate)
    answered = set()
    for words in commands(estate.client):
        for attempt in attempts(words, keys):
            answer = ask(attempt)
            if isinstance(answer, Exception):
                assert SECRET not in str(answer).encode(), attempt
                assert HIDDEN not in str(answer).encode(), attempt
                continue
            answered.add(words[0])
            assert SECRET not in told(answer), attempt
            assert HIDDEN not in told(answer), attempt
    for name in ("debug", "shutdown"):
        assert isinstance(ask((name, "nosave")), Exception)
    assert held(estate) == before
    return answered


def through_a_socket(path):
    """Return what asks as a script does, on a connection that is made again."""
    database = Database(f"unix://{path}", timeout=20)

    def ask(words):
        try:
            answer = database.call(*words)
        except DatabaseError as error:
            return error
        if words[0] == "multi":
            database.call("DISCARD")
        return answer

    return ask, database


@pytest.mark.parametrize(
    "how", ["by its full name", "by what a prefix would make of it"]
)
def test_a_script_reaches_nothing_of_another_context(both, how):
    keys = keys_of(both)
    if how != "by its full name":
        keys = [f"}}:{keys[0]}", "*", "../b:string", "{b}:string"]
    ask, database = through_a_socket(both.job("a"))
    try:
        answered = try_all(both, ask, keys=keys)
    finally:
        database.close()
    # Else it would only show that nothing works.
    assert {"get", "set", "del", "hset", "lpush", "scan", "keys", "dbsize"} <= answered
    assert answered <= {name.lower() for name in COMMANDS}


def logged_in(estate, user, password):
    """Return what asks as a user of the server does, whatever that answers."""

    def connected():
        connection = redis.UnixDomainSocketConnection(  # type: ignore[abstract]  # its stubs are wrong
            path=estate.url.partition("@")[2],
            username=user,
            password=password,
            socket_timeout=5,
            protocol=2,
            driver_info=None,
        )
        connection.connect()
        return connection

    connections = [connected()]

    def ask(words):
        try:
            connections[0].send_command(*words)
            answer = connections[0].read_response()
            if words[0] == "multi":
                connections[0].send_command("DISCARD")
                connections[0].read_response()
        except redis.ConnectionError as error:
            connections[0] = connected()
            return error
        except redis.RedisError as error:
            return error
        if words[0] in {"reset", "auth", "hello"}:
            connections[0].disconnect()
            connections[0] = connected()
        return answer

    def leave():
        connections[0].disconnect()

    return ask, leave


def logins(estate):
    now = layout.generation_at(estate.clock.now())
    for user in (estate.layout.jobs_user("a"), estate.layout.lister):
        yield user, layout.password(MASTER, user, now)
    for role in Role:
        yield estate.steward.add_user("a", f"who-{role}", role)


MASTER = bytes(range(32))


@pytest.mark.parametrize("place", range(5))
def test_a_login_reaches_nothing_of_another_context(both, place):
    user, password = list(logins(both))[place]
    is_lister = user == both.layout.lister
    ask, leave = logged_in(both, user, password)
    # What it sees is names, and it is nobody's but ours.
    try:
        if is_lister:
            names = {words[0] for words in commands(both.client)} - {"scan"}
            allowed = {
                name for name in names if not isinstance(ask((name, "b")), Exception)
            }
            assert allowed <= {"auth", "hello", "reset"}
            return
        answered = try_all(both, ask, keys=keys_of(both))
    finally:
        leave()
    assert {"ping", "multi"} <= answered
    known = {name.lower() for name in COMMANDS} | {"eval", "evalsha", "eval_ro"}
    assert answered <= known | {"hello", "auth", "reset", "evalsha_ro", "client"}


def test_the_table_and_the_server_agree_where_keys_stand(both):
    client = both.client
    samples = {
        "MSET": "MSET k v k2 v2",
        "MSETNX": "MSETNX k v",
        "BITOP": "BITOP AND to k",
        "LMOVE": "LMOVE k k2 LEFT RIGHT",
    }
    unknown = []
    listed = {name.decode() for name in client.execute_command("COMMAND LIST")}
    for command in COMMANDS.values():
        if command.is_local or command.name == "ZINTERCARD":
            continue
        if command.name.lower() not in listed:
            unknown.append(command.name)
            continue
        words = samples.get(command.name, "").split() or [
            command.name,
            *(
                ["to", "1", "k"]
                if command.keys.count == 2
                else ["1", "k"]
                if command.keys.count == 1
                else ["k", "k2", "1", "1", "1"]
            ),
        ]
        raw = [word.encode() for word in words]
        try:
            places = list(command.keys.places(raw))
        except Exception as error:
            raise AssertionError(command.name) from error
        told = []
        for size in range(len(raw), 9):
            padded = [*raw, *[b"1"] * (size - len(raw))]
            own = list(command.keys.places(padded))
            try:
                found = client.execute_command("COMMAND GETKEYS", *padded)
                answer = [str(one).encode() for one in found]
            except redis.ResponseError as error:
                if "no key arguments" in str(error):
                    answer = []
                else:
                    continue
            told.append((own, [padded[at] for at in own], answer))
        for own, mine, theirs in told:
            assert mine == theirs, (command.name, own)
        if command.keys.first or command.keys.count:
            assert told or places, command.name
    assert unknown == []


def test_a_script_sees_its_own_keys_alone_and_without_a_prefix(both):
    database = both.database("a")
    for name in ("x:1", "x:2", "y"):
        database.call("SET", name, "1")
    assert sorted(database.call("KEYS", "*")) == [b"x:1", b"x:2", b"y"]
    assert sorted(database.call("KEYS", "x:*")) == [b"x:1", b"x:2"]
    assert database.call("DBSIZE") == 3
    cursor, found = b"0", []
    while True:
        cursor, keys = database.call("SCAN", cursor, "MATCH", "x*", "COUNT", 1)
        found += keys
        if cursor == b"0":
            break
    assert sorted(found) == [b"x:1", b"x:2"]
    assert database.call("SCAN", 0, "TYPE", "hash", "COUNT", 1000) == [b"0", []]


def test_contexts_whose_names_begin_alike_are_apart(both):
    one, other = both.database("c"), both.database("c:d")
    one.call("SET", "d:k", "one")
    other.call("SET", "k", "other")
    assert one.call("KEYS", "*") == [b"d:k"]
    assert other.call("KEYS", "*") == [b"k"]


def test_a_platform_script_sees_the_keys_that_it_was_given_and_no_others(both):
    database = both.database("a")
    assert database.call("OSIS", "put", 1, "d:k", "v") == b"OK"
    assert database.call("OSIS", "see", 1, "d:k") == b"v"
    assert database.call("GET", "k") == b"v"
    with pytest.raises(DatabaseError):
        database.call("OSIS", "stray", 0, keys_of(both)[0])
    with pytest.raises(DatabaseError, match=r"(?i)write commands are not allowed"):
        database.call("OSIS", "liar", 1, "k")
    for wrong in (["none", 0], ["put"], ["put", 2, "k"], ["put", "x", "k"], []):
        with pytest.raises(DatabaseError, match="ERR"):
            database.call("OSIS", *wrong)
    assert database.call("GET", "k") == b"v"


def test_roles_write_what_they_may(both):
    prefix = both.layout.prefix("a")
    for role, may in (("read", ""), ("write", "d"), ("admin", "dm")):
        login, password = both.steward.add_user("a", role, Role(role))
        ask, leave = logged_in(both, login, password)
        for kind, key in (
            ("d", "d:k"),
            ("d", "o:m"),
            ("d", "i:m:f"),
            ("m", "m:person"),
        ):
            answer = ask(("SET", f"{prefix}{key}", "1"))
            assert isinstance(answer, redis.ResponseError) == (kind not in may)
            assert not isinstance(ask(("GET", f"{prefix}{key}")), Exception)
        leave()
