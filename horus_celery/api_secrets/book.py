"""Which secrets count now: the given ones, without the removed and with the added ones.

What is added and removed lies on a shelf that all supervisors of a deployment share,
each entry under their seal, so that whoever writes to the shelf adds nothing. Which
added ones were removed every node remembers by itself, so that nobody puts them back.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

import orjson
import structlog

from horus_celery.api_secrets.removals import MemoryRemovals, Removals
from horus_celery.api_secrets.seal import Seal
from horus_celery.api_secrets.secret import ADMIN, SCOPES, USER, Given, Secret, bound_to
from horus_celery.api_secrets.shelf import SecretShelf
from horus_celery.clock import Clock, SystemClock
from horus_celery.errors import (
    ConfigurationError,
    ConflictError,
    HorusError,
    NotFoundError,
    UnavailableError,
)
from horus_celery.instants import from_ms, to_ms
from horus_celery.rounds import Rounds

#: Seconds for which a list counts, and after which one of the callers renews it.
_FRESH: Final = 1.0
_RENEW: Final = 0.5
#: How often in a second secrets that nobody has make the shelf be read.
_LOOKS: Final = 10
#: With more secrets than this, who was found is remembered as long as the list counts.
_LONG: Final = 64
#: No entry of ours is longer: the names of 1,000 contexts come to 131 KB.
_MAX_ENTRY: Final = 256 * 1024
#: Times that a change is tried again when another came in between.
_TRIES: Final = 20
_logger: Final = structlog.get_logger(__name__)


#: How long the shelf says that an added secret was removed: by then every node that is
#: up has read it.
_WORD_KEPT: Final = timedelta(days=1)
#: How many of these words one change takes away at most.
_CLEARED: Final = 100
#: How often it is read though nobody calls.
ROUND: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Removed:
    """What is said of a secret that was removed."""

    #: Of the addition that was taken back; None if it was given alone.
    serial: str | None
    #: Whether it is known to be given somewhere: then this has to stay.
    is_given: bool
    at: datetime


#: The body of an entry by which a secret that was never added counts no more.
_REMOVED: Final = b'{"v":1,"removed":true}'


@dataclass(frozen=True, slots=True, kw_only=True)
class _List:
    """The secrets at one moment."""

    secrets: tuple[Secret, ...]
    #: What lay on the shelf, by id.
    entries: Mapping[str, bytes]
    #: What each of these entries says; None for one that is not under our seal.
    opened: Mapping[tuple[str, bytes], Secret | _Removed | None]
    #: Who was found so far, by digest, if the list is long.
    found: dict[bytes, Secret] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Secret]:
        return iter(self.secrets)

    def has_removed(self, secret_id: str) -> bool:
        """Say whether a given secret of this id was removed."""
        entry = self.entries.get(secret_id)
        said = None if entry is None else self.opened[secret_id, entry]
        return isinstance(said, _Removed) and said.is_given

    def find(self, digest: bytes) -> Secret | None:
        """Find a secret; every one is compared, so the time tells nothing."""
        # A stranger cannot choose his digest, so this tells him nothing either.
        if digest in self.found:
            return self.found[digest]
        found = None
        for secret in self.secrets:
            if hmac.compare_digest(secret.digest, digest):
                found = secret
        if found is not None and len(self.secrets) > _LONG:
            self.found[digest] = found
        return found


class SecretBook:
    """The secrets that count now; its methods may be called by many threads at once.

    The list is read again after a second, and at once for a secret that is not in it:
    so one that was added works everywhere at once, and one that was removed stops
    within a second. While the shelf is away the last list counts.
    """

    def __init__(
        self,
        given: Iterable[Given],
        shelf: SecretShelf,
        seal: Seal,
        *,
        removals: Removals | None = None,
        now: Callable[[], float] = time.monotonic,
        clock: Clock | None = None,
    ) -> None:
        """Take the given secrets.

        Args:
            given: Those of the configuration and the state directory.
            shelf: Where added and removed ones lie.
            seal: Under which they lie there.
            removals: What this node remembers; by default, what this process does.
            now: Seconds of a clock that never goes back.
            clock: Tells the time; the machine's clock by default.

        Raises:
            ConfigurationError: if one cannot be used.
        """
        self._shelf = shelf
        self._seal = seal
        self._removals = removals or MemoryRemovals()
        #: Removed ones that are not remembered yet.
        self._unremembered: set[str] = set()
        self._now = now
        self._clock = clock or SystemClock()
        self._given: dict[str, Secret] = {}
        self._places: dict[str, str] = {}
        for one in given:
            self._install(one)
        self._lock = threading.Lock()
        self._list: _List | None = None
        self._read_at = float("-inf")
        self._is_away = False
        #: When the latest secrets were looked for that nobody had.
        self._looks: deque[float] = deque(maxlen=_LOOKS)
        #: The ids of given ones whose removal was told.
        self._told: set[str] = set()
        #: The ids of given ones that were seen to be removed.
        self._removed: set[str] = set()

    # --- who calls -------------------------------------------------------------

    def holder(self, secret: str) -> Secret | None:
        """Return what a secret stands for, or None if nobody has it.

        Every secret of the list is compared, in constant time, whatever matched.

        Raises:
            UnavailableError: if the shelf could not be read yet.
        """
        digest = self._seal.digest(secret)
        found = self._current().find(digest)
        if found is None and self._may_look():
            self._renew(older_than=self._now())
            found = self._known().find(digest)
        return found

    def glance(self, secret: str) -> Secret | None:
        """Return what a secret stands for as far as it is known; waits for nobody."""
        digest = self._seal.digest(secret)
        found = None if self._list is None else self._list.find(digest)
        if found is not None or self._is_away or not self._may_look():
            return found
        if self._lock.acquire(blocking=False):
            try:
                self._read()
            finally:
                self._lock.release()
        return None if self._list is None else self._list.find(digest)

    def require_known(self) -> None:
        """Pass if there is a list by which secrets count, be it the last one.

        Raises:
            UnavailableError: if the shelf could not be read yet.
        """
        self._current()

    def read(self) -> None:
        """Read the list now, as at a start: what is wrong with it is logged.

        Raises:
            UnavailableError: if the shelf does not answer.
        """
        self._reread()

    # --- they change -----------------------------------------------------------

    def add(
        self, *, scope: str, contexts: Sequence[str], secret: str | None
    ) -> tuple[Secret, str]:
        """Add a secret and return it, together with its text: that is shown once.

        Args:
            scope: One of `SCOPES`.
            contexts: Where it counts, "*" being everywhere.
            secret: Its text, or None to have one made.

        Raises:
            ConflictError: if there is such a secret already.
        """
        text = secrets.token_urlsafe(32) if secret is None else secret
        added = self._secret(scope, text, contexts)

        def change(present: _List) -> bool:
            if present.find(added.digest) is not None:
                raise ConflictError(
                    f"that secret is there already, as {added.id}",
                    reason="secret_taken",
                )
            # Who removes it next may not be the one to whom it is given.
            is_given = added.id in self._given or present.has_removed(added.id)
            serial = secrets.token_hex(16)
            body = _body_of(replace(added, is_given=is_given, serial=serial))
            return self._shelf.swap(
                added.id,
                old=present.entries.get(added.id),
                new=self._seal.close(added.id, body),
            )

        self._change(change)
        return added, text

    def remove(self, secret_id: str) -> None:
        """Remove a secret; a given one stays removed, also over restarts.

        Raises:
            NotFoundError: if there is none of this id.
            ConflictError: if it is the last one of the scope admin.
        """

        def change(present: _List) -> bool:
            secret = next((one for one in present if one.id == secret_id), None)
            if secret is None:
                raise NotFoundError(f"there is no secret {secret_id}")
            said = _Removed(
                serial=secret.serial or None,
                is_given=secret.is_given or secret_id in self._given,
                at=self._clock.now(),
            )
            return self._shelf.swap(
                secret_id,
                old=present.entries.get(secret_id),
                new=self._seal.close(secret_id, _body_of_removed(said)),
                standing=_other_admins(present, secret),
            )

        self._change(change)

    def list(self) -> tuple[Secret, ...]:
        """Return the secrets that count now, by scope.

        Raises:
            UnavailableError: if the shelf does not answer.
        """
        found = self._reread()
        return tuple(sorted(found, key=lambda one: (SCOPES.index(one.scope), one.id)))

    # --- how -------------------------------------------------------------------

    def _install(self, given: Given) -> None:
        if not given.secret:
            raise ConfigurationError(
                f"{given.place} holds an empty secret: everybody would have it"
            )
        if given.scope not in SCOPES:
            raise ConfigurationError(f"there is no scope {given.scope!r} of secrets")
        secret = self._secret(given.scope, given.secret, given.contexts)
        if secret.scope != USER and secret.contexts is not None:
            raise ConfigurationError(
                f"{given.place} binds a secret of the scope {given.scope} to contexts:"
                f" only those of the scope {USER} can be bound"
            )
        if secret.id in self._given:
            raise ConfigurationError(
                f"one secret stands twice, in {self._places[secret.id]} and"
                f" {given.place}: each scope needs its own"
            )
        self._given[secret.id] = secret
        self._places[secret.id] = given.place

    def _secret(self, scope: str, text: str, contexts: Iterable[str]) -> Secret:
        digest = self._seal.digest(text)
        return Secret(
            id=_id_of(digest),
            scope=scope,
            contexts=bound_to(contexts),
            digest=digest,
        )

    def _current(self) -> _List:
        age = self._now() - self._read_at
        if age >= _RENEW:
            # Until the list is too old, only one of the callers pays for a new one.
            self._renew(older_than=self._now() - _RENEW, patient=age >= _FRESH)
        return self._known()

    def _renew(self, *, older_than: float, patient: bool = True) -> None:
        if not self._lock.acquire(blocking=patient):
            return
        try:
            if self._read_at <= older_than:
                self._read()
        finally:
            self._lock.release()

    def _known(self) -> _List:
        if self._list is None:
            raise UnavailableError("the list of secrets could not be read yet")
        return self._list

    def _may_look(self) -> bool:
        """Say whether a secret that nobody has is worth reading the shelf again."""
        now = self._now()
        if len(self._looks) == _LOOKS and now - self._looks[0] < 1:
            return False
        self._looks.append(now)
        return True

    def _reread(self) -> _List:
        with self._lock:
            trouble = self._read()
            if trouble is not None:
                raise trouble
            return self._known()

    def _read(self) -> UnavailableError | None:
        """Read the shelf, under the lock; the last list stays if it does not answer."""
        asked_at = self._now()
        try:
            read = self._list_of(self._shelf.read())
        except UnavailableError as error:
            # Those who wait for the lock shall not try one after the other.
            self._read_at = self._now()
            self._is_away = True
            return error
        self._is_away = False
        self._list = read
        # Behind the list itself: until then everybody else's is as old as it is.
        self._read_at = asked_at
        with suppress(UnavailableError):  # the next reading does it
            self._tell_of_given(self._list)
        return None

    def _tell_of_given(self, present: _List) -> None:
        """Have the entries of given secrets say so.

        Who added one, and who removes it next, may not have it in his configuration:
        it would count again here.
        """
        for secret_id in self._given.keys() & present.entries.keys():
            entry = present.entries[secret_id]
            said = present.opened[secret_id, entry]
            if said is not None and not said.is_given:
                self._shelf.swap(
                    secret_id,
                    old=entry,
                    new=self._seal.close(secret_id, _body_of_given(said)),
                )

    def _list_of(self, entries: Mapping[str, bytes]) -> _List:
        opened = self._opened(entries)
        ours = {
            secret_id: said
            for (secret_id, _), said in opened.items()
            if said is not None
        }
        self._tell_of_removed(ours)
        for secret_id, said in ours.items():
            # Whoever writes to the shelf can take that word away again.
            if isinstance(said, _Removed):
                self._removed.add(secret_id)
            else:
                self._removed.discard(secret_id)
        gone = {*ours, *self._removed}
        known = [one for one in self._given.values() if one.id not in gone]
        known += [said for said in ours.values() if isinstance(said, Secret)]
        return _List(secrets=tuple(known), entries=entries, opened=opened)

    def _opened(
        self, entries: Mapping[str, bytes]
    ) -> dict[tuple[str, bytes], Secret | _Removed | None]:
        """Return what entries say; each is opened when it is read first.

        Raises:
            UnavailableError: if this node cannot tell now what was removed.
        """
        before = {} if self._list is None else self._list.opened
        opened = {
            each: before[each] if each in before else self._open(*each)
            for each in entries.items()
        }
        news = {each: said for each, said in opened.items() if each not in before}
        strange = sum(said is None for said in news.values())
        if strange:
            _logger.warning(
                "secrets in Redis are not under our seal and are ignored", count=strange
            )
        self._remember(one.serial for one in news.values() if isinstance(one, _Removed))
        added = {
            each: said.serial for each, said in news.items() if isinstance(said, Secret)
        }
        removed = self._removed_among(frozenset(added.values()))
        for each, serial in added.items():
            if serial in removed:
                opened[each] = None
                _logger.warning(
                    "a secret that was removed is back in Redis, and is ignored",
                    secret_id=each[0],
                )
        return opened

    def _remember(self, serials: Iterable[str | None]) -> None:
        news = {serial for serial in serials if serial}
        self._unremembered |= news
        if not self._unremembered:
            return
        try:
            self._removals.remember_removed(self._unremembered)
        except HorusError as error:
            # They are removed all the same, and the next reading tries again.
            if news:
                _logger.warning("removed secrets not remembered", detail=error.detail)
        else:
            self._unremembered.clear()

    def _removed_among(self, serials: frozenset[str]) -> frozenset[str]:
        if not serials:
            return serials
        try:
            remembered = self._removals.removed_among(serials)
        except HorusError as error:
            raise UnavailableError(error.detail) from error
        return remembered | (serials & self._unremembered)

    def _open(self, secret_id: str, entry: bytes) -> Secret | _Removed | None:
        body = None
        if len(entry) <= _MAX_ENTRY:
            body = self._seal.open(secret_id, entry)
        if body is None:
            return None
        if body == _REMOVED:
            return _Removed(serial=None, is_given=True, at=from_ms(0))
        said = orjson.loads(body)  # one of us wrote it, perhaps of a later version
        match said["v"]:
            case 1:
                return Secret(
                    id=secret_id,
                    scope=said["scope"],
                    contexts=bound_to(said["contexts"]),
                    digest=bytes.fromhex(said["digest"]),
                    # Earlier versions do not say these.
                    is_given=said.get("given") is True,
                    serial=said.get("serial", secret_id),
                )
            case 2:
                return _Removed(
                    serial=said["removed"],
                    is_given=said["given"],
                    at=from_ms(said["at"]),
                )
            case _:
                return None

    def _tell_of_removed(self, ours: Mapping[str, Secret | _Removed]) -> None:
        for secret_id, place in self._places.items():
            if not isinstance(ours.get(secret_id), _Removed):
                self._told.discard(secret_id)
            elif secret_id not in self._told:
                self._told.add(secret_id)
                _logger.warning(
                    "a secret of the configuration was removed through the API and"
                    " counts no more",
                    place=place,
                    secret_id=secret_id,
                )

    def _change(self, change: Callable[[_List], bool]) -> None:
        """Make a change on the list as it is now, however often another comes first."""
        for _ in range(_TRIES):
            if change(self._reread()):
                # It is made; if this fails, the list is renewed within a second.
                with suppress(UnavailableError):
                    self._clear_away(self._reread())
                return
        raise UnavailableError("the secrets change too often just now")

    def _clear_away(self, present: _List) -> None:
        """Take words from the shelf that every node has heard by now."""
        before = self._clock.now() - _WORD_KEPT
        heard = (
            each
            for each, said in present.opened.items()
            if isinstance(said, _Removed) and not said.is_given and said.at < before
        )
        for secret_id, entry in islice(heard, _CLEARED):
            self._shelf.swap(secret_id, old=entry, new=None)


class SecretRounds(Rounds):
    """Reads the list every half minute, so that a node hears what nobody asks it."""

    def __init__(self, book: SecretBook, *, every: timedelta = ROUND) -> None:
        super().__init__(self._once, name="horus-secrets", every=every)
        self._book = book

    def _once(self) -> None:
        with suppress(UnavailableError):  # the next round does it
            self._book.read()


def _other_admins(present: _List, secret: Secret) -> Mapping[str, bytes | None] | None:
    """Return of which secrets one must still be there when this one goes.

    Raises:
        ConflictError: if there is none.
    """
    if secret.scope != ADMIN:
        return None
    others = [one.id for one in present if one.scope == ADMIN and one.id != secret.id]
    if not others:
        raise ConflictError(
            f"{secret.id} is the last secret of the scope {ADMIN}: add another first",
            reason="last_admin_secret",
        )
    return {other: present.entries.get(other) for other in others}


def _body_of(secret: Secret) -> bytes:
    return orjson.dumps(
        {
            "v": 1,
            "scope": secret.scope,
            "contexts": secret.shown_contexts(),
            "digest": secret.digest.hex(),
            "given": secret.is_given,
            "serial": secret.serial,
        }
    )


def _body_of_removed(said: _Removed) -> bytes:
    if said.serial is None:
        return _REMOVED
    return orjson.dumps(
        {
            "v": 2,
            "removed": said.serial,
            "given": said.is_given,
            "at": to_ms(said.at),
        }
    )


def _body_of_given(said: Secret | _Removed) -> bytes:
    """Return the same once more, as of a secret that is given."""
    if isinstance(said, Secret):
        return _body_of(replace(said, is_given=True))
    return _body_of_removed(replace(said, is_given=True))


def _id_of(digest: bytes) -> str:
    return f"sec_{hashlib.blake2b(digest, digest_size=8).hexdigest()}"
