"""What a script is answered: by which words Redis is asked, or without asking it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final, TypeVar

from horus_celery.errors import HorusError
from horus_celery.herodb import values, work
from horus_celery.herodb.age import Age
from horus_celery.herodb.commands import (
    BadRequest,
    Command,
    counted,
    escaped,
    find,
    prefixed,
    shown,
)
from horus_celery.herodb.keyring import DEFAULT, Keyring, Kind
from horus_celery.herodb.patterns import matcher
from horus_celery.herodb.requests import (
    MAX_REQUEST,
    MAX_WORDS,
    array,
    bulk,
    error,
    number,
    simple,
)
from horus_celery.herodb.scripts import Script
from workers.herodb.backend import Answer, Backend, CutOff

#: Names that one answer to KEYS holds, and how long it may take to find them.
MAX_KEYS: Final = 100_000
_LISTING: Final = timedelta(seconds=10)
#: Names that Redis looks at for one step of a listing.
_PAGE: Final = 1000
_MOST_COUNTED: Final = 10_000
_T = TypeVar("_T")
#: What a transaction ends with.
_ENDS: Final = frozenset({"EXEC", "DISCARD"})
_OVER: Final = (
    "OOM over quota: this context holds more than it may; delete some of it, and within"
    " seconds it can be written again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What every connection of one job is answered by."""

    context: str
    #: What the context's keys begin with in Redis, and those that scripts name.
    prefix: bytes
    data: bytes
    keyring: Keyring
    #: Those that `OSIS` runs, by name.
    scripts: Mapping[str, Script]


