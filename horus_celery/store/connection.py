"""How Redis is reached, and what is said when it is not."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote
from weakref import WeakKeyDictionary

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
from redis.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
)

from horus_celery.errors import ConfigurationError, DamagedError, UnavailableError
from horus_celery.store.address import Address, Login, Place, Tls, read_address

#: Seconds for one answer. One call makes one attempt, or a second one at once when the
#: connection turned out to be stale: so it ends well within two seconds.
_ANSWER_TIMEOUT: Final = 0.8
#: Seconds in which all sentinels together say which server is the master, and seconds
#: in which that one must let us in: with an answer's that is still within two.
_SENTINELS_TIMEOUT: Final = 0.6
_MASTER_TIMEOUT: Final = 0.5
#: Seconds for which the sentinels are not asked again when they did not know.
_SENTINELS_PAUSE: Final = 0.2
#: Seconds after which a broker's answer no longer comes; Celery then connects again.
_BROKER_TIMEOUT: Final = 2.0
#: Seconds after which an idle connection may have been cut off without a word: a new
#: one is cheaper than to wait for an answer that never comes.
_IDLE: Final = 5.0
#: One connection for each thread that talks to Redis at the same time.
_MAX_CONNECTIONS: Final = 1024
#: Without a greeting a new connection costs no round trip.
_NO_GREETING: Final[Mapping[str, Any]] = MappingProxyType(
    {"protocol": 2, "driver_info": None}
)

#: What an answer of the server begins with when it cannot serve for now.
_NOT_NOW: Final[Mapping[str, str]] = MappingProxyType(
    {
        "BUSY": "it is busy with a script",
        "MISCONF": "it cannot write to its disk",
        "NOREPLICAS": "it has too few replicas",
    }
)
#: What is wrong with a certificate, by OpenSSL's number.
_CERTIFICATE_FAULTS: Final[Mapping[int, str]] = MappingProxyType(
    {
        9: "its certificate is not valid yet",
        10: "its certificate has expired",
        62: "its certificate is for another host name than redis_url says",
        64: "its certificate is for another address than redis_url says",
    }
)
_NO_SENTINEL: Final = "what answers there is no sentinel"
#: How a script is told that its caller may not do something.
_REFUSED_IN_SCRIPT: Final = "ACL failure in script"
#: How our scripts name a key that holds something else than it should.
_NAMED: Final = re.compile(r"DAMAGED <([^<>]{1,400})>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """The same Redis as Celery's settings name it."""

    #: `broker_url`.
    url: str
    #: `broker_use_ssl`: what kombu and Flower ask of the certificate. In the URL only
    #: kombu would see it, and without any it asks for nothing.
    tls: Mapping[str, Any] | None
    #: What belongs into `broker_transport_options`.
    options: Mapping[str, Any]


