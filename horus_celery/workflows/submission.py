"""Which workflows are let in: manifest and jobs as signed, and one made for the other.

Whatever a coordinator could alter is checked here to be helpful, early and with a
reason. The runners check again what each of them runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from horus_celery.admission import Admitted, Gate, admit, admit_manifest
from horus_celery.dag.model import Graph, shown
from horus_celery.errors import HorusError, WorkflowError
from horus_celery.statements import dsse, manifest
from horus_celery.statements.job import Job
from horus_celery.statements.manifest import Manifest
from horus_celery.store.workflows import Outline, StepJob

_NONE: Final[Mapping[int, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A manifest that was let in, and the graph that its steps make."""

    manifest: Manifest
    digest: str
    #: The manifest's envelope as JSON text.
    envelope: str
    graph: Graph
    signed_by: tuple[str, ...]

    @property
    def outline(self) -> Outline:
        """What lists show of it."""
        said = self.manifest
        return Outline(
            digest=self.digest,
            id=said.id,
            caller_id=said.caller_id,
            context_id=said.context_id,
            name=said.name,
            max_parallel=said.max_parallel,
            expires_at=said.expires_at,
            signed_by=self.signed_by,
        )


def read_manifest(
    value: object, gate: Gate, *, supervisors: Collection[str]
) -> Submission:
    """Check the envelope of a manifest, as parsed JSON.

    Args:
        value: The envelope.
        gate: What a supervisor checks.
        supervisors: The names of the other supervisors that steps may go to.

    Raises:
        RefusedError: with the reason code.
    """
    envelope = dsse.from_wire(value, dsse.WORKFLOW, max_bytes=manifest.MAX_BODY)
    admitted = admit_manifest(envelope, gate)
    graph = Graph.of(admitted.manifest)
    unknown = {name for name in graph.supervisors if name} - {*supervisors}
    if unknown:
        raise WorkflowError(
            "workflow.unknown_supervisor",
            f"steps name supervisors that are not configured here:"
            f" {shown(sorted(unknown))}",
            names=tuple(sorted(unknown)),
        )
    return Submission(
        manifest=admitted.manifest,
        digest=admitted.digest,
        envelope=admitted.envelope,
        graph=graph,
        signed_by=admitted.signed_by,
    )


def read_jobs(
    submission: Submission,
    jobs: Mapping[str, object],
    gate: Gate,
    *,
    known: Mapping[int, str] = _NONE,
    max_bytes: int = dsse.MAX_BODY,
) -> tuple[StepJob, ...]:
    """Check envelopes of jobs, as parsed JSON, against the steps that they are for.

    Args:
        submission: The workflow.
        jobs: The envelopes by the names of their steps.
        gate: What a supervisor checks.
        known: The digests of jobs that steps have already, by their index.
        max_bytes: The largest body of a job.

    Raises:
        RefusedError: with the reason code, naming the step; of the first step that is
            refused, in the order of the graph.
    """
    graph = submission.graph
    extra = [name for name in jobs if name not in graph.index]
    if extra:
        raise WorkflowError(
            "workflow.unknown_step",
            f"there are jobs for steps that the manifest does not have: {shown(extra)}",
            names=tuple(extra),
        )
    digests = dict(known)
    found: list[StepJob] = []
    for index in sorted(graph.index[name] for name in jobs):
        name = graph.names[index]
        with _about(name):
            envelope = dsse.from_wire(jobs[name], dsse.JOB, max_bytes=max_bytes)
            admitted = admit(envelope, gate)
            _require_fit(submission, index, admitted.job)
            _require_order(graph, index, admitted.job, digests)
        digests[index] = admitted.digest
        found.append(_step_job(index, admitted))
    return tuple(found)


def parents_outside(submission: Submission, names: Collection[str]) -> list[int]:
    """Return the steps that some of these depend on, and that are not among them."""
    graph = submission.graph
    inside = {graph.index[name] for name in names if name in graph.index}
    return sorted({one for step in inside for one in graph.parents[step]} - inside)


def require_all(submission: Submission, jobs: Collection[str]) -> None:
    """See that there is a job for every step.

    Raises:
        WorkflowError: `workflow.missing_job`, naming the steps without one.
    """
    missing = [name for name in submission.graph.names if name not in jobs]
    if missing:
        raise WorkflowError(
            "workflow.missing_job",
            f"{len(missing)} of its steps have no job: {shown(missing)}",
            names=tuple(missing),
        )


def _step_job(index: int, admitted: Admitted) -> StepJob:
    return StepJob(
        index=index,
        job_id=admitted.job.id,
        digest=admitted.digest,
        envelope=admitted.envelope,
    )


def _require_fit(submission: Submission, index: int, job: Job) -> None:
    """See that a job is the one of this step in this very workflow."""
    said = submission.manifest
    name = submission.graph.names[index]
    ref = job.workflow
    if ref is None:
        raise _mismatch(name, "it belongs to no workflow")
    pairs = {
        "workflow.id": (ref.id, said.id),
        "workflow.step": (ref.step, name),
        "workflow.manifest": (ref.manifest, submission.digest),
        "aud": (job.aud, said.aud),
        "caller_id": (job.caller_id, said.caller_id),
        "context_id": (job.context_id, said.context_id),
    }
    for field, (is_so, should_be) in pairs.items():
        if is_so != should_be:
            raise _mismatch(name, f"its {field} is {is_so}, not {should_be}")


def _require_order(
    graph: Graph, index: int, job: Job, digests: Mapping[int, str]
) -> None:
    """See that a job needs those of the steps before it: so runners keep the order.

    It may need others as well: jobs of earlier runs.
    """
    if graph.when[index] != "all_success":
        return
    name = graph.names[index]
    needs = iter(job.needs)
    for parent in graph.parents[index]:
        digest = digests.get(parent)
        if digest is None:
            raise WorkflowError(
                "workflow.missing_job",
                f"it depends on {graph.names[parent]}, which has no job yet: add the"
                " jobs of the steps before it first",
                names=(name, graph.names[parent]),
            )
        # Each is looked for behind the one before: so the order is the same, too.
        if digest not in needs:
            raise _mismatch(
                name,
                f"it depends on {graph.names[parent]}, and its needs do not name that"
                " job in the order of depends_on",
            )


def _mismatch(name: str, detail: str) -> WorkflowError:
    return WorkflowError("workflow.job_mismatch", detail, names=(name,))


@contextmanager
def _about(name: str) -> Iterator[None]:
    """Have every refusal name the step that it is about."""
    try:
        yield
    except HorusError as refusal:
        refusal.detail = f"the job of step {name}: {refusal.detail}"
        refusal.args = (refusal.detail,)
        raise
