"""What a workflow's manifest may say: the closed set of fields of protocol section 6.

Here each step is read by itself. Whether the steps hang together, so that they can be
run, is decided by the graph that is made of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, FailFast, Field
from pydantic_core import PydanticCustomError

from horus_celery.instants import to_ms
from horus_celery.statements import canonical
from horus_celery.statements.canonical import MAX_INTEGER
from horus_celery.statements.fields import (
    ClosedModel,
    Expiry,
    FrozenList,
    Instant,
    LowerUuid,
    Name,
    Text,
    Version,
)

#: Bytes of a manifest's body: the largest workflow that may be run, with long names.
MAX_BODY: Final = 32 * 1024 * 1024
#: Characters of the name that a workflow has for people.
MAX_TITLE: Final = 1024

#: How the steps that a step depends on must have ended for it to start.
When: TypeAlias = Literal["all_success", "all_done", "one_failed", "none_failed"]
#: What the failure of a step means for its workflow.
OnFailure: TypeAlias = Literal["fail", "continue"]

_DEFAULT_PATIENCE: Final = timedelta(days=1)


def _require_distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    seen: set[str] = set()
    for name in value:
        if name in seen:
            raise PydanticCustomError("twice", "{name} is named twice", {"name": name})
        seen.add(name)
    return value


class Step(ClosedModel):
    """One step of a workflow; the job that it stands for is signed by itself."""

    name: Name
    #: The names of the steps before it, in the order in which its job names them.
    depends_on: Annotated[
        FrozenList[Name], FailFast(), AfterValidator(_require_distinct)
    ]
    when: When
    #: The supervisor that its job goes to; None stands for the one asked.
    supervisor: Name | None
    on_failure: OnFailure

    def to_wire(self) -> dict[str, Any]:
        """Write the step as a JSON object."""
        return {
            "name": self.name,
            "depends_on": list(self.depends_on),
            "when": self.when,
            "supervisor": self.supervisor,
            "on_failure": self.on_failure,
        }


class Manifest(ClosedModel):
    """Which steps there are and in which order, exactly as signed."""

    v: Version
    #: Chosen by the client; unique per context.
    id: LowerUuid
    #: The deployment it is meant for.
    aud: Name
    caller_id: Name
    context_id: Name
    #: What people call it.
    name: Annotated[Text, Field(max_length=MAX_TITLE)]
    # The first wrong one is enough: a hostile manifest may have a million.
    steps: Annotated[FrozenList[Step], FailFast(), Field(min_length=1)]
    #: How many steps may run at a time; None: as many as can.
    max_parallel: Annotated[int, Field(ge=1, le=MAX_INTEGER)] | None
    created_at: Instant
    expires_at: Expiry

    def to_wire(self) -> dict[str, Any]:
        """Write the manifest as a JSON object."""
        return {
            "v": self.v,
            "id": self.id,
            "aud": self.aud,
            "caller_id": self.caller_id,
            "context_id": self.context_id,
            "name": self.name,
            "steps": [step.to_wire() for step in self.steps],
            "max_parallel": self.max_parallel,
            "created_at": to_ms(self.created_at),
            "expires_at": to_ms(self.expires_at),
        }

    def body(self) -> bytes:
        """Write the manifest as the bytes to sign."""
        return canonical.encode(self.to_wire())


def make_step(
    name: str,
    *,
    depends_on: Iterable[str] = (),
    when: When = "all_success",
    supervisor: str | None = None,
    on_failure: OnFailure = "fail",
) -> Step:
    """Make a step of a manifest to be signed.

    Raises:
        MalformedError: `schema.*`, if a field is not as it must be.
    """
    return Step.from_wire(
        {
            "name": name,
            "depends_on": list(depends_on),
            "when": when,
            "supervisor": supervisor,
            "on_failure": on_failure,
        }
    )


def make_manifest(
    *,
    aud: str,
    caller_id: str,
    context_id: str,
    name: str,
    steps: Iterable[Step],
    now: datetime,
    workflow_id: str | None = None,
    max_parallel: int | None = None,
    expires_at: datetime | None = None,
) -> Manifest:
    """Make a manifest to be signed; without `expires_at` it lives for a day.

    Raises:
        MalformedError: `schema.*`, if a field is not as it must be.
    """
    return Manifest.from_wire(
        {
            "v": 1,
            "id": str(uuid.uuid4()) if workflow_id is None else workflow_id,
            "aud": aud,
            "caller_id": caller_id,
            "context_id": context_id,
            "name": name,
            "steps": [step.to_wire() for step in steps],
            "max_parallel": max_parallel,
            "created_at": to_ms(now),
            "expires_at": to_ms(
                now + _DEFAULT_PATIENCE if expires_at is None else expires_at
            ),
        }
    )
