"""What a job may say: the closed set of fields of protocol section 3."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeAlias

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from horus_celery.errors import MalformedError
from horus_celery.instants import to_ms
from horus_celery.statements import canonical
from horus_celery.statements.fields import (
    MAX_LIFETIME,
    SECOND,
    ClosedModel,
    Count,
    EnvName,
    Expiry,
    FrozenList,
    FrozenMap,
    Hex64,
    Instant,
    LowerUuid,
    Name,
    Net,
    Text,
    Version,
    seconds,
)

MAX_TIMEOUT: Final = timedelta(days=1)
#: How many jobs a job may name as those that must have completed.
MAX_NEEDS: Final = 1024

#: Variables that decide what a process loads or runs, and those that we set.
RESERVED_ENV: Final = frozenset(
    {
        "PATH",
        "HOME",
        "SHELL",
        "IFS",
        "BASH_ENV",
        "ENV",
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONSTARTUP",
    }
)
RESERVED_ENV_PREFIXES: Final = ("LD_", "DYLD_", "HORUS_")

_NO_VARIABLES: Final[Mapping[str, str]] = MappingProxyType({})
#: The executors whose scripts are about the data of their context.
_WITH_DATA: Final = frozenset({"osis", "hero"})
_DEFAULT_TIMEOUT: Final = timedelta(seconds=60)
#: How long a job that did not start yet stays valid, unless its signer says otherwise.
_DEFAULT_PATIENCE: Final = timedelta(hours=1)


def require_free(value: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables of a script, if none of them is reserved."""
    for name in value:
        if name in RESERVED_ENV or name.startswith(RESERVED_ENV_PREFIXES):
            raise PydanticCustomError("reserved", "{name} is reserved", {"name": name})
    return value


MemoryMb: TypeAlias = Annotated[int, Field(ge=16, le=1_048_576)]
CpuSeconds: TypeAlias = Annotated[int, Field(ge=1, le=86_400)]
Processes: TypeAlias = Annotated[int, Field(ge=1, le=4096)]
OutputKb: TypeAlias = Annotated[int, Field(ge=1, le=1_048_576)]


class Limits(ClosedModel):
    """What one attempt may use up; the runner enforces it."""

    memory_mb: MemoryMb
    cpu_s: CpuSeconds
    procs: Processes
    output_kb: OutputKb


class InputRef(ClosedModel):
    """Another job whose result the script is given as data."""

    #: The digest of that job.
    source: Annotated[Hex64, Field(alias="from")]
    max_bytes: Count

    def to_wire(self) -> dict[str, Any]:
        """Write the reference as a JSON object."""
        return {"from": self.source, "max_bytes": self.max_bytes}


class WorkflowRef(ClosedModel):
    """The run that a job is a step of."""

    id: LowerUuid
    step: Name
    #: The digest of the run's manifest.
    manifest: Hex64


class Job(ClosedModel):
    """What somebody asked for, exactly as signed; read it with `from_wire`."""

    v: Version
    #: Chosen by the client; unique per context.
    id: LowerUuid
    #: The deployment it is meant for.
    aud: Name
    caller_id: Name
    context_id: Name
    #: The kind of work, which is the name of the queue.
    executor: Name
    #: One runner by name, or any runner of the executor.
    runner: Name | None
    #: The script itself.
    payload: Text
    args: Annotated[FrozenList[Text], Field(max_length=256)]
    env_vars: Annotated[
        FrozenMap[EnvName, Text], Field(max_length=256), AfterValidator(require_free)
    ]
    #: Names of secrets that live on the node; values never travel.
    secrets: FrozenList[Name]
    inputs: Annotated[FrozenMap[EnvName, InputRef], Field(max_length=64)]
    #: Digests of jobs that must have completed before.
    needs: Annotated[FrozenList[Hex64], Field(max_length=MAX_NEEDS)]
    #: Wall time of one attempt.
    timeout: Annotated[timedelta, seconds(ge=1, le=86_400)]
    limits: Limits
    net: Net
    #: How many times it may ever be started.
    attempts: Annotated[int, Field(ge=1, le=10)]
    created_at: Instant
    expires_at: Expiry
    workflow: WorkflowRef | None

    def to_wire(self) -> dict[str, Any]:
        """Write the job as a JSON object."""
        workflow = self.workflow
        return {
            "v": self.v,
            "id": self.id,
            "aud": self.aud,
            "caller_id": self.caller_id,
            "context_id": self.context_id,
            "executor": self.executor,
            "runner": self.runner,
            "payload": self.payload,
            "args": list(self.args),
            "env_vars": dict(self.env_vars),
            "secrets": list(self.secrets),
            "inputs": {name: one.to_wire() for name, one in self.inputs.items()},
            "needs": list(self.needs),
            "timeout": self.timeout // SECOND,
            "limits": dict(self.limits),
            "net": self.net,
            "attempts": self.attempts,
            "created_at": to_ms(self.created_at),
            "expires_at": to_ms(self.expires_at),
            "workflow": None if workflow is None else dict(workflow),
        }

    def body(self) -> bytes:
        """Write the job as the bytes to sign."""
        return canonical.encode(self.to_wire())


