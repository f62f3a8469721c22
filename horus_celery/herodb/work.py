"""How much one command may have Redis do, as it keeps that from all else meanwhile.

What a command says itself is judged by its words: how many items it asks for. What its
keys say is judged where they lie, by a program that counts before it does the command:
who looked first and asked then could be deceived in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from horus_celery.herodb.commands import BadRequest, Command, shown
from horus_celery.herodb.requests import MAX_REQUEST
from horus_celery.herodb.scripts import Script

#: Items that a command may ask for by a number of its own.
MOST_ASKED: Final = 10_000
#: Items of its own choice, one as often as it likes.
MOST_REPEATED: Final = 10
#: Items that a command goes through at most, and bytes, of all its keys together: a
#: tenth of a second. No answer is half as large.
MOST_HELD: Final = 100_000
MOST_BYTES: Final = 64 * 1024 * 1024
#: Keys of a command that goes through all they hold, and words of one that names each
#: value: a program in Redis passes on so many.
MOST_KEYS: Final = 100
MOST_GOT: Final = 5_000
#: Items up to which a command is none of those that a transaction has few of.
SMALL: Final = 100
#: How many a transaction may have of all others.
MOST_IN_TRANSACTION: Final = 16
#: Counts what a command goes through before it does it.
GUARD: Final = Script(
    source=Path(__file__).with_name("lua").joinpath("guard.lua").read_text("utf-8"),
    writes=True,
)
#: Reads off a command's words how many items it asks for.
_Reader: TypeAlias = Callable[[Sequence[bytes]], int | None]


class Stretch:
    """How far commands of one transaction may stretch texts: zeros cost no words."""

    def __init__(self) -> None:
        self._total = 0
        #: By their keys, until something else may have taken one of them away.
        self._lengths: dict[bytes, int] = {}

    def add(self, command: Command, words: Sequence[bytes]) -> None:
        """Count one more command, with its words.

        Raises:
            BadRequest: if that is too much for one transaction.
        """
        size = _STRETCHING.get(command.name)
        if size is None or len(words) < 3:  # noqa: PLR2004 - command, key, place
            if command.writes:
                self._lengths.clear()
            return
        length, known = _number(words[2]) // size, self._lengths.get(words[1], 0)
        self._total += max(0, length - known)
        self._lengths[words[1]] = max(length, known)
        if self._total > MOST_BYTES:
            raise BadRequest(
                f"ERR a transaction may stretch texts by {MOST_BYTES} bytes"
            )


def items_of(words: Sequence[bytes]) -> int | None:
    """Return how many items a command asks for; None if only its keys know.

    Raises:
        BadRequest: if that is more than a command may.
    """
    name = words[0].upper().decode()
    read = _READERS.get(name)
    if read is not None:
        items = read(words)
    else:
        items = None if name in _ALL_OF_IT or name in _TOLD else 0
    if items is not None and items > MOST_ASKED:
        raise BadRequest(
            f"ERR {shown(words[0])} may ask for {MOST_ASKED} items at a time"
        )
    return items


def guarded(
    command: Command, words: Sequence[bytes], places: Sequence[int]
) -> list[bytes | str | int]:
    """Return the words by which Redis does a command, if that is not too much.

    Args:
        command: The command.
        words: Its words as Redis has to get them.
        places: Those that are keys.

    Raises:
        BadRequest: if it names too many keys.
    """
    most = MOST_GOT if command.name in _GETTING else MOST_KEYS
    named = len(words) if command.name in _GETTING else len(places)
    if named > most:
        raise BadRequest(f"ERR {shown(words[0])} may name {most} at a time")
    keys = [words[place] for place in places]
    told = _TOLD.get(command.name)
    telling: tuple[bytes | str, ...] = ()
    # With fewer words it is none that Redis does.
    if told is not None and len(words) > max(told[1]):
        telling = (told[0], *(words[place] for place in told[1]))
    made: list[bytes | str | int] = ["EVAL" if command.writes else "EVAL_RO"]
    made += [GUARD.source, len(keys), *keys]
    made += [MOST_HELD, MOST_BYTES, len(telling), *telling]
    made += [command.name, *words[1:]]
    return made


def _count(words: Sequence[bytes]) -> int:
    """Return the number behind the key; without it that is one."""
    return abs(_number(words[2])) if len(words) > 2 else 1  # noqa: PLR2004 - command, key, number


def _repeated(words: Sequence[bytes]) -> int:
    """Return the number behind the key, which is below 0 where items may come again."""
    number = _number(words[2]) if len(words) > 2 else 1  # noqa: PLR2004 - as above
    if number < -MOST_REPEATED:
        raise BadRequest(
            f"ERR {shown(words[0])} gives {MOST_REPEATED} items that may be the same"
        )
    return abs(number)


def _got(words: Sequence[bytes]) -> int | None:
    """Return how many values are named; None is so many that they may be large."""
    return len(words) if len(words) <= MOST_REPEATED else None


def _bytes_at(words: Sequence[bytes]) -> int:
    """Refuse a place in a text that would make it larger than a request."""
    return _placed(words, MAX_REQUEST)


def _bits_at(words: Sequence[bytes]) -> int:
    """Do the same where places are of bits."""
    return _placed(words, 8 * MAX_REQUEST)


def _placed(words: Sequence[bytes], most: int) -> int:
    if len(words) > 2 and _number(words[2]) > most:  # noqa: PLR2004 - command, key, place
        raise BadRequest(f"ERR a text has at most {MAX_REQUEST} bytes")
    return 1


def _way_to(words: Sequence[bytes]) -> int:
    """Return how much it takes to find a place in a list, as far as that matters."""
    is_far = len(words) > 2 and abs(_number(words[2])) > MOST_ASKED  # noqa: PLR2004 - command, key, place
    return SMALL + 1 if is_far else 1


def _between(words: Sequence[bytes]) -> int | None:
    """Return how many items stand from one rank to another, if these say so."""
    if len(words) != 4 and not {word.upper() for word in words[4:]} <= _NOT_OTHERWISE:  # noqa: PLR2004 - command, key, from, to
        return _limit(words)
    start, stop = (_number(word) for word in words[2:4])
    if (start < 0) != (stop < 0):
        return None
    items = max(0, stop - start + 1) + _way_to(words) - 1
    return items if items <= MOST_ASKED else None


def _limit(words: Sequence[bytes]) -> int | None:
    """Return how many items stand behind LIMIT, with those that are passed over."""
    options = [word.upper() for word in words[4:]]
    # Of two, Redis believes the last one.
    if options.count(b"LIMIT") != 1:
        return None
    passed, items = (*words[5 + options.index(b"LIMIT") :], b"", b"")[:2]
    asked = _number(items)
    total = _number(passed) + asked
    return total if asked >= 0 and total <= MOST_ASKED else None


def _stream(words: Sequence[bytes]) -> int | None:
    """Return how many entries stand behind COUNT."""
    if len(words) == 6 and words[4].upper() == b"COUNT":  # noqa: PLR2004 - and COUNT, a number
        items = abs(_number(words[5]))
        return items if items <= MOST_ASKED else None
    return None


def _number(word: bytes) -> int:
    """Read a number of up to 64 bits; what is none, Redis refuses by itself."""
    try:
        return int(word[:20])
    except ValueError:
        return 0


#: Options with which a range is still one of ranks.
_NOT_OTHERWISE: Final = frozenset({b"WITHSCORES", b"REV"})
#: What says by its words how many items it asks for, or that only its keys know.
_READ_BY: Final[tuple[tuple[str, _Reader], ...]] = (
    ("LPOP RPOP SPOP ZPOPMIN ZPOPMAX", _count),
    ("SRANDMEMBER HRANDFIELD ZRANDMEMBER", _repeated),
    ("MGET HMGET", _got),
    ("LINDEX LSET", _way_to),
    ("SETRANGE", _bytes_at),
    ("SETBIT", _bits_at),
    ("LRANGE ZRANGE ZREVRANGE ZREMRANGEBYRANK", _between),
    ("ZRANGEBYSCORE ZREVRANGEBYSCORE ZRANGEBYLEX ZREVRANGEBYLEX", _limit),
    ("XRANGE XREVRANGE", _stream),
)
_READERS: Final[Mapping[str, _Reader]] = MappingProxyType(
    {name: read for names, read in _READ_BY for name in names.split()}
)
#: What makes a text as long as a place in it says, and places in one byte.
_STRETCHING: Final[Mapping[str, int]] = MappingProxyType({"SETRANGE": 1, "SETBIT": 8})
#: What goes through all that its keys hold.
_ALL_OF_IT: Final = frozenset(
    name
    for names in (
        "SMEMBERS HGETALL HKEYS HVALS LPOS LREM LINSERT BITCOUNT BITPOS BITOP",
        "SINTER SUNION SDIFF SINTERCARD SINTERSTORE SUNIONSTORE SDIFFSTORE",
        "ZINTER ZUNION ZDIFF ZINTERCARD ZINTERSTORE ZUNIONSTORE ZDIFFSTORE",
        "ZRANGESTORE",
    )
    for name in names.split()
)
#: What names each value that it goes through.
_GETTING: Final = frozenset({"MGET", "HMGET"})
_UPWARDS: Final = (1, 2, 3)
_DOWNWARDS: Final = (1, 3, 2)
#: What goes through as many items as another command tells, of these words of it.
_TOLD: Final[Mapping[str, tuple[str, tuple[int, int, int]]]] = MappingProxyType(
    {
        "ZRANGEBYSCORE": ("ZCOUNT", _UPWARDS),
        "ZREVRANGEBYSCORE": ("ZCOUNT", _DOWNWARDS),
        "ZREMRANGEBYSCORE": ("ZCOUNT", _UPWARDS),
        "ZRANGEBYLEX": ("ZLEXCOUNT", _UPWARDS),
        "ZREVRANGEBYLEX": ("ZLEXCOUNT", _DOWNWARDS),
        "ZREMRANGEBYLEX": ("ZLEXCOUNT", _UPWARDS),
    }
)