def connect(redis_url: str) -> redis.Redis:
    """Return a client for commands that answer at once; it connects when it is used.

    Raises:
        ConfigurationError: if it is not the address of a Redis, or names a file of
            certificates that cannot be used.
    """
    return _client(
        redis_url,
        # A stale connection is noticed by an error, not by a timeout: so nothing is
        # tried again that has already taken its time.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )


def connect_blocking(redis_url: str) -> redis.Redis:
    """Return a client for listening: `get_message` waits as long as it is told to.

    It never connects again by itself, because its user has to know.

    Raises:
        ConfigurationError: as `connect`.
    """
    return _client(redis_url, retry=Retry(NoBackoff(), 0, supported_errors=()))


def broker(redis_url: str) -> Broker:
    """Return the same address as Celery writes it.

    Raises:
        ConfigurationError: as `connect`.
    """
    address = usable(redis_url)
    # What is cut off answers nothing, and nobody says so: without these a worker would
    # wait for it as long as it lives.
    options: dict[str, Any] = {
        "socket_timeout": _BROKER_TIMEOUT,
        "health_check_interval": _BROKER_TIMEOUT,
    }
    if address.path is None:
        options["socket_connect_timeout"] = _BROKER_TIMEOUT
    if address.service is not None:
        options["master_name"] = address.service
        options["sentinel_kwargs"] = _sentinel_arguments(address)
    return Broker(
        url=";".join(_broker_urls(address)),
        tls=None if address.tls is None else _tls_arguments(address.tls),
        options=MappingProxyType(options),
    )


def shown(redis_url: str) -> str:
    """Return the address without user, password and options."""
    return str(read_address(redis_url))


def ask(client: redis.Redis, *command: str | int | bytes) -> Any:  # noqa: ANN401 - what Redis answers is read by whoever asked
    """Give one command and return the answer.

    Raises:
        UnavailableError: if there is none.
        DamagedError: if a key does not hold what the command is for.
    """
    has_no_key = command[0] in {"EVAL", "EVALSHA", "TIME"}
    with answering(None if has_no_key else str(command[1])):
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


def _client(redis_url: str, *, retry: Retry) -> redis.Redis:
    address = usable(redis_url)
    arguments: dict[str, Any] = {
        "db": address.database,
        **_login_arguments(address.login),
        "socket_timeout": _ANSWER_TIMEOUT,
        "retry": retry,
        "max_connections": _MAX_CONNECTIONS,
        **_NO_GREETING,
    }
    if address.service is not None:
        return redis.Redis.from_pool(_master_pool(address, arguments))
    arguments |= {**_place(address), "socket_connect_timeout": _ANSWER_TIMEOUT}
    return redis.Redis.from_pool(_Pool(**arguments))


def _place(address: Address) -> dict[str, Any]:
    if address.path is not None:
        kind = redis.UnixDomainSocketConnection
        return {"connection_class": kind, "path": address.path}
    is_plain = address.tls is None
    return {
        "connection_class": redis.Connection if is_plain else redis.SSLConnection,
        **asdict(address.places[0]),
        **_tls_arguments(address.tls),
    }


class _Pool(redis.ConnectionPool):
    """Gives nobody a connection that was idle for long."""

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401 - redis-py's
        super().__init__(**arguments)
        #: By the monotonic clock.
        self._idle_since: WeakKeyDictionary[object, float] = WeakKeyDictionary()

    def get_connection(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - redis-py's
        connection: Any = super().get_connection(*args, **options)
        now = time.monotonic()
        if now - self._idle_since.get(connection, now) > _IDLE:
            try:
                connection.disconnect()
                connection.connect()
            except BaseException:
                self.release(connection)
                raise
        return connection

    def release(self, connection: Any) -> None:  # noqa: ANN401 - redis-py's
        self._idle_since[connection] = time.monotonic()
        super().release(connection)


class _Sentinels(Sentinel):
    """Knows from its sentinels where the master is, or says in time that it does not.

    Any number of threads ask: what they share is replaced as a whole.
    """

    def __init__(self, places: Sequence[Place], arguments: Mapping[str, Any]) -> None:
        super().__init__(  # type: ignore[no-untyped-call]  # so is redis-py
            [(place.host, place.port) for place in places],
            sentinel_kwargs={
                **arguments,
                **_NO_GREETING,
                "retry": Retry(NoBackoff(), 0),
                "max_connections": _MAX_CONNECTIONS,
            },
        )
        #: Until when nobody is asked again, and what is said instead.
        self._pause = 0.0
        self._fault = ""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        # One call of a client asks several times over.
        if time.monotonic() < self._pause:
            raise _NoMaster(self._fault)
        fault = "no sentinel answers"
        for sentinel in self.sentinels:
            try:
                master = _master_in(sentinel.sentinel_masters(), service_name)
            except redis.RedisError as error:
                fault = _of_sentinel(error) or fault
            except (LookupError, TypeError, ValueError):
                fault = _NO_SENTINEL
            else:
                others = [one for one in self.sentinels if one is not sentinel]
                self.sentinels = [sentinel, *others]
                return master
        self._fault, self._pause = fault, time.monotonic() + _SENTINELS_PAUSE
        raise _NoMaster(fault)


class _NoMaster(redis.ConnectionError):
    """The sentinels do not say where the master is; the text is one of our own."""


def _master_in(states: Any, service: str) -> tuple[str, int]:  # noqa: ANN401 - whatever redis-py read
    """Return where the master of a service is, as a sentinel sees it.

    Raises:
        redis.ConnectionError: if it sees none.
    """
    if service not in states:
        raise _NoMaster(f"its sentinels know no service {service}")
    state = states[service]
    if not state["is_master"] or state["is_sdown"] or state["is_odown"]:
        raise _NoMaster("its sentinels have no master for it now")
    return state["ip"], state["port"]


def _of_sentinel(error: redis.RedisError) -> str | None:
    """Return what is to be said of a sentinel that did more than keep silent."""
    if isinstance(error, _NoMaster):
        return str(error)
    if isinstance(error, redis.AuthenticationError):
        return "a sentinel refuses sentinel_username or sentinel_password"
    if isinstance(error, NoPermissionError):
        return "a sentinel's user may not ask for SENTINEL MASTERS"
    if isinstance(error, (redis.ResponseError, InvalidResponse)):
        return _NO_SENTINEL
    fault = _tls_fault(error)
    return None if fault is None else f"a sentinel does not serve: {fault}"


class _MasterConnection(SentinelManagedConnection):
    """A connection to what the sentinels call the master, if it says so itself."""

    def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's
        super().on_connect_check_health(check_health)
        # One that lost its office without noticing would answer with old records.
        self.send_command("ROLE")  # type: ignore[no-untyped-call]  # so is redis-py
        if self.read_response()[0] != b"master":
            raise redis.ConnectionError

    def read_response(self, disable_decoding: bool = False, **options: Any) -> Any:  # noqa: ANN401, FBT001, FBT002 - redis-py's
        # Unlike any other of redis-py's, this one would go back to the pool with an
        # answer still to come: the next command would take it for its own.
        options.setdefault("disconnect_on_error", True)
        return super().read_response(disable_decoding, **options)


class _MasterTlsConnection(_MasterConnection, redis.SSLConnection):
    pass


class _MasterPool(_Pool, SentinelConnectionPool):
    pass


def _master_pool(
    address: Address, arguments: Mapping[str, Any]
) -> SentinelConnectionPool:
    is_plain = address.tls is None
    return _MasterPool(
        service_name=address.service,
        sentinel_manager=_Sentinels(address.places, _sentinel_arguments(address)),
        connection_class=_MasterConnection if is_plain else _MasterTlsConnection,
        socket_connect_timeout=_MASTER_TIMEOUT,
        **_tls_arguments(address.tls),
        **arguments,
    )


def _sentinel_arguments(address: Address) -> dict[str, Any]:
    timeout = _SENTINELS_TIMEOUT / len(address.places)
    return {
        **_login_arguments(address.sentinel_login),
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        **({} if address.tls is None else {"ssl": True}),
        **_tls_arguments(address.tls),
    }


def _login_arguments(login: Login) -> dict[str, str]:
    return {name: value for name, value in asdict(login).items() if value is not None}


def _tls_arguments(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    return {
        f"ssl_{name}": value for name, value in asdict(tls).items() if value is not None
    }


def _broker_urls(address: Address) -> Iterator[str]:
    login = address.login
    user = ""
    if login.username or login.password:
        words = (quote(word or "", safe="") for word in asdict(login).values())
        user = ":".join(words) + "@"
    if address.path is not None:
        query = f"?virtual_host={address.database}" if address.database else ""
        yield f"redis+socket://{user}{quote(address.path)}{query}"
    for place in address.places:
        yield f"{address.scheme}://{user}{place}/{address.database}"


def usable(redis_url: str) -> Address:
    """Read an address, and see that the files in it can be used.

    Raises:
        ConfigurationError: naming the option that cannot.
    """
    address = read_address(redis_url)
    tls = address.tls
    if tls is None:
        return address
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.ca_certs is not None:
        with _reading("ssl_ca_certs", tls.ca_certs, "certificates in PEM form"):
            context.load_verify_locations(tls.ca_certs)
    if tls.certfile is not None:
        what = "a certificate in PEM form with the key of ssl_keyfile"
        with _reading("ssl_certfile", tls.certfile, what):
            # Without a password it must not ask for one on a terminal.
            context.load_cert_chain(tls.certfile, tls.keyfile, password="")
    return address


@contextmanager
def _reading(option: str, path: str, what: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError:
        why = f"it does not hold {what}"
    except OSError as error:
        why = error.strerror or "it cannot be read"
    else:
        return
    raise ConfigurationError(f"redis_url names {path} as {option}: {why}") from None


def _why(error: redis.RedisError) -> str | None:
    if isinstance(error, _NoMaster):
        return str(error)
    if isinstance(error, redis.AuthenticationError):
        return "it refuses the user or the password of redis_url"
    if isinstance(error, NoPermissionError) or _REFUSED_IN_SCRIPT in str(error):
        return "the user of redis_url may not do this"
    if isinstance(error, redis.BusyLoadingError):
        return "it is still loading its data"
    if isinstance(error, redis.TimeoutError):
        return "it does not answer in time"
    if isinstance(error, redis.ConnectionError):
        return _tls_fault(error) or "no connection"
    if isinstance(error, OutOfMemoryError):
        return "it is out of memory"
    if isinstance(error, ReadOnlyError):
        return "it is read-only"
    if isinstance(error, InvalidResponse):
        return "what answers there is no Redis"
    return _NOT_NOW.get(str(error).partition(" ")[0])


def _tls_fault(error: BaseException) -> str | None:
    """Return what went wrong between TLS and us, if that is what went wrong."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _CERTIFICATE_FAULTS.get(
            cause.verify_code,
            "nobody who is trusted here signed its certificate, so name the file of"
            " its authority in redis_url with ssl_ca_certs",
        )
    if isinstance(cause, ssl.SSLError):
        if "CERTIFICATE_REQUIRED" in str(cause.reason):
            return (
                "it asks for a certificate of ours, so name it in redis_url with"
                " ssl_certfile and ssl_keyfile"
            )
        return "no TLS came about with what answers there"
    return None if cause is None else _tls_fault(cause)
