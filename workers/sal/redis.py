"""SAL's functions for the HeroDB of the node, which speaks like a Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from workers.sal.session import SalError, Session
from workers.sal.table import make_module


def redis_ping(here: Session) -> str:
    """Return `PONG` if the database answers."""
    return _text(_call(here, "PING"))


def redis_set(here: Session, key: str, value: str) -> None:
    """Give a key a value."""
    _call(here, "SET", key, value)


def redis_get(here: Session, key: str) -> str:
    """Return the value of a key, `""` if it has none."""
    return _text(_call(here, "GET", key))


def redis_del(here: Session, key: str) -> int:
    """Delete a key; return how many were there."""
    return _number(_call(here, "DEL", key))


def redis_hset(here: Session, key: str, field: str, value: str) -> int:
    """Give a field of a hash a value; return how many fields are new."""
    return _number(_call(here, "HSET", key, field, value))


def redis_hget(here: Session, key: str, field: str) -> str:
    """Return the value of a field of a hash, `""` if it has none."""
    return _text(_call(here, "HGET", key, field))


def redis_hgetall(here: Session, key: str) -> dict[str, str]:
    """Return all fields of a hash with their values."""
    reply = _call(here, "HGETALL", key)
    words = _texts(reply)
    return dict(zip(words[::2], words[1::2], strict=True))


def redis_hdel(here: Session, key: str, field: str) -> int:
    """Delete a field of a hash; return how many were there."""
    return _number(_call(here, "HDEL", key, field))


def redis_rpush(here: Session, key: str, value: str) -> int:
    """Put a value at the end of a list; return how long that is now."""
    return _number(_call(here, "RPUSH", key, value))


def redis_lpush(here: Session, key: str, value: str) -> int:
    """Put a value at the beginning of a list; return how long that is now."""
    return _number(_call(here, "LPUSH", key, value))


def redis_llen(here: Session, key: str) -> int:
    """Return how long a list is."""
    return _number(_call(here, "LLEN", key))


def redis_lrange(here: Session, key: str, start: int, stop: int) -> list[str]:
    """Return a part of a list, both ends included; -1 is its last value."""
    return _texts(_call(here, "LRANGE", key, str(start), str(stop)))


def redis_reset(here: Session) -> None:
    """Forget the connection: the next call makes a new one."""
    here.require_herodb()
    here.database = None


def _call(here: Session, *words: str) -> object:
    url = here.require_herodb()
    try:
        if here.database is None:
            here.database = here.connect(url)
        return here.database.call(*words)
    except here.database_errors as error:
        raise SalError(str(error)) from None


def _text(reply: object) -> str:
    if isinstance(reply, bytes):
        return reply.decode(errors="replace")
    return "" if reply is None else str(reply)


def _texts(reply: object) -> list[str]:
    if not isinstance(reply, Sequence) or isinstance(reply, str | bytes):
        raise SalError(f"HeroDB replies with {type(reply).__name__}, not with a list")
    return [_text(one) for one in reply]


def _number(reply: object) -> int:
    if not isinstance(reply, int):
        raise SalError(f"HeroDB replies with {type(reply).__name__}, not with a number")
    return reply


MODULE: Final = make_module(
    "redis",
    """The HeroDB of the node, at `$HERODB_URL`, with `net: herodb` or `net: host`.

    It is scratch space that can be lost at any time, and other scripts may see it.
    """,
    *(redis_ping, redis_set, redis_get, redis_del, redis_hset, redis_hget),
    *(redis_hgetall, redis_hdel, redis_rpush, redis_lpush, redis_llen, redis_lrange),
    redis_reset,
)
