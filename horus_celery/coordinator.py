"""The coordinator: takes in workflows, and answers for what became of them.

It holds no key. What a step may do its signer decided, and its runner checks; here it
is only seen to that steps come one after the other.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from horus_celery.clock import Clock
from horus_celery.dag.compiler import Plan, compile_plan
from horus_celery.dag.model import Graph, shown
from horus_celery.dag.progress import StepStatus, WorkflowStatus
from horus_celery.dag.shapes import Strategy, why_no_canvas
from horus_celery.errors import (
    DamagedError,
    IdAmbiguous,
    NotFoundError,
    NotOverError,
    RefusedError,
    UnavailableError,
)
from horus_celery.lifecycle import Status
from horus_celery.proof import Shown
from horus_celery.statements import dsse
from horus_celery.store.base import Hears, Wakes
from horus_celery.store.workflows import (
    MAX_HANDED,
    StepJob,
    StepRecord,
    WorkflowFilter,
    WorkflowRecord,
    WorkflowStore,
)
from horus_celery.supervisor import Supervisor
from horus_celery.workflows.conductor import Conductor
from horus_celery.workflows.doorbell import Doorbell
from horus_celery.workflows.manifests import Manifests
from horus_celery.workflows.submission import (
    Submission,
    parents_outside,
    read_jobs,
    read_manifest,
    require_all,
)
from horus_celery.workflows.supervisors import StepSupervisor

#: How long `delete` waits for what runs to end.
_END_OF_STOPPED: Final = timedelta(seconds=15)
_NO_OTHERS: Final[Mapping[str, StepSupervisor]] = MappingProxyType({})
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A workflow with all of its steps, as they stand now."""

    record: WorkflowRecord
    graph: Graph
    #: By index.
    steps: Sequence[StepRecord]

    @property
    def reason(self) -> str | None:
        """Why it ended so, or what it waits for; None if there is nothing to say."""
        if self.record.status is WorkflowStatus.COMPLETED:
            return None
        for name, step in zip(self.graph.names, self.steps, strict=True):
            has_failed = step.status in {StepStatus.FAILED, StepStatus.REJECTED}
            if step.reason and (has_failed or step.status is StepStatus.PENDING):
                return f"step {name}: {step.reason}"
            # No reason stands with a stopped job, and the end of a workflow that was
            # stopped as a whole needs none.
            if step.status is StepStatus.STOPPED and self.record.stop_at is None:
                return f"step {name}: {step.status.value}"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowEnding:
    """How a workflow ended."""

    record: WorkflowRecord
    #: What came of the steps that no other depends on; None where one did not complete.
    results: Mapping[str, str | None]


