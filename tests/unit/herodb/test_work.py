"""How much a command asks for is known from its words, or is counted where it lies."""

from __future__ import annotations

import pytest

from horus_celery.herodb.commands import COMMANDS, BadRequest, find
from horus_celery.herodb.work import GUARD, guarded, items_of

#: As many as there may be, and more.
MANY, MORE = "10000", "10001"
#: What takes as long as its own words, or a moment.
MOMENTS = """
    PING ECHO TIME MULTI EXEC DISCARD UNWATCH WATCH EXISTS TOUCH TYPE TTL PTTL
    EXPIRETIME PEXPIRETIME GET STRLEN GETRANGE SUBSTR GETBIT HGET HLEN HEXISTS
    HSTRLEN LLEN SISMEMBER SMISMEMBER SCARD ZSCORE ZMSCORE ZCARD ZCOUNT ZLEXCOUNT
    ZRANK ZREVRANK XLEN SET SETNX SETEX PSETEX GETSET APPEND PERSIST INCR INCRBY
    INCRBYFLOAT DECR DECRBY HSET HSETNX HMSET HINCRBY HINCRBYFLOAT LPUSH RPUSH
    LPUSHX RPUSHX SADD ZADD ZINCRBY XADD RENAME RENAMENX LMOVE RPOPLPUSH SMOVE MSET
    MSETNX DEL UNLINK EXPIRE PEXPIRE EXPIREAT PEXPIREAT GETEX GETDEL HDEL LTRIM SREM
    ZREM XDEL XTRIM HSCAN SSCAN ZSCAN
"""


def words_of(text):
    return [word.encode() for word in text.split()]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("SET k v", 0),
        ("GET k", 0),
        ("LPOP k", 1),
        ("lpop k 7", 7),
        (f"SPOP k {MANY}", 10_000),
        ("SRANDMEMBER k 5", 5),
        ("SRANDMEMBER k -10", 10),
        ("LPOP k none", 0),
        ("LRANGE k 0 9", 10),
        ("LRANGE k -10 -1", 10),
        ("LRANGE k 5 1", 0),
        ("ZRANGE k 0 9 REV WITHSCORES", 10),
        ("ZRANGEBYSCORE k 0 9 LIMIT 5 10", 15),
        ("ZRANGE k 0 9 BYSCORE LIMIT 0 10", 10),
        ("XRANGE k - + COUNT 10", 10),
        ("LINDEX k 5", 1),
        ("LINDEX k 20000", 101),
        ("LRANGE k 20000 20009", 110),
        ("MGET a b c", 4),
        ("SETBIT k 7 1", 1),
    ],
)
def test_words_say_how_many_items_are_asked_for(text, items):
    assert items_of(words_of(text)) == items


@pytest.mark.parametrize(
    "text",
    [
        *("SMEMBERS k", "HGETALL k", "SUNION a b", "BITOP AND a b", "LREM k 0 v"),
        *("LRANGE k 0 -1", "LRANGE k -1 0", f"LRANGE k 0 {MANY}", "XRANGE k - +"),
        *("ZRANGE k 0 9 BYSCORE", "ZRANGEBYSCORE k 0 9", "ZREMRANGEBYLEX k - +"),
        *("ZRANGEBYSCORE k 0 9 LIMIT 0 -1", f"XRANGE k - + COUNT {MORE}"),
        *(
            "ZRANGEBYSCORE k 0 9 LIMIT 0 1 LIMIT 0 -1",
            "LRANGE k 0 99999999999999999999999",
        ),
        "MGET " + "k " * 20,
        "HMGET h " + "f " * 20,
    ],
)
def test_of_others_only_the_keys_know(text):
    assert items_of(words_of(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        *(f"LPOP k {MORE}", f"SPOP k {MORE}", f"ZPOPMIN k {MORE}"),
        *("SRANDMEMBER k -11", "HRANDFIELD k -99999999999 WITHVALUES"),
        *("ZRANDMEMBER k -9223372036854775808", f"SRANDMEMBER k {MORE}"),
        *("SETRANGE k 16777217 v", "SETBIT k 134217729 1", "SETBIT k 99999999999999 1"),
    ],
)
def test_what_asks_for_too_much_is_refused(text):
    with pytest.raises(BadRequest, match=r"may ask for|may be the same|at most"):
        items_of(words_of(text))


def sent(text):
    words = words_of(text)
    command = find(words)
    made = guarded(command, words, [*command.keys.places(words)])
    verb, source, count, *rest = made
    assert source == GUARD.source
    assert isinstance(count, int)
    return verb, rest[:count], rest[count + 2 :]


def test_what_is_counted_first_is_done_by_the_guard():
    assert sent("SMEMBERS k") == ("EVAL_RO", [b"k"], [0, "SMEMBERS", b"k"])
    stored = ("EVAL", [b"to", b"a"], [0, "SUNIONSTORE", b"to", b"a"])
    assert sent("sunionstore to a") == stored
    told = [4, "ZCOUNT", b"k", b"1", b"2", "ZREVRANGEBYSCORE", b"k", b"2", b"1"]
    assert sent("ZREVRANGEBYSCORE k 2 1") == ("EVAL_RO", [b"k"], told)


def test_it_is_given_no_more_keys_than_it_can_pass_on():
    with pytest.raises(BadRequest, match="may name 100"):
        sent("SUNION" + " k" * 101)
    with pytest.raises(BadRequest, match="may name 5000"):
        sent("HMGET k" + " f" * 5000)
    assert len(sent("MGET" + " k" * 4999)[1]) == 4999


def test_whatever_may_go_through_much_is_judged():
    judged = {name for name in COMMANDS if _is_judged(name)}
    moments = set(MOMENTS.split())
    local = {one.name for one in COMMANDS.values() if one.is_local}
    assert judged | moments | local == set(COMMANDS)
    assert not judged & (moments | local)


def _is_judged(name):
    try:
        return items_of([name.encode(), b"k", b"99999999999", *[b"x"] * 20]) != 0
    except BadRequest:
        return True
