from __future__ import annotations

import pytest
import redis
from kombu.connection import Connection
from redis.exceptions import NoScriptError

from horus_celery.errors import ConfigurationError, DamagedError, UnavailableError
from horus_celery.store.connection import (
    answering,
    broker_url,
    connect,
    damaged,
    shown,
)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://localhost", {"host": "localhost"}),
        ("redis://localhost:6380/2", {"host": "localhost", "port": 6380, "db": 2}),
        ("redis://:pass%40word@h/0", {"host": "h", "db": 0, "password": "pass@word"}),
        ("redis://u:p@[::1]:1", {"host": "::1", "username": "u", "password": "p"}),
        ("unix:///run/r.sock", {"path": "/run/r.sock"}),
        ("unix:///run/r.sock?db=3", {"path": "/run/r.sock", "db": 3}),
        ("redis+socket:///run/r.sock", {"path": "/run/r.sock"}),
        ("redis+socket:///r.sock?virtual_host=3", {"path": "/r.sock", "db": 3}),
        ("unix:///a%20b/r.sock", {"path": "/a b/r.sock"}),
        ("rediss://h?ssl_ca_certs=/ca.pem", {"host": "h", "ssl_ca_certs": "/ca.pem"}),
    ],
)
def test_a_url_says_where_redis_is(url, place):
    with connect(url) as client:
        arguments = client.connection_pool.connection_kwargs
        assert place.items() <= arguments.items()


def test_every_answer_has_its_time_whatever_the_url_says():
    with connect("redis://localhost") as client:
        arguments = client.connection_pool.connection_kwargs
    assert arguments["socket_timeout"] <= 1
    assert arguments["socket_connect_timeout"] <= 1
    for option in ("socket_timeout=60", "retry_on_timeout=yes", "max_connections=1"):
        with pytest.raises(ConfigurationError, match=option.partition("=")[0]):
            connect(f"redis://localhost?{option}")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        "redis://localhost:port",
        "redis://localhost:99999",
        "redis://localhost/hero",
        "redis://localhost/1/2",
        "redis://[::1",
        "unix://",
        "unix://host/path",
        "unix:///r.sock?db=x",
        "unix:///r.sock?db",
        "redis://secret@word@/x",
    ],
)
def test_what_is_no_address_is_refused_without_being_repeated(url):
    with pytest.raises(ConfigurationError, match="redis_url") as refused:
        connect(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "hostname", "database"),
    [
        ("redis://u:p@localhost:6380/2", "localhost", "2"),
        ("unix:///run/r.sock", "socket:///run/r.sock", "/"),
        ("unix:///run/r.sock?db=3", "socket:///run/r.sock?virtual_host=3", "/"),
        ("redis+socket:///run/r.sock", "socket:///run/r.sock", "/"),
    ],
)
def test_celery_understands_the_broker_url(url, hostname, database):
    connection = Connection(broker_url(url))
    assert connection.transport_cls == "redis"
    assert connection.hostname == hostname
    assert connection.virtual_host == database


def test_what_is_shown_of_a_url_is_no_secret():
    assert shown("redis://u:p@h:1/2") == "redis://h:1/2"
    assert shown("unix:///run/r.sock?db=1") == "unix:///run/r.sock"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (redis.ConnectionError("its own words"), "no connection"),
        (redis.TimeoutError("its own words"), "does not answer in time"),
        (
            redis.AuthenticationError("its own words"),
            "refuses the user or the password",
        ),
        (redis.BusyLoadingError("its own words"), "still loading"),
        (redis.exceptions.OutOfMemoryError("its own words"), "out of memory"),
        (redis.exceptions.ReadOnlyError("its own words"), "read-only"),
        (redis.exceptions.NoPermissionError("its own words"), "may not do this"),
        (redis.ResponseError("MISCONF its own words"), "its disk"),
        (redis.ResponseError("BUSY its own words"), "busy"),
    ],
)
def test_a_redis_that_does_not_serve_is_unavailable(error, why):
    with pytest.raises(UnavailableError, match=why) as unavailable, answering():
        raise error
    assert unavailable.value.retryable
    assert "its own words" not in str(unavailable.value)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("WRONGTYPE its own words", 'remove it with `DEL "hero:leases"`'),
        ("ERR DAMAGED <hero:due> script: its own words", 'DEL "hero:due"'),
        ("ERR its own words", "a key of ours holds something else"),
    ],
)
def test_a_key_that_holds_something_else_is_damaged_and_named(error, said):
    with pytest.raises(DamagedError) as damaged, answering("hero:leases"):
        raise redis.ResponseError(error)
    assert said in str(damaged.value)
    assert "its own words" not in str(damaged.value)


def test_a_queue_is_named_so_that_it_can_be_typed():
    with pytest.raises(DamagedError, match=r'DEL "python\\x06\\x163"'):
        raise damaged("python\x06\x163")


@pytest.mark.parametrize("error", [NoScriptError, redis.DataError])
def test_a_mistake_of_ours_is_not_an_outage(error):
    with pytest.raises(error), answering():
        raise error
