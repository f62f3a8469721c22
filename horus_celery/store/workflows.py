"""What a store of workflows promises: where each step stands, and which may start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from horus_celery.dag.model import Graph
from horus_celery.dag.progress import StepStatus, WorkflowStatus
from horus_celery.dag.shapes import Strategy
from horus_celery.errors import ConflictError, WorkflowError
from horus_celery.store.base import Histogram

#: Envelopes that one call hands out, in bytes: what comes later is for the next call.
MAX_HANDED: Final = 4 * 1024 * 1024
#: How long a step that may start is left to the message that canvas brings. After that
#: it is handed out, and its workflow goes on by reference.
GRACE: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What a store repeats of a manifest, so that lists open no envelopes.

    Copied from the verified manifest when it was admitted.
    """

    #: The digest of the manifest: the identity of the workflow.
    digest: str
    id: str
    caller_id: str
    context_id: str
    name: str
    max_parallel: int | None
    expires_at: datetime
    #: The ids of the trusted keys that signed the manifest.
    signed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepJob:
    """The job of a step, as it is kept until it starts."""

    index: int
    job_id: str
    digest: str
    #: The envelope as JSON text.
    envelope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRecord:
    """A workflow and what has become of it so far."""

    outline: Outline
    status: WorkflowStatus
    #: How many steps it has.
    steps: int
    #: How many of them have no job yet.
    missing: int
    #: How many of them are not over.
    left: int
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    #: When it was asked to stop.
    stop_at: datetime | None = None
    #: How it runs, or ran to its end.
    strategy: Strategy = Strategy.REFERENCE

    @property
    def is_over(self) -> bool:
        """Whether the status will never change again."""
        return self.ended_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """Where a step stands, as far as the workflow knows.

    One that was handed out is `queued`: what became of its job since, its supervisor
    knows. It is `running` once somebody has told that it runs.
    """

    index: int
    status: StepStatus
    reason: str | None = None
    #: None: it has no job yet.
    job_id: str | None = None
    digest: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A step that was handed out: it is for its taker to start its job."""

    index: int
    supervisor: str | None
    job_id: str
    digest: str
    #: The envelope as JSON text; empty where only its end is asked for.
    envelope: str
    #: Whether steps of its workflow run at several supervisors.
    is_shared: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Steps that were handed out."""

    steps: Sequence[Handed]
    #: Whether there is more to do at once: call again.
    has_more: bool
    #: Other supervisors that have steps to start now.
    waiting: frozenset[str | None]
    #: Steps that completed by the ends that were noted, if canvas goes on from them.
    done: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnd:
    """How the job of a step ended."""

    #: The digest of the job, by which its step is known while it is handed out.
    digest: str
    #: COMPLETED, FAILED, STOPPED or REJECTED.
    status: StepStatus
    reason: str | None = None
    started_at: datetime | None = None
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowFilter:
    """Which workflows a list shows: those that agree with every field but None."""

    context_id: str | None = None
    caller_id: str | None = None
    status: WorkflowStatus | None = None
    #: Only workflows of these contexts; None is all of them.
    contexts: frozenset[str] | None = None

    def has(self, record: WorkflowRecord) -> bool:
        """Say whether a workflow agrees."""
        said = record.outline
        if self.contexts is not None and said.context_id not in self.contexts:
            return False
        pairs = (
            (self.context_id, said.context_id),
            (self.caller_id, said.caller_id),
            (self.status, record.status),
        )
        return all(wanted is None or wanted == is_ for wanted, is_ in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowTally:
    """What happened to the workflows of a deployment since it began."""

    started: int
    #: By status.
    ended: Mapping[WorkflowStatus, int]
    #: Steps that are over, by status; those that were skipped, too.
    steps: Mapping[StepStatus, int]
    #: From the end of a step's job to when its workflow went on from it.
    noticed: Histogram


def incomplete(digest: str, missing: int) -> WorkflowError:
    """Return the refusal to start a workflow that has not all of its jobs."""
    return WorkflowError(
        "workflow.missing_job",
        f"{missing} steps of workflow {digest} have no job: add them first",
    )


def step_taken(digest: str, index: int) -> ConflictError:
    """Return the refusal of a second job for one step."""
    return ConflictError(
        f"step {index} of workflow {digest} has another job already",
        reason="step_taken",
    )


def not_over(digest: str, status: str) -> ConflictError:
    """Return the refusal to delete a workflow that is not over."""
    return ConflictError(
        f"workflow {digest} is {status} still: stop it first", reason="not_over"
    )


class WorkflowStore(Protocol):
    """One record per workflow, found by the digest of its manifest.

    Every change is one atomic step and may be made again: what was done already is not
    done twice. One call does a bounded amount of work; where it says that there is more
    to do, whoever calls `take` next goes on with it. Raises as `RecordStore` does.
    """

    def create(
        self, outline: Outline, manifest: str, graph: Graph, *, at: datetime
    ) -> WorkflowRecord:
        """Record a workflow that has just been admitted, still without jobs.

        Creating the same one again returns the record that it has.

        Raises:
            IdTaken: if that context has another workflow under that id.
        """
        ...

    def add_jobs(self, digest: str, jobs: Sequence[StepJob]) -> int:
        """Keep the jobs of steps, and return how many steps are without one.

        A job that a step has already changes nothing.

        Raises:
            NotFoundError: if there is no such workflow.
            ConflictError: if a step has another job.
        """
        ...

    def start(
        self, digest: str, *, at: datetime, strategy: Strategy = Strategy.REFERENCE
    ) -> WorkflowRecord:
        """Let the steps start that wait for no other; a second time changes nothing.

        By canvas, `take` leaves steps to `take_step` for `GRACE`. Where it has to hand
        one out after that, the workflow goes on by reference.

        Raises:
            NotFoundError: if there is no such workflow.
            WorkflowError: `workflow.missing_job`, if it has not all of its jobs.
        """
        ...

    def take(
        self,
        digest: str,
        *,
        at: datetime,
        limit: int,
        until: datetime,
        supervisor: str | None = None,
        ends: Sequence[StepEnd] = (),
    ) -> Taken:
        """Note ends, as `ended` does, and hand out steps that may start now.

        They are those of a supervisor. Their takers start their jobs. Until `until`
        nobody else is told of them.
        Nothing is handed out of a workflow that there is not, or that is to stop.
        """
        ...

    def take_step(
        self, digest: str, index: int, *, at: datetime, until: datetime
    ) -> Handed | None:
        """Hand out one step of a workflow that runs by canvas, as `take` does.

        None, if it may not start now.
        """
        ...

    def mark(self, digest: str, mark: str, member: int) -> int:
        """Mark a step, and return how many steps of its workflow have that mark then.

        0, if it had it already, or if the workflow does not run by canvas now.
        """
        ...

    def began(self, digest: str, job: str, *, at: datetime) -> None:
        """Note since when the job of a step runs, if it was handed out, for people.

        Args:
            digest: The workflow.
            job: The digest of the job.
            at: When it began, by the word of its supervisor.
        """
        ...

    def tally(self) -> WorkflowTally:
        """Return what happened to the workflows so far."""
        ...

    def postpone(
        self, digest: str, index: int, *, until: datetime, note: str, at: datetime
    ) -> None:
        """Give back a step that could not be started; it may start after `until`.

        Args:
            digest: The workflow.
            index: The step.
            until: When it is handed out again at the earliest.
            note: Why, for people.
            at: The time.
        """
        ...

    def ended(
        self, digest: str, ends: Sequence[StepEnd], *, at: datetime
    ) -> WorkflowRecord | None:
        """Note how steps ended that were handed out; what was noted stays as it is.

        Returns the workflow as it is then; None if there is no such workflow.
        """
        ...

    def job(self, digest: str, index: int) -> StepJob:
        """Return the job of a step.

        Raises:
            NotFoundError: if there is no such workflow, or the step has no job yet.
        """
        ...

    def digests_of(self, digest: str, indexes: Sequence[int]) -> Mapping[int, str]:
        """Return the digests of the jobs of these steps; one without is left out."""
        ...

    def look(
        self,
        digest: str,
        *,
        at: datetime,
        again_at: datetime,
        limit: int,
        supervisor: str | None = None,
    ) -> Sequence[Handed]:
        """Return steps of a supervisor that are to be looked at, without envelopes.

        Those that were handed out, and that nobody has told of since.

        Nobody else is told of them until `again_at`.
        """
        ...

    def overdue(self, *, at: datetime, limit: int) -> Sequence[str]:
        """Return workflows in which something is to be done by then, longest first."""
        ...

    def stop(self, digest: str, *, at: datetime) -> WorkflowRecord:
        """Let no further step start; it is over when those handed out are.

        These are to be looked at now, whatever was told to whom.
        A second time changes nothing, and neither does it when the workflow is over.

        Raises:
            NotFoundError: if there is no such workflow.
        """
        ...

    def delete(self, digest: str) -> None:
        """Forget a workflow that is over; forgetting it twice is fine.

        Raises:
            ConflictError: if it is not over.
        """
        ...

    def get(self, digest: str) -> WorkflowRecord:
        """Return a workflow.

        Raises:
            NotFoundError: if there is none.
        """
        ...

    def manifest(self, digest: str) -> str:
        """Return the manifest's envelope as JSON text.

        Raises:
            NotFoundError: if there is no such workflow.
        """
        ...

    def steps(self, digest: str) -> Sequence[StepRecord]:
        """Return where all steps stand, in the order of their index.

        Those that never started in a workflow that was stopped were skipped.

        Raises:
            NotFoundError: if there is no such workflow.
        """
        ...

    def step(self, digest: str, index: int) -> StepRecord:
        """Return where one step stands.

        Raises:
            NotFoundError: if there is no such workflow, or no such step in it.
        """
        ...

    def named(
        self, workflow_id: str, *, contexts: frozenset[str] | None = None
    ) -> Sequence[WorkflowRecord]:
        """Return the workflows of this id: one per context at most, oldest first."""
        ...

    def list(
        self, wanted: WorkflowFilter, *, limit: int, after: str | None = None
    ) -> Sequence[WorkflowRecord]:
        """Return matching workflows, newest first, from behind the digest `after`.

        Raises:
            NotFoundError: if there is no workflow of the digest `after`.
        """
        ...

    def finished(self, *, before: datetime, limit: int) -> Sequence[str]:
        """Return digests of workflows that ended before that moment, oldest first."""
        ...
