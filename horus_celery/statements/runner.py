"""Who a runner says it is, and whether somebody may believe it (section 7)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, TypeAlias

from pydantic import Field

from horus_celery.errors import (
    NotCoveredError,
    RefusedError,
    SignatureError,
    TimeError,
)
from horus_celery.instants import shown, to_ms
from horus_celery.statements import canonical, dsse
from horus_celery.statements.fields import (
    ClosedModel,
    FrozenList,
    Instant,
    Name,
    NameOrAll,
    Text,
    Version,
)
from horus_celery.statements.trust import RunnerEntry, Trust, is_listed

#: Bytes of a registration's body.
MAX_BODY: Final = 64 * 1024
#: By how much the clocks of a runner and of whom it registers with may differ.
SKEW: Final = timedelta(minutes=5)
#: The most jobs that a runner may run at a time.
MAX_CONCURRENCY: Final = 65_536

_Names: TypeAlias = Annotated[FrozenList[NameOrAll], Field(min_length=1)]


class Registration(ClosedModel):
    """A runner's own words, as it signed them; read it with `read_registration`."""

    v: Version
    #: The deployment it is meant for.
    aud: Name
    name: Name
    executor: Name
    contexts: _Names
    #: How many jobs it runs at a time.
    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)]
    #: Makes it another registration than any before it.
    nonce: Annotated[Text, Field(min_length=1, max_length=128)]
    at: Instant

    def to_wire(self) -> dict[str, Any]:
        """Write the registration as a JSON object."""
        return {
            "v": self.v,
            "aud": self.aud,
            "name": self.name,
            "executor": self.executor,
            "contexts": list(self.contexts),
            "concurrency": self.concurrency,
            "nonce": self.nonce,
            "at": to_ms(self.at),
        }

    def body(self) -> bytes:
        """Write the registration as the bytes to sign."""
        return canonical.encode(self.to_wire())


def read_registration(
    envelope: dsse.Envelope, *, trust: Trust, aud: str
) -> Registration:
    """Read a registration that its runner signed; what it is to serve is not looked at.

    Nor is when it was made.

    Raises:
        RefusedError: `sig.none`, `json.*`, `schema.*`, `bind.runner` or `bind.aud`,
            with the digest of the refused bytes.
    """
    try:
        signed_by = dsse.signers(envelope, trust.runner_keys())
        if not signed_by:
            raise SignatureError(
                "sig.none", "no runner's key of the trust bundle signed it"
            )
        said = Registration.from_wire(canonical.parse(envelope.body))
        _require_own_key(said, trust, signed_by)
        if not said.aud == aud == trust.aud:
            raise NotCoveredError(
                "bind.aud", f"it is for the deployment {said.aud}, not for {aud}"
            )
    except RefusedError as refusal:
        refusal.digest = envelope.digest
        raise
    return said


def require_covered(said: Registration, trust: Trust) -> None:
    """See that the bundle lets a runner serve what it says.

    Raises:
        NotCoveredError: `bind.executor` or `bind.context`.
    """
    entry = _entry(said, trust)
    if not is_listed(said.executor, entry.executors):
        raise NotCoveredError(
            "bind.executor",
            f"the trust bundle does not let {said.name} serve {said.executor}",
        )
    for context in said.contexts:
        if not is_listed(context, entry.contexts):
            raise NotCoveredError(
                "bind.context",
                f"the trust bundle does not let {said.name} serve the context"
                f" {context}",
            )


def require_fresh(said: Registration, now: datetime) -> None:
    """See that a registration was made just now, as far as clocks agree.

    Raises:
        TimeError: `time.expired` or `time.future`.
    """
    if said.at < now - SKEW:
        raise TimeError(
            "time.expired",
            f"the registration was made at {shown(said.at)}, but here it is"
            f" {shown(now)}: sign a new one, or compare the clocks",
        )
    if said.at > now + SKEW:
        raise TimeError(
            "time.future",
            f"the registration was made at {shown(said.at)}, but here it is"
            f" {shown(now)}; compare the clocks",
        )


def _require_own_key(
    said: Registration, trust: Trust, signed_by: frozenset[str]
) -> None:
    if _entry(said, trust).key not in signed_by:
        raise SignatureError(
            "sig.none",
            f"the key that the trust bundle lists for {said.name} did not sign it",
        )


def _entry(said: Registration, trust: Trust) -> RunnerEntry:
    entry = trust.runner(said.name)
    if entry is None:
        raise NotCoveredError(
            "bind.runner", f"the trust bundle lists no runner {said.name}"
        )
    return entry
