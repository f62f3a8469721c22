from __future__ import annotations

import pytest
import redis
from celery import Celery
from kombu.connection import Connection
from redis.exceptions import NoScriptError
from redis.sentinel import SentinelConnectionPool

from horus_celery.errors import ConfigurationError, DamagedError, UnavailableError
from horus_celery.store.address import read_address
from horus_celery.store.connection import (
    answering,
    broker,
    connect,
    connect_blocking,
    damaged,
    shown,
)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://localhost", {"host": "localhost", "db": 0}),
        ("redis://localhost:6380/2", {"host": "localhost", "port": 6380, "db": 2}),
        ("redis://localhost?db=2", {"host": "localhost", "db": 2}),
        ("redis://localhost/2?db=2", {"host": "localhost", "db": 2}),
        ("redis://:pass%40word@h/0", {"host": "h", "db": 0, "password": "pass@word"}),
        ("redis://u:p@[::1]:1", {"host": "::1", "username": "u", "password": "p"}),
        ("unix:///run/r.sock", {"path": "/run/r.sock"}),
        ("unix:///run/r.sock?db=3", {"path": "/run/r.sock", "db": 3}),
        ("unix://u:p@/r.sock", {"path": "/r.sock", "username": "u", "password": "p"}),
        ("redis+socket:///run/r.sock", {"path": "/run/r.sock"}),
        ("redis+socket:///r.sock?virtual_host=3", {"path": "/r.sock", "db": 3}),
        ("unix:///a%20b/r.sock", {"path": "/a b/r.sock"}),
        ("rediss://h", {"ssl_cert_reqs": "required", "ssl_check_hostname": True}),
        ("rediss://h?ssl_check_hostname=no", {"ssl_check_hostname": False}),
        ("sentinel://u:p@a,b/main?db=3", {"username": "u", "password": "p", "db": 3}),
    ],
)
def test_a_url_says_where_redis_is(url, place):
    with connect(url) as client:
        arguments = client.connection_pool.connection_kwargs
        assert place.items() <= arguments.items()


def test_a_sentinel_url_says_where_the_sentinels_are():
    with connect("sentinel://:p@a,[::1]:5/main?sentinel_password=x") as client:
        pool = client.connection_pool
        assert isinstance(pool, SentinelConnectionPool)
        assert pool.service_name == "main"
        places = [
            {"host": "a", "port": 26379, "password": "x"},
            {"host": "::1", "port": 5, "password": "x"},
        ]
        for place, sentinel in zip(
            places, pool.sentinel_manager.sentinels, strict=True
        ):
            arguments = sentinel.connection_pool.connection_kwargs
            assert place.items() <= arguments.items()
            assert "ssl_cert_reqs" not in arguments


def test_behind_sentinels_with_tls_everybody_has_to_prove_himself():
    with connect("sentinel://a/main?ssl=true") as client:
        pool = client.connection_pool
        assert isinstance(pool, SentinelConnectionPool)
        for each in (pool, pool.sentinel_manager.sentinels[0].connection_pool):
            assert issubclass(each.connection_class, redis.SSLConnection)
            assert each.connection_kwargs["ssl_cert_reqs"] == "required"