class Conversation:
    """One connection of a script, from its first request to its last."""

    def __init__(
        self,
        desk: Desk,
        backend: Backend,
        lister: Backend,
        *,
        ended: threading.Event,
    ) -> None:
        """Take what it is answered by.

        Args:
            desk: What its job has.
            backend: The Redis, as the job's context sees it.
            lister: The same as the one sees it who may see names of keys.
            ended: Set when the job is over.
        """
        self._desk = desk
        self._backend = backend
        self._lister = lister
        self._ended = ended
        self._age = Age(desk.keyring, desk.context)
        #: Whether commands are gathered, and whether one of them was refused.
        self._is_gathering = False
        self._is_spoilt = False
        #: Whether keys are watched: then a connection is not like any other.
        self._is_watching = False
        #: Words, and bytes of them, that Redis keeps for that.
        self._kept = (0, 0)
        #: Commands among them that go through much.
        self._large = 0
        #: Bytes that it may add to texts by naming a place far behind their end.
        self._stretch = work.Stretch()
        #: Whether the script has said that it was the last one.
        self._is_last = False

    @property
    def is_over(self) -> bool:
        """Whether nothing is answered any more, also of what was sent before."""
        return self._is_last or self._ended.is_set()

    def answer(self, words: Sequence[bytes]) -> bytes:
        """Answer a request; whatever it is, there is an answer."""
        try:
            command = find(words)
            if command.name in _LOCAL:
                return self._answer_here(command, words)
            return self._pass_on(command, words)
        except BadRequest as refusal:
            self._is_spoilt = self._is_gathering
            return error(str(refusal))
        except CutOff as lost:
            # What was gathered or watched is gone with the connection.
            self._is_last = self._is_gathering or self._is_watching
            return error(str(lost))
        except HorusError as fault:
            return error(f"ERR {fault.detail}")

    # --- what Redis answers -----------------------------------------------------

    def _pass_on(self, command: Command, words: Sequence[bytes]) -> bytes:
        if command.name == "EXEC" and self._is_spoilt:
            self._backend.ask(["DISCARD"])
            self._leave_transaction()
            return error("EXECABORT Transaction discarded because of previous errors.")
        named = prefixed(command, words, self._desk.data)
        is_end = command.name in _ENDS
        if command.name == "WATCH" or (self._is_gathering and not is_end):
            self._keep(named)
        asked = self._bounded(command, named)
        is_free = not (self._is_gathering or self._is_watching)
        answer = self._ask(asked, again=is_free and not command.writes)
        if answer.error is None:
            self._follow(command.name)
        elif is_end:
            self._leave_transaction()
        return _raw(answer)

    def _bounded(
        self, command: Command, named: Sequence[bytes]
    ) -> Sequence[bytes | str | int]:
        """Return the words by which Redis does a command, and no more than it may.

        Raises:
            BadRequest: if it asks for too much.
        """
        items = work.items_of(named)
        if self._is_gathering:
            self._stretch.add(command, named)
        if self._is_gathering and (items is None or items > work.SMALL):
            self._large += 1
            if self._large > work.MOST_IN_TRANSACTION:
                raise BadRequest(
                    f"ERR a transaction may have {work.MOST_IN_TRANSACTION} commands"
                    " that go through much"
                )
        if items is not None:
            return named
        return work.guarded(command, named, [*command.keys.places(named)])

    def _follow(self, name: str) -> None:
        match name:
            case "MULTI":
                self._is_gathering = True
            case "WATCH":
                self._is_watching = True
            case "EXEC" | "DISCARD":
                self._leave_transaction()
            case "UNWATCH" if not self._is_gathering:
                self._leave_transaction()
            case _:
                pass

    def _leave_transaction(self) -> None:
        self._is_gathering = self._is_spoilt = self._is_watching = False
        self._kept = (0, 0)
        self._large = 0
        self._stretch = work.Stretch()

    def _keep(self, words: Sequence[bytes]) -> None:
        """Count what Redis keeps in its own memory until the transaction is over.

        Raises:
            BadRequest: if that is more than one request may be.
        """
        count, size = self._kept
        count, size = count + len(words), size + sum(map(len, words))
        if count > MAX_WORDS or size > MAX_REQUEST:
            raise BadRequest(
                "ERR a transaction, with the keys that it watches, may be no larger"
                " than one request"
            )
        self._kept = (count, size)

    def _ask(self, words: Sequence[bytes | str | int], *, again: bool) -> Answer:
        if (self._is_gathering or self._is_watching) and not self._backend.is_connected:
            raise CutOff("IOERR HeroDB was cut off from its Redis")
        return self._backend.ask(words, again=again)

    # --- what we answer ---------------------------------------------------------

    def _answer_here(self, command: Command, words: Sequence[bytes]) -> bytes:
        if self._is_gathering:
            raise BadRequest(f"ERR {command.name} cannot stand in a transaction")
        return _LOCAL[command.name](self, words)

    def hello(self, words: Sequence[bytes]) -> bytes:
        if len(words) > 1 and words[1] != b"2":
            raise BadRequest("NOPROTO this server speaks RESP 2 alone")
        if len(words) > 2:  # noqa: PLR2004 - HELLO 2, and no login or name behind it
            raise BadRequest("ERR HELLO takes no login here: there is none to give")
        told = {
            "server": bulk(b"herodb"),
            "version": bulk(b"7.0.0"),
            "proto": number(2),
            "id": number(1),
            "mode": bulk(b"standalone"),
            "role": bulk(b"master"),
            "modules": array([]),
        }
        pairs = ((bulk(name.encode()), value) for name, value in told.items())
        return array(part for pair in pairs for part in pair)

    def client(self, words: Sequence[bytes]) -> bytes:
        match words[1].upper() if len(words) > 1 else b"":
            case b"SETINFO" | b"SETNAME":
                return simple("OK")
            case b"ID":
                return number(1)
            case b"GETNAME":
                return bulk(b"")
            case _:
                raise BadRequest(
                    "NOPERM CLIENT has SETINFO, SETNAME, GETNAME and ID here"
                )

    def select(self, words: Sequence[bytes]) -> bytes:
        if words[1:] != [b"0"]:
            raise BadRequest("NOPERM there is the database 0 alone")
        return simple("OK")

    def quit(self, words: Sequence[bytes]) -> bytes:
        self._is_last = True
        return simple("OK")

    def age(self, words: Sequence[bytes]) -> bytes:
        match self._age.answer(words[1:]):
            case bytes(text):
                return bulk(text)
            case int(count):
                return number(count)
            case texts:
                return array(map(bulk, texts))

    def set_encrypted(self, words: Sequence[bytes]) -> bytes:
        _require(words, at_least=3, at_most=4)
        key, value = words[1:3]
        name = words[3].decode("ascii", "replace") if words[3:] else DEFAULT
        context = self._desk.context
        kept = (
            self._desk.keyring.get_or_make(context, Kind.SECRET, name)
            if name == DEFAULT
            else self._desk.keyring.get(context, Kind.SECRET, name)
        ).newest
        text = values.encrypt(
            value,
            secret=bytes.fromhex(kept.private),
            key_id=kept.id,
            context=context,
            at=key,
        )
        return _raw(self._ask(["SET", self._desk.data + key, text], again=False))

    def get_encrypted(self, words: Sequence[bytes]) -> bytes:
        _require(words, at_least=2, at_most=2)
        key = words[1]
        answer = self._ask(["GET", self._desk.data + key], again=True)
        text = answer.value
        if not isinstance(text, bytes):
            return _raw(answer)
        context = self._desk.context
        secret = self._desk.keyring.secret_of(context, values.key_id_of(text))
        return bulk(values.decrypt(text, secret=secret, context=context, at=key))

    def scan(self, words: Sequence[bytes]) -> bytes:
        options = _scan_options(words[2:], b"MATCH", b"COUNT", b"TYPE")
        is_fit = matcher(options.get(b"MATCH", b"*"))
        cursor, keys = self._page(
            _cursor(words, 1), count=_count(options), kind=options.get(b"TYPE")
        )
        return array([bulk(cursor), array(map(bulk, self._fit(keys, is_fit)))])

    def scan_set(self, words: Sequence[bytes]) -> bytes:
        return self._part(words, 1)

    def scan_pairs(self, words: Sequence[bytes]) -> bytes:
        return self._part(words, 2)

    def _part(self, words: Sequence[bytes], size: int) -> bytes:
        """Answer a part of what a key holds, of items that have so many words."""
        options = _scan_options(words[3:], b"MATCH", b"COUNT")
        is_fit = matcher(options.get(b"MATCH", b"*"))
        cursor = _cursor(words, 2)
        key = self._desk.data + words[1]
        asked = [words[0], key, cursor, b"COUNT", b"%d" % _count(options)]
        answer = self._ask(asked, again=not self._is_watching)
        match answer.value:
            case [bytes(following), list(held)]:
                parts = [part for part in held if isinstance(part, bytes)]
                items = (parts[at : at + size] for at in range(0, len(parts), size))
                fit = self._fit(items, lambda item: is_fit(item[0]))
                written = (bulk(part) for item in fit for part in item)
                return array([bulk(following), array(written)])
            case _:
                return _raw(answer)

    def keys(self, words: Sequence[bytes]) -> bytes:
        _require(words, at_least=2, at_most=2)
        found = {key for page in self._pages(matcher(words[1])) for key in page}
        return array(bulk(key) for key in found)

    def count(self, words: Sequence[bytes]) -> bytes:
        _require(words, at_least=1, at_most=1)
        return number(len({key for page in self._pages(matcher(b"*")) for key in page}))

    def osis(self, words: Sequence[bytes]) -> bytes:
        if len(words) < 3:  # noqa: PLR2004 - OSIS, a name, a number
            raise BadRequest("ERR wrong number of arguments for OSIS")
        script = self._desk.scripts.get(words[1].decode("ascii", "replace"))
        if script is None:
            raise BadRequest(f"ERR there is no OSIS {shown(words[1])}")
        asked: list[bytes | str | int] = [*words[2:]]
        for place in counted(words, 2):
            asked[place - 2] = self._desk.prefix + words[place]
        suffix = "" if script.writes else "_RO"
        answer = self._ask([f"EVALSHA{suffix}", script.digest, *asked], again=False)
        if (answer.error or "").startswith("NOSCRIPT"):
            source = [f"EVAL{suffix}", script.source, *asked]
            answer = self._ask(source, again=False)
        return _raw(answer)

    def _pages(self, is_fit: Callable[[bytes], bool]) -> Iterator[Sequence[bytes]]:
        """Yield the names that there are, a name perhaps more than once."""
        deadline = time.monotonic() + _LISTING.total_seconds()
        cursor, found = b"0", 0
        while True:
            cursor, keys = self._page(cursor, count=_PAGE)
            fit = list(self._fit(keys, is_fit))
            found += len(fit)
            yield fit
            if cursor == b"0":
                return
            if found > MAX_KEYS or time.monotonic() > deadline:
                raise BadRequest("ERR there are too many keys to list: use SCAN")

    def _fit(self, items: Iterable[_T], is_fit: Callable[[_T], bool]) -> Iterator[_T]:
        """Yield what fits, for as long as somebody waits for it."""
        for item in items:
            # Many long names take seconds, and no job is charged for them.
            if self._ended.is_set():
                raise CutOff("IOERR the job is over")
            if is_fit(item):
                yield item

    def _page(
        self, cursor: bytes, *, count: int, kind: bytes | None = None
    ) -> tuple[bytes, Sequence[bytes]]:
        prefix = self._desk.data
        asked = [b"SCAN", cursor, b"MATCH", escaped(prefix) + b"*"]
        asked += [b"COUNT", b"%d" % count]
        if kind is not None:
            asked += [b"TYPE", kind]
        answer = self._lister.ask(asked, again=True)
        match answer.value:
            case [bytes(following), list(keys)]:
                # The pattern says the same; what it would not, nobody is told.
                return following, [
                    key.removeprefix(prefix)
                    for key in keys
                    if isinstance(key, bytes) and key.startswith(prefix)
                ]
            case _:
                raise BadRequest(answer.error or "ERR there is no list")


