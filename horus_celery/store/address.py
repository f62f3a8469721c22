"""How the address of a Redis is written, and what each part of it means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NoReturn
from urllib.parse import parse_qsl, unquote

from horus_celery.errors import ConfigurationError

_FORMS: Final = (
    "redis://[user:password@]host[:port][/db], rediss://… with TLS,"
    " unix:///path[?db=n], or"
    " sentinel://[user:password@]host[:port][,host[:port]…]/service[?db=n];"
    " @ : / ? # % in a user or password are written as %40 %3A %2F %3F %23 %25"
)
#: Options by scheme. Timeouts and retries are not among them: the promises of the store
#: stand on ours.
_DATABASE: Final = frozenset({"db", "virtual_host"})
_TLS: Final = frozenset(
    {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
    | {"ssl_cert_reqs", "ssl_check_hostname"}
)
_OPTIONS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "redis": _DATABASE,
        "rediss": _DATABASE | _TLS,
        "unix": _DATABASE,
        "sentinel": _DATABASE
        | _TLS
        | {"ssl", "sentinel_username", "sentinel_password"},
    }
)
_PORTS: Final[Mapping[str, int]] = MappingProxyType(
    {"redis": 6379, "rediss": 6379, "sentinel": 26379}
)
#: All are asked in the time of one answer, so each one more has less of it.
_MAX_SENTINELS: Final = 9
#: The parts of a URL (RFC 3986, appendix B). `urlsplit` takes an IPv6 address behind
#: another one in some releases of Python only.
_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<where>[^/?#\s]*)(?P<path>[^?#\r\n]*)"
    r"(?:\?(?P<query>[^#\r\n]*))?"
)
_PLACE: Final = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:\[\]]+)(?::(?P<port>[0-9]{1,5}))?"
)
_SERVICE: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_WORDS: Final[Mapping[str, bool]] = MappingProxyType(
    {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A host and the port on which something listens there."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Who we are to a server; None where it does not ask."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """What a server has to prove, and what we prove to it."""

    #: A file of authorities that are trusted besides the machine's own.
    ca_certs: str | None = None
    #: Our certificate and its key, if the server asks for one.
    certfile: str | None = None
    keyfile: str | None = None
    #: "required", "optional" or "none".
    cert_reqs: str = "required"
    check_hostname: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a Redis is, and how one gets in."""

    scheme: str
    #: The server, or the sentinels that know it; empty for a unix socket.
    places: tuple[Place, ...] = ()
    #: The unix socket.
    path: str | None = None
    #: The name by which the sentinels know the server.
    service: str | None = None
    database: int = 0
    login: Login
    #: What the sentinels are told.
    sentinel_login: Login = Login()
    tls: Tls | None = None

    def __str__(self) -> str:
        """Return the address without user, password and options, to be shown."""
        if self.path is not None:
            return f"unix://{self.path}"
        where = ",".join(str(place) for place in self.places)
        if self.service is not None:
            return f"{self.scheme}://{where}/{self.service}"
        return f"{self.scheme}://{where}/{self.database}"


def read_address(redis_url: str) -> Address:
    """Read the address of a Redis.

    Raises:
        ConfigurationError: if it is none; nothing of it is repeated but option names.
    """
    url = _URL.fullmatch(redis_url.replace("redis+socket://", "unix://", 1))
    if url is None or (scheme := url["scheme"].lower()) not in _OPTIONS:
        _refuse()
    options = _options(scheme, url["query"] or "")
    user_and_password, _, where = url["where"].rpartition("@")
    username, _, password = user_and_password.partition(":")
    is_socket, has_service = scheme == "unix", scheme == "sentinel"
    if is_socket and (where or not url["path"].strip("/")):
        _refuse()
    in_path = "" if is_socket else unquote(url["path"]).strip("/")
    if has_service and not _SERVICE.fullmatch(in_path):
        _refuse()
    return Address(
        scheme=scheme,
        places=() if is_socket else _places(scheme, where),
        path=unquote(url["path"]) if is_socket else None,
        service=in_path if has_service else None,
        database=_database(options, in_path="" if has_service else in_path),
        login=Login(
            username=unquote(username) or None, password=unquote(password) or None
        ),
        sentinel_login=Login(
            username=options.get("sentinel_username"),
            password=options.get("sentinel_password"),
        ),
        tls=_tls(scheme, options),
    )