@pytest.mark.parametrize("places", ["a", "a,b", "a,b,c", ",".join("abcdefghi")])
def test_every_answer_has_its_time_whatever_the_url_says(places):
    with connect("redis://localhost") as client:
        arguments = client.connection_pool.connection_kwargs
    assert arguments["socket_timeout"] <= 1
    assert arguments["socket_connect_timeout"] <= 1
    for option in ("socket_timeout=60", "retry_on_timeout=yes", "max_connections=1"):
        with pytest.raises(ConfigurationError, match=option.partition("=")[0]):
            connect(f"redis://localhost?{option}")
    with connect(f"sentinel://{places}/main") as client:
        pool = client.connection_pool
        arguments = pool.connection_kwargs
        assert isinstance(pool, SentinelConnectionPool)
        waits = [
            sentinel.connection_pool.connection_kwargs["socket_timeout"]
            for sentinel in pool.sentinel_manager.sentinels
        ]
    waits += [arguments["socket_timeout"], arguments["socket_connect_timeout"]]
    assert sum(waits) < 2


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis://localhost:port",
        "redis://localhost:0",
        "redis://localhost:99999",
        "redis://localhost/hero",
        "redis://localhost/1/2",
        "redis://localhost/1?db=2",
        "redis://localhost?db=1&db=2",
        "redis://localhost?db=",
        "redis://a,b/1",
        "redis://[::1",
        "unix://",
        "unix://host/path",
        "unix:///r.sock?db=x",
        "unix:///r.sock?db",
        "redis://secret@word@/x",
        "redis://:secret#word@host",
        "redis://:secret/word@host",
        "sentinel://localhost",
        "sentinel://localhost/",
        "sentinel://localhost/a/b",
        "sentinel://localhost/ma*n",
        "sentinel://a,,b/main",
        "sentinel://a,b:x/main",
        "sentinel://a/main?db=x",
        f"sentinel://{','.join('abcdefghij')}/main",
        "sentinel://a/main?master_name=secret",
        "redis://localhost?sentinel_password=secret",
        "redis://localhost?ssl_ca_certs=/secret",
        "sentinel://localhost/main?ssl_ca_certs=/secret",
        "sentinel://localhost/main?ssl=secret",
        "rediss://localhost?ssl_cert_reqs=secret",
        "rediss://localhost?ssl_check_hostname=secret",
    ],
)
def test_what_is_no_address_is_refused_without_being_repeated(url):
    for reader in (connect, connect_blocking, broker, shown):
        with pytest.raises(ConfigurationError, match="redis_url") as refused:
            reader(url)
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("option", "content", "why"),
    [
        ("ssl_ca_certs", None, "No such file"),
        ("ssl_ca_certs", "no certificate", "does not hold certificates"),
        ("ssl_certfile", None, "No such file"),
        ("ssl_certfile", "no certificate", "does not hold a certificate"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_before_anything_is_started(
    tmp_path, option, content, why
):
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    for scheme in ("rediss://h?", "sentinel://h/main?ssl=true&"):
        for reader in (connect, broker):
            with pytest.raises(ConfigurationError, match=why) as refused:
                reader(f"{scheme}{option}={path}")
            assert f"names {path} as {option}" in str(refused.value)


@pytest.mark.parametrize(
    ("url", "hostname", "database"),
    [
        ("redis://u:p@localhost:6380/2", "localhost", "2"),
        ("redis://u:p@localhost?db=2", "localhost", "2"),
        ("unix:///run/r.sock", "socket:///run/r.sock", "/"),
        ("unix:///run/r.sock?db=3", "socket:///run/r.sock?virtual_host=3", "/"),
        ("redis+socket:///run/r.sock", "socket:///run/r.sock", "/"),
    ],
)
def test_celery_understands_the_broker_url(url, hostname, database):
    connection = Connection(broker(url).url)
    assert connection.transport_cls == "redis"
    assert connection.hostname == hostname
    assert connection.virtual_host == database


@pytest.mark.parametrize("url", ["rediss://h/1", "sentinel://h/main?ssl=true"])
def test_celery_asks_for_a_certificate_unless_it_is_told_not_to(url):
    assert broker(url).tls == {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    told = f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=none"
    assert broker(told).tls == {"ssl_cert_reqs": "none", "ssl_check_hostname": True}
    assert broker("redis://h").tls is None


def test_a_plus_is_a_plus_in_passwords_and_paths_alike():
    address = read_address(
        "sentinel://u:a+b@h/main?sentinel_password=c+d%2Be%20f"
        "&ssl=true&ssl_ca_certs=/g+h"
    )
    logins = (address.login, address.sentinel_login)
    assert [login.password for login in logins] == ["a+b", "c+d+e f"]
    assert address.tls is not None
    assert address.tls.ca_certs == "/g+h"


def test_celery_is_told_every_sentinel_and_what_it_says_to_them():
    url = "sentinel://u:p%3Bq@a:1,b/main?db=2&sentinel_username=s&sentinel_password=x"
    told = broker(url)
    connection = Connection(told.url, transport_options=told.options)
    assert connection.alt == [
        "sentinel://u:p%3Bq@a:1/2",
        "sentinel://u:p%3Bq@b:26379/2",
    ]
    assert (connection.userid, connection.password) == ("u", "p;q")
    assert connection.virtual_host == "2"
    assert told.options["master_name"] == "main"
    to_sentinels = told.options["sentinel_kwargs"]
    assert (to_sentinels["username"], to_sentinels["password"]) == ("s", "x")
    assert "p;q" not in connection.as_uri()


def test_celery_shows_no_password_that_stands_in_an_address():
    told = broker("sentinel://u:hunter2@a,b/main?sentinel_password=hunter2")
    with Celery(broker=told.url, set_as_current=False) as app:
        app.conf.broker_transport_options = dict(told.options)
        app.conf.broker_use_ssl = told.tls
        shown_by_celery = app.conf.humanize(with_defaults=True)
    assert "sentinel_kwargs" in shown_by_celery
    assert "hunter2" not in shown_by_celery


def test_what_is_shown_of_a_url_is_no_secret():
    assert shown("redis://u:p@h:1/2") == "redis://h:1/2"
    assert shown("unix://u:p@/run/r.sock?db=1") == "unix:///run/r.sock"
    url = "sentinel://u:p@a,b:1/main?sentinel_password=x"
    assert shown(url) == "sentinel://a:26379,b:1/main"
    assert "secret" not in repr(read_address("redis://u:secret@h"))


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
        (redis.ResponseError("ACL failure in script: its own words"), "may not do"),
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
