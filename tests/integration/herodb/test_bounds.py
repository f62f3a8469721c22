"""No command of a script keeps Redis from all else for long."""

from __future__ import annotations

import pytest

from horus_celery.herodb.requests import MAX_REQUEST
from horus_celery.herodb.work import MOST_BYTES, MOST_HELD, MOST_IN_TRANSACTION
from workers.herodb.client import DatabaseError

pytestmark = pytest.mark.integration

#: So many that nothing may go through all of them, in so many commands.
PAGE = 60_000
PAGES = 2
LARGE = b"x" * (8 * 1024 * 1024)


@pytest.fixture
def database(estate):
    return estate.database("a")


@pytest.fixture
def crowded(database):
    """What has a set, a list, a hash, a sorted set and a stream that are too large."""
    for page in range(PAGES):
        numbers = range(page * PAGE, (page + 1) * PAGE)
        database.call("SADD", "set", *numbers)
        database.call("RPUSH", "list", *numbers)
        pairs = [word for number in numbers for word in (number, number)]
        for half in (pairs[:PAGE], pairs[PAGE:]):
            database.call("ZADD", "sorted", *half)
            database.call("HSET", "hash", *half)
    assert database.call("SCARD", "set") > MOST_HELD
    return database


#: What each has at most as answer or effect, as far as it may be at all.
REFUSED = [
    *("SMEMBERS set", "HGETALL hash", "HKEYS hash", "HVALS hash", "LRANGE list 0 -1"),
    *("ZRANGE sorted 0 -1", "ZREVRANGE sorted -1 0", "ZRANGEBYSCORE sorted -inf +inf"),
    *("ZREVRANGEBYSCORE sorted +inf -inf", "ZREMRANGEBYSCORE sorted -inf +inf"),
    *("SUNION set set", "SINTER set set", "SDIFF set none", "SINTERCARD 1 set"),
    *("SUNIONSTORE to set", "SINTERSTORE to set", "SDIFFSTORE to set"),
    *(
        "ZUNION 1 sorted",
        "ZINTER 1 sorted",
        "ZDIFF 1 sorted",
        "ZUNIONSTORE to 1 sorted",
    ),
    *("ZRANGESTORE to sorted 0 -1", "ZINTERCARD 1 sorted", "LPOS list none"),
    *("LREM list 0 none", "LINSERT list BEFORE none x", "ZREMRANGEBYRANK sorted 0 -1"),
]


def test_what_goes_through_too_many_items_is_refused(crowded):
    for text in REFUSED:
        with pytest.raises(DatabaseError, match=f"more than {MOST_HELD} items"):
            crowded.call(*text.split())


def test_parts_of_what_is_large_are_given_and_taken(crowded):
    assert crowded.call("LRANGE", "list", 70_000, 70_001) == [b"70000", b"70001"]
    assert crowded.call("ZRANGEBYSCORE", "sorted", 7, 8) == [b"7", b"8"]
    assert crowded.call("ZREVRANGEBYSCORE", "sorted", 8, 7) == [b"8", b"7"]
    assert crowded.call("ZREMRANGEBYSCORE", "sorted", 7, 8) == 2
    assert len(crowded.call("SRANDMEMBER", "set", 100)) == 100
    assert len(crowded.call("LPOP", "list", 10_000)) == 10_000
    assert crowded.call("LTRIM", "list", 0, 9) == b"OK"
    assert crowded.call("LRANGE", "list", 0, -1)[:1] == [b"10000"]
    assert crowded.call("HMGET", "hash", *range(3), "none") == [b"0", b"1", b"2", None]
    assert crowded.call("DEL", "set", "hash", "sorted") == 3


def test_large_values_are_not_asked_for_again_and_again(database):
    database.call("HSET", "h", "f", LARGE)
    database.call("SET", "s", LARGE)
    database.call("SADD", "set", LARGE)
    often = MOST_BYTES // len(LARGE) + 3
    for words in (["HMGET", "h", *["f"] * often], ["MGET", *["s"] * often]):
        with pytest.raises(DatabaseError, match=f"more than {MOST_BYTES} bytes"):
            database.call(*words)
    with pytest.raises(DatabaseError, match="may be the same"):
        database.call("SRANDMEMBER", "set", -1_000_000_000)
    with pytest.raises(DatabaseError, match="more than"):
        database.call("BITOP", "OR", "to", *["s"] * often)
    names = [f"n{number}" for number in range(20)]
    assert database.call("MGET", *names, "none") == [None] * 21


def test_a_command_answers_through_the_guard_what_it_answers_without(database):
    database.call("SADD", "a", "x", "y")
    database.call("SADD", "b", "y", "z")
    database.call("XADD", "stream", "1-1", "f", "v")
    database.call("ZADD", "sorted", 1.5, "m")
    database.call("SET", "text", "ab")
    assert database.call("SINTER", "a", "b") == [b"y"]
    assert database.call("SUNIONSTORE", "c", "a", "b") == 3
    assert database.call("XRANGE", "stream", "-", "+") == [[b"1-1", [b"f", b"v"]]]
    assert database.call("ZUNION", 1, "sorted", "WITHSCORES") == [b"m", b"1.5"]
    assert database.call("HGETALL", "none") == []
    assert database.call("LPOS", "none", "x") is None
    assert database.call("BITCOUNT", "text") == 6
    for words in (["SMEMBERS", "text"], ["HMGET", "text", *"abcdefghijk"]):
        with pytest.raises(DatabaseError, match=r"^WRONGTYPE"):
            database.call(*words)
    with pytest.raises(DatabaseError, match="float"):
        database.call("ZRANGEBYSCORE", "sorted", "x", "y")
    with pytest.raises(DatabaseError, match=r"[Ww]rong number"):
        database.call("SMEMBERS", "a", "b")


