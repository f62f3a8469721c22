"""What holds a job: the one gate that it waits at now, or what ended it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from horus_celery.lifecycle import Status
from horus_celery.record import Record
from horus_celery.registry import Registry, RunnerBeat, is_alive
from horus_celery.store.base import Filter, RecordStore

#: How many waiting jobs are looked at to tell a job's place among them.
_QUEUE_VIEW: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdup:
    """The one thing that holds a job now, or what ended it."""

    status: Status
    #: `start`, `not_before`, `runner`, `queue`, `running`, `stopping`; for a job that
    #: is over its reason, or its status where it has none.
    gate: str
    since: datetime | None
    detail: str


def holdup_of(
    record: Record, *, store: RecordStore, registry: Registry, now: datetime
) -> Holdup:
    """Return what holds this record's job."""
    match record.status:
        case Status.CREATED:
            detail = "it waits for job.start"
            return _holdup(record, "start", record.created_at, detail)
        case Status.QUEUED:
            return _of_queued(record, store=store, registry=registry, now=now)
        case Status.RUNNING:
            detail = f"attempt {record.attempt} runs on {record.ran_on}"
            return _holdup(record, "running", record.started_at, detail)
        case Status.STOPPING:
            detail = f"{record.ran_on} was asked to end attempt {record.attempt}"
            return _holdup(record, "stopping", record.started_at, detail)
        case _:
            gate = record.reason or record.status.value
            return _holdup(record, gate, record.ended_at, describe_end(record))


def describe_end(record: Record) -> str:
    """Say in a few words how a job ended, as in `failed: exit_code 3`."""
    if record.reason is None:
        return record.status.value
    code = f" {record.exit_code}" if record.reason == "exit_code" else ""
    return f"{record.status.value}: {record.reason}{code}"


def _of_queued(
    record: Record, *, store: RecordStore, registry: Registry, now: datetime
) -> Holdup:
    summary = record.summary
    if record.not_before is not None and record.not_before > now:
        at = record.not_before.isoformat(timespec="seconds")
        detail = f"it may not start before {at}"
        return _holdup(record, "not_before", record.queued_at, detail)
    beats = [beat for beat in registry.list() if _serves(beat, record)]
    if not any(is_alive(beat, now) for beat in beats):
        last = max((beat.at for beat in beats), default=None)
        wanted = summary.runner or f"any runner of {summary.executor}"
        seen = (
            f"last seen {last.isoformat(timespec='seconds')}" if last else "never seen"
        )
        detail = f"no live runner: it waits for {wanted}, {seen}"
        return _holdup(record, "runner", last or record.queued_at, detail)
    detail = f"{_ahead(record, store)} before it in the queue {summary.executor}"
    return _holdup(record, "queue", record.queued_at, detail)


def _ahead(record: Record, store: RecordStore) -> str:
    wanted = Filter(executor=record.summary.executor, status=Status.QUEUED)
    waiting = store.list(wanted, limit=_QUEUE_VIEW)
    count = sum(_turn(one) < _turn(record) for one in waiting)
    if len(waiting) == _QUEUE_VIEW:
        return f"at least {count} jobs wait"
    return "1 job waits" if count == 1 else f"{count} jobs wait"


def _holdup(record: Record, gate: str, since: datetime | None, detail: str) -> Holdup:
    return Holdup(status=record.status, gate=gate, since=since, detail=detail)


def _serves(beat: RunnerBeat, record: Record) -> bool:
    summary = record.summary
    if summary.runner is not None and beat.name != summary.runner:
        return False
    mine = "*" in beat.contexts or summary.context_id in beat.contexts
    return summary.executor in beat.executors and mine


def _turn(record: Record) -> tuple[int, datetime]:
    return record.priority, record.queued_at or record.created_at
