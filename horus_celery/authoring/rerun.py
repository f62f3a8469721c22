"""What of a workflow that is over runs again: the steps that failed, and what follows.

It becomes a workflow of its own. Steps that completed are not in it: those that need
them name their jobs, whose receipts and results are there already.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from horus_celery.authoring.drafts import (
    EarlierJob,
    InputFrom,
    StepDraft,
    StepResult,
    WorkflowDraft,
)
from horus_celery.authoring.signing import SignedJob, Submission
from horus_celery.dag.model import Graph
from horus_celery.dag.progress import ENDS, Decision, End, StepStatus, follows
from horus_celery.errors import ConfigurationError, SignatureError, WorkflowError
from horus_celery.statements import canonical, dsse, manifest
from horus_celery.statements.job import InputRef, Job
from horus_celery.statements.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """What runs again, and what is kept."""

    draft: WorkflowDraft
    #: The names of the steps that run again, in their order, and how they ended.
    again: Mapping[str, StepStatus]
    #: The names of the steps that completed, or whose turn cannot come.
    kept: Mapping[str, StepStatus]


def read_back(
    manifest_value: object, jobs: Mapping[str, object], keys: Mapping[str, bytes]
) -> Submission:
    """Read a workflow that somebody kept, if all of it was signed by certain keys.

    What is signed again must be what was signed before: nobody else may have had a hand
    in it.

    Args:
        manifest_value: The manifest's envelope, as parsed JSON.
        jobs: The envelopes of all jobs by the names of their steps.
        keys: The public keys by their ids, one of which must have signed each part.

    Raises:
        SignatureError: `sig.none`, if none of the keys signed a part of it.
        WorkflowError: `workflow.missing_job` or `workflow.job_mismatch`.
        MalformedError: if it has not the form of a workflow.
    """
    envelope = dsse.from_wire(
        manifest_value, dsse.WORKFLOW, max_bytes=manifest.MAX_BODY
    )
    _require_signed(envelope, keys, "the manifest")
    said = Manifest.from_wire(canonical.parse(envelope.body))
    graph = Graph.of(said)
    found: dict[str, SignedJob] = {}
    for name in graph.names:
        if name not in jobs:
            raise WorkflowError(
                "workflow.missing_job", f"the job of step {name} is not there"
            )
        found[name] = _read_job(name, jobs[name], envelope.digest, keys)
    return Submission(manifest=said, envelope=envelope, graph=graph, jobs=found)


def rerun(
    submission: Submission,
    statuses: Mapping[str, StepStatus],
    *,
    edited: WorkflowDraft | None = None,
) -> Rerun:
    """Return what runs again of a workflow that is over.

    Args:
        submission: The workflow.
        statuses: How each of its steps ended; that a step completed must be proven.
        edited: The workflow as it is written now; by default its steps are as before.

    Raises:
        ConfigurationError: if nothing has to run again, or what is written now has not
            the steps that do.
    """
    graph = submission.graph
    ended = [statuses[name] for name in graph.names]
    again = _again(graph, ended)
    if not again:
        raise ConfigurationError(
            "no step failed or was kept from running: there is nothing to run again"
        )
    said = submission.manifest
    names = {graph.names[step] for step in again}
    if edited is None:
        steps = [_draft(submission, step, names) for step in again]
    else:
        completed = {
            name: submission.jobs[name].envelope.digest
            for name, status in statuses.items()
            if status is StepStatus.COMPLETED
        }
        written = {step.name: step for step in edited.steps}
        steps = [
            _behind(_written(graph.names[step], written), names, completed)
            for step in again
        ]
    return Rerun(
        draft=WorkflowDraft(
            name=said.name,
            steps=tuple(steps),
            max_parallel=said.max_parallel,
            lifetime=said.expires_at - said.created_at,
        ),
        again={graph.names[step]: ended[step] for step in again},
        kept={
            name: status
            for name, status in zip(graph.names, ended, strict=True)
            if name not in names
        },
    )


def _again(graph: Graph, ended: Sequence[StepStatus]) -> list[int]:
    """Return the steps that run again, in their order."""
    again: dict[int, None] = {}
    for step, decision in enumerate(follows(graph, dict(enumerate(ended)))):
        end = ENDS[ended[step]]
        was_kept_back = end is End.SKIPPED and decision is Decision.START
        may_follow = end is End.SKIPPED and _may_follow(graph, step, ended, again)
        if end is End.FAILED or was_kept_back or may_follow:
            again[step] = None
    return list(again)


def _may_follow(
    graph: Graph, step: int, ended: Sequence[StepStatus], again: Mapping[int, None]
) -> bool:
    """Say whether a step that was skipped may run once others have run again."""
    above = graph.parents[step]
    if not any(one in again for one in above):
        return False
    # None of those that stay as they are failed, but a skipped one can hold it up.
    return graph.when[step] != "all_success" or all(
        one in again or ended[one] is StepStatus.COMPLETED for one in above
    )


def _draft(submission: Submission, step: int, again: Collection[str]) -> StepDraft:
    """Return a step as it was, but for what it takes of steps that stay as they are."""
    graph = submission.graph
    name = graph.names[step]
    job = submission.jobs[name].job
    by_digest = {
        submission.jobs[graph.names[one]].envelope.digest: graph.names[one]
        for one in graph.parents[step]
    }

    def source(ref: InputRef) -> InputFrom:
        known = by_digest.get(ref.source)
        if known is not None and known in again:
            return StepResult(step=known, max_bytes=ref.max_bytes)
        return EarlierJob(digest=ref.source, max_bytes=ref.max_bytes)

    above = (graph.names[one] for one in graph.parents[step])
    return StepDraft(
        name=name,
        payload=job.payload,
        executor=job.executor,
        depends_on=tuple(one for one in above if one in again),
        when=graph.when[step],
        on_failure=graph.on_failure[step],
        supervisor=graph.supervisors[step],
        runner=job.runner,
        args=job.args,
        env_vars=job.env_vars,
        secrets=job.secrets,
        inputs={key: source(ref) for key, ref in job.inputs.items()},
        needs=tuple(one for one in job.needs if by_digest.get(one) not in again),
        timeout=job.timeout,
        limits=dict(job.limits),
        net=job.net,
        attempts=job.attempts,
    )


def _written(name: str, written: Mapping[str, StepDraft]) -> StepDraft:
    if name not in written:
        raise ConfigurationError(
            f"the step {name} has to run again, and what is written now has no such"
            " step: give it its name back"
        )
    return written[name]


def _behind(
    step: StepDraft, again: Collection[str], completed: Mapping[str, str]
) -> StepDraft:
    """Return a step as it is written now, behind the jobs that completed before."""
    for name in step.parents:
        if name not in again and name not in completed:
            raise ConfigurationError(
                f"the step {step.name} now depends on {name}, which has not completed"
                " and does not run again: take it out of depends_on and inputs, or run"
                " again the earlier workflow in which it completed"
            )
    kept = [completed[name] for name in step.parents if name in completed]
    return replace(
        step,
        depends_on=tuple(name for name in step.parents if name in again),
        needs=(*kept, *step.needs) if step.when == "all_success" else step.needs,
        inputs={
            key: EarlierJob(digest=completed[one.step], max_bytes=one.max_bytes)
            if isinstance(one, StepResult) and one.step in completed
            else one
            for key, one in step.inputs.items()
        },
    )


def _read_job(
    name: str, value: object, digest: str, keys: Mapping[str, bytes]
) -> SignedJob:
    envelope = dsse.from_wire(value, dsse.JOB)
    _require_signed(envelope, keys, f"the job of step {name}")
    job = Job.from_wire(canonical.parse(envelope.body))
    ref = job.workflow
    if ref is None or (ref.step, ref.manifest) != (name, digest):
        raise WorkflowError(
            "workflow.job_mismatch",
            f"what is kept as the job of step {name} is another one",
            names=(name,),
        )
    return SignedJob(job=job, envelope=envelope)


def _require_signed(
    envelope: dsse.Envelope, keys: Mapping[str, bytes], what: str
) -> None:
    if not dsse.signers(envelope, keys):
        raise SignatureError(
            "sig.none",
            f"{what} was signed by no key that counts here; what is to be signed again"
            " is signed by the same key",
            digest=envelope.digest,
        )