def test_a_transaction_has_few_commands_that_go_through_much(database):
    database.call("SADD", "a", "x")
    database.call("MULTI")
    for _ in range(MOST_IN_TRANSACTION):
        assert database.call("SMEMBERS", "a") == b"QUEUED"
    assert database.call("EXEC") == [[b"x"]] * MOST_IN_TRANSACTION
    database.call("MULTI")
    for _ in range(MOST_IN_TRANSACTION):
        database.call("LPOP", "list", 1000)
    with pytest.raises(DatabaseError, match="16 commands that go through much"):
        database.call("LPOP", "list", 1000)
    with pytest.raises(DatabaseError, match="EXECABORT"):
        database.call("EXEC")
    assert database.call("SMEMBERS", "a") == [b"x"]


def test_a_transaction_makes_no_texts_of_nothing(estate, database):
    far = MAX_REQUEST - 10
    for verb, place in (("SETRANGE", far), ("SETBIT", 8 * far)):
        database.call("MULTI")
        # One text is as long as its last place, however often it is written.
        for _ in range(20):
            assert database.call(verb, "one", place, 1) == b"QUEUED"
        for number in range(3):
            database.call(verb, f"more{number}", place, 1)
        with pytest.raises(DatabaseError, match=f"stretch texts by {MOST_BYTES} bytes"):
            database.call(verb, "most", place, 1)
        with pytest.raises(DatabaseError, match="EXECABORT"):
            database.call("EXEC")
    database.call("MULTI")
    for _ in range(4):
        database.call("SETRANGE", "one", far, 1)
        database.call("RENAME", "one", "other")
    with pytest.raises(DatabaseError, match="stretch texts by"):
        database.call("SETRANGE", "one", far, 1)
    assert database.call("DISCARD") == b"OK"
    assert estate.client.info("memory")["used_memory_peak"] < MOST_BYTES


def test_a_part_of_what_a_key_holds_is_what_fits_the_pattern(database):
    database.call("SADD", "set", "a1", "a2", "b1")
    database.call("HSET", "hash", "a1", "a", "b1", "b")
    database.call("ZADD", "sorted", 1, "a1", 2, "b1")
    assert database.call("SSCAN", "set", 0, "MATCH", "b?", "COUNT", 5) == [
        b"0",
        [b"b1"],
    ]
    assert database.call("HSCAN", "hash", 0, "match", "a*") == [b"0", [b"a1", b"a"]]
    assert database.call("ZSCAN", "sorted", 0, "MATCH", "b*") == [b"0", [b"b1", b"2"]]
    assert database.call("HSCAN", "none", 0) == [b"0", []]
    with pytest.raises(DatabaseError, match="WRONGTYPE"):
        database.call("HSCAN", "set", 0)
    for words in (["set"], ["set", "x"], ["set", 0, "MATCH"], ["set", 0, "LIMIT", 1]):
        with pytest.raises(DatabaseError, match=r"^ERR"):
            database.call("SSCAN", *words)
    worst = b"*" + b"a" * 4_000_000 + b"b"
    for words in (["KEYS"], ["SCAN", 0, "MATCH"], ["SSCAN", "set", 0, "MATCH"]):
        with pytest.raises(DatabaseError, match="at most 256 bytes"):
            database.call(*words, worst)


def test_over_the_quota_what_is_large_can_still_be_taken_apart(estate, crowded):
    crowded.call("RPUSH", "few", "a", "b", "a")
    crowded.call("ZADD", "scores", 1, "a", 2, "b")
    estate.steward.set_quota("a", max_bytes=1000, max_keys=None)
    while not estate.steward.list()[0].is_over:
        estate.steward.make_round()
    assert crowded.call("SMEMBERS", "none") == []
    assert crowded.call("LREM", "few", 0, "a") == 2
    assert crowded.call("ZREMRANGEBYSCORE", "scores", 1, 1) == 1
    for text in ("SUNIONSTORE to few", "BITOP OR to few", "LINSERT few BEFORE b c"):
        with pytest.raises(DatabaseError, match="OOM over quota"):
            crowded.call(*text.split())


def test_who_is_over_is_so_before_all_keys_are_counted(estate, database):
    for page in range(4):
        names = range(page * 10_000, (page + 1) * 10_000)
        database.call("MSET", *[word for name in names for word in (name, "x")])
    estate.steward.set_quota("a", max_bytes=None, max_keys=100)
    estate.steward.make_round()
    (view,) = estate.steward.list()
    assert view.is_over
    assert view.usage.keys < 40_000
    with pytest.raises(DatabaseError, match="OOM over quota"):
        database.call("SET", "k", "v")


def test_what_is_large_is_not_hidden_behind_what_is_small(estate, database):
    database.call("RPUSH", "list", *[b"x" * 9000] * 6)
    for _ in range(3):
        database.call("RPUSH", "list", LARGE)
    while (view := estate.steward.list()[0]).usage is None:
        estate.steward.make_round()
    assert view.usage.size > 3 * len(LARGE)
