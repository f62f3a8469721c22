"""How Redis is reached, and what is said when it is not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    InvalidResponse,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
)
from redis.retry import Retry

from horus_celery.errors import ConfigurationError, DamagedError, UnavailableError

#: Seconds for one answer. One call makes one attempt, or a second one at once when the
#: connection turned out to be stale: so it ends well within two seconds.
_ANSWER_TIMEOUT: Final = 0.8
#: One connection for each thread that talks to Redis at the same time.
_MAX_CONNECTIONS: Final = 1024
#: What may follow the question mark of a URL. Timeouts and retries are not settings:
#: the promises of the store stand on them.
_OPTIONS: Final = frozenset(
    {"ssl_ca_certs", "ssl_certfile", "ssl_cert_reqs", "ssl_check_hostname"}
    | {"ssl_keyfile", "db", "virtual_host"}
)
_FORMS: Final = (
    "redis://[user:password@]host[:port][/db], rediss://… or unix:///path[?db=n]"
)

#: What an answer of the server begins with when it cannot serve for now.
_NOT_NOW: Final[Mapping[str, str]] = MappingProxyType(
    {
        "BUSY": "it is busy with a script",
        "MISCONF": "it cannot write to its disk",
        "NOREPLICAS": "it has too few replicas",
    }
)
#: How our scripts name a key that holds something else than it should.
_NAMED: Final = re.compile(r"DAMAGED <([^<>]{1,400})>")


def connect(redis_url: str) -> redis.Redis:
    """Return a client for commands that answer at once; it connects when it is used."""
    return _client(
        redis_url,
        socket_timeout=_ANSWER_TIMEOUT,
        # A stale connection is noticed by an error, not by a timeout: so nothing is
        # tried again that has already taken its time.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )


def connect_blocking(redis_url: str) -> redis.Redis:
    """Return a client for listening: it waits as long as it is told to.

    It never connects again by itself, because its user has to know.
    """
    return _client(
        redis_url,
        socket_timeout=None,
        retry=Retry(NoBackoff(), 0, supported_errors=()),
    )


def broker_url(redis_url: str) -> str:
    """Return the same address as Celery writes it.

    Raises:
        ConfigurationError: if it is not the address of a Redis.
    """
    url = _normalised(redis_url)
    if not url.startswith("unix://"):
        return url
    return url.replace("unix://", "redis+socket://", 1).replace("db=", "virtual_host=")


def shown(redis_url: str) -> str:
    """Return the address without user, password and options."""
    url = urlsplit(_normalised(redis_url))
    place = url.netloc.rpartition("@")[2]
    return f"{url.scheme}://{place}{unquote(url.path)}"


def ask(client: redis.Redis, *command: str | int | bytes) -> Any:  # noqa: ANN401 - what Redis answers is read by whoever asked
    """Give one command and return the answer.

    Raises:
        UnavailableError: if there is none.
        DamagedError: if a key does not hold what the command is for.
    """
    is_script = command[0] in {"EVAL", "EVALSHA"}
    with answering(None if is_script else str(command[1])):
        return client.execute_command(*command)  # type: ignore[no-untyped-call] # redis-py types the commands only


def ask_all(client: redis.Redis, command: str, keys: Sequence[str]) -> Iterator[Any]:
    """Give one command for each key at once and yield the answers in their order.

    Raises:
        UnavailableError: if there is none.
        DamagedError: if a key does not hold what the command is for.
    """
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.execute_command(command, key)  # type: ignore[no-untyped-call] # see ask()
    with answering():
        answers = pipeline.execute(raise_on_error=False)
    for key, answer in zip(keys, answers, strict=True):
        with answering(key):
            if isinstance(answer, Exception):
                raise answer
        yield answer


@contextmanager
def answering(key: str | None = None) -> Iterator[None]:
    """Turn what Redis says or does not say into `UnavailableError`.

    Args:
        key: What is asked for, so that it can be named.

    Raises:
        UnavailableError: instead of the client's error.
        DamagedError: if it answered, but a key does not hold what it should.
    """
    try:
        yield
    except NoScriptError:
        raise  # the one answer that its asker knows how to mend
    except redis.RedisError as error:
        why = _why(error)
        if why is not None:
            raise UnavailableError(
                f"Redis does not serve: {why}; nothing is lost, try again"
            ) from None
        if isinstance(error, redis.ResponseError):
            raise _damaged(error, key) from None
        raise


def damaged(key: str) -> DamagedError:
    """Return the error that names a key that holds something else than it should."""
    name = f'"{repr(key)[1:-1]}"'
    return DamagedError(
        f"the key {name} in Redis holds something that Horus did not write there:"
        f" look at it, then remove it with `DEL {name}`"
    )


def _damaged(error: redis.ResponseError, key: str | None) -> DamagedError:
    named = _NAMED.search(str(error))
    if named is not None:
        return damaged(named[1])
    if key is not None and str(error).startswith("WRONGTYPE"):
        return damaged(key)
    # Its own words may quote what stands there.
    return DamagedError(
        "Redis refuses what Horus asks it to do: a key of ours holds something else;"
        " look at the keys that begin with the namespace"
    )


def _client(
    redis_url: str, *, socket_timeout: float | None, retry: Retry
) -> redis.Redis:
    client: redis.Redis = redis.Redis.from_url(
        _normalised(redis_url),
        socket_timeout=socket_timeout,
        socket_connect_timeout=_ANSWER_TIMEOUT,
        retry=retry,
        max_connections=_MAX_CONNECTIONS,
        # Without a greeting a new connection costs no round trip.
        protocol=2,
        driver_info=None,
    )
    return client


def _normalised(redis_url: str) -> str:
    try:
        url = urlsplit(redis_url.replace("redis+socket://", "unix://", 1))
        options = dict(parse_qsl(url.query, strict_parsing=bool(url.query)))
        has_port = url.port is not None
    except ValueError:
        raise _bad_url() from None
    is_socket = url.scheme == "unix"
    if url.scheme not in {"redis", "rediss", "unix"} or (
        is_socket and (not url.path.strip("/") or url.hostname or has_port)
    ):
        raise _bad_url()
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise ConfigurationError(
            f"redis_url has an unknown option {unknown[0]!r}; it may have "
            + ", ".join(sorted(_OPTIONS))
        )
    if "virtual_host" in options:
        options["db"] = options.pop("virtual_host")
    database = options.get("db") or ("" if is_socket else url.path.strip("/"))
    if database and not (database.isascii() and database.isdigit()):
        raise _bad_url()
    path = quote(unquote(url.path)) if is_socket else url.path
    query = f"?{urlencode(options)}" if options else ""
    return f"{url.scheme}://{url.netloc}{path}{query}"


def _bad_url() -> ConfigurationError:
    # The address may hold a password, so it is not repeated.
    return ConfigurationError(f"redis_url is no address of a Redis: write {_FORMS}")


def _why(error: redis.RedisError) -> str | None:
    if isinstance(error, redis.AuthenticationError):
        return "it refuses the user or the password of redis_url"
    if isinstance(error, NoPermissionError):
        return "the user of redis_url may not do this"
    if isinstance(error, redis.BusyLoadingError):
        return "it is still loading its data"
    if isinstance(error, redis.TimeoutError):
        return "it does not answer in time"
    if isinstance(error, redis.ConnectionError):
        return "no connection"
    if isinstance(error, OutOfMemoryError):
        return "it is out of memory"
    if isinstance(error, ReadOnlyError):
        return "it is read-only"
    if isinstance(error, InvalidResponse):
        return "what answers there is no Redis"
    return _NOT_NOW.get(str(error).partition(" ")[0])
