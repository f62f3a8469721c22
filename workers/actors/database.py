"""The actors `db`: what a script keeps in the database of the node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol

from workers.actors.actor import (
    INTEGER,
    SECONDS,
    SOME,
    TEXT,
    Actor,
    ActorError,
    Wanted,
)

_SECOND: Final = timedelta(seconds=1)


class Database(Protocol):
    """What speaks like a Redis."""

    def call(self, *words: str | bytes | int) -> object:
        """Give one command and return its reply: bytes, integer, list or None."""
        ...


#: Returns the database of the context; called whenever a script needs it.
Connect = Callable[[], Database]

_KEY: Final = Wanted(name="key", kind=TEXT, doc="the key")
_FIELD: Final = Wanted(name="field", kind=TEXT, doc="the field of the hash")
_VALUE: Final = Wanted(name="value", kind=TEXT, doc="what is kept")


def database_actors(
    connect: Connect, failures: Sequence[type[Exception]] = ()
) -> Iterator[Actor]:
    """Yield the actors of a database.

    Args:
        connect: How it is reached.
        failures: What a call raises that is refused or not answered.
    """

    def call(*words: str | int) -> Any:  # noqa: ANN401 - whatever the command answers
        return _plain(connect().call(*words))

    def actor(
        name: str, doc: str, does: Callable[..., object], *wanted: Wanted
    ) -> Actor:
        return Actor(
            name=f"db.{name}",
            doc=doc,
            wanted=wanted,
            call=does,
            failures=(ActorError, *failures),
        )

    def put(key: str, value: str, ttl: timedelta | None) -> object:
        until = () if ttl is None else ("EX", ttl // _SECOND)
        return call("SET", key, value, *until)

    def pairs(key: str) -> object:
        told = call("HGETALL", key)
        return dict(zip(told[::2], told[1::2], strict=True))

    ttl = Wanted(name="ttl", kind=SECONDS, doc="after which it is gone", default=None)
    yield actor("set", "Keep a text under a key.", put, _KEY, _VALUE, ttl)
    yield actor("get", "Return the text of a key.", lambda key: call("GET", key), _KEY)
    yield actor(
        "del",
        "Delete keys, and return how many there were.",
        lambda key: call("DEL", *key),
        Wanted(name="key", kind=SOME, doc="one key, or several between commas"),
    )
    yield actor(
        "hset",
        "Keep a text in a field of a hash.",
        lambda key, field, value: call("HSET", key, field, value),
        *(_KEY, _FIELD, _VALUE),
    )
    yield actor(
        "hget",
        "Return the text of a field.",
        lambda key, field: call("HGET", key, field),
        *(_KEY, _FIELD),
    )
    yield actor("hgetall", "Return all fields of a hash.", pairs, _KEY)
    yield actor(
        "lpush",
        "Put a text before a list, and return its length.",
        lambda key, value: call("LPUSH", key, value),
        *(_KEY, _VALUE),
    )
    yield actor(
        "lrange",
        "Return items of a list.",
        lambda key, start, stop: call("LRANGE", key, start, stop),
        _KEY,
        Wanted(name="start", kind=INTEGER, doc="the first, from 0", default=0),
        Wanted(name="stop", kind=INTEGER, doc="the last; -1 is the end", default=-1),
    )
    yield actor(
        "incr",
        "Add to a number, and return what it is then.",
        lambda key, by: call("INCRBY", key, by),
        _KEY,
        Wanted(name="by", kind=INTEGER, doc="how much", default=1),
    )
    yield actor(
        "expire",
        "Let a key be gone after a time.",
        lambda key, seconds: call("EXPIRE", key, seconds // _SECOND),
        _KEY,
        Wanted(name="seconds", kind=SECONDS, doc="how long it is kept"),
    )
    yield actor(
        "keys",
        "Return the keys that are like a pattern.",
        lambda pattern: call("KEYS", pattern),
        Wanted(name="pattern", kind=TEXT, doc="a glob", default="*"),
    )


def _plain(reply: object) -> object:
    """Return a reply as text and numbers."""
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "replace")
    if isinstance(reply, list):
        return [_plain(one) for one in reply]
    return reply
