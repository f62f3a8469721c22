"""What goes in and out of the methods: parameters, and how answers are written."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, cast

from annotated_types import Ge, Le, MaxLen
from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from api.site import Wait
from horus_celery.fleet import RunnerView
from horus_celery.holdup import Holdup, describe_end
from horus_celery.instants import to_ms
from horus_celery.lifecycle import Status
from horus_celery.proof import Shown
from horus_celery.record import Record, Summary
from horus_celery.record import status_to_wire as write_status
from horus_celery.statements import dsse
from horus_celery.statements.fields import SECOND
from horus_celery.statements.job import MAX_NEEDS, Job, WorkflowRef
from horus_celery.store.base import LogLine, Stream
from horus_celery.supervisor import Ending, Info, LogPage

#: Behind the cursor of a line that no newline followed: the next one goes on with it.
_GOES_ON: Final = "+"
#: The last millisecond of the year 9999.
_LAST_MS: Final = 253_402_300_799_999


def _said(text: str) -> Any:  # noqa: ANN401 - what pydantic's Field returns
    """Describe a parameter, for `rpc.discover`."""
    return Field(description=text)


JobId = Annotated[str, MaxLen(64), _said("the job's id, or its digest")]
Priority = Annotated[int, Ge(0), Le(9), _said("0 is served first, 9 last")]
NotBefore = Annotated[
    Annotated[int, Ge(0), Le(_LAST_MS)] | None,
    _said("when it may start at the earliest, in ms since the epoch"),
]
WaitForEnd = Annotated[Wait, _said("how long to wait for its end, in seconds")]
WaitForLines = Annotated[Wait, _said("how long to wait for lines, in seconds")]
Cursor = Annotated[
    Annotated[str, MaxLen(64)] | None,
    _said("the `next` of the page before; null is the beginning"),
]
RunnerName = Annotated[str, MaxLen(128), _said("the runner's name")]
RunnerLines = Annotated[int, Ge(1), Le(10_000), _said("the most lines to return")]
LineLimit = Annotated[int, Ge(1), Le(10_000), _said("the most lines to return")]

_Word = Annotated[str, MaxLen(128)] | None
ContextFilter = Annotated[_Word, _said("whose data the jobs work on")]
CallerFilter = Annotated[_Word, _said("who asked for them")]
ExecutorFilter = Annotated[_Word, _said("the kind of work")]
RunnerFilter = Annotated[_Word, _said("the runner that they name")]
StatusFilter = Annotated[
    Literal[
        "created",
        "queued",
        "running",
        "stopping",
        "completed",
        "failed",
        "stopped",
        "rejected",
    ]
    | None,
    _said("where they stand"),
]
WorkflowFilter = Annotated[_Word, _said("the run that they belong to")]
JobLimit = Annotated[int, Ge(1), Le(1000), _said("the most jobs to return")]
AfterJob = Annotated[
    Annotated[str, MaxLen(64)] | None,
    _said(
        "only jobs behind this one: the last id of the page before, or, where that one"
        " was deleted since (-32004), the id before it"
    ),
]


_UUID: Final = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
ShownId = Annotated[str, Field(pattern=_UUID)]
ShownDigest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
ShownKeyId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Milliseconds = Annotated[int, Ge(0)]


class SignatureObject(TypedDict):
    """One signature of an envelope."""

    keyid: str
    sig: str


class EnvelopeObject(TypedDict):
    """A signed statement: a DSSE envelope."""

    payloadType: str
    payload: str
    signatures: list[SignatureObject]


def envelope_schema(kind: str, what: str) -> WithJsonSchema:
    """Return the schema of a signed statement, for `rpc.discover`.

    Anything is taken: the checks of the statement itself say what is wrong with it.
    """
    base64 = {"type": "string", "contentEncoding": "base64"}
    signature = {
        "type": "object",
        "required": ["keyid", "sig"],
        "additionalProperties": False,
        "properties": {"keyid": {"type": "string"}, "sig": base64},
    }
    return WithJsonSchema(
        {
            "type": "object",
            "description": f"{what}: a DSSE envelope",
            "required": ["payloadType", "payload", "signatures"],
            "additionalProperties": False,
            "properties": {
                "payloadType": {"const": kind},
                "payload": base64,
                "signatures": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": dsse.MAX_SIGNATURES,
                    "items": signature,
                },
            },
        }
    )


JobEnvelope = Annotated[object, envelope_schema(dsse.JOB, "the signed job")]
UpstreamParcels = Annotated[
    Annotated[list[object], MaxLen(MAX_NEEDS)] | None,
    _said(
        "jobs that it builds on and that completed at another supervisor, each"
        ' {"job", "receipt", "result"}: two envelopes and a text'
    ),
]
TrustEnvelope = Annotated[
    object,
    envelope_schema(dsse.TRUST, "the trust bundle, signed with the root's key"),
]
RegistrationEnvelope = Annotated[
    object,
    envelope_schema(
        dsse.RUNNER,
        'what a runner says of itself, {"v": 1, "aud", "name", "executor", "contexts",'
        ' "concurrency", "nonce", "at"}, signed with its key',
    ),
]


class StatusObject(TypedDict):
    """Where a job stands; times in ms since the epoch."""

    job_id: ShownId
    status: Status
    reason: str | None
    created_at: Milliseconds
    queued_at: Milliseconds | None
    started_at: Milliseconds | None
    ended_at: Milliseconds | None


class Success(TypedDict):
    """The result of a job that completed."""

    success: str


class Failure(TypedDict):
    """How a job ended otherwise: its status and reason, then its last error output."""

    error: str


class WorkflowObject(TypedDict):
    """The run that a job belongs to."""

    id: str
    step: str
    manifest: str


class RecordObject(TypedDict):
    """A job and what became of it; times in ms since the epoch."""

    id: ShownId
    digest: ShownDigest
    caller_id: str
    context_id: str
    executor: str
    runner: str | None
    payload: str | None
    args: list[str] | None
    env_vars: dict[str, str] | None
    #: Seconds.
    timeout: int | None
    status: Status
    reason: str | None
    created_at: Milliseconds
    queued_at: Milliseconds | None
    started_at: Milliseconds | None
    ended_at: Milliseconds | None
    attempt: Annotated[int, Ge(0)]
    ran_on: str | None
    exit_code: int | None
    result: str | None
    signed_by: list[ShownKeyId]
    workflow: WorkflowObject | None
    receipt: EnvelopeObject | None


class LineObject(TypedDict):
    """A line of output, or a piece of one: its cursor says so with a "+" at its end."""

    cursor: str
    at: Milliseconds
    stream: Stream
    text: str


class LogObject(TypedDict):
    """Some lines of a job's output."""

    lines: list[LineObject]
    next: str | None
    ended: bool


