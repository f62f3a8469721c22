"""SAL's functions for HeroDB, on a real server."""

from __future__ import annotations

import pytest

from workers import sal

pytestmark = pytest.mark.integration


@pytest.fixture
def herodb(script, redis_url):
    """A script whose HeroDB is that server."""
    script.session.herodb_url = redis_url
    yield script
    script.session.database.close()


def test_values_are_kept(herodb):
    assert herodb("redis_ping") == "PONG"
    assert herodb("redis_set", "k", "é") is None
    assert herodb("redis_get", "k") == "é"
    assert herodb("redis_get", "other") == ""
    assert herodb("redis_del", "k") == 1
    assert herodb("redis_del", "k") == 0


def test_hashes_are_kept(herodb):
    assert herodb("redis_hset", "h", "f", "v") == 1
    assert herodb("redis_hset", "h", "g", "w") == 1
    assert herodb("redis_hget", "h", "f") == "v"
    assert herodb("redis_hgetall", "h") == {"f": "v", "g": "w"}
    assert herodb("redis_hdel", "h", "f") == 1
    assert herodb("redis_hget", "h", "f") == ""


def test_lists_are_kept(herodb):
    assert herodb("redis_rpush", "l", "b") == 1
    assert herodb("redis_lpush", "l", "a") == 2
    assert herodb("redis_llen", "l") == 2
    assert herodb("redis_lrange", "l", 0, -1) == ["a", "b"]


def test_a_command_on_another_kind_of_value_is_refused(herodb):
    herodb("redis_set", "k", "v")
    with pytest.raises(sal.SalError, match="redis_llen: WRONGTYPE "):
        herodb("redis_llen", "k")
