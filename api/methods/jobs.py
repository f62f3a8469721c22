"""The methods about jobs: parameters in, one call of the supervisor, an answer out."""

from __future__ import annotations

from datetime import datetime, timedelta

from api.jsonrpc import InvalidParamsError
from api.methods.values import (
    AfterJob,
    CallerFilter,
    ContextFilter,
    Cursor,
    EnvelopeObject,
    ExecutorFilter,
    HoldupObject,
    JobEnvelope,
    JobId,
    JobLimit,
    LineLimit,
    LogObject,
    NotBefore,
    OutcomeObject,
    Priority,
    RecordObject,
    RunnerFilter,
    StatusFilter,
    StatusObject,
    UpstreamParcels,
    WaitForEnd,
    WaitForLines,
    WorkflowFilter,
    cursor_from_wire,
    ending_to_wire,
    envelope_to_wire,
    holdup_to_wire,
    page_to_wire,
    record_to_wire,
    status_to_wire,
)
from api.session import Session
from horus_celery.errors import MalformedError
from horus_celery.instants import from_ms
from horus_celery.lifecycle import Status
from horus_celery.store.base import Filter


def create(
    session: Session,
    job: JobEnvelope,
    priority: Priority = 4,
    not_before: NotBefore = None,
) -> str:
    """Record a signed job; it waits for `job.start`.

    The same envelope again is the same job.
    """
    at = _instant(not_before)
    record = session.jobs.create(job, priority=priority, not_before=at)
    return session.about.note(record).summary.id


def create_and_queue(
    session: Session,
    job: JobEnvelope,
    priority: Priority = 4,
    not_before: NotBefore = None,
    upstream: UpstreamParcels = None,
) -> str:
    """Record a signed job and queue it, in one step.

    The same envelope again is the same job.
    """
    record = session.jobs.create_and_queue(
        job,
        priority=priority,
        not_before=_instant(not_before),
        upstream=upstream or (),
    )
    return session.about.note(record).summary.id


def run(
    session: Session,
    job: JobEnvelope,
    priority: Priority = 4,
    not_before: NotBefore = None,
    wait: WaitForEnd = 60,
) -> OutcomeObject:
    """Record a signed job, queue it, wait for its end and return its result.

    A job that is not over in time runs on: ask for its result later, or call this
    again with the same envelope.
    """
    ending = session.jobs.run(
        job,
        priority=priority,
        not_before=_instant(not_before),
        wait=timedelta(seconds=wait),
    )
    session.about.note(ending.record)
    return ending_to_wire(ending)


def start(session: Session, job_id: JobId) -> StatusObject:
    """Queue a job that was only created."""
    return status_to_wire(session.about.note(session.jobs.start(job_id)))


def status(session: Session, job_id: JobId) -> StatusObject:
    """Return where a job stands."""
    return status_to_wire(session.about.note(session.jobs.status(job_id)))


def result(session: Session, job_id: JobId, wait: WaitForEnd = 60) -> OutcomeObject:
    """Wait for a job's end and return its result."""
    ending = session.jobs.result(job_id, wait=timedelta(seconds=wait))
    session.about.note(ending.record)
    return ending_to_wire(ending)


def get(session: Session, job_id: JobId) -> RecordObject:
    """Return a job and what became of it."""
    shown = session.jobs.get(job_id)
    session.about.note(shown.record)
    return record_to_wire(shown)


def logs(
    session: Session,
    job_id: JobId,
    after: Cursor = None,
    limit: LineLimit = 1000,
    wait: WaitForLines = 0,
) -> LogObject:
    """Return lines of a job's output.

    With `wait` the answer comes as soon as there are lines or the job is over. Lines
    that are not what the job's runner signed are never said to have ended: the call
    behind the last one is answered with -32011, `receipt_mismatch`.
    """
    try:
        page = session.jobs.logs(
            job_id,
            after=cursor_from_wire(after),
            limit=limit,
            wait=timedelta(seconds=wait),
        )
    except MalformedError as error:
        raise InvalidParamsError(data=f"after: {error.detail}") from None
    return page_to_wire(page)


def receipt(session: Session, job_id: JobId) -> EnvelopeObject | None:
    """Return the receipt that a runner signed, or null while there is none."""
    envelope = session.jobs.receipt(job_id)
    return None if envelope is None else envelope_to_wire(envelope)


def why(session: Session, job_id: JobId) -> HoldupObject:
    """Return the one thing that holds a job now, or what ended it."""
    return holdup_to_wire(session.jobs.why(job_id))


def stop(session: Session, job_id: JobId) -> StatusObject:
    """Stop a job: from now on it never starts, also when its envelope comes again.

    One that is over stays as it is; stopping it again changes nothing.
    """
    return status_to_wire(session.about.note(session.jobs.stop(job_id)))


def delete(session: Session, job_id: JobId) -> bool:
    """Forget a job, its log and its result; it is stopped first, so it never starts."""
    session.jobs.delete(job_id)
    return True


def list_all(
    session: Session,
    context_id: ContextFilter = None,
    caller_id: CallerFilter = None,
    executor: ExecutorFilter = None,
    runner: RunnerFilter = None,
    status: StatusFilter = None,
    workflow_id: WorkflowFilter = None,
    limit: JobLimit = 100,
    after: AfterJob = None,
) -> list[RecordObject]:
    """Return jobs, newest first, that agree with every filter that is given.

    Long ones fill a page before `limit` does: none follows behind the job with which
    envelopes, results and receipts come to 8 MiB. Only an empty page is the end.
    """
    session.about.context_id = context_id
    wanted = Filter(
        context_id=context_id,
        caller_id=caller_id,
        executor=executor,
        runner=runner,
        status=None if status is None else Status(status),
        workflow_id=workflow_id,
    )
    found = session.jobs.list(wanted, limit=limit, after=after)
    return [record_to_wire(shown) for shown in found]


def _instant(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)
