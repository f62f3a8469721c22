"""What lies where for HeroDB in Redis, and what the users of a context may do there.

A context's keys begin with `NAMESPACE:herodb:{CONTEXT}:`. No name has a brace in it, so
the keys of `a` are none of `a:b`, and the other way around. Behind it stands what they
are: `d:` the keys that scripts name, `m:`, `o:` and `i:` models, objects and indexes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from horus_celery.herodb.commands import COMMANDS, Command

#: What all may write who may write at all. Models are declared by who administers.
_WRITTEN: Final = ("d:*", "o:*", "i:*")
#: How long a password is the newest one. The one before it and the one after it count
#: as well, so nobody has to learn of the change, nor to have the very same clock.
ROTATION: Final = timedelta(hours=24)
_PASSWORD: Final = b"horus-hdb-login"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Role(StrEnum):
    """What a user may do to the data of a context."""

    READ = "read"
    WRITE = "write"
    #: Also what declares object models.
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The keys and the users of one deployment."""

    namespace: str

    @property
    def root(self) -> str:
        """What every key of HeroDB, and every user of it, begins with."""
        return f"{self.namespace}:herodb:"

    @property
    def contexts(self) -> str:
        """The table of contexts: a hash."""
        return f"{self.root}contexts"

    @property
    def usage(self) -> str:
        """What was measured of each context: a hash."""
        return f"{self.root}usage"

    @property
    def lister(self) -> str:
        """The user that sees names of keys, and none of their values."""
        return f"{self.root}lister"

    def prefix(self, context: str) -> str:
        """Return what the keys of a context begin with."""
        return f"{self.root}{{{context}}}:"

    def data(self, context: str) -> str:
        """Return what the keys begin with that scripts of a context name."""
        return f"{self.prefix(context)}d:"

    def context_of(self, key: bytes) -> str | None:
        """Return whose a key is; None if it is no data of a context."""
        start = f"{self.root}{{".encode()
        name, end, _ = key.removeprefix(start).partition(b"}:")
        if not (key.startswith(start) and end):
            return None
        return name.decode("utf-8", "backslashreplace")

    def jobs_user(self, context: str) -> str:
        """Return the user as which jobs of a context come."""
        return f"{self.root}{{{context}}}"

    def user(self, context: str, name: str) -> str:
        """Return the user of somebody else who was let into a context."""
        return f"{self.root}{{{context}}}:{name}"


def jobs_rules(prefix: str, *, is_over: bool) -> Iterator[str]:
    """Yield what jobs may do: all, and scripts that are ours; less over the quota."""
    yield from rules(prefix, Role.ADMIN, is_over=is_over)
    # By `EVAL` alone comes what counts first how much a command does, and then does it.
    yield from ("+eval_ro", "+evalsha_ro", "+eval", "+memory|usage")
    if not is_over:
        # As a whole or not at all: half of what a script does may be worse than none.
        yield "+evalsha"


def rules(prefix: str, role: Role, *, is_over: bool) -> Iterator[str]:
    """Yield what a user of a role may do to a context's keys.

    Args:
        prefix: What these keys begin with.
        role: The role.
        is_over: Whether the context holds more than it may.
    """
    match role:
        case Role.READ:
            yield f"%R~{prefix}*"
        case Role.WRITE:
            yield f"%R~{prefix}*"
            yield from (f"~{prefix}{rest}" for rest in _WRITTEN)
        case Role.ADMIN:
            yield f"~{prefix}*"
    for command in COMMANDS.values():
        if command.is_local or not _is_allowed(command, role, is_over=is_over):
            continue
        yield f"+{command.name.lower()}"


def lister_rules() -> tuple[str, ...]:
    """Return what the lister may do: it has no keys, so it sees names alone."""
    return ("+scan",)


def password(master: bytes, user: str, generation: int) -> str:
    """Return the password of a user of ours, which lies nowhere."""
    covered = b"%s\0%d" % (user.encode(), generation)
    return hashlib.blake2b(
        covered, key=master, digest_size=32, person=_PASSWORD
    ).hexdigest()


def generation_at(now: datetime) -> int:
    """Return which password is the newest one."""
    return (now - _EPOCH) // ROTATION


def hashes(master: bytes, user: str, now: datetime) -> Iterator[str]:
    """Yield what stands in Redis for the passwords of a user of ours that count now."""
    newest = generation_at(now)
    for generation in (newest - 1, newest, newest + 1):
        yield hashed(password(master, user, generation))


def hashed(password: str) -> str:
    """Return what stands for a password in Redis."""
    return hashlib.sha256(password.encode()).hexdigest()


def sealing_key(master: bytes) -> bytes:
    """Return the key under which the table of contexts lies in Redis."""
    return hmac.digest(master, b"horus-hdb-seal", "sha256")


def _is_allowed(command: Command, role: Role, *, is_over: bool) -> bool:
    if not command.writes:
        return True
    if role is Role.READ:
        return False
    return command.shrinks or not is_over
