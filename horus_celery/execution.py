"""What a runner does when its bell rings: find, claim, run, settle."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import Final

import structlog

from horus_celery.dispatch import Dispatcher
from horus_celery.errors import DamagedError, NotFoundError, RefusedError
from horus_celery.journal import Orphan
from horus_celery.lifecycle import Event
from horus_celery.record import Record, after_death
from horus_celery.runner.claiming import claim, find
from horus_celery.runner.node import Assignment, Node, Outcome
from horus_celery.runner.outbox import note
from horus_celery.runner.settling import refuse, settle

_logger: Final = structlog.get_logger(__name__)


def execute(job_id: str, node: Node) -> None:
    """Answer one bell: run the queued job of that id, if there is one for this runner.

    A refusal is a normal return, and so is a bell for nothing.

    Raises:
        UnavailableError: if the store did not answer before the job was claimed.
        ConfigurationError: if this runner's own files do not allow it to work.
    """
    record = find(job_id, node)
    if record is None:
        return
    try:
        assignment = claim(record, node)
    except RefusedError as refusal:
        refuse(record, refusal, node)
        return
    if assignment is None:
        return
    with ExitStack() as behind:
        outcome = _run(assignment, node, behind)
        # It may be what fills the disk, so that the end cannot be written.
        settle(assignment, outcome, node, make_space=behind.close)


def ring_again(job_id: str, node: Node, dispatcher: Dispatcher) -> None:
    """Ring once more for a job of this runner that has to wait here, if it still does.

    Raises:
        UnavailableError: if Redis does not answer.
    """
    record = find(job_id, node)
    if record is None:
        return
    queue = record.queue or record.summary.executor
    # Noted first, as the sweep does it.
    node.store.rung(record.summary.digest, at=node.clock.now(), queue=queue)
    dispatcher.ring(job_id, queue, record.priority)


def give_up(node: Node, dispatcher: Dispatcher) -> int:
    """Say what this runner's dead processes left unsettled, and return how many.

    The end of a lease would say it, too, some time later. Nothing of those jobs may
    run any more.

    Raises:
        UnavailableError: if the store does not answer; the next call goes on.
    """
    count = 0
    for orphan in node.journal.orphans():
        # What is damaged is left to the end of its lease.
        with suppress(DamagedError):
            record = _held(orphan, node)
            if record is not None and record.ran_on != node.name:
                continue  # another runner of this node says it
            if record is not None:
                _give_up(record, node, dispatcher)
                count += 1
            node.journal.ended(orphan)
    return count


def _held(orphan: Orphan, node: Node) -> Record | None:
    """Return the record that this very start holds still, if there is one."""
    try:
        record = node.store.get(orphan.digest)
    except NotFoundError:
        return None
    is_it = record.is_held and record.started_at == orphan.started_at
    return record if is_it else None


def _give_up(record: Record, node: Node, dispatcher: Dispatcher) -> None:
    change = after_death(record, node.clock.now())
    note(record.summary.digest, change, node)
    if change.event is Event.REQUEUED:
        queue = record.queue or record.summary.executor
        dispatcher.ring(record.summary.id, queue, record.priority)


def _run(assignment: Assignment, node: Node, behind: ExitStack) -> Outcome:
    executor = node.executors[assignment.job.executor]
    try:
        return executor.run(assignment, node, behind)
    except Exception as error:  # noqa: BLE001 - the boundary around every executor
        # Its text may quote the payload.
        _logger.error(  # noqa: TRY400 - and so may a traceback
            "executor broke",
            job_id=assignment.job.id,
            error=type(error).__name__,
        )
        return Outcome(event=Event.FAILED, reason="executor")
