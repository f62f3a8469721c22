"""Who keeps the contexts of HeroDB: makes and removes them, and lets people in.

What is to be lies in a table in Redis, each entry under our seal, so that whoever
writes there lets nobody in. A round makes the users of Redis what the table says, also
after Redis has forgotten them.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import structlog

from horus_celery.api_secrets.seal import Seal
from horus_celery.api_secrets.shelf import SecretShelf
from horus_celery.clock import Clock
from horus_celery.errors import (
    ConfigurationError,
    ConflictError,
    HorusError,
    NotFoundError,
    UnavailableError,
)
from horus_celery.herodb import layout
from horus_celery.herodb.accounts import Words, accounts
from horus_celery.herodb.contexts import USUAL, Context, Quota, Usage, User
from horus_celery.herodb.estate import Estate, administering
from horus_celery.herodb.layout import Layout, Role
from horus_celery.rounds import Rounds

#: How often a round is made.
EVERY: Final = timedelta(seconds=5)
#: After how many rounds all users are set anew, whatever we believe of them.
_ALL_AGAIN: Final = 12
#: How many are left out when the login may not do what it has to: five minutes.
_LEFT_OUT: Final = 60
#: How long contexts that jobs need are left to the rounds when one could not be made:
#: else every job would wait for what does not answer.
_PAUSE: Final = timedelta(seconds=30)
#: Times that a change is tried again when another came in between.
_TRIES: Final = 20
#: Users of one context.
MAX_USERS: Final = 100
#: Keys that are removed in one step.
_PAGE: Final = 1000
#: No entry of ours is longer.
_MAX_ENTRY: Final = 256 * 1024
_logger: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A context, with what it was found to hold."""

    context: Context
    usage: Usage | None

    @property
    def is_over(self) -> bool:
        """Whether it may hold less than it does."""
        return self.context.is_over(self.usage)


