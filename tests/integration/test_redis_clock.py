"""The clock by which leases go is the one of Redis, and nobody sets it by accident."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from horus_celery.errors import UnavailableError
from horus_celery.store import redis_clock
from horus_celery.store.connection import connect
from horus_celery.store.redis_clock import RedisClock

pytestmark = pytest.mark.integration

NEAR = timedelta(seconds=1)


class Set:
    """A Redis whose clock somebody sets, and who counts the questions."""

    def __init__(self):
        self.at = datetime(2026, 1, 1, tzinfo=UTC)
        self.asked = 0
        self.is_away = False

    def execute_command(self, command):
        assert command == "TIME"
        self.asked += 1
        if self.is_away:
            raise redis.ConnectionError
        return int(self.at.timestamp()), 0


def clock_of(server: Any) -> RedisClock:
    return RedisClock(server)


def test_it_shows_what_redis_shows(redis_url):
    with connect(redis_url) as client:
        seconds, _ = client.time()
        shown = RedisClock(client).now()
    assert abs(shown - datetime.fromtimestamp(seconds, UTC)) < 2 * NEAR


def test_redis_is_not_asked_each_time():
    server = Set()
    clock = clock_of(server)
    first = clock.now()
    assert timedelta(0) <= clock.now() - first < NEAR
    assert server.asked == 1


def test_a_clock_of_redis_that_is_set_is_followed(monkeypatch):
    server = Set()
    clock = clock_of(server)
    clock.now()
    monkeypatch.setattr(redis_clock, "_FRESH", timedelta(0))
    clock = clock_of(server)
    for by in (timedelta(hours=1), timedelta(hours=-1)):
        server.at += by
        assert abs(clock.now() - server.at) < NEAR


def test_while_redis_is_away_the_time_goes_on(monkeypatch):
    monkeypatch.setattr(redis_clock, "_FRESH", timedelta(0))
    server = Set()
    clock = clock_of(server)
    first = clock.now()
    server.is_away = True
    assert timedelta(0) <= clock.now() - first < NEAR


def test_nobody_knows_the_time_before_redis_answered():
    server = Set()
    server.is_away = True
    with pytest.raises(UnavailableError):
        clock_of(server).now()
