"""Whom a node believes: the root-signed bundle of keys, grants and runners."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from horus_celery.errors import SignatureError
from horus_celery.instants import to_ms
from horus_celery.statements import canonical, dsse
from horus_celery.statements.fields import (
    SECOND,
    ClosedModel,
    Count,
    FrozenList,
    FrozenMap,
    Hex64,
    Instant,
    KeyId,
    Name,
    NameOrAll,
    Net,
    Version,
    seconds,
)
from horus_celery.statements.keys import is_registrable, key_id

#: The word for "all of them" among executors and contexts.
ALL: Final = "*"


def _require_usable(value: Mapping[str, str]) -> Mapping[str, str]:
    for keyid, text in value.items():
        public = bytes.fromhex(text)
        if not is_registrable(public):
            raise PydanticCustomError("key", "a key is no valid point of the curve")
        if key_id(public) != keyid:
            raise PydanticCustomError("keyid", "a key stands under another key's id")
    return value


class Grant(ClosedModel):
    """What keys may sign.

    A key that it names and that the bundle no longer has was revoked: it never counts.
    """

    context_id: Name
    caller_id: Name
    keys: FrozenList[KeyId]
    #: How many distinct keys must have signed.
    threshold: Annotated[int, Field(ge=1, le=dsse.MAX_SIGNATURES)]
    executors: FrozenList[NameOrAll]
    nets: FrozenList[Net]
    max_timeout: Annotated[timedelta, seconds(ge=1, le=2**31 - 1)]
    secrets: FrozenList[Name] = ()

    def to_wire(self) -> dict[str, Any]:
        """Write the grant as a JSON object."""
        return {
            "context_id": self.context_id,
            "caller_id": self.caller_id,
            "keys": list(self.keys),
            "threshold": self.threshold,
            "executors": list(self.executors),
            "nets": list(self.nets),
            "max_timeout": self.max_timeout // SECOND,
            "secrets": list(self.secrets),
        }


class RunnerEntry(ClosedModel):
    """A runner, the key that signs its receipts, and what it may speak about."""

    name: Name
    key: KeyId
    executors: FrozenList[NameOrAll]
    contexts: FrozenList[NameOrAll]

    def serves(self, *, executor: str, context_id: str) -> bool:
        """Tell whether it may run jobs of this executor and context."""
        return is_listed(executor, self.executors) and is_listed(
            context_id, self.contexts
        )

    def to_wire(self) -> dict[str, Any]:
        """Write the entry as a JSON object."""
        return {
            "name": self.name,
            "key": self.key,
            "executors": list(self.executors),
            "contexts": list(self.contexts),
        }


class Trust(ClosedModel):
    """The bundle that a node believes; read it with `read_trust`."""

    v: Version
    #: The deployment it is meant for.
    aud: Name
    #: A node refuses a bundle that is older than one that it has seen.
    version: Count
    issued_at: Instant
    expires_at: Instant
    #: Public keys as hex, by key id.
    keys: Annotated[FrozenMap[KeyId, Hex64], AfterValidator(_require_usable)]
    grants: FrozenList[Grant]
    runners: FrozenList[RunnerEntry]

    @field_validator("runners")
    @classmethod
    def _every_key_has_one_role(
        cls, value: tuple[RunnerEntry, ...], info: ValidationInfo
    ) -> tuple[RunnerEntry, ...]:
        grants: tuple[Grant, ...] = info.data.get("grants", ())
        keys = {one.key for one in value}
        if len({one.name for one in value}) < len(value):
            raise PydanticCustomError("name", "two runners have the same name")
        if len(keys) < len(value):
            raise PydanticCustomError("key", "two runners have the same key")
        if any(not keys.isdisjoint(grant.keys) for grant in grants):
            raise PydanticCustomError(
                "role", "a runner's key stands in a grant as well"
            )
        return value

    def is_expired(self, now: datetime) -> bool:
        """Tell whether nothing may be believed on its word any more."""
        return now >= self.expires_at

    def caller_keys(self) -> Mapping[str, bytes]:
        """Return the public keys, by key id, that no runner has."""
        return self._caller_keys

    def runner_keys(self) -> Mapping[str, bytes]:
        """Return the public keys, by key id, of runners."""
        return self._runner_keys

    def runner(self, name: str) -> RunnerEntry | None:
        """Find the runner of this name."""
        return self._runners.get(name)

    def grants_for(self, context_id: str, caller_id: str) -> tuple[Grant, ...]:
        """Return the grants about a caller in a context."""
        return self._grants.get((context_id, caller_id), ())

    def to_wire(self) -> dict[str, Any]:
        """Write the bundle as a JSON object."""
        return {
            "v": self.v,
            "aud": self.aud,
            "version": self.version,
            "issued_at": to_ms(self.issued_at),
            "expires_at": to_ms(self.expires_at),
            "keys": dict(self.keys),
            "grants": [grant.to_wire() for grant in self.grants],
            "runners": [runner.to_wire() for runner in self.runners],
        }

    def body(self) -> bytes:
        """Write the bundle as the bytes to sign."""
        return canonical.encode(self.to_wire())

    @cached_property
    def _caller_keys(self) -> Mapping[str, bytes]:
        runners = {one.key for one in self.runners}
        return MappingProxyType(
            {
                keyid: bytes.fromhex(text)
                for keyid, text in self.keys.items()
                if keyid not in runners
            }
        )

    @cached_property
    def _runner_keys(self) -> Mapping[str, bytes]:
        return MappingProxyType(
            {
                one.key: bytes.fromhex(self.keys[one.key])
                for one in self.runners
                if one.key in self.keys
            }
        )

    @cached_property
    def _runners(self) -> Mapping[str, RunnerEntry]:
        return MappingProxyType({one.name: one for one in self.runners})

    @cached_property
    def _grants(self) -> Mapping[tuple[str, str], tuple[Grant, ...]]:
        found: dict[tuple[str, str], list[Grant]] = {}
        for grant in self.grants:
            found.setdefault((grant.context_id, grant.caller_id), []).append(grant)
        return MappingProxyType({key: tuple(some) for key, some in found.items()})


def is_listed(name: str, names: tuple[str, ...] | frozenset[str]) -> bool:
    """Tell whether a list of names, in which "*" means all, has this name."""
    return name in names or ALL in names


def read_trust(text: str | bytes, root_public: bytes) -> Trust:
    """Read a bundle that the root key must have signed.

    Raises:
        SignatureError: `sig.none`, if it did not.
        MalformedError: `env.*`, `json.*` or `schema.*`.
    """
    envelope = dsse.read(text, dsse.TRUST)
    if not dsse.signers(envelope, {key_id(root_public): root_public}):
        raise SignatureError(
            "sig.none",
            "the root key did not sign this trust bundle",
            digest=envelope.digest,
        )
    return Trust.from_wire(canonical.parse(envelope.body))
