"""What goes in and out of the methods about workflows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from annotated_types import Ge, Le, MaxLen
from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from api.methods.values import (
    EnvelopeObject,
    Milliseconds,
    ShownDigest,
    ShownId,
    ShownKeyId,
    envelope_schema,
    envelope_to_wire,
)
from horus_celery.coordinator import Overview, WorkflowEnding
from horus_celery.dag.compiler import Plan
from horus_celery.dag.pictures import to_dot, to_mermaid
from horus_celery.dag.progress import StepStatus, WorkflowStatus
from horus_celery.dag.shapes import Strategy, why_no_canvas
from horus_celery.instants import to_ms
from horus_celery.statements import dsse
from horus_celery.store.workflows import StepRecord, WorkflowRecord

#: Steps of a plan that is drawn: more of them nobody looks at.
MAX_DRAWN: Final = 1000


def _said(text: str) -> Any:  # noqa: ANN401 - what pydantic's Field returns
    """Describe a parameter, for `rpc.discover`."""
    return Field(description=text)


WorkflowId = Annotated[
    str, MaxLen(64), _said("the workflow's id, or the digest of its manifest")
]
ManifestEnvelope = Annotated[
    object, envelope_schema(dsse.WORKFLOW, "the signed manifest")
]
_JOBS: Final = WithJsonSchema(
    {
        "type": "object",
        "description": "the signed jobs of steps, by the names of the steps",
        "additionalProperties": envelope_schema(
            dsse.JOB, "the signed job of a step"
        ).json_schema,
    }
)
JobEnvelopes = Annotated[dict[str, object], _JOBS]
StepNames = Annotated[
    Annotated[list[Annotated[str, MaxLen(128)]], MaxLen(1000)] | None,
    _said("the steps whose signed jobs are wanted; where they are large, fewer come"),
]
_Word = Annotated[str, MaxLen(128)] | None
ContextFilter = Annotated[_Word, _said("whose data the workflows work on")]
CallerFilter = Annotated[_Word, _said("who asked for them")]
StatusFilter = Annotated[
    Literal["created", "running", "completed", "failed", "stopped"] | None,
    _said("where they stand"),
]
WorkflowLimit = Annotated[int, Ge(1), Le(1000), _said("the most workflows to return")]
StrategyWanted = Annotated[
    Literal["reference", "canvas"] | None,
    _said(
        "how it runs; canvas only where its plan can, else by reference; null: as the"
        " supervisor is configured"
    ),
]
AfterWorkflow = Annotated[
    Annotated[str, MaxLen(64)] | None,
    _said(
        "only workflows behind this one: the last id of the page before, or, where that"
        " one was deleted since (-32004), the id before it"
    ),
]


class StepObject(TypedDict):
    """Where a step stands; times in ms since the epoch."""

    status: StepStatus
    reason: str | None
    #: Null while the step has no job yet.
    job_id: ShownId | None
    #: Null is the supervisor that was asked.
    supervisor: str | None
    started_at: Milliseconds | None
    ended_at: Milliseconds | None


class WorkflowStatusObject(TypedDict):
    """Where a workflow and its steps stand; times in ms since the epoch."""

    workflow_id: ShownId
    name: str
    status: WorkflowStatus
    #: The first step that failed or that cannot be started now, and why.
    reason: str | None
    #: By name, in an order in which they may run.
    steps: dict[str, StepObject]
    #: How it runs, or ran to its end.
    strategy: Strategy
    created_at: Milliseconds
    started_at: Milliseconds | None
    ended_at: Milliseconds | None


class WorkflowRecordObject(TypedDict):
    """A workflow and what became of it; times in ms since the epoch."""

    id: ShownId
    digest: ShownDigest
    name: str
    caller_id: str
    context_id: str
    status: WorkflowStatus
    #: How many there are.
    steps: Annotated[int, Ge(1)]
    #: How many of them have no job yet.
    missing: Annotated[int, Ge(0)]
    #: How many of them are not over.
    left: Annotated[int, Ge(0)]
    max_parallel: int | None
    signed_by: list[ShownKeyId]
    created_at: Milliseconds
    started_at: Milliseconds | None
    ended_at: Milliseconds | None
    expires_at: Milliseconds


class WholeWorkflowObject(WorkflowRecordObject):
    """A workflow with the manifest that its caller signed, and jobs of its steps."""

    manifest: EnvelopeObject
    #: By the names of their steps, of those that were asked for.
    jobs: dict[str, EnvelopeObject]


class WorkflowResultObject(TypedDict):
    """How a workflow ended, and what came of the steps that nothing depends on."""

    status: WorkflowStatus
    #: By name; null where a step did not complete.
    results: dict[str, str | None]


class GroupObject(TypedDict):
    """Steps that the end of one step lets start; null is the start of the workflow."""

    after: str | None
    members: list[str]


class ChordObject(TypedDict):
    """A step that several steps lead to."""

    step: str
    size: int
    header: list[str]


class PlanObject(TypedDict):
    """A workflow in the words of Celery's canvas."""

    steps: int
    edges: int
    chains: list[list[str]]
    groups: list[GroupObject]
    chords: list[ChordObject]
    critical_path: list[str]
    depth: int
    width: int
    #: How many messages a run takes.
    messages: int
    #: Why it does not run as Celery's own canvas; null if it can.
    canvas: str | None
    #: For Graphviz; null where there are too many steps to be drawn.
    dot: str | None
    mermaid: str | None