class Coordinator:
    """One coordinator; its methods may be called by many threads at once.

    It may be bound to contexts: what lies outside them does not exist for it then.
    """

    def __init__(
        self,
        *,
        store: WorkflowStore,
        home: Supervisor,
        conductor: Conductor,
        doorbell: Doorbell,
        wakes: Wakes,
        clock: Clock,
        others: Mapping[str, StepSupervisor] = _NO_OTHERS,
        max_job_bytes: int = dsse.MAX_BODY,
        strategy: Strategy = Strategy.REFERENCE,
    ) -> None:
        """Take what it works with.

        Args:
            store: Where the workflows are.
            home: The supervisor of this deployment.
            conductor: Moves workflows on.
            doorbell: Rings where it does so.
            wakes: Tells when a workflow is over.
            clock: Tells the time.
            others: The other supervisors that steps may go to, by name.
            max_job_bytes: Largest body of one job.
            strategy: How workflows run for which nobody says it.
        """
        self._store = store
        self._home = home
        self._conductor = conductor
        self._doorbell = doorbell
        self._wakes = wakes
        self._clock = clock
        self._others = others
        self._max_job_bytes = max_job_bytes
        self._strategy = strategy
        self._contexts: frozenset[str] | None = None
        self._graphs = Manifests(store)

    def within(self, contexts: frozenset[str] | None) -> Coordinator:
        """Return this coordinator, bound to contexts; None binds it to none."""
        if contexts is None:
            return self
        bound = copy(self)
        vars(bound).update(_contexts=contexts, _home=self._home.within(contexts))
        return bound

    # --- workflows come in -----------------------------------------------------

    def submit(
        self,
        manifest_value: object,
        jobs: Mapping[str, object],
        *,
        strategy: Strategy | None = None,
    ) -> WorkflowRecord:
        """Let a workflow in with all of its jobs, and start it.

        The same one again is the same record.

        Args:
            manifest_value: The manifest's envelope, as parsed JSON.
            jobs: The envelopes of the jobs by the names of their steps.
            strategy: As of `start`.

        Raises:
            RefusedError: with the reason code; nothing is recorded.
            ConflictError: if its context has another workflow of this id, or the
                workflow other jobs.
        """
        now = self._clock.now()
        submission = self._read(manifest_value, now)
        require_all(submission, jobs)
        gate = self._home.gate(now)
        checked = read_jobs(submission, jobs, gate, max_bytes=self._max_job_bytes)
        self._record(submission, now)
        self._store.add_jobs(submission.digest, checked)
        return self._begin(submission.digest, strategy, now)

    def create(self, manifest_value: object) -> WorkflowRecord:
        """Let a manifest in, to which jobs are added later.

        Raises:
            RefusedError: as `submit`.
            IdTaken: as `submit`.
        """
        now = self._clock.now()
        return self._record(self._read(manifest_value, now), now)

    def add_jobs(self, workflow_id: str, jobs: Mapping[str, object]) -> int:
        """Add jobs to a workflow, and return how many are missing still.

        Those of the steps that a step depends on come before it, or with it.

        Raises:
            RefusedError: with the reason code; none of them is recorded.
            ConflictError: if a step has another job already.
        """
        submission = self._submission(self._find(workflow_id))
        outside = parents_outside(submission, jobs)
        checked = read_jobs(
            submission,
            jobs,
            self._home.gate(self._clock.now()),
            known=self._store.digests_of(submission.digest, outside),
            max_bytes=self._max_job_bytes,
        )
        return self._store.add_jobs(submission.digest, checked)

    def start(
        self, workflow_id: str, *, strategy: Strategy | None = None
    ) -> WorkflowRecord:
        """Start a workflow that has all of its jobs; a second time changes nothing.

        Args:
            workflow_id: Its id, or its digest.
            strategy: How it runs if its plan can, else by reference; by default as this
                coordinator was told.

        Raises:
            WorkflowError: `workflow.missing_job`, if it has not.
        """
        digest = self._find(workflow_id).outline.digest
        return self._begin(digest, strategy, self._clock.now())

    # --- workflows are looked at -----------------------------------------------

    def get(self, workflow_id: str) -> tuple[WorkflowRecord, dsse.Envelope]:
        """Return a workflow, and its manifest as it was signed.

        Args:
            workflow_id: Its id, or its digest.

        Raises:
            NotFoundError: if there is none.
            IdAmbiguous: if several contexts have a workflow of this id.
        """
        record = self._find(workflow_id)
        self._submission(record)
        return record, self._graphs.envelope(record.outline.digest)

    def jobs(
        self, workflow_id: str, names: Sequence[str]
    ) -> Mapping[str, dsse.Envelope]:
        """Return the jobs of steps, by their names, as they were signed.

        One that has no job yet is left out. Only as many of the first are returned as
        one call hands out, and one at least: ask for the others again.

        Raises:
            NotFoundError: if there is no such workflow, or no such step in it.
            DamagedError: if what is stored as a job is none.
        """
        submission = self._submission(self._find(workflow_id))
        digest, index = submission.digest, submission.graph.index
        unknown = [name for name in names if name not in index]
        if unknown:
            raise NotFoundError(f"workflow {workflow_id} has no steps {shown(unknown)}")
        found: dict[str, dsse.Envelope] = {}
        size = 0
        for name in names:
            if size > MAX_HANDED:
                break
            with suppress(NotFoundError):
                job = self._store.job(digest, index[name])
                found[name] = _job_envelope(job)
                size += len(job.envelope)
        return found

    def status(self, workflow_id: str) -> Overview:
        """Return a workflow with all of its steps, as they stand now."""
        return self._overview(self._find(workflow_id))

    def result(self, workflow_id: str, *, wait: timedelta) -> WorkflowEnding:
        """Wait for a workflow's end, and return the results of its last steps.

        Raises:
            NotOverError: if it is not over in time.
        """
        record = self._until_over(self._find(workflow_id), wait)
        overview = self._overview(record)
        return WorkflowEnding(
            record=overview.record,
            results={
                overview.graph.names[leaf]: self._result_of(overview, leaf)
                for leaf in overview.graph.leaves
            },
        )

    def list(
        self, wanted: WorkflowFilter, *, limit: int, after: str | None = None
    ) -> Sequence[WorkflowRecord]:
        """Return matching workflows, newest first, from behind the one `after`."""
        behind = None if after is None else self._find(after).outline.digest
        if self._contexts is not None:
            wanted = replace(wanted, contexts=self._contexts)
        return self._store.list(wanted, limit=limit, after=behind)

    def explain(self, workflow_id: str) -> Plan:
        """Return what a workflow is in chains, groups and chords."""
        return compile_plan(self._submission(self._find(workflow_id)).graph)

    # --- workflows go ----------------------------------------------------------

    def stop(self, workflow_id: str) -> WorkflowRecord:
        """Stop a workflow: what runs is stopped, and nothing else of it starts.

        One that is over stays as it is; stopping it again changes nothing.
        """
        digest = self._find(workflow_id).outline.digest
        record = self._store.stop(digest, at=self._clock.now())
        if not record.is_over:
            self._conductor.look(digest)
            self._doorbell.ring(digest)
        return self._store.get(digest)

    def delete(self, workflow_id: str) -> None:
        """Forget a workflow; it is stopped first. The records of its jobs stay.

        Raises:
            NotOverError: if what runs of it does not end in time.
        """
        record = self.stop(workflow_id)
        if not record.is_over:
            self._until_over(record, _END_OF_STOPPED)
        self._store.delete(record.outline.digest)

    # --- how -------------------------------------------------------------------

    def _read(self, value: object, now: datetime) -> Submission:
        return read_manifest(
            value, self._home.gate(now), supervisors=self._others.keys()
        )

    def _record(self, submission: Submission, now: datetime) -> WorkflowRecord:
        record = self._store.create(
            submission.outline, submission.envelope, submission.graph, at=now
        )
        self._graphs.keep(submission)
        return record

    def _begin(
        self, digest: str, wanted: Strategy | None, now: datetime
    ) -> WorkflowRecord:
        strategy = self._feasible(digest, wanted or self._strategy)
        record = self._store.start(digest, at=now, strategy=strategy)
        # Recorded first, rung second; the sweep finds what waits for a lost one.
        if record.strategy is Strategy.CANVAS and not record.is_over:
            self._doorbell.ring_step(digest)
        elif not record.is_over:
            self._doorbell.ring(digest)
        return record

    def _feasible(self, digest: str, wanted: Strategy) -> Strategy:
        """Return how a workflow can run: by canvas only where its plan is one."""
        if wanted is Strategy.REFERENCE:
            return wanted
        plan = compile_plan(self._graphs.submission(digest).graph)
        return wanted if why_no_canvas(plan) is None else Strategy.REFERENCE

    def _find(self, workflow_id: str) -> WorkflowRecord:
        if _DIGEST.fullmatch(workflow_id):
            record = self._store.get(workflow_id)
            contexts = self._contexts
            if contexts is not None and record.outline.context_id not in contexts:
                raise NotFoundError(
                    f"there is no workflow with the digest {workflow_id}"
                )
            return record
        records = self._store.named(workflow_id, contexts=self._contexts)
        if not records:
            raise NotFoundError(f"there is no workflow {workflow_id}")
        if len(records) > 1:
            digests = tuple(one.outline.digest for one in records)
            raise IdAmbiguous(workflow_id, digests, what="workflow")
        return records[0]

    def _submission(self, record: WorkflowRecord) -> Submission:
        """Return what was let in, if it is what the record says that it is.

        Raises:
            DamagedError: if not: of another workflow nothing is shown under its id, or
                to those of its context.
        """
        outline = record.outline
        submission = self._graphs.submission(outline.digest)
        if replace(submission.outline, signed_by=outline.signed_by) != outline:
            raise DamagedError(
                f"what is stored of workflow {outline.digest} is not what was signed:"
                " delete the workflow, and submit it again"
            )
        return submission

    def _overview(self, record: WorkflowRecord) -> Overview:
        digest = record.outline.digest
        steps = [self._live(step) for step in self._store.steps(digest)]
        graph = self._submission(record).graph
        return Overview(record=record, graph=graph, steps=steps)

    def _live(self, step: StepRecord) -> StepRecord:
        """Return a step that was handed out as its job stands now, if it is at home."""
        if step.status is not StepStatus.QUEUED or step.digest is None:
            return step
        shown = self._at_home(step.digest)
        if shown is None:
            return step
        job = shown.record
        return replace(
            step,
            status=StepStatus(job.status.value),
            reason=job.reason,
            started_at=job.started_at,
            ended_at=job.ended_at,
        )

    def _result_of(self, overview: Overview, index: int) -> str | None:
        step = overview.steps[index]
        if step.status is not StepStatus.COMPLETED or step.digest is None:
            return None
        supervisor = overview.graph.supervisors[index]
        if supervisor is None:
            shown = self._at_home(step.digest)
        else:
            job = self._store.job(overview.record.outline.digest, index)
            shown = self._elsewhere(supervisor).find(job.digest, lambda: job.envelope)
        if shown is None or shown.record.status is not Status.COMPLETED:
            return None
        # Which job is the step's, the store says; that it is, only the job itself.
        own = (overview.record.outline.digest, overview.graph.names[index])
        signed = None if shown.job is None else shown.job.workflow
        if signed is None or (signed.manifest, signed.step) != own:
            return None
        return shown.record.result or ""

    def _at_home(self, digest: str) -> Shown | None:
        try:
            return self._home.get(digest)
        except NotFoundError:
            return None

    def _elsewhere(self, name: str) -> StepSupervisor:
        """Return another supervisor.

        Raises:
            UnavailableError: if the configuration does not name it any more.
        """
        if name not in self._others:
            raise UnavailableError(
                f"the supervisor {name} is not configured here any more"
            )
        return self._others[name]

    def _until_over(self, record: WorkflowRecord, wait: timedelta) -> WorkflowRecord:
        """Wait until a workflow is over.

        Raises:
            NotOverError: if the time is over first.
        """
        if record.is_over:
            return record
        digest = record.outline.digest
        deadline = time.monotonic() + wait.total_seconds()
        watched = self._wakes.watch(digest, hears=Hears.END)
        with self._home.waiter(), watched as watch:
            while True:
                record = self._store.get(digest)
                if record.is_over:
                    return record
                left = timedelta(seconds=deadline - time.monotonic())
                if left <= timedelta(0) or not watch.wait(left):
                    raise NotOverError(
                        f"workflow {record.outline.id} is {record.status} still"
                    )


def _job_envelope(job: StepJob) -> dsse.Envelope:
    with suppress(RefusedError):
        envelope = dsse.read(job.envelope, dsse.JOB)
        if envelope.digest == job.digest:
            return envelope
    raise DamagedError(
        f"what is stored as the job {job.digest} is not it: delete the workflow, and"
        " submit it again"
    )
