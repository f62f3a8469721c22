"""Objects and `db` through the very front that scripts have."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import Any

import pytest

from workers.herodb.client import DatabaseError
from workers.osis.database import Db
from workers.osis.model import parse_model
from workers.osis.objects import Beginning, Equal, Objects
from workers.osis.scripts import SCRIPTS

pytestmark = pytest.mark.integration

NOTE: dict[str, Any] = {
    "fields": {"title": "string", "tags": "list", "rank": "int"},
    "indexes": ["title", "tags", {"field": "rank", "unique": True}],
}


@pytest.fixture
def database(estate):
    estate.service = dataclasses.replace(estate.service, scripts=SCRIPTS)
    return estate.database


def test_a_job_has_objects_of_its_context_and_of_no_other(database):
    mine, same, other = (Objects(database(name).call) for name in ("a", "a", "b"))
    mine.declare(parse_model("note", NOTE))
    for number in range(3):
        mine.add("note", {"title": f"t\0{number}", "tags": ["é"], "rank": number})
    found = same.find("note", "title", Beginning(prefix="t\0"))
    assert [each.id for each in found] == [1, 2, 3]
    assert same.replace("note", 1, {"rank": -1}).revision == 2
    assert same.delete("note", 2)
    assert mine.count("note", "tags", Equal(value="é")) == 1
    more = parse_model("note", {**NOTE, "fields": {**NOTE["fields"], "n": "int"}})
    assert same.declare(more).version == 2
    assert mine.get("note", 3).values["n"] is None
    assert (mine.models(), other.models()) == (["note"], [])


def test_a_large_object_comes_through(database):
    objects = Objects(database("a").call)
    objects.declare(parse_model("note", {"fields": {"text": "string"}}))
    for _ in range(12):
        objects.add("note", {"text": "x" * 1_000_000})
    assert 1 < len(objects.listed("note")) < 12


LONG = "a " * 2**20
ENDLESS: list[tuple[str, list[str], list[list[str]]]] = [
    ("declare", ["1", "body", "0", "note", "1000000000000"], []),
    ("declare", ["1", "body", "0", "note", "0", "1e300"], []),
    ("reindex", ["1", "", "1", "1", "-1.5"], []),
    # A field that nearly stands in a text, wherever that is looked at.
    (
        "count",
        ["1", f"{LONG}b", "-", "+"],
        [["MULTI"], ["HSET", "i", "building", LONG * 2], ["EXEC"]],
    ),
]


@pytest.mark.parametrize(("script", "words", "before"), ENDLESS)
def test_no_words_keep_redis_busy(database, script, words, before):
    caller = database("a")
    Objects(caller.call).declare(parse_model("note", NOTE))
    for command in before:
        caller.call(*command)
    keys = ["m:note", "o:note", "d:i", "m:"]
    with suppress(DatabaseError):
        caller.call("OSIS", script, len(keys), *keys, *words)
    assert database("b").call("PING") == b"PONG"


CALLS: list[tuple[str, list[Any], object]] = [
    ("set", ["k", "ä"], None),
    ("get", ["k"], "ä"),
    ("set", ["t", 1, 60], None),
    ("ttl", ["t"], 60),
    ("exists", ["k"], True),
    ("expire", ["k", 60], True),
    ("incr", ["n"], 1),
    ("incr", ["n", 4], 5),
    ("hset", ["h", {"a": 1, "b": "x"}], 2),
    ("hset", ["h", "c", 2.5], 1),
    ("hget", ["h", "c"], "2.5"),
    ("hgetall", ["h"], {"a": "1", "b": "x", "c": "2.5"}),
    ("hkeys", ["h"], ["a", "b", "c"]),
    ("hdel", ["h", ["a", "b"]], 2),
    ("rpush", ["l", ["b", "c"]], 2),
    ("lpush", ["l", "a"], 3),
    ("lrange", ["l", 0, -1], ["a", "b", "c"]),
    ("llen", ["l"], 3),
    ("lpop", ["l"], "a"),
    ("rpop", ["l"], "c"),
    ("sadd", ["s", ["b", "a"]], 2),
    ("smembers", ["s"], ["a", "b"]),
    ("srem", ["s", "a"], 1),
    ("zadd", ["z", 2, "b"], 1),
    ("zadd", ["z", 1.5, "a"], 1),
    ("zrange", ["z", 0, -1], ["a", "b"]),
    ("set_encrypted", ["e", "secret"], None),
    ("get_encrypted", ["e"], "secret"),
    ("get_encrypted", ["none"], None),
    ("keys", [], ["e", "h", "k", "l", "n", "s", "t", "z"]),
    ("keys", ["[kn]"], ["k", "n"]),
    ("del", [["k", "n", "none"]], 2),
    ("get", ["k"], None),
]


def test_every_command_of_db_is_one_of_the_front(database):
    db = Db(database("a").call)

    def call(name: str, *args: object) -> Any:
        return db.rhai_call(name, args)

    for name, args, result in CALLS:
        assert call(name, *args) == result, name
    recipient, identity = call("age_genenc")
    sealed = call("age_encrypt", recipient, "message")
    assert call("age_decrypt", identity, sealed) == "message"
    verify, sign = call("age_gensign")
    signature = call("age_sign", sign, "message")
    assert call("age_verify", verify, "message", signature) is True
    assert call("age_verify", verify, "another", signature) is False
    call("age_keygen", "mine")
    sealed = call("age_encrypt_name", "mine", "message")
    assert call("age_decrypt_name", "mine", sealed) == "message"
    call("age_signkeygen", "mine")
    signature = call("age_sign_name", "mine", "message")
    assert call("age_verify_name", "mine", "message", signature) is True
    assert "mine" in call("age_list")
    used = {name for name, _, _ in CALLS}
    assert {name for name in Db.operations if not name.startswith("age_")} == used
    with pytest.raises(DatabaseError):
        call("incr", "h")