_LOCAL: Final[Mapping[str, Callable[[Conversation, Sequence[bytes]], bytes]]] = (
    MappingProxyType(
        {
            "HELLO": Conversation.hello,
            "CLIENT": Conversation.client,
            "SELECT": Conversation.select,
            "QUIT": Conversation.quit,
            "AGE": Conversation.age,
            "SETENC": Conversation.set_encrypted,
            "GETENC": Conversation.get_encrypted,
            "SCAN": Conversation.scan,
            "SSCAN": Conversation.scan_set,
            "HSCAN": Conversation.scan_pairs,
            "ZSCAN": Conversation.scan_pairs,
            "KEYS": Conversation.keys,
            "DBSIZE": Conversation.count,
            "OSIS": Conversation.osis,
        }
    )
)


def _raw(answer: Answer) -> bytes:
    """Return what the script is told of an answer of Redis."""
    text = answer.error
    if text is None:
        return answer.raw
    if text.startswith("NOPERM") or "ACL failure in script" in text:
        # All that gets so far is allowed to who holds no more than he may.
        return error(_OVER)
    return answer.raw


def _scan_options(words: Sequence[bytes], *known: bytes) -> Mapping[bytes, bytes]:
    names = [word.upper() for word in words[::2]]
    if len(words) % 2 or not {*names} <= {*known}:
        raise BadRequest(
            f"ERR this takes {b', '.join(known).decode()}, each with a value"
        )
    return dict(zip(names, words[1::2], strict=True))


def _cursor(words: Sequence[bytes], place: int) -> bytes:
    if len(words) <= place or not words[place].isdigit():
        raise BadRequest("ERR invalid cursor")
    return words[place]


def _count(options: Mapping[bytes, bytes]) -> int:
    """Return how many items Redis looks at for one answer."""
    said = options.get(b"COUNT", b"10")
    limit = int(said) if said.isdigit() and len(said) < 10 else 0  # noqa: PLR2004 - ten digits are too many
    if not limit:
        raise BadRequest("ERR COUNT is a number from 1")
    return min(limit, _MOST_COUNTED)


def _require(words: Sequence[bytes], *, at_least: int, at_most: int) -> None:
    if not at_least <= len(words) <= at_most:
        raise BadRequest(f"ERR wrong number of arguments for {shown(words[0])}")