def status_to_wire(overview: Overview) -> WorkflowStatusObject:
    """Write where a workflow and its steps stand."""
    record, graph = overview.record, overview.graph
    return {
        "workflow_id": record.outline.id,
        "name": record.outline.name,
        "status": record.status,
        "reason": overview.reason,
        "steps": {
            name: _step(step, supervisor)
            for name, step, supervisor in zip(
                graph.names, overview.steps, graph.supervisors, strict=True
            )
        },
        "strategy": record.strategy,
        "created_at": to_ms(record.created_at),
        "started_at": to_ms(record.started_at),
        "ended_at": to_ms(record.ended_at),
    }


def record_to_wire(record: WorkflowRecord) -> WorkflowRecordObject:
    """Write a workflow."""
    outline = record.outline
    return {
        "id": outline.id,
        "digest": outline.digest,
        "name": outline.name,
        "caller_id": outline.caller_id,
        "context_id": outline.context_id,
        "status": record.status,
        "steps": record.steps,
        "missing": record.missing,
        "left": record.left,
        "max_parallel": outline.max_parallel,
        "signed_by": list(outline.signed_by),
        "created_at": to_ms(record.created_at),
        "started_at": to_ms(record.started_at),
        "ended_at": to_ms(record.ended_at),
        "expires_at": to_ms(outline.expires_at),
    }


def whole_to_wire(
    record: WorkflowRecord,
    manifest: dsse.Envelope,
    jobs: Mapping[str, dsse.Envelope],
) -> WholeWorkflowObject:
    """Write a workflow with its manifest, and with jobs of its steps."""
    return {
        **record_to_wire(record),
        "manifest": envelope_to_wire(manifest),
        "jobs": {name: envelope_to_wire(job) for name, job in jobs.items()},
    }


def ending_to_wire(ending: WorkflowEnding) -> WorkflowResultObject:
    """Write how a workflow ended."""
    return {"status": ending.record.status, "results": dict(ending.results)}


def plan_to_wire(plan: Plan) -> PlanObject:
    """Write a plan, and draw it if it can be looked at."""
    is_small = len(plan.graph) <= MAX_DRAWN
    refusal = why_no_canvas(plan)
    written: PlanObject = {
        **plan.to_wire(),  # type: ignore[typeddict-item]  # it is checked by the result's schema
        "canvas": None if refusal is None else refusal.reason.value,
        "dot": to_dot(plan) if is_small else None,
        "mermaid": to_mermaid(plan) if is_small else None,
    }
    return written


def _step(step: StepRecord, supervisor: str | None) -> StepObject:
    return {
        "status": step.status,
        "reason": step.reason,
        "job_id": step.job_id,
        "supervisor": supervisor,
        "started_at": to_ms(step.started_at),
        "ended_at": to_ms(step.ended_at),
    }
