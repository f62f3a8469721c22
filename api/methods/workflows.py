"""The methods about workflows: parameters in, one call, an answer out."""

from __future__ import annotations

from datetime import timedelta

from api.methods.values import WaitForEnd
from api.methods.workflow_values import (
    AfterWorkflow,
    CallerFilter,
    ContextFilter,
    JobEnvelopes,
    ManifestEnvelope,
    PlanObject,
    StatusFilter,
    StepNames,
    StrategyWanted,
    WholeWorkflowObject,
    WorkflowId,
    WorkflowLimit,
    WorkflowRecordObject,
    WorkflowResultObject,
    WorkflowStatusObject,
    ending_to_wire,
    plan_to_wire,
    record_to_wire,
    status_to_wire,
    whole_to_wire,
)
from api.session import Session
from horus_celery.dag.progress import WorkflowStatus
from horus_celery.dag.shapes import Strategy
from horus_celery.store.workflows import WorkflowFilter


def submit(
    session: Session,
    manifest: ManifestEnvelope,
    jobs: JobEnvelopes,
    strategy: StrategyWanted = None,
) -> str:
    """Record a workflow with the signed jobs of all steps, and start it.

    The same one again is the same workflow. Where one job is refused, nothing is
    recorded.
    """
    wanted = None if strategy is None else Strategy(strategy)
    record = session.workflows.submit(manifest, jobs, strategy=wanted)
    return session.about.note_workflow(record).outline.id


def create(session: Session, manifest: ManifestEnvelope) -> str:
    """Record a workflow to which jobs are added later: one larger than one request."""
    record = session.workflows.create(manifest)
    return session.about.note_workflow(record).outline.id


def add_jobs(session: Session, workflow_id: WorkflowId, jobs: JobEnvelopes) -> int:
    """Add signed jobs of steps, and return how many are still missing.

    Those of the steps that a step depends on come before it, or in the same call.
    """
    return session.workflows.add_jobs(workflow_id, jobs)


def start(
    session: Session, workflow_id: WorkflowId, strategy: StrategyWanted = None
) -> WorkflowStatusObject:
    """Start a workflow that has all of its jobs; a second time changes nothing."""
    wanted = None if strategy is None else Strategy(strategy)
    record = session.workflows.start(workflow_id, strategy=wanted)
    return _status_of(session, record.outline.digest)


def status(session: Session, workflow_id: WorkflowId) -> WorkflowStatusObject:
    """Return where a workflow and its steps stand."""
    return _status_of(session, workflow_id)


def result(
    session: Session, workflow_id: WorkflowId, wait: WaitForEnd = 60
) -> WorkflowResultObject:
    """Wait for a workflow's end, and return the results of its last steps."""
    ending = session.workflows.result(workflow_id, wait=timedelta(seconds=wait))
    session.about.note_workflow(ending.record)
    return ending_to_wire(ending)


def get(
    session: Session, workflow_id: WorkflowId, steps: StepNames = None
) -> WholeWorkflowObject:
    """Return a workflow, the manifest that its caller signed, and jobs of its steps."""
    record, manifest = session.workflows.get(workflow_id)
    session.about.note_workflow(record)
    jobs = session.workflows.jobs(record.outline.digest, steps) if steps else {}
    return whole_to_wire(record, manifest, jobs)


def explain(session: Session, workflow_id: WorkflowId) -> PlanObject:
    """Return a workflow's plan: its chains, groups and chords, and a picture of it."""
    return plan_to_wire(session.workflows.explain(workflow_id))


def stop(session: Session, workflow_id: WorkflowId) -> WorkflowStatusObject:
    """Stop a workflow: what runs of it is stopped, and nothing else of it starts.

    One that is over stays as it is; stopping it again changes nothing.
    """
    return _status_of(session, session.workflows.stop(workflow_id).outline.digest)


def delete(session: Session, workflow_id: WorkflowId) -> bool:
    """Forget a workflow; it is stopped first. The records of its jobs stay."""
    session.workflows.delete(workflow_id)
    return True


def list_all(
    session: Session,
    context_id: ContextFilter = None,
    caller_id: CallerFilter = None,
    status: StatusFilter = None,
    limit: WorkflowLimit = 100,
    after: AfterWorkflow = None,
) -> list[WorkflowRecordObject]:
    """Return workflows, newest first, that agree with every filter that is given."""
    session.about.context_id = context_id
    wanted = WorkflowFilter(
        context_id=context_id,
        caller_id=caller_id,
        status=None if status is None else WorkflowStatus(status),
    )
    found = session.workflows.list(wanted, limit=limit, after=after)
    return [record_to_wire(record) for record in found]


def _status_of(session: Session, workflow_id: str) -> WorkflowStatusObject:
    overview = session.workflows.status(workflow_id)
    session.about.note_workflow(overview.record)
    return status_to_wire(overview)
