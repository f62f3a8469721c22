"""Who calls, and whether he may: secrets say the one, scopes decide the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from types import MappingProxyType
from typing import Final

from api.limits import Failures, TokenBuckets
from horus_celery.api_secrets.book import SecretBook
from horus_celery.api_secrets.secret import Secret
from horus_celery.errors import (
    ForbiddenError,
    HorusError,
    TooManyError,
    UnauthenticatedError,
    UnavailableError,
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
#: Calls that one secret may make in a second, if nobody says otherwise.
RATE_LIMIT: Final = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who calls, as far as his secret says."""

    #: None for somebody without a secret that counts.
    secret_id: str | None = None
    scope: Scope = Scope.NONE
    #: What lies outside does not exist for him; None is no bound at all.
    contexts: frozenset[str] | None = None
    #: Why nothing is open, if that is not for want of a right secret.
    refusal: HorusError | None = None


class Gatekeeper:
    """Tells callers by their secrets, and counts how often they call and guess."""

    def __init__(
        self,
        secrets: SecretBook,
        *,
        rate_limit: int = RATE_LIMIT,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what it tells callers by.

        Args:
            secrets: The secrets that count.
            rate_limit: Calls that one secret may make in a second, for long.
            now: Seconds of a clock that never goes back.
        """
        self._secrets = secrets
        self._now = now
        self._failures = Failures()
        self._calls = TokenBuckets(rate=rate_limit, burst=2 * rate_limit)
        self._lock = threading.Lock()

    def identify(self, authorization: str | None, address: str) -> Identity:
        """Say who calls with the header `Authorization: Bearer SECRET`; never raises.

        A wrong secret counts against the address; a right one always passes.
        """
        secret = secret_of(authorization)
        if secret is None:
            return Identity()
        try:
            holder = self._secrets.holder(secret)
        except UnavailableError as error:
            return Identity(refusal=error)
        if holder is not None:
            return identity_of(holder)
        with self._lock:
            wait = self._failures.note(address, self._now())
        return Identity(refusal=_too_many_failures(wait) if wait else None)

    def charge(self, identity: Identity) -> None:
        """Count one call; each of a batch counts.

        Raises:
            TooManyError: if this secret has made too many of late.
        """
        if identity.secret_id is None:
            return
        with self._lock:
            wait = self._calls.take(identity.secret_id, self._now())
        if wait:
            raise TooManyError(
                f"too many calls with this secret: again in {ceil(wait * 1000)} ms"
            )


def secret_of(authorization: str | None) -> str | None:
    """Return the secret of a header, or None if it holds none."""
    scheme, _, secret = (authorization or "").partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


def authorise(method: str, needed: Scope, identity: Identity) -> None:
    """Let a call pass if its scope is open.

    Raises:
        UnauthenticatedError: if nothing is open but what is open to everybody.
        TooManyError: if so, and too many wrong secrets came from there.
        UnavailableError: if it cannot be told whether the secret is right.
        ForbiddenError: if the secret is of another scope.
    """
    if needed in OPENS[identity.scope]:
        return
    if identity.refusal is not None:
        raise identity.refusal
    if identity.scope is Scope.NONE:
        raise UnauthenticatedError
    raise ForbiddenError(method, needed.value)


def identity_of(holder: Secret | None) -> Identity:
    """Return who calls with a secret, None being one that nobody has."""
    if holder is None:
        return Identity()
    return Identity(
        secret_id=holder.id, scope=Scope(holder.scope), contexts=holder.contexts
    )


def _too_many_failures(wait: float) -> TooManyError:
    return TooManyError(
        f"too many wrong secrets came from this address: again in {ceil(wait)} s"
    )
