"""Which secrets count now: the given ones, without the removed and with the added ones.

What is added and removed lies on a shelf that all supervisors of a deployment share,
each entry under their seal, so that whoever writes to the shelf adds nothing.
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
from enum import Enum, auto
from typing import Final

import orjson
import structlog

from horus_celery.api_secrets.seal import Seal
from horus_celery.api_secrets.secret import ADMIN, SCOPES, USER, Given, Secret, bound_to
from horus_celery.api_secrets.shelf import SecretShelf
from horus_celery.errors import (
    ConfigurationError,
    ConflictError,
    NotFoundError,
    UnavailableError,
)

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


class _Mark(Enum):
    """What an entry says that adds no secret."""

    #: The given secret of this id counts no more.
    REMOVED = auto()
    #: Nothing: it is not under our seal.
    STRANGE = auto()


#: The body of an entry by which a given secret counts no more.
_REMOVED: Final = b'{"v":1,"removed":true}'


@dataclass(frozen=True, slots=True, kw_only=True)
class _List:
    """The secrets at one moment."""

    secrets: tuple[Secret, ...]
    #: What lay on the shelf, by id.
    entries: Mapping[str, bytes]
    #: What each of these entries says.
    opened: Mapping[tuple[str, bytes], Secret | _Mark]
    #: Who was found so far, by digest, if the list is long.
    found: dict[bytes, Secret] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Secret]:
        return iter(self.secrets)

    def has_removed(self, secret_id: str) -> bool:
        """Say whether a given secret of this id was removed."""
        entry = self.entries.get(secret_id)
        return entry is not None and self.opened[secret_id, entry] is _Mark.REMOVED

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
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the given secrets.

        Args:
            given: Those of the configuration and the state directory.
            shelf: Where added and removed ones lie.
            seal: Under which they lie there.
            now: Seconds of a clock that never goes back.

        Raises:
            ConfigurationError: if one cannot be used.
        """
        self._shelf = shelf
        self._seal = seal
        self._now = now
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
            body = _body_of(replace(added, is_given=is_given))
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
            is_given = secret.is_given or secret_id in self._given
            return self._shelf.swap(
                secret_id,
                old=present.entries.get(secret_id),
                new=self._seal.close(secret_id, _REMOVED) if is_given else None,
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
            entries = self._shelf.read()
        except UnavailableError as error:
            # Those who wait for the lock shall not try one after the other.
            self._read_at = self._now()
            self._is_away = True
            return error
        self._is_away = False
        self._list = self._list_of(entries)
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
            added = present.opened[secret_id, entry]
            if isinstance(added, Secret) and not added.is_given:
                body = _body_of(replace(added, is_given=True))
                new = self._seal.close(secret_id, body)
                self._shelf.swap(secret_id, old=entry, new=new)

    def _list_of(self, entries: Mapping[str, bytes]) -> _List:
        before = {} if self._list is None else self._list.opened
        opened: dict[tuple[str, bytes], Secret | _Mark] = {}
        strange = 0
        for each in entries.items():
            if each not in before:
                opened[each] = self._open(*each)
                strange += opened[each] is _Mark.STRANGE
            else:
                opened[each] = before[each]
        if strange:
            _logger.warning(
                "secrets in Redis are not under our seal and are ignored", count=strange
            )
        ours = {
            secret_id: what
            for (secret_id, _), what in opened.items()
            if what is not _Mark.STRANGE
        }
        self._tell_of_removed(ours)
        for secret_id, what in ours.items():
            # Whoever writes to the shelf can take that word away again.
            if what is _Mark.REMOVED:
                self._removed.add(secret_id)
            else:
                self._removed.discard(secret_id)
        gone = {*ours, *self._removed}
        known = [one for one in self._given.values() if one.id not in gone]
        known += [what for what in ours.values() if isinstance(what, Secret)]
        return _List(secrets=tuple(known), entries=entries, opened=opened)

    def _open(self, secret_id: str, entry: bytes) -> Secret | _Mark:
        body = None
        if len(entry) <= _MAX_ENTRY:
            body = self._seal.open(secret_id, entry)
        if body is None:
            return _Mark.STRANGE
        if body == _REMOVED:
            return _Mark.REMOVED
        said = orjson.loads(body)  # one of us wrote it, perhaps of a later version
        if said["v"] != 1:
            return _Mark.STRANGE
        return Secret(
            id=secret_id,
            scope=said["scope"],
            contexts=bound_to(said["contexts"]),
            digest=bytes.fromhex(said["digest"]),
            is_given=said.get("given") is True,  # an earlier version does not say
        )

    def _tell_of_removed(self, ours: Mapping[str, Secret | _Mark]) -> None:
        for secret_id, place in self._places.items():
            if ours.get(secret_id) is not _Mark.REMOVED:
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
                    self._reread()
                return
        raise UnavailableError("the secrets change too often just now")


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
        }
    )


def _id_of(digest: bytes) -> str:
    return f"sec_{hashlib.blake2b(digest, digest_size=8).hexdigest()}"