def _options(scheme: str, query: str) -> Mapping[str, str]:
    # Forms write a space as a plus; in passwords and paths it stands for itself, as it
    # does in front of the question mark.
    query = query.replace("+", "%2B")
    try:
        pairs = parse_qsl(query, strict_parsing=bool(query), keep_blank_values=True)
    except ValueError:
        _refuse()
    options = dict(pairs)
    unknown = sorted(options.keys() - _OPTIONS[scheme])
    if unknown and "@" in query:
        # The query began within a password.
        _refuse()
    if unknown and unknown[0] in _TLS:
        raise ConfigurationError(
            f"redis_url has the option {unknown[0]}, but begins with {scheme}://,"
            " which has no TLS: begin it with rediss://"
        )
    if unknown:
        raise ConfigurationError(
            f"redis_url has an unknown option {unknown[0]!r}; behind {scheme}:// it"
            f" may have {', '.join(sorted(_OPTIONS[scheme]))}"
        )
    if len(options) < len(pairs) or not all(options.values()):
        raise ConfigurationError("redis_url has an option twice, or an empty one")
    return options


def _places(scheme: str, where: str) -> tuple[Place, ...]:
    parts = where.split(",")
    if len(parts) > (_MAX_SENTINELS if scheme == "sentinel" else 1):
        _refuse()
    return tuple(_place(part, _PORTS[scheme]) for part in parts)


def _place(part: str, usual_port: int) -> Place:
    found = _PLACE.fullmatch(part)
    port = int(found["port"] or usual_port) if found else 0
    if found is None or not 0 < port <= 65535:  # noqa: PLR2004 - the last there is
        _refuse()
    return Place(host=unquote(found["host"]).strip("[]"), port=port)


def _database(options: Mapping[str, str], *, in_path: str) -> int:
    given = {options[name] for name in _DATABASE & options.keys()}
    if in_path:
        given.add(in_path)
    if not given:
        return 0
    number = given.pop()
    # Store and broker must never disagree about it, so it stands there once.
    if given or not re.fullmatch(r"[0-9]{1,6}", number):
        _refuse()
    return int(number)


def _tls(scheme: str, options: Mapping[str, str]) -> Tls | None:
    if not (scheme == "rediss" or _is_set(options, "ssl", default=False)):
        for name in sorted(_TLS & options.keys()):
            raise ConfigurationError(
                f"redis_url has the option {name}, but no TLS: add ssl=true"
            )
        return None
    cert_reqs = options.get("ssl_cert_reqs", "required")
    if cert_reqs not in {"required", "optional", "none"}:
        raise ConfigurationError(
            "redis_url has an option ssl_cert_reqs that cannot be used: it may be"
            " required, optional or none"
        )
    return Tls(
        ca_certs=options.get("ssl_ca_certs"),
        certfile=options.get("ssl_certfile"),
        keyfile=options.get("ssl_keyfile"),
        cert_reqs=cert_reqs,
        check_hostname=_is_set(options, "ssl_check_hostname", default=True),
    )


def _is_set(options: Mapping[str, str], name: str, *, default: bool) -> bool:
    if name not in options:
        return default
    if options[name].lower() not in _WORDS:
        raise ConfigurationError(
            f"redis_url has an option {name} that cannot be used: it may be true or"
            " false"
        )
    return _WORDS[options[name].lower()]


def _refuse() -> NoReturn:
    # The address may hold a password, so it is not repeated.
    raise ConfigurationError(f"redis_url is no address of a Redis: write {_FORMS}")
