"""Whether jobs that are sent now would be taken and run, for whoever sends callers."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Final

import structlog

from horus_celery.api_secrets.book import SecretBook
from horus_celery.clock import Clock
from horus_celery.dispatch import Dispatcher
from horus_celery.errors import DamagedError, HorusError, UnavailableError
from horus_celery.registry import Roster, RunnerBeat, TrustSource, is_alive
from horus_celery.routing import all_queues
from horus_celery.store.base import RecordStore

_logger: Final = structlog.get_logger(__name__)

#: How long an answer is given again: anybody may ask, as often as he likes.
LIFETIME: Final = timedelta(seconds=1)
#: How many queues are looked at, those of executors first: a bundle may have thousands.
MAX_QUEUES: Final = 250


class Readiness:
    """Looks for what is needed; many threads may ask, and one of them looks."""

    def __init__(
        self,
        *,
        store: RecordStore,
        dispatcher: Dispatcher,
        roster: Roster,
        trust: TrustSource,
        secrets: SecretBook,
        clock: Clock,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._roster = roster
        self._trust = trust
        self._secrets = secrets
        self._clock = clock
        self._lock = threading.Lock()
        self._missing: Mapping[str, str] = {}
        self._fresh_until = 0.0
        #: What was wrong with a queue at the latest look.
        self._damage = ""

    def missing(self) -> Mapping[str, str]:
        """Return what is missing, each in plain words.

        It is called `redis`, `trust`, `secrets`, `runners` or `queues`.
        Without a name of a place: strangers read it. Whoever waits for another's look
        waits no longer than that takes, less than 2 s.
        """
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._missing = self._look()
                self._fresh_until = time.monotonic() + LIFETIME.total_seconds()
            return self._missing

    def _look(self) -> Mapping[str, str]:
        parts = {"trust": self._trust_is_missing(), "redis": self._redis_is_missing()}
        missing = {name: why for name, why in parts.items() if why}
        if missing:
            # Without these two nobody knows the runners.
            return missing
        try:
            self._secrets.require_known()
        except UnavailableError:
            return {"secrets": "nobody knows which secrets count"}
        try:
            roll = self._roster.look()
        except HorusError:
            return {"runners": "nobody knows whether a runner is alive"}
        alive = [beat for beat in roll.beats.values() if is_alive(beat, roll.at)]
        if not alive:
            return {"runners": "no runner is alive"}
        why = self._queues_are_missing(alive)
        return {"queues": why} if why else {}

    def _trust_is_missing(self) -> str:
        try:
            trust = self._trust.current()
        except HorusError:
            return "the trust bundle cannot be read, or is not to be believed"
        if trust.is_expired(self._clock.now()):
            return "the trust bundle has expired"
        return ""

    def _redis_is_missing(self) -> str:
        try:
            self._store.counts()
        except DamagedError:
            return "something in Redis is not what Horus wrote there"
        except UnavailableError:
            return "Redis does not answer"
        try:
            # A replica shows beats and records as its master does, and takes no job.
            self._store.require_writable()
        except DamagedError:
            return "something in Redis is not what Horus wrote there"
        except UnavailableError as error:
            said = error.detail.removeprefix("Redis does not serve: ")
            return f"Redis takes nothing new: {said.partition(';')[0]}"
        return ""

    def _queues_are_missing(self, alive: Collection[RunnerBeat]) -> str:
        executors = {executor for beat in alive for executor in beat.executors}
        try:
            queues = all_queues(executors, self._trust.current())
            wanted = sorted(queues, key=lambda queue: (queue not in executors, queue))
            self._dispatcher.queue_lengths(wanted[:MAX_QUEUES])
        except DamagedError as error:
            if error.detail != self._damage:
                # For who runs it: a key may tell the name of a context.
                _logger.error("queue cannot be used", detail=error.detail)  # noqa: TRY400 - it is ours
            self._damage = error.detail
            return (
                "in the place of a queue in Redis stands something that Horus did not"
                " write there: remove the key that the API's log names"
            )
        except HorusError:
            return "nobody knows whether the queues can be used"
        self._damage = ""
        return ""
