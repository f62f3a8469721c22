"""Whether a deployment is there: its API answers, and its runners were heard."""

from __future__ import annotations

import http.client
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from horus_celery import certificates
from horus_celery.clock import Clock, SystemClock
from horus_celery.errors import HorusError
from horus_celery.registry import Phase, RedisRegistry, Roster
from horus_celery.settings import Settings
from horus_celery.statements.trust import Trust
from horus_celery.store.connection import connect
from horus_celery.store.redis_clock import RedisClock

_PATIENCE: Final = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class _Believed:
    """A trust bundle as a source of it."""

    trust: Trust

    def current(self) -> Trust:
        return self.trust


class Presence:
    """Looks for the parts of a deployment, without a secret of it: they can change."""

    def __init__(
        self, settings: Settings, *, redis_url: str, trust: Trust, since: datetime
    ) -> None:
        """Look later; what runners said before `since` was said by others.

        That is a time of this machine; its clock and that of beats may be apart.
        """
        self._settings = settings
        self._client = connect(redis_url)
        registry = RedisRegistry(self._client, settings.namespace)
        self._roster = Roster(registry, _Believed(trust), RedisClock(self._client))
        self._clock: Clock = SystemClock()
        # Runners tell the time in milliseconds.
        self._since = since - timedelta(milliseconds=1)

    def has(self, runners: Iterable[str]) -> bool:
        """Whether the API answers, and these runners take jobs."""
        return self._answers() and self._heard().issuperset(runners)

    def close(self) -> None:
        """Close the connection to Redis."""
        self._client.close()

    def _heard(self) -> frozenset[str]:
        try:
            roll = self._roster.look()
        except HorusError:
            return frozenset()
        passed = self._clock.now() - self._since
        return frozenset(
            name
            for name, beat in roll.beats.items()
            if beat.phase is Phase.RUNNING and roll.at - beat.at <= passed
        )

    def _answers(self) -> bool:
        connection = self._connection()
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        address = urlsplit(self._settings.api_url).netloc
        cert = self._settings.tls_cert
        if cert is None:
            return http.client.HTTPConnection(address, timeout=_PATIENCE)
        # Its name need not be the address by which we call it here.
        return http.client.HTTPSConnection(
            address, timeout=_PATIENCE, context=certificates.pinned(cert)
        )