class Steward:
    """The contexts of one deployment; its methods may be called by many threads."""

    def __init__(
        self,
        estate: Estate,
        shelf: SecretShelf,
        of: Layout,
        *,
        master: bytes,
        database: int,
        clock: Clock,
        usual: Quota = USUAL,
    ) -> None:
        """Take where HeroDB is.

        Args:
            estate: Its users and data.
            shelf: Where the table of contexts lies.
            of: The deployment's keys and users.
            master: What its passwords and its seal are made of.
            database: The number of the database.
            clock: Tells the time.
            usual: What a context may hold that is made.
        """
        self._estate = estate
        self._shelf = shelf
        self._layout = of
        self._master = master
        self._database = database
        self._clock = clock
        self._usual = usual
        self._seal = Seal(layout.sealing_key(master), of.namespace)
        self._lock = threading.Lock()
        #: What each user was made of when we made it last.
        self._made: dict[str, Words] = {}
        #: The contexts that are known to be there.
        self._known: set[str] = set()
        #: Those that somebody needs, and could not be made yet.
        self._wanted: set[str] = set()
        self._rounds = 0
        #: How many entries of the table were not ours at the last look.
        self._strange = 0

    def data(self, name: str) -> str:
        """Return what the keys begin with that scripts of a context name."""
        return self._layout.data(name)

    # --- contexts ---------------------------------------------------------------

    def create(self, name: str) -> View:
        """Make a context.

        Raises:
            ConflictError: if there is one of this name.
        """
        context = Context.new(name, self._usual)
        if not self._swap(name, old=None, new=context):
            raise ConflictError(
                f"there is a context {name} already", reason="context_taken"
            )
        self._put_in_force()
        return View(context=context, usage=None)

    def ensure(self, name: str) -> None:
        """See that there is a context; that costs nothing once it was seen."""
        if name in self._known:
            return
        self._wanted.add(name)
        self._swap(name, old=None, new=Context.new(name, self._usual))
        self._put_in_force()
        self._known.add(name)
        self._wanted.discard(name)

    def want(self, name: str) -> None:
        """Have a context made by the next round, if it is not known to be there."""
        if name not in self._known:
            self._wanted.add(name)

    def delete(self, name: str) -> None:
        """Remove a context with all that it holds; keys of encryption stay.

        Raises:
            NotFoundError: if there is none.
        """
        self._change(name, lambda _: None)
        self._known.discard(name)
        # First those who could write there again.
        self._put_in_force()
        self._estate.empty(name)

    def list(self) -> Sequence[View]:
        """Return all contexts by name."""
        contexts, usage = self._contexts(), self._estate.usage()
        return [
            View(context=contexts[name], usage=usage.get(name))
            for name in sorted(contexts)
        ]

    def set_quota(
        self, name: str, *, max_bytes: int | None, max_keys: int | None
    ) -> View:
        """Set what a context may hold at most; None is no limit.

        Raises:
            NotFoundError: if there is none.
        """
        context = self._change(
            name, lambda one: replace(one, max_bytes=max_bytes, max_keys=max_keys)
        )
        self._put_in_force()
        return View(context=context, usage=self._estate.usage().get(name))

    # --- who else is let in -----------------------------------------------------

    def add_user(self, name: str, user: str, role: Role) -> tuple[str, str]:
        """Let somebody in; return login and password, which is kept nowhere.

        Raises:
            NotFoundError: if there is no such context.
            ConflictError: if it has a user of this name, or too many.
        """
        password = secrets.token_urlsafe(32)
        added = User(
            name=user,
            role=role,
            hash=layout.hashed(password),
            created_at=self._clock.now(),
        )

        def with_him(context: Context) -> Context:
            if user in context.users:
                raise ConflictError(
                    f"context {name} has a user {user} already: remove him first",
                    reason="user_taken",
                )
            if len(context.users) >= MAX_USERS:
                raise ConflictError(
                    f"context {name} has {MAX_USERS} users: remove some",
                    reason="too_many_users",
                )
            return context.with_user(added)

        self._change(name, with_him)
        self._put_in_force()
        return self._layout.user(name, user), password

    def remove_user(self, name: str, user: str) -> None:
        """Let somebody into a context no longer; his connections end.

        Raises:
            NotFoundError: if there is no such context, or no such user of it.
        """

        def without_him(context: Context) -> Context:
            if user not in context.users:
                raise NotFoundError(f"context {name} has no user {user}")
            return context.without_user(user)

        self._change(name, without_him)
        self._put_in_force()

    def users(self, name: str) -> Sequence[tuple[str, User]]:
        """Return a context's users with their logins, by name.

        Raises:
            NotFoundError: if there is no such context.
        """
        context = self._contexts().get(name)
        if context is None:
            raise _no_context(name)
        return [
            (self._layout.user(name, one.name), one)
            for _, one in sorted(context.users.items())
        ]

    # --- again and again --------------------------------------------------------

    def make_round(self) -> None:
        """Make the users what they have to be, and go on measuring.

        Raises:
            HorusError: if that is not possible now.
        """
        if self._rounds % _ALL_AGAIN == 0:
            with self._lock:
                self._made.clear()
        self._rounds += 1
        for name in tuple(self._wanted):
            self.ensure(name)
        contexts = self._put_in_force()
        self._known.intersection_update(contexts)
        if not contexts:
            return
        now = self._clock.now()
        measured = self._estate.measure(contexts, now=now)
        if measured is None:
            # Who is over already is not counted to the end, which may take hours where
            # there are many keys.
            counted = self._estate.counted(contexts, now=now)
            measured = {name: counted[name] for name in _over(contexts, counted)}
        if not measured:
            return
        before = self._estate.usage()
        self._estate.note(measured)
        if _over(contexts, {**before, **measured}) != _over(contexts, before):
            self._put_in_force()

    # --- how --------------------------------------------------------------------

    def _contexts(self) -> Mapping[str, Context]:
        return {name: context for name, (context, _) in self._entries().items()}

    def _entries(self) -> Mapping[str, tuple[Context, bytes]]:
        """Return the contexts by name, each with its entry in the table."""
        with administering():
            entries = self._shelf.read()
        found = {}
        for name, entry in entries.items():
            body = self._seal.open(name, entry) if len(entry) <= _MAX_ENTRY else None
            context = None if body is None else Context.from_json(name, body)
            if context is not None:
                found[name] = (context, entry)
        self._tell_of_strange(len(entries) - len(found))
        return found

    def _tell_of_strange(self, count: int) -> None:
        if count and count != self._strange:
            _logger.warning(
                "contexts in Redis are not under our seal and are ignored", count=count
            )
        self._strange = count

    def _swap(self, name: str, *, old: bytes | None, new: Context | None) -> bool:
        entry = None if new is None else self._seal.close(name, new.to_json())
        with administering():
            return self._shelf.swap(name, old=old, new=entry)

    def _change(
        self, name: str, change: Callable[[Context], Context | None]
    ) -> Context:
        """Make a change of a context as it is now; return what came of it, or was."""
        for _ in range(_TRIES):
            found = self._entries().get(name)
            if found is None:
                raise _no_context(name)
            context, entry = found
            changed = change(context)
            if self._swap(name, old=entry, new=changed):
                return changed or context
        raise UnavailableError("the contexts change too often just now")

    def _put_in_force(self) -> Mapping[str, Context]:
        """Make the users of Redis what the table says; return the table."""
        with self._lock:
            contexts = self._contexts()
            wanted = accounts(
                contexts,
                self._estate.usage(),
                of=self._layout,
                master=self._master,
                database=self._database,
                now=self._clock.now(),
            )
            self._apply(wanted)
        return contexts

    def _apply(self, wanted: Mapping[str, Words]) -> None:
        there = self._estate.users()
        made = {
            user: words
            for user, words in wanted.items()
            if user not in there or self._made.get(user) != words
        }
        self._estate.appoint(made, dismissed={*there}.difference(wanted))
        self._made = dict(wanted)


