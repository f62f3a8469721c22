"""The methods about HeroDB: its contexts, who is let in, and keys of encryption."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from annotated_types import Ge, Le
from pydantic import Field
from typing_extensions import TypedDict

from api.session import Session
from horus_celery.herodb.contexts import User
from horus_celery.herodb.keyring import Key, Kind
from horus_celery.herodb.layout import Role
from horus_celery.herodb.steward import View
from horus_celery.instants import to_ms
from horus_celery.statements.fields import Name

#: Bytes, or keys, that a quota may allow: what every reader of JSON has as it is.
_MOST: Final = 2**53 - 1

ContextName = Annotated[Name, Field(description="the context")]
UserName = Annotated[Name, Field(description="the user's name, within the context")]
KeyName = Annotated[Name, Field(description="the key's name, within the context")]
RoleName = Annotated[
    Literal["read", "write", "admin"],
    Field(
        description="what he may do to the data: admin also writes what declares"
        " object models"
    ),
]
KindName = Annotated[
    Literal["secret", "age", "sign"],
    Field(
        description="what the key is for: values (XChaCha20-Poly1305), messages"
        " (age, X25519) or signatures (Ed25519)"
    ),
]
MaxBytes = Annotated[
    Annotated[int, Ge(0), Le(_MOST)] | None,
    Field(description="bytes of memory that its data may take; null is no limit"),
]
MaxKeys = Annotated[
    Annotated[int, Ge(0), Le(_MOST)] | None,
    Field(description="keys that it may have; null is no limit"),
]
Count = Annotated[int, Ge(0)]


class ContextObject(TypedDict):
    """A context of HeroDB; what it holds is null until it was measured."""

    context: str
    max_bytes: Count | None
    max_keys: Count | None
    bytes: Count | None
    keys: Count | None
    #: In ms since the epoch.
    measured_at: Count | None
    #: Whether it holds more than it may: then it can be read, and deleted from.
    over_quota: bool
    users: Count


class UserObject(TypedDict):
    """Somebody outside of jobs who was let into a context."""

    name: str
    role: Literal["read", "write", "admin"]
    #: As whom he logs in.
    login: str
    #: In ms since the epoch.
    created_at: Count


class NewUserObject(TypedDict):
    """Who was just let in, with the password that is shown this once."""

    name: str
    role: Literal["read", "write", "admin"]
    login: str
    password: str
    #: Where the Redis is.
    address: str
    #: What the keys of the context begin with there.
    prefix: str


class KeyObject(TypedDict):
    """A key of encryption; the private half is never shown."""

    name: str
    kind: Literal["secret", "age", "sign"]
    #: By which what it encrypts names it, and what others may have of it; each with
    #: those of its earlier forms, the newest first.
    ids: list[str]
    publics: list[str]


def create_context(session: Session, context: ContextName) -> ContextObject:
    """Make a context; the first job of it that may use HeroDB does so as well.

    It may hold what the settings say (1 GiB and 1,000,000 keys) until its quota is set.
    """
    return _context_to_wire(session.herodb.steward.create(context))


def delete_context(session: Session, context: ContextName) -> bool:
    """Remove a context with all its data and users.

    Its keys of encryption stay. The next job of it that may use HeroDB finds it empty.
    """
    session.herodb.steward.delete(context)
    return True


def list_contexts(session: Session) -> list[ContextObject]:
    """Return the contexts by name, with what they hold and when that was measured."""
    return [_context_to_wire(view) for view in session.herodb.steward.list()]


def set_quota(
    session: Session,
    context: ContextName,
    max_bytes: MaxBytes = None,
    max_keys: MaxKeys = None,
) -> ContextObject:
    """Set what a context may hold.

    It is measured every few seconds: over it, data can only be read and deleted.
    """
    view = session.herodb.steward.set_quota(
        context, max_bytes=max_bytes, max_keys=max_keys
    )
    return _context_to_wire(view)


def add_user(
    session: Session, context: ContextName, name: UserName, role: RoleName
) -> NewUserObject:
    """Let a program outside of jobs into a context; its password is shown this once.

    It speaks to the Redis itself, so its keys have to begin with `prefix`.
    """
    herodb = session.herodb
    login, password = herodb.steward.add_user(context, name, Role(role))
    return {
        "name": name,
        "role": role,
        "login": login,
        "password": password,
        "address": herodb.address,
        "prefix": herodb.steward.data(context),
    }


def remove_user(session: Session, context: ContextName, name: UserName) -> bool:
    """Let somebody into a context no longer; his connections end."""
    session.herodb.steward.remove_user(context, name)
    return True


def list_users(session: Session, context: ContextName) -> list[UserObject]:
    """Return those who were let into a context, by name."""
    return [_user_to_wire(*one) for one in session.herodb.steward.users(context)]


def create_key(
    session: Session, context: ContextName, name: KeyName, kind: KindName = "secret"
) -> KeyObject:
    """Make a key of encryption for a context, on this node; it never leaves it."""
    return _key_to_wire(session.herodb.keyring.create(context, Kind(kind), name))


def rotate_key(
    session: Session, context: ContextName, name: KeyName, kind: KindName = "secret"
) -> KeyObject:
    """Give a key a new form; what its old ones did can still be read and verified."""
    return _key_to_wire(session.herodb.keyring.rotate(context, Kind(kind), name))


def delete_key(
    session: Session, context: ContextName, name: KeyName, kind: KindName = "secret"
) -> bool:
    """Forget a key: what was encrypted by it, nobody reads again."""
    session.herodb.keyring.delete(context, Kind(kind), name)
    return True


def list_keys(session: Session, context: ContextName) -> list[KeyObject]:
    """Return the keys that a context has on this node, without their private halves."""
    return [_key_to_wire(key) for key in session.herodb.keyring.list(context)]


def _context_to_wire(view: View) -> ContextObject:
    context, usage = view.context, view.usage
    return {
        "context": context.name,
        "max_bytes": context.max_bytes,
        "max_keys": context.max_keys,
        "bytes": None if usage is None else usage.size,
        "keys": None if usage is None else usage.keys,
        "measured_at": None if usage is None else to_ms(usage.at),
        "over_quota": view.is_over,
        "users": len(context.users),
    }


def _user_to_wire(login: str, user: User) -> UserObject:
    return {
        "name": user.name,
        "role": user.role.value,
        "login": login,
        "created_at": to_ms(user.created_at),
    }


def _key_to_wire(key: Key) -> KeyObject:
    newest_first = key.generations[::-1]
    return {
        "name": key.name,
        "kind": key.kind.value,
        "ids": [one.id for one in newest_first],
        "publics": [one.public for one in newest_first if one.public],
    }