def usual_limits(timeout: timedelta) -> dict[str, int]:
    """Return the limits of a job whose signer says nothing of them, as on the wire."""
    return {
        "memory_mb": 512,
        "cpu_s": min(max(60, -(-timeout // SECOND)), MAX_TIMEOUT // SECOND),
        "procs": 64,
        "output_kb": 1024,
    }


def usual_net(executor: str) -> Net:
    """Return the network that a job of an executor gets unless it names another."""
    return "herodb" if executor in _WITH_DATA else "none"


def make_job(
    *,
    aud: str,
    caller_id: str,
    context_id: str,
    executor: str,
    payload: str,
    now: datetime,
    job_id: str | None = None,
    runner: str | None = None,
    args: Iterable[str] = (),
    env_vars: Mapping[str, str] = _NO_VARIABLES,
    secrets: Iterable[str] = (),
    inputs: Mapping[str, InputRef] | None = None,
    needs: Iterable[str] = (),
    timeout: timedelta = _DEFAULT_TIMEOUT,
    limits: Limits | None = None,
    net: Net | None = None,
    attempts: int = 1,
    expires_at: datetime | None = None,
    workflow: WorkflowRef | None = None,
) -> Job:
    """Make a job to be signed; what is not given gets the default of a client.

    A timeout that is no whole number of seconds is rounded up.

    Raises:
        MalformedError: `schema.*`, if a field is not as it must be.
    """
    _require_duration("timeout", timeout)
    timeout_s = -(-timeout // SECOND)
    if expires_at is None:
        expires_at = now + min(_DEFAULT_PATIENCE + timeout, MAX_LIFETIME)
    return Job.from_wire(
        {
            "v": 1,
            "id": str(uuid.uuid4()) if job_id is None else job_id,
            "aud": aud,
            "caller_id": caller_id,
            "context_id": context_id,
            "executor": executor,
            "runner": runner,
            "payload": payload,
            "args": _listed("args", args),
            "env_vars": dict(env_vars),
            "secrets": _listed("secrets", secrets),
            "inputs": {name: one.to_wire() for name, one in (inputs or {}).items()},
            "needs": _listed("needs", needs),
            "timeout": timeout_s,
            "limits": usual_limits(timeout) if limits is None else dict(limits),
            "net": usual_net(executor) if net is None else net,
            "attempts": attempts,
            "created_at": to_ms(now),
            "expires_at": to_ms(expires_at),
            "workflow": None if workflow is None else dict(workflow),
        }
    )


def _listed(field: str, given: Iterable[str]) -> list[str]:
    # A text is one of its letters as well, and nobody would sign those on purpose.
    if isinstance(given, str):
        raise MalformedError(f"schema.{field}", f'{field}: must be a list, as ["…"]')
    return list(given)


def _require_duration(field: str, given: object) -> None:
    if not isinstance(given, timedelta):
        raise MalformedError(
            f"schema.{field}",
            f"{field}: must be a timedelta, as timedelta(seconds=30)",
        )
