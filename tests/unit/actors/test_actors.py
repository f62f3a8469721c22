"""What the actors that are always there do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from workers.actors.ensemble import gather
from workers.heroscript.errors import ActionError


def test_echo_says_its_content_which_is_the_result(play, said):
    assert play("!!play.echo content:'two words'") == "two words"
    assert said == ["two words"]


def test_nothing_is_included(play, said):
    with pytest.raises(ActionError, match="its signed text and nothing else"):
        play("!!play.echo content:x\n!!play.include path:'/etc/x.hero'")
    assert said == []


def test_a_variable_is_set_for_all_that_comes_later(play, said):
    play(
        "!!play.echo content:'{my name}'\n"
        "!!session.env_set key:'My Name' val:one\n"
        "!!session.env_set_once key:my_name value:two\n"
        "!!session.env_set_once key:other value:'{my-name}'\n"
        "!!play.echo content:'{MY NAME} {other} {none}'\n"
    )
    assert said == ["{my name}", "one one {none}"]


SCRIPTS = [
    ("!!db.set key:k value:'a b'\n!!db.get key:k", "a b"),
    ("!!db.get key:none", ""),
    ("!!db.set key:a value:1\n!!db.set key:b value:2\n!!db.del key:a,b,c", "2"),
    ("!!db.hset key:h field:f value:v\n!!db.hget key:h field:f", "v"),
    ("!!db.hset key:h field:f value:v\n!!db.hgetall key:h", '{"f": "v"}'),
    ("!!db.hgetall key:none", "{}"),
    (
        "!!db.lpush key:l value:1\n!!db.lpush key:l value:2\n!!db.lrange key:l",
        '["2", "1"]',
    ),
    ("!!db.lpush key:l value:1\n!!db.lrange key:l start:1 stop:5", "[]"),
    ("!!db.incr key:n\n!!db.incr key:n by:-3", "-2"),
    ("!!db.set key:k value:v ttl:60\n!!db.expire key:k seconds:5", "1"),
    ("!!db.set key:ab value:1\n!!db.set key:b value:1\n!!db.keys", '["ab", "b"]'),
    ("!!db.set key:ab value:1\n!!db.keys pattern:'b*'", "[]"),
]


@pytest.mark.parametrize(("script", "result"), SCRIPTS)
def test_the_database_answers(play, script, result):
    assert play(script) == result


def test_a_time_to_live_goes_with_what_is_kept(play, database):
    play("!!db.set key:k value:v ttl:60\n!!db.set key:k value:v")
    assert database.asked == [("SET", "k", "v", "EX", 60), ("SET", "k", "v")]


def test_what_the_database_refuses_is_told_with_the_line(play):
    with pytest.raises(ActionError, match=r"db.get: WRONGTYPE \(line 2\)"):
        play("!!db.lpush key:l value:1\n!!db.get key:l")


def test_without_a_database_only_what_needs_it_fails(play, around, said):
    bare = gather(replace(around, environment={}))
    with pytest.raises(ActionError, match="sign it with `net: herodb`"):
        play("!!play.echo content:x\n!!db.get key:k", bare)
    assert said == ["x"]