class HoldupObject(TypedDict):
    """The one thing that holds a job now, or what ended it."""

    status: Status
    gate: str
    since: Milliseconds | None
    detail: str


class RunnerObject(TypedDict):
    """A runner and how it does."""

    name: str
    #: What it serves; several are joined by commas.
    executor: str
    #: Names, or "*" for all.
    contexts: list[str]
    concurrency: int
    status: Literal["running", "stopped", "starting", "lost", "crashed"]
    #: When it was heard last, in ms since the epoch.
    last_seen: int | None
    #: How many jobs wait in the queues that it serves, alone or with others.
    queued: int
    #: How many jobs it holds.
    running: int
    #: What manages it: `simple`, `tmux:SESSION`, or null for nothing here.
    process_manager: str | None


class InfoObject(TypedDict):
    """What a supervisor says of itself."""

    name: str
    namespace: str
    version: str
    #: Seconds.
    uptime: int
    #: By status.
    counts: dict[str, int]
    queues: dict[str, int]
    runners: list[RunnerObject]


OutcomeObject = Annotated[Success | Failure, Field(description="one of the two")]


def status_to_wire(record: Record) -> StatusObject:
    """Write where a job stands."""
    return cast("StatusObject", write_status(record))


def envelope_to_wire(envelope: dsse.Envelope) -> EnvelopeObject:
    """Write a signed statement."""
    return cast("EnvelopeObject", dsse.to_wire(envelope))


