"""What the steward has done in the Redis of HeroDB, to its users and its data."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Protocol

import redis
from redis.exceptions import NoPermissionError

from horus_celery.errors import ConfigurationError, UnavailableError
from horus_celery.herodb.accounts import Words
from horus_celery.herodb.commands import escaped
from horus_celery.herodb.contexts import Usage
from horus_celery.herodb.gauge import Gauge
from horus_celery.herodb.layout import Layout
from horus_celery.store.connection import answering

#: Keys that are removed in one step.
_PAGE: Final = 1000


class Estate(Protocol):
    """The users of one deployment's HeroDB, and what its contexts hold.

    Every method raises `UnavailableError` as `RecordStore` does, and
    `ConfigurationError` if the login may not do it.
    """

    def users(self) -> Collection[str]:
        """Return the users that there are, of those that are this deployment's."""
        ...

    def appoint(self, made: Mapping[str, Words], *, dismissed: Collection[str]) -> None:
        """Make users, or make them anew, and remove others with their connections."""
        ...

    def usage(self) -> Mapping[str, Usage]:
        """Return what was noted of each context."""
        ...

    def note(self, measured: Mapping[str, Usage]) -> None:
        """Note what contexts hold, for all supervisors."""
        ...

    def measure(
        self, contexts: Collection[str], *, now: datetime
    ) -> Mapping[str, Usage] | None:
        """Go on measuring for a moment; return what each holds once that is known."""
        ...

    def counted(
        self, contexts: Collection[str], *, now: datetime
    ) -> Mapping[str, Usage]:
        """Return what each holds at the least, as far as it was measured this time."""
        ...

    def empty(self, context: str) -> None:
        """Remove all that a context holds, and what was noted of it."""
        ...


class RedisEstate:
    """An `Estate` in a Redis."""

    def __init__(self, client: redis.Redis, layout: Layout) -> None:
        self._client = client
        self._layout = layout
        self._gauge = Gauge(client, layout)

    def users(self) -> Collection[str]:
        root = self._layout.root
        with administering():
            names: list[str] = self._ask("ACL USERS")
        return {
            name
            for name in names
            if name.startswith(f"{root}{{") or name == self._layout.lister
        }

    def appoint(self, made: Mapping[str, Words], *, dismissed: Collection[str]) -> None:
        if not (made or dismissed):
            return
        pipeline = self._client.pipeline(transaction=False)
        for user, words in made.items():
            pipeline.execute_command("ACL SETUSER", user, *words)  # type: ignore[no-untyped-call]  # so is redis-py
        if dismissed:
            pipeline.execute_command("ACL DELUSER", *sorted(dismissed))  # type: ignore[no-untyped-call]  # as above
        with administering():
            pipeline.execute()

    def usage(self) -> Mapping[str, Usage]:
        key = self._layout.usage
        with administering(key):
            found: Mapping[bytes, bytes] = self._ask("HGETALL", key)
        read = {
            name.decode("utf-8", "replace"): Usage.from_json(text)
            for name, text in found.items()
        }
        return {name: usage for name, usage in read.items() if usage is not None}

    def note(self, measured: Mapping[str, Usage]) -> None:
        key = self._layout.usage
        with administering(key):
            self._client.hset(
                key, mapping={name: one.to_json() for name, one in measured.items()}
            )

    def measure(
        self, contexts: Collection[str], *, now: datetime
    ) -> Mapping[str, Usage] | None:
        with administering():
            return self._gauge.measure(contexts, now=now)

    def counted(
        self, contexts: Collection[str], *, now: datetime
    ) -> Mapping[str, Usage]:
        return self._gauge.counted(contexts, now=now)

    def empty(self, context: str) -> None:
        pattern = escaped(self._layout.prefix(context).encode()) + b"*"
        cursor = 0
        with administering():
            while True:
                scan = ("SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE)
                cursor, keys = self._ask(*scan)
                if keys:
                    self._client.unlink(*keys)
                if cursor == 0:
                    break
            self._client.hdel(self._layout.usage, context)

    def _ask(self, *words: str | int | bytes) -> Any:  # noqa: ANN401 - what Redis answers is read by whoever asked
        return self._client.execute_command(*words)  # type: ignore[no-untyped-call]  # so is redis-py


class MemoryEstate:
    """An `Estate` within this process."""

    def __init__(self) -> None:
        #: What each user is made of.
        self.made: dict[str, Words] = {}
        #: What each context holds: bytes and keys.
        self.held: dict[str, tuple[int, int]] = {}
        self._noted: dict[str, Usage] = {}

    def users(self) -> Collection[str]:
        return set(self.made)

    def appoint(self, made: Mapping[str, Words], *, dismissed: Collection[str]) -> None:
        self.made.update(made)
        for user in dismissed:
            self.made.pop(user, None)

    def usage(self) -> Mapping[str, Usage]:
        return MappingProxyType(dict(self._noted))

    def note(self, measured: Mapping[str, Usage]) -> None:
        self._noted.update(measured)

    def measure(
        self, contexts: Collection[str], *, now: datetime
    ) -> Mapping[str, Usage] | None:
        return self.counted(contexts, now=now)

    def counted(
        self, contexts: Collection[str], *, now: datetime
    ) -> Mapping[str, Usage]:
        found = {}
        for name in contexts:
            size, keys = self.held.get(name, (0, 0))
            found[name] = Usage(size=size, keys=keys, at=now)
        return found

    def empty(self, context: str) -> None:
        self.held.pop(context, None)
        self._noted.pop(context, None)


@contextmanager
def administering(key: str | None = None) -> Iterator[None]:
    """Say what is missing where the login may not do what it has to.

    Args:
        key: What is asked for, so that it can be named.

    Raises:
        ConfigurationError: if that is so; else as `answering`.
    """
    try:
        with answering(key):
            yield
    except UnavailableError as error:
        if not isinstance(error.__context__, NoPermissionError):
            raise
        raise ConfigurationError(
            "the login of herodb_url may not administer users and contexts: let it be"
            " the user herodb that `horus redis-acl` prints, or name a Redis of"
            " HeroDB's own"
        ) from None
