"""The methods about the secrets of the API: added, removed, listed, shown once."""

from __future__ import annotations

from typing import Annotated, Final, Literal, cast

from annotated_types import Len, MaxLen
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from api.jsonrpc import InvalidParamsError
from api.session import Session
from horus_celery.api_secrets.secret import (
    ALL,
    MAX_CHARS,
    MIN_CHARS,
    USER,
    Secret,
    fault_of,
)
from horus_celery.statements.fields import NameOrAll

#: Contexts that one secret may be bound to.
MAX_CONTEXTS: Final = 1000

ScopeName = Literal["admin", "user", "register"]
ScopeOfSecret = Annotated[
    ScopeName,
    Field(description="what it opens; admin opens what user does"),
]
Contexts = Annotated[
    list[NameOrAll],
    Len(1, MAX_CONTEXTS),
    Field(description='the contexts that it is bound to, ["*"] being none: all'),
]


def _strong(secret: str) -> str:
    """Refuse a secret that can be guessed, without a word of it."""
    fault = fault_of(secret)
    if fault is not None:
        raise PydanticCustomError("secret", "{fault}", {"fault": fault})
    return secret


NewSecret = Annotated[
    Annotated[str, AfterValidator(_strong), Len(MIN_CHARS, MAX_CHARS)] | None,
    Field(description="the secret itself; null has one made of 256 random bits"),
]
SecretId = Annotated[str, MaxLen(64), Field(description="the id of the secret")]


class SecretObject(TypedDict):
    """A secret, without itself."""

    id: Annotated[str, Field(pattern="^sec_[0-9a-f]{16}$")]
    scope: ScopeName
    #: Names, or "*" for all.
    contexts: list[str]


class NewSecretObject(SecretObject):
    """A secret that was just added, shown this once."""

    secret: str


def add(
    session: Session,
    scope: ScopeOfSecret,
    contexts: Contexts = [ALL],  # noqa: B006 - read only, and shown as the default
    secret: NewSecret = None,
) -> NewSecretObject:
    """Add a secret of the API and return it, this once.

    It works at every supervisor of the deployment at once. One that is given must be
    at least 128 random bits.
    """
    if scope != USER and ALL not in contexts:
        raise InvalidParamsError(
            data=f"contexts: only a secret of the scope {USER} can be bound to contexts"
        )
    added, text = session.secrets.add(scope=scope, contexts=contexts, secret=secret)
    return {**_to_wire(added), "secret": text}


def remove(
    session: Session,
    id: SecretId,  # noqa: A002 - the protocol's name
) -> bool:
    """Remove a secret of the API: within a second it opens nothing at any supervisor.

    The last one of the scope admin cannot be removed. One that stands in the
    configuration stays removed when a supervisor starts again.
    """
    session.secrets.remove(id)
    return True


def list_all(session: Session) -> list[SecretObject]:
    """Return the secrets of the API by scope, without themselves."""
    return [_to_wire(secret) for secret in session.secrets.list()]


def _to_wire(secret: Secret) -> SecretObject:
    return {
        "id": secret.id,
        "scope": cast("ScopeName", secret.scope),
        "contexts": secret.shown_contexts(),
    }