def ending_to_wire(ending: Ending) -> OutcomeObject:
    """Write how a job ended, as `job.run` and `job.result` answer."""
    record, tail = ending.record, ending.stderr_tail
    if record.status is Status.COMPLETED:
        return {"success": record.result or ""}
    said = describe_end(record)
    return {"error": f"{said}\n{tail}" if tail else said}


def record_to_wire(shown: Shown) -> RecordObject:
    """Write a record; what the job says is null where its bytes are not its own."""
    record, summary, job = shown.record, shown.record.summary, shown.job
    # Who it is about is what the supervisor noted, where its bytes are not its own.
    about: Job | Summary = summary if job is None else job
    workflow = None if job is None else job.workflow
    return {
        "id": summary.id,
        "digest": summary.digest,
        "caller_id": about.caller_id,
        "context_id": about.context_id,
        "executor": about.executor,
        "runner": about.runner,
        "payload": None if job is None else job.payload,
        "args": None if job is None else list(job.args),
        "env_vars": None if job is None else dict(job.env_vars),
        "timeout": None if job is None else job.timeout // SECOND,
        "status": record.status,
        "reason": record.reason,
        "created_at": to_ms(record.created_at),
        "queued_at": to_ms(record.queued_at),
        "started_at": to_ms(record.started_at),
        "ended_at": to_ms(record.ended_at),
        "attempt": record.attempt,
        "ran_on": record.ran_on,
        "exit_code": record.exit_code,
        "result": record.result,
        "signed_by": list(shown.signed_by),
        "workflow": None if workflow is None else _workflow(workflow),
        "receipt": None if shown.sealed is None else envelope_to_wire(shown.sealed),
    }


def cursor_from_wire(cursor: str | None) -> str | None:
    """Return the store's cursor for one that was shown with a line."""
    return None if cursor is None else cursor.removesuffix(_GOES_ON)


def page_to_wire(page: LogPage) -> LogObject:
    """Write a page of output."""
    return {
        "lines": [_line(line) for line in page.lines],
        "next": page.next,
        "ended": page.ended,
    }


def holdup_to_wire(holdup: Holdup) -> HoldupObject:
    """Write what holds a job."""
    return {
        "status": holdup.status,
        "gate": holdup.gate,
        "since": to_ms(holdup.since),
        "detail": holdup.detail,
    }


def runner_to_wire(view: RunnerView) -> RunnerObject:
    """Write a runner."""
    return {
        "name": view.name,
        "executor": view.executor,
        "contexts": list(view.contexts),
        "concurrency": view.concurrency,
        "status": view.status,
        "last_seen": to_ms(view.last_seen),
        "queued": view.queued,
        "running": view.running,
        "process_manager": view.process_manager,
    }


def info_to_wire(info: Info, runners: list[RunnerObject]) -> InfoObject:
    """Write what a supervisor says of itself, with the runners that it knows."""
    return {
        "name": info.name,
        "namespace": info.namespace,
        "version": info.version,
        "uptime": int(info.uptime.total_seconds()),
        "counts": {status.value: count for status, count in info.counts.items()},
        "queues": dict(info.queues),
        "runners": runners,
    }


def _workflow(workflow: WorkflowRef) -> WorkflowObject:
    return {"id": workflow.id, "step": workflow.step, "manifest": workflow.manifest}


def _line(line: LogLine) -> LineObject:
    return {
        "cursor": line.cursor if line.ends_line else line.cursor + _GOES_ON,
        "at": to_ms(line.at),
        "stream": line.stream,
        "text": line.text,
    }
