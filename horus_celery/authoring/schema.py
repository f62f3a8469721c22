"""Which keys a workflow's file may have, and what each may be."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Final, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from horus_celery.authoring.drafts import (
    MAX_INPUT,
    EarlierJob,
    InputFrom,
    StepResult,
)
from horus_celery.statements.canonical import MAX_INTEGER
from horus_celery.statements.fields import (
    MAX_LIFETIME,
    Count,
    EnvName,
    FrozenList,
    Hex64,
    Name,
    Net,
    Text,
    seconds,
)
from horus_celery.statements.job import (
    CpuSeconds,
    MemoryMb,
    OutputKb,
    Processes,
    require_free,
)
from horus_celery.statements.manifest import MAX_TITLE, OnFailure, When

_A_WEEK: Final = int(MAX_LIFETIME.total_seconds())


class _Entry(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, strict=True, hide_input_in_errors=True
    )


def _as_table(value: object) -> object:
    return {"step": value} if isinstance(value, str) else value


class InputEntry(_Entry):
    """What the result of which a step is given: `"extract"`, or a table."""

    step: Name | None = None
    #: The digest of a job that is over.
    job: Hex64 | None = None
    max_bytes: Count = MAX_INPUT

    def source(self) -> InputFrom:
        """Return what it names."""
        if self.job is not None:
            return EarlierJob(digest=self.job, max_bytes=self.max_bytes)
        return StepResult(step=self.step or "", max_bytes=self.max_bytes)


def _names_one(value: InputEntry) -> InputEntry:
    if (value.step is None) == (value.job is None):
        raise PydanticCustomError("source", "must name a step or a job, and one only")
    return value


class LimitsEntry(_Entry):
    """Some limits; the others are as usual."""

    memory_mb: MemoryMb | None = None
    cpu_s: CpuSeconds | None = None
    procs: Processes | None = None
    output_kb: OutputKb | None = None

    def chosen(self) -> Mapping[str, int]:
        """Return those that are given, by their names."""
        return self.model_dump(exclude_none=True)


_Env: TypeAlias = Annotated[dict[EnvName, Text], AfterValidator(require_free)]
_Timeout: TypeAlias = Annotated[timedelta, seconds(ge=1, le=86_400)]


class Defaults(_Entry):
    """What every step has that does not say otherwise; `env` and `limits` add up."""

    executor: Name | None = None
    env: _Env = {}
    #: Seconds.
    timeout: _Timeout | None = None
    attempts: Annotated[int, Field(ge=1, le=10)] | None = None
    limits: LimitsEntry = LimitsEntry()
    secrets: FrozenList[Name] | None = None
    net: Net | None = None
    runner: Name | None = None
    supervisor: Name | None = None
    on_failure: OnFailure | None = None


class StepEntry(Defaults):
    """A step."""

    run: Text | None = None
    #: Beside the workflow's own file.
    file: Text | None = None
    depends_on: FrozenList[Name] = ()
    when: When = "all_success"
    inputs: dict[
        EnvName,
        Annotated[InputEntry, BeforeValidator(_as_table), AfterValidator(_names_one)],
    ] = {}
    #: Digests of jobs that are over.
    needs: FrozenList[Hex64] = ()
    args: FrozenList[Text] = ()


class FileEntry(_Entry):
    """The whole file."""

    name: Annotated[Text, Field(max_length=MAX_TITLE)] | None = None
    max_parallel: Annotated[int, Field(ge=1, le=MAX_INTEGER)] | None = None
    #: Seconds after its signing within which a step may start.
    expires_in: Annotated[timedelta, seconds(ge=1, le=_A_WEEK)] | None = None
    defaults: Defaults = Defaults()
    steps: Annotated[dict[Name, StepEntry], Field(min_length=1)]


#: The keys that each part of a file may have.
KEYS: Final[Mapping[type[BaseModel], tuple[str, ...]]] = {
    model: tuple(model.model_fields)
    for model in (FileEntry, Defaults, StepEntry, InputEntry, LimitsEntry)
}


def model_at(place: tuple[Any, ...]) -> type[BaseModel]:
    """Return what stands at a place of the file, by the way that leads there."""
    match place:
        case ("steps", _, "inputs", _, *_):
            return InputEntry
        case ("steps", _, "limits", *_) | ("defaults", "limits", *_):
            return LimitsEntry
        case ("steps", _, *_):
            return StepEntry
        case ("defaults", *_):
            return Defaults
        case _:
            return FileEntry
