"""How waiters hear of changes on Redis, each only of those that concern it.

A process that runs jobs hears nothing of all the others: with each message it would
lose more time than Redis takes for a job.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Final

import redis
from redis.client import PubSub

from horus_celery.store.base import Hears, Watch
from horus_celery.store.keys import Keys

#: How often the listener looks whether it shall end.
_TURN: Final = timedelta(milliseconds=250)
#: Turns without any sign of life before the listener asks for one, and then gives up.
_SILENT_TURNS: Final = 16
_RECONNECT_AFTER: Final = timedelta(milliseconds=200)
#: How long after the last watch the listener ends: it hears of every job.
_IDLE: Final = timedelta(seconds=5)


class RedisWakes:
    """A `Wakes` on Redis: one thread listens for all watches that hear of the same.

    It starts with the first watch, so also behind a fork, and ends a while after the
    last one.
    """

    def __init__(
        self, blocking_client: redis.Redis, namespace: str, *, idle: timedelta = _IDLE
    ) -> None:
        keys = Keys.of(namespace)
        channels = {
            Hears.ALL: (keys.changes, keys.wakes),
            Hears.END: (keys.wakes,),
            Hears.RECALL: (keys.recalls,),
        }
        self._listeners = {
            hears: _Listener(blocking_client, names, idle)
            for hears, names in channels.items()
        }

    def watch(
        self, digest: str, *, hears: Hears = Hears.ALL
    ) -> AbstractContextManager[Watch]:
        return self._listeners[hears].watch(digest)

    def close(self) -> None:
        for listener in self._listeners.values():
            listener.close()


class _Listener:
    """What hears some channels for all watches of them in this process."""

    def __init__(
        self, client: redis.Redis, channels: Sequence[str], idle: timedelta
    ) -> None:
        self._client = client
        self._channels = channels
        self._lock = threading.Lock()
        self._watches: dict[bytes, set[_RedisWatch]] = {}
        self._closed = threading.Event()
        self._listener: threading.Thread | None = None
        self._idle = idle.total_seconds()
        self._watched_at = time.monotonic()

    @contextmanager
    def watch(self, digest: str) -> Iterator[Watch]:
        watch = _RedisWatch(self._closed)
        name = digest.encode()
        with self._lock:
            self._watches.setdefault(name, set()).add(watch)
            # Whoever watches before the subscription stands is woken when it does.
            self._start_listening()
        try:
            yield watch
        finally:
            with self._lock:
                self._watches[name].discard(watch)
                if not self._watches[name]:
                    del self._watches[name]
                self._watched_at = time.monotonic()

    def close(self) -> None:
        with self._lock:
            self._closed.set()
            listener = self._listener
        self._wake_all()
        if listener is not None and listener.is_alive():
            listener.join()

    def _start_listening(self) -> None:
        if self._closed.is_set():
            return
        if self._listener is None or not self._listener.is_alive():
            self._listener = threading.Thread(
                target=self._listen, name="horus-wakes", daemon=True
            )
            self._listener.start()

    def _is_done(self) -> bool:
        """Whether nobody needs to listen any more; then the next watch begins anew."""
        with self._lock:
            is_idle = time.monotonic() - self._watched_at > self._idle
            if is_idle and not self._watches:
                self._listener = None
            return self._listener is None or self._closed.is_set()

    def _listen(self) -> None:
        while not self._is_done():
            pubsub = PubSub(self._client.connection_pool)
            try:
                self._follow(pubsub)
            except (redis.RedisError, OSError):
                self._wake_all()
                self._closed.wait(_RECONNECT_AFTER.total_seconds())
            finally:
                pubsub.close()

    def _follow(self, pubsub: PubSub) -> None:
        pubsub.subscribe(*self._channels)
        silent_turns = 0
        while not self._is_done():
            message = pubsub.get_message(timeout=_TURN.total_seconds())
            if message is None:
                silent_turns += 1
                _look_for_life(pubsub, silent_turns)
                continue
            silent_turns = 0
            if message["type"] == "message":
                self._wake(message["data"])
            elif message["data"] == len(self._channels):
                # The last subscription stands.
                self._wake_all()

    def _wake(self, digest: bytes) -> None:
        with self._lock:
            for watch in self._watches.get(digest, ()):
                watch.wake()

    def _wake_all(self) -> None:
        with self._lock:
            for watches in self._watches.values():
                for watch in watches:
                    watch.wake()


class _RedisWatch:
    def __init__(self, closed: threading.Event) -> None:
        self._changed = threading.Event()
        self._closed = closed

    def wake(self) -> None:
        self._changed.set()

    def wait(self, timeout: timedelta) -> bool:
        # Closing sets the one and then the other, so nobody sleeps through it.
        if self._closed.is_set():
            return False
        changed = self._changed.wait(timeout.total_seconds())
        if self._closed.is_set():
            return False
        # What comes between these two lines is seen by the reading that follows.
        self._changed.clear()
        return changed


def _look_for_life(pubsub: PubSub, silent_turns: int) -> None:
    """Ask a silent server for a sign, and give up when none comes.

    Raises:
        redis.ConnectionError: to give up.
    """
    if silent_turns == _SILENT_TURNS:
        pubsub.ping()
    elif silent_turns >= 2 * _SILENT_TURNS:
        raise redis.ConnectionError
