"""Which commands there are for scripts, where their keys stand, and what they do.

The table is closed: what does not stand in it is refused. Not in it are commands that
see or change more than the keys that they name (FLUSHDB, RANDOMKEY, SORT … BY), that
leave the database (MOVE, COPY … DB), wait (BLPOP), administer, run code, answer with
keys in places of their own (LMPOP), or compare each piece of a text with each of
another (LCS).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


class BadRequest(Exception):
    """A command that cannot be; its text is the error that a script is answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Where the keys of a command stand among its words, of which it is word 0."""

    #: The first and the last word that is a key; -1 is the last word there is, and 0
    #: for the first is none.
    first: int = 0
    last: int = 0
    #: From one key to the next.
    step: int = 1
    #: The word that says how many keys stand behind it, if one does.
    count: int | None = None

    def places(self, words: Sequence[bytes]) -> Iterator[int]:
        """Yield the places of the keys.

        Raises:
            BadRequest: if there are not as many as there must be.
        """
        if self.first:
            last = self.last if self.last > 0 else len(words) + self.last
            if last < self.first or last >= len(words):
                raise BadRequest(f"ERR wrong number of arguments for {shown(words[0])}")
            yield from range(self.first, last + 1, self.step)
        if self.count is not None:
            yield from counted(words, self.count)


def counted(words: Sequence[bytes], place: int) -> range:
    """Return the places of the keys behind the word that says how many they are.

    Raises:
        BadRequest: if it is no number, or a wrong one.
    """
    word = words[place] if place < len(words) else b""
    # Only so much of it is read: it may be a number of a million digits.
    number = int(word) if word.isdigit() and len(word) < 10 else -1  # noqa: PLR2004 - ten digits are never reached
    if not 0 <= number < len(words) - place:
        raise BadRequest(f"ERR {shown(words[0])} does not have as many keys as it says")
    return range(place + 1, place + 1 + number)


def shown(word: bytes) -> str:
    """Return a word of a script's as it can stand in an error."""
    return word[:64].decode("ascii", "replace").encode("ascii", "replace").decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that scripts may give."""

    name: str
    keys: Keys
    #: Whether it may change what is there.
    writes: bool = False
    #: Whether it only ever makes less of it: allowed to who holds too much.
    shrinks: bool = False
    #: Whether it never reaches the Redis behind, at least not as it is.
    is_local: bool = False


_NONE: Final = Keys()
_ONE: Final = Keys(first=1, last=1)
_TWO: Final = Keys(first=1, last=2)
_ALL: Final = Keys(first=1, last=-1)
_FROM_SECOND: Final = Keys(first=2, last=-1)
_PAIRS: Final = Keys(first=1, last=-1, step=2)
_COUNTED: Final = Keys(count=1)
_INTO: Final = Keys(first=1, last=1, count=2)


def _commands() -> Iterator[Command]:
    for names, keys in _READING:
        for name in names.split():
            yield Command(name=name, keys=keys)
    for names, keys in _WRITING:
        for name in names.split():
            yield Command(name=name, keys=keys, writes=True)
    for names, keys in _SHRINKING:
        for name in names.split():
            yield Command(name=name, keys=keys, writes=True, shrinks=True)
    for name in _LOCAL.split():
        yield Command(name=name, keys=_NONE, is_local=True)


_READING: Final = (
    ("PING ECHO TIME MULTI EXEC DISCARD UNWATCH", _NONE),
    ("WATCH EXISTS TOUCH MGET SINTER SUNION SDIFF", _ALL),
    ("TYPE TTL PTTL EXPIRETIME PEXPIRETIME", _ONE),
    ("GET STRLEN GETRANGE SUBSTR GETBIT BITCOUNT BITPOS", _ONE),
    ("HGET HMGET HGETALL HLEN HKEYS HVALS HEXISTS HSTRLEN HRANDFIELD HSCAN", _ONE),
    ("LLEN LRANGE LINDEX LPOS", _ONE),
    ("SMEMBERS SISMEMBER SMISMEMBER SCARD SRANDMEMBER SSCAN", _ONE),
    ("ZSCORE ZMSCORE ZCARD ZCOUNT ZLEXCOUNT ZRANGE ZRANGEBYSCORE ZRANGEBYLEX", _ONE),
    ("ZREVRANGE ZREVRANGEBYSCORE ZREVRANGEBYLEX ZRANK ZREVRANK", _ONE),
    ("ZRANDMEMBER ZSCAN XLEN XRANGE XREVRANGE", _ONE),
    ("SINTERCARD ZINTER ZUNION ZDIFF ZINTERCARD", _COUNTED),
)
_WRITING: Final = (
    ("SET SETNX SETEX PSETEX GETSET APPEND SETRANGE SETBIT PERSIST", _ONE),
    ("INCR INCRBY INCRBYFLOAT DECR DECRBY", _ONE),
    ("HSET HSETNX HMSET HINCRBY HINCRBYFLOAT", _ONE),
    ("LPUSH RPUSH LPUSHX RPUSHX LSET LINSERT SADD ZADD ZINCRBY XADD", _ONE),
    ("RENAME RENAMENX LMOVE RPOPLPUSH SMOVE ZRANGESTORE", _TWO),
    ("SINTERSTORE SUNIONSTORE SDIFFSTORE", _ALL),
    ("MSET MSETNX", _PAIRS),
    ("BITOP", _FROM_SECOND),
    ("ZUNIONSTORE ZINTERSTORE ZDIFFSTORE", _INTO),
)
_SHRINKING: Final = (
    ("DEL UNLINK", _ALL),
    ("EXPIRE PEXPIRE EXPIREAT PEXPIREAT GETEX GETDEL", _ONE),
    ("HDEL LPOP RPOP LREM LTRIM SREM SPOP ZREM ZPOPMIN ZPOPMAX", _ONE),
    ("ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREMRANGEBYLEX XDEL XTRIM", _ONE),
)
#: What is answered without the Redis behind, or is given to it in other words.
_LOCAL: Final = "HELLO CLIENT SELECT QUIT KEYS SCAN DBSIZE AGE SETENC GETENC OSIS"
#: By their names in capital letters.
COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {command.name: command for command in _commands()}
)


def find(words: Sequence[bytes]) -> Command:
    """Return the command of a request.

    Raises:
        BadRequest: if there is no such command for scripts.
    """
    name = words[0][:32].upper().decode("ascii", "replace")
    if name not in COMMANDS or len(words[0]) != len(name):
        raise BadRequest(f"NOPERM {shown(words[0])} is no command for scripts")
    return COMMANDS[name]


def prefixed(
    command: Command, words: Sequence[bytes], prefix: bytes
) -> Sequence[bytes]:
    """Return the words of a command with a prefix before each of its keys.

    Raises:
        BadRequest: if the keys are not where they must be.
    """
    places = list(command.keys.places(words))
    if not places:
        return words
    changed = list(words)
    for place in places:
        changed[place] = prefix + changed[place]
    return changed


def escaped(text: bytes) -> bytes:
    """Return a pattern that fits this very text."""
    special = b"\\*?[]"
    return b"".join(
        b"\\" + bytes([one]) if one in special else bytes([one]) for one in text
    )
