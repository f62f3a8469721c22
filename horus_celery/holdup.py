"""What holds a job: the one gate that it waits at now, or what ended it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from horus_celery.instants import shown
from horus_celery.lifecycle import Status
from horus_celery.record import Record
from horus_celery.registry import Phase, Roster, RunnerBeat, is_alive
from horus_celery.routing import queue_of
from horus_celery.statements.trust import Trust, is_listed
from horus_celery.store.base import RecordStore

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
    record: Record,
    *,
    store: RecordStore,
    roster: Roster,
    trust: Trust,
    now: datetime,
    contexts: frozenset[str] | None = None,
) -> Holdup:
    """Return what holds this record's job, as if only these contexts existed."""
    match record.status:
        case Status.CREATED:
            detail = "it waits for job.start"
            return _holdup(record, "start", record.created_at, detail)
        case Status.QUEUED:
            return _of_queued(record, store, roster, trust, now, contexts)
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


def serves(beat: RunnerBeat, record: Record) -> bool:
    """Whether a runner takes this job, by its name, executors and contexts."""
    summary = record.summary
    if summary.runner is not None and beat.name != summary.runner:
        return False
    if summary.executor not in beat.executors:
        return False
    return is_listed(summary.context_id, beat.contexts)


def _of_queued(
    record: Record,
    store: RecordStore,
    roster: Roster,
    trust: Trust,
    now: datetime,
    contexts: frozenset[str] | None,
) -> Holdup:
    if record.not_before is not None and record.not_before > now:
        detail = f"it may not start before {shown(record.not_before)}"
        return _holdup(record, "not_before", record.queued_at, detail)
    roll = roster.look()
    beats = [beat for _, beat in sorted(roll.beats.items()) if serves(beat, record)]
    alive = [beat for beat in beats if is_alive(beat, roll.at)]
    if not alive:
        last = max((beat.seen_at for beat in beats), default=None)
        seen = f"last seen {shown(last)}" if last else "never seen"
        if last is None and record.summary.runner is not None:
            # It may well be there, and not be allowed to run this.
            seen = f"{seen} to serve {_work(record)}"
        wanted = _wanted(record, trust)
        if (
            contexts is None
            and record.summary.runner is None
            and any(
                record.summary.executor in beat.executors and is_alive(beat, roll.at)
                for beat in roll.beats.values()
            )
        ):
            # There are some, for other contexts: just any would not do.
            wanted = f"a runner of {_work(record)}"
        detail = f"no live runner: it waits for {wanted}, {seen}"
        return _holdup(record, "runner", last or record.queued_at, detail)
    able = [beat for beat in alive if beat.phase is Phase.RUNNING]
    if not able:
        latest = max(alive, key=lambda beat: beat.seen_at)
        detail = (
            f"it waits for {_wanted(record, trust)}: {latest.name} is there, but takes"
            " no jobs now; its log says why"
        )
        return _holdup(record, "runner", record.queued_at, detail)
    ahead = _ahead(record, store, contexts)
    queue = record.queue or record.summary.executor
    slots = _slots(able, store, contexts)
    detail = f"{ahead} before it in the queue {queue}; {slots}"
    return _holdup(record, "queue", record.queued_at, detail)


def _wanted(record: Record, trust: Trust) -> str:
    """Say which runners could take it: the one it names, its context's, or any."""
    summary = record.summary
    if summary.runner is not None:
        return f"the runner {summary.runner}"
    queue = queue_of(
        executor=summary.executor,
        runner=None,
        context_id=summary.context_id,
        trust=trust,
    )
    if queue == summary.executor:
        return f"any runner of {summary.executor}"
    return f"a runner of {_work(record)}"


def _work(record: Record) -> str:
    return f"{record.summary.executor} for the context {record.summary.context_id}"


def _ahead(record: Record, store: RecordStore, contexts: frozenset[str] | None) -> str:
    ahead = store.ahead(record.summary.digest, limit=_QUEUE_VIEW, contexts=contexts)
    if not ahead.is_all:
        return f"at least {ahead.count} jobs wait"
    return "1 job waits" if ahead.count == 1 else f"{ahead.count} jobs wait"


def _slots(
    able: Sequence[RunnerBeat], store: RecordStore, contexts: frozenset[str] | None
) -> str:
    """Say how many slots there are for it, and how many of them are taken."""
    held = store.running_on([beat.name for beat in able], contexts=contexts)
    taken = sum(min(held[beat.name], beat.concurrency) for beat in able)
    count = sum(beat.concurrency for beat in able)
    of = f"of {able[0].name}" if len(able) == 1 else f"of its {len(able)} runners"
    by = "" if contexts is None else " by jobs that you may see"
    return f"{taken} of the {count} slots {of} are taken{by}"


def _holdup(record: Record, gate: str, since: datetime | None, detail: str) -> Holdup:
    return Holdup(status=record.status, gate=gate, since=since, detail=detail)