class StewardRounds(Rounds):
    """Makes a round every five seconds, whatever becomes of it."""

    def __init__(self, steward: Steward, *, every: timedelta = EVERY) -> None:
        super().__init__(
            self._once, name="horus-herodb", every=every, begins_at_once=True
        )
        self._steward = steward
        self._trouble = ""
        #: Rounds that are left out.
        self._left_out = 0

    def _once(self) -> None:
        if self._left_out:
            self._left_out -= 1
            return
        trouble = ""
        try:
            self._steward.make_round()
        except ConfigurationError as error:
            # Nobody mends that in seconds, and Redis writes down whom it refuses.
            trouble, self._left_out = error.detail, _LEFT_OUT
        except HorusError as error:
            trouble = error.detail
        except Exception as error:  # noqa: BLE001 - the next round may do better
            trouble = type(error).__name__
        if trouble and trouble != self._trouble:
            _logger.warning("herodb not kept", detail=trouble)
        self._trouble = trouble


def ensuring(steward: Steward) -> Callable[[str], None]:
    """Return what sees that a context is there, and only says so if it cannot."""
    paused_until = float("-inf")

    def ensure(name: str) -> None:
        nonlocal paused_until
        if time.monotonic() < paused_until:
            steward.want(name)
            return
        try:
            steward.ensure(name)
        except HorusError as error:
            paused_until = time.monotonic() + _PAUSE.total_seconds()
            _logger.warning("context of herodb not made", detail=error.detail)

    return ensure


def _over(
    contexts: Mapping[str, Context], usage: Mapping[str, Usage]
) -> frozenset[str]:
    """Return which contexts hold more than they may."""
    return frozenset(
        name for name, one in contexts.items() if one.is_over(usage.get(name))
    )


def _no_context(name: str) -> NotFoundError:
    return NotFoundError(f"HeroDB has no context {name}")
