"""What is signed of a workflow: its manifest, then its steps' jobs in their order.

A job names the digests of the jobs before it, so these are signed first; and it names
the digest of the manifest, which says what may come before what. Nobody who carries the
signed bytes can add a step, leave one out or turn two around.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from horus_celery.authoring.drafts import EarlierJob, StepDraft, WorkflowDraft
from horus_celery.dag.model import Graph
from horus_celery.errors import MalformedError
from horus_celery.statements import dsse
from horus_celery.statements.job import (
    MAX_NEEDS,
    InputRef,
    Job,
    Limits,
    WorkflowRef,
    make_job,
    usual_limits,
)
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.manifest import Manifest, make_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who signs, for whom, and for which deployment."""

    #: The namespace of the deployment.
    aud: str
    caller_id: str
    context_id: str
    keys: Sequence[KeyPair]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedJob:
    """The job of a step, and the envelope that carries it."""

    job: Job
    envelope: dsse.Envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A signed workflow, ready to be handed in."""

    manifest: Manifest
    envelope: dsse.Envelope
    graph: Graph
    #: By the names of their steps, in the order of the graph.
    jobs: Mapping[str, SignedJob]

    @property
    def id(self) -> str:
        """The workflow's id."""
        return self.manifest.id

    @property
    def digest(self) -> str:
        """The identity of the workflow, as of any statement."""
        return self.envelope.digest

    def to_wire(self) -> dict[str, Any]:
        """Write it as the parameters of `workflow.submit`."""
        return {
            "manifest": dsse.to_wire(self.envelope),
            "jobs": {
                name: dsse.to_wire(signed.envelope)
                for name, signed in self.jobs.items()
            },
        }


def sign(
    draft: WorkflowDraft,
    signer: Signer,
    *,
    now: datetime,
    on_signed: Callable[[int], object] | None = None,
) -> Submission:
    """Sign a workflow.

    Args:
        draft: What somebody wrote.
        signer: Who signs.
        now: When it is signed.
        on_signed: Called after each job with the number of jobs signed so far.

    Raises:
        MalformedError: `schema.*`; its text names the step.
        WorkflowError: if the steps cannot be run.
    """
    manifest = make_manifest(
        aud=signer.aud,
        caller_id=signer.caller_id,
        context_id=signer.context_id,
        name=draft.name,
        steps=draft.manifest_steps(),
        now=now,
        max_parallel=draft.max_parallel,
        expires_at=now + draft.lifetime,
    )
    graph = Graph.of(manifest)
    envelope = dsse.sign(dsse.WORKFLOW, manifest.body(), signer.keys)
    drafts = {step.name: step for step in draft.steps}
    jobs: dict[str, SignedJob] = {}
    for name in graph.names:
        job = _job(drafts[name], manifest, envelope.digest, jobs)
        signed = dsse.sign(dsse.JOB, job.body(), signer.keys)
        jobs[name] = SignedJob(job=job, envelope=signed)
        if on_signed is not None:
            on_signed(len(jobs))
    return Submission(manifest=manifest, envelope=envelope, graph=graph, jobs=jobs)


def _job(
    draft: StepDraft, manifest: Manifest, digest: str, before: Mapping[str, SignedJob]
) -> Job:
    try:
        return make_job(
            aud=manifest.aud,
            caller_id=manifest.caller_id,
            context_id=manifest.context_id,
            executor=draft.executor,
            payload=draft.payload,
            now=manifest.created_at,
            job_id=str(uuid.uuid4()),
            runner=draft.runner,
            args=draft.args,
            env_vars=draft.env_vars,
            secrets=draft.secrets,
            inputs=_inputs(draft, before),
            needs=_needs(draft, before),
            timeout=draft.timeout,
            limits=Limits.from_wire({**usual_limits(draft.timeout), **draft.limits}),
            net=draft.net,
            attempts=draft.attempts,
            # Its turn may come last: it is valid as long as the whole workflow is.
            expires_at=manifest.expires_at,
            workflow=WorkflowRef(id=manifest.id, step=draft.name, manifest=digest),
        )
    except MalformedError as refusal:
        raise MalformedError(
            refusal.reason, f"the step {draft.name}: {refusal.detail}"
        ) from None


def _needs(draft: StepDraft, before: Mapping[str, SignedJob]) -> tuple[str, ...]:
    """Return the jobs whose completion the runner is to see proven.

    Raises:
        MalformedError: `schema.needs`, if there are more than a job can name.
    """
    if draft.when != "all_success":
        return draft.needs
    needs = (*(before[name].envelope.digest for name in draft.parents), *draft.needs)
    if len(needs) > MAX_NEEDS:
        raise MalformedError(
            "schema.needs",
            f"it needs {len(needs):,} jobs, and a job names at most {MAX_NEEDS:,}: put"
            " steps between them that gather",
        )
    return needs


def _inputs(draft: StepDraft, before: Mapping[str, SignedJob]) -> dict[str, InputRef]:
    found = {}
    for name, one in draft.inputs.items():
        digest = (
            one.digest
            if isinstance(one, EarlierJob)
            else before[one.step].envelope.digest
        )
        found[name] = InputRef.from_wire({"from": digest, "max_bytes": one.max_bytes})
    return found
