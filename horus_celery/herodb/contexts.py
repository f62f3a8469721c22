"""What is remembered of a context: its quota, and who else was let into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final, Self

import orjson

from horus_celery.herodb.layout import Role
from horus_celery.instants import from_ms, to_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What a context may hold at most; None is no limit."""

    #: Bytes.
    size: int | None
    keys: int | None


#: That of a context for which nobody has said another: its scripts shall not fill the
#: Redis of all, be it by a slip.
USUAL: Final = Quota(size=1024**3, keys=1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody outside of jobs who was let into a context."""

    name: str
    role: Role
    #: SHA-256 of the password, in hex.
    hash: str = field(repr=False)
    created_at: datetime


def _nobody() -> Mapping[str, User]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a context holds, as it was measured."""

    #: Bytes.
    size: int
    keys: int
    at: datetime

    def to_json(self) -> bytes:
        """Write it as it lies in Redis."""
        return orjson.dumps([self.size, self.keys, to_ms(self.at)])

    @classmethod
    def from_json(cls, text: bytes) -> Self | None:
        """Read it; None is what nobody of us wrote."""
        try:
            size, keys, at = orjson.loads(text)
            return cls(size=int(size), keys=int(keys), at=from_ms(int(at)))
        except (ValueError, TypeError, OverflowError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A part of HeroDB."""

    name: str
    #: None is no limit.
    max_bytes: int | None = None
    max_keys: int | None = None
    users: Mapping[str, User] = field(default_factory=_nobody)

    @classmethod
    def new(cls, name: str, quota: Quota) -> Self:
        """Return one that was just made."""
        return cls(name=name, max_bytes=quota.size, max_keys=quota.keys)

    def is_over(self, usage: Usage | None) -> bool:
        """Whether it holds more than it may."""
        if usage is None:
            return False
        limits = ((self.max_bytes, usage.size), (self.max_keys, usage.keys))
        return any(most is not None and found > most for most, found in limits)

    def with_user(self, user: User) -> Self:
        """Return it with a user more, or another in its place."""
        return replace(self, users=MappingProxyType({**self.users, user.name: user}))

    def without_user(self, name: str) -> Self:
        """Return it without a user."""
        left = {one: user for one, user in self.users.items() if one != name}
        return replace(self, users=MappingProxyType(left))

    def to_json(self) -> bytes:
        """Write it as it lies in Redis, under a seal."""
        users = {
            user.name: [user.role.value, user.hash, to_ms(user.created_at)]
            for user in self.users.values()
        }
        return orjson.dumps(
            {
                "v": 1,
                "max_bytes": self.max_bytes,
                "max_keys": self.max_keys,
                "users": users,
            }
        )

    @classmethod
    def from_json(cls, name: str, text: bytes) -> Self | None:
        """Read what one of us wrote; None is what a later version did."""
        said = orjson.loads(text)
        if said["v"] != 1:
            return None
        users = {
            user: User(
                name=user, role=Role(role), hash=digest, created_at=from_ms(created_at)
            )
            for user, (role, digest, created_at) in said["users"].items()
        }
        return cls(
            name=name,
            max_bytes=said["max_bytes"],
            max_keys=said["max_keys"],
            users=MappingProxyType(users),
        )
