"""Who may call what: secrets are compared in constant time, scopes decide."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from horus_celery.errors import (
    ConfigurationError,
    ForbiddenError,
    UnauthenticatedError,
)


class Scope(StrEnum):
    """What a method asks for, and what a secret gives."""

    #: Anybody, also without a secret.
    NONE = "none"
    USER = "user"
    ADMIN = "admin"
    REGISTER = "register"


#: What the secrets of a scope open: admin holds user, register stands alone.
OPENS: Final[Mapping[Scope, frozenset[Scope]]] = MappingProxyType(
    {
        Scope.NONE: frozenset({Scope.NONE}),
        Scope.USER: frozenset({Scope.NONE, Scope.USER}),
        Scope.ADMIN: frozenset({Scope.NONE, Scope.USER, Scope.ADMIN}),
        Scope.REGISTER: frozenset({Scope.NONE, Scope.REGISTER}),
    }
)


class Secrets:
    """The secrets of a deployment, held as SHA-256 digests only."""

    def __init__(self, secrets: Mapping[str, Sequence[str]]) -> None:
        """Take the secrets of each scope.

        Raises:
            ConfigurationError: if a scope does not exist, or a secret is empty.
        """
        self._digests = tuple(
            (_scope(name), _digest(secret))
            for name, of_scope in secrets.items()
            for secret in of_scope
        )
        if any(not secret for of_scope in secrets.values() for secret in of_scope):
            raise ConfigurationError("a secret is empty: everybody would have it")

    def scopes(self, authorization: str | None) -> frozenset[Scope]:
        """Return what the header `Authorization: Bearer SECRET` opens.

        Every secret is compared, whatever matched before: the time tells nothing.
        """
        scheme, _, secret = (authorization or "").partition(" ")
        given = _digest(secret.strip())
        opened = OPENS[Scope.NONE]
        for scope, digest in self._digests:
            is_equal = hmac.compare_digest(given, digest)
            opened |= OPENS[scope if is_equal else Scope.NONE]
        return opened if scheme.lower() == "bearer" else OPENS[Scope.NONE]


def authorise(method: str, needed: Scope, opened: frozenset[Scope]) -> None:
    """Let a call pass if its scope is open.

    Raises:
        UnauthenticatedError: if nothing is open but what is open to everybody.
        ForbiddenError: if the secret is of another scope.
    """
    if needed in opened:
        return
    if opened == OPENS[Scope.NONE]:
        raise UnauthenticatedError
    raise ForbiddenError(method, needed.value)


LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def hosts_for(bind_address: str) -> frozenset[str] | None:
    """Return the names under which a server may be called; None is any.

    A page of a foreign site that points its own name at our address is refused by
    its name. A server that listens on every address does not know its names.
    """
    try:
        address = ipaddress.ip_address(bind_address.strip("[]"))
    except ValueError:
        return LOOPBACK_HOSTS | {bind_address.lower()}
    if address.is_unspecified:
        return None
    return LOOPBACK_HOSTS | {str(address)}


def host_is_known(host: str | None, hosts: frozenset[str] | None) -> bool:
    """Say whether a `Host` header, with or without a port, names this server."""
    if hosts is None:
        return True
    name, colon, port = (host or "").rpartition(":")
    if not colon or not port.isdecimal():
        name = host or ""
    return name.lower().removeprefix("[").removesuffix("]") in hosts


def _scope(name: str) -> Scope:
    try:
        scope = Scope(name)
    except ValueError:
        scope = Scope.NONE
    if scope is Scope.NONE:
        raise ConfigurationError(f"there is no scope {name!r} that has secrets")
    return scope


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
