"""A workflow in the hands of a client: handed in, followed, and proven at its end.

What a coordinator shows of a workflow is its word. Which steps completed the receipts
of their runners prove; from that and from the manifest follows which steps had to run,
which to be skipped, and how the whole ended. What is shown otherwise is not believed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from horus_celery.authoring.drafts import WorkflowDraft
from horus_celery.authoring.rerun import read_back
from horus_celery.authoring.signing import Submission, sign
from horus_celery.client import NOT_OVER, Horus, RpcError
from horus_celery.dag.progress import (
    ENDED,
    ENDS,
    Decision,
    End,
    StepStatus,
    WorkflowStatus,
    follows,
)
from horus_celery.dag.shapes import Strategy
from horus_celery.errors import ReceiptError, UnavailableError
from horus_celery.instants import from_ms
from horus_celery.outcome import Outcome, Submitted

#: Bytes of JSON up to which a workflow is handed in by one call. A supervisor takes
#: 4 MiB, if its settings do not say otherwise.
ONE_CALL: Final = 3 * 1024 * 1024
#: Bytes of JSON of the jobs that one of several calls hands in.
PIECE: Final = 1024 * 1024

#: Between two looks, which are at least three times as far apart as one takes.
PAUSE: Final = timedelta(seconds=0.25)
_LOOKS: Final = 3
_LONGEST_PAUSE: Final = timedelta(seconds=5)
#: Jobs that are asked for by one call.
_FETCHED: Final = 1000
_TOO_LARGE: Final = -32023


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """Where a step stands, by the coordinator's word."""

    status: StepStatus
    reason: str | None = None
    job_id: str | None = None
    supervisor: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """Where a workflow stands, by the coordinator's word."""

    status: WorkflowStatus
    reason: str | None
    #: By name.
    steps: Mapping[str, StepView]
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Whether its status will never change again."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a workflow ended, and what is proven of its steps."""

    view: RunView
    #: By name, of the steps whose jobs a supervisor has a record of.
    steps: Mapping[str, Outcome]
    #: What came of the steps that nothing depends on and that completed.
    results: Mapping[str, str]


class WorkflowRun:
    """A signed workflow at a supervisor; by one thread at a time, as its client."""

    def __init__(
        self,
        client: Horus,
        submission: Submission,
        *,
        pause: timedelta = PAUSE,
        patience: timedelta | None = None,
        retry: timedelta | None = None,
    ) -> None:
        """Take the workflow, whether it was handed in before or not.

        Args:
            client: The connection to the supervisor.
            submission: The workflow, signed.
            pause: Between two looks; it grows with how long a look takes.
            patience: How long the supervisor may be away while it is followed; a minute
                by default.
            retry: Between two calls while it is; a second by default.
        """
        self._client = client
        self._submission = submission
        self._pause = pause
        self._patience = patience
        self._retry = retry

    @property
    def id(self) -> str:
        """The workflow's id."""
        return self._submission.id

    def submit(
        self,
        on_sent: Callable[[int], object] | None = None,
        *,
        strategy: Strategy | None = None,
    ) -> None:
        """Have the workflow started; the same one again changes nothing.

        Args:
            on_sent: Called with the number of jobs that were handed in so far, where
                they are too many for one call.
            strategy: How it runs, if it can; by default as the supervisor says.

        Raises:
            RpcError: if the supervisor refuses it.
        """
        wire = self._submission.to_wire()
        wanted = {} if strategy is None else {"strategy": strategy.value}
        if _size(wire) <= ONE_CALL:
            try:
                self._client.call("workflow.submit", **wire, **wanted)
            except RpcError as error:
                if error.code != _TOO_LARGE:
                    raise
            else:
                return
        self._submit_in_pieces(wire, wanted, on_sent)

    def follow(
        self,
        on_look: Callable[[RunView], object],
        *,
        on_away: Callable[[str], None] | None = None,
    ) -> RunView:
        """Wait until the workflow is over, however long it takes.

        Args:
            on_look: Called with what is shown of it, again and again.
            on_away: Told, for a person, that the supervisor does not answer any more,
                and that it does again.

        Raises:
            UnavailableError: if the supervisor stays away.
            RpcError: if it answers, and is not able to go on.
        """
        absence = self._client.absence(
            on_away, patience=self._patience, retry=self._retry
        )
        while True:
            began = time.monotonic()
            view = absence.insist(self.look)
            on_look(view)
            if view.is_over:
                return view
            looked = timedelta(seconds=time.monotonic() - began)
            absence.insist(partial(self._wait, looked))

    def look(self) -> RunView:
        """Return what is shown of the workflow now.

        Raises:
            ReceiptError: if it has other steps than the manifest.
        """
        told = self._client.call("workflow.status", workflow_id=self._submission.digest)
        steps = {name: _step(one) for name, one in told["steps"].items()}
        if steps.keys() != self._submission.jobs.keys():
            raise ReceiptError(
                f"workflow {self.id} is shown with other steps than were signed"
            )
        return RunView(
            status=WorkflowStatus(told["status"]),
            reason=told["reason"],
            steps=steps,
            started_at=_instant(told["started_at"]),
            ended_at=_instant(told["ended_at"]),
        )

    def stop(self) -> WorkflowStatus:
        """Stop the workflow and return its status; a second time changes nothing."""
        digest = self._submission.digest
        told = self._client.call("workflow.stop", workflow_id=digest)
        return WorkflowStatus(told["status"])

    def prove(self, view: RunView) -> RunOutcome:
        """Return how the workflow ended, once that is proven.

        Raises:
            ReceiptError: naming the step that is not as its runner signed, or not as
                the manifest says it must be after what is proven.
        """
        outcomes = {
            name: self._proven(name, record) for name, record in self._records()
        }
        for name, shown in view.steps.items():
            self._require_proof(name, shown, outcomes.get(name))
        self._require_rules(view)
        graph = self._submission.graph
        leaves = (graph.names[leaf] for leaf in graph.leaves)
        return RunOutcome(
            view=view,
            steps=outcomes,
            results={
                name: outcomes[name].result or ""
                for name in leaves
                if name in outcomes and outcomes[name].succeeded
            },
        )

    # --- handing in ----------------------------------------------------------

    def _submit_in_pieces(
        self,
        wire: Mapping[str, Any],
        wanted: Mapping[str, str],
        on_sent: Callable[[int], object] | None,
    ) -> None:
        self._client.call("workflow.create", manifest=wire["manifest"])
        sent = 0
        for piece in _pieces(wire["jobs"]):
            self._client.call(
                "workflow.add_jobs", workflow_id=self._submission.digest, jobs=piece
            )
            sent += len(piece)
            if on_sent is not None:
                on_sent(sent)
        self._client.call(
            "workflow.start", workflow_id=self._submission.digest, **wanted
        )

    # --- waiting -------------------------------------------------------------

    def _wait(self, looked: timedelta) -> None:
        """Wait for the end of the workflow, or until it is time for another look."""
        pause = min(max(self._pause, _LOOKS * looked), _LONGEST_PAUSE).total_seconds()
        began = time.monotonic()
        try:
            self._client.call(
                "workflow.result", workflow_id=self._submission.digest, wait=pause
            )
        except RpcError as error:
            if error.code != NOT_OVER:
                raise
            # At once, if too many callers wait already; then it is on us to wait.
            time.sleep(max(0.0, pause - (time.monotonic() - began)))

    # --- proving -------------------------------------------------------------

    def _records(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the records of the steps' jobs, each with the name of its step."""
        names = {
            one.envelope.digest: name for name, one in self._submission.jobs.items()
        }
        after = None
        while page := self._client.list(workflow_id=self.id, limit=1000, after=after):
            for record in page:
                # Jobs of another workflow with this id are not ours.
                if record["digest"] in names:
                    yield names[record["digest"]], record
            after = page[-1]["digest"]

    def _proven(self, name: str, record: Mapping[str, Any]) -> Outcome:
        signed = self._submission.jobs[name]
        job = Submitted(id=signed.job.id, digest=signed.envelope.digest, job=signed.job)
        with _about_step(name):
            return self._client.proven(record, job)

    def _require_proof(
        self, name: str, shown: StepView, outcome: Outcome | None
    ) -> None:
        """See that a step is shown as what is proven of its job.

        That a step did not complete need not be proven: a supervisor could refuse its
        job as well, of which there is no record then.
        """
        if outcome is None:
            if shown.status is StepStatus.COMPLETED:
                raise ReceiptError(
                    f"step {name} is shown as completed, and there is no record of its"
                    " job: do not believe it"
                )
            return
        if shown.status.value != outcome.status.value:
            raise ReceiptError(
                f"step {name} is shown as {shown.status.value}, and its job was"
                f" {outcome.status.value}"
            )

    def _require_rules(self, view: RunView) -> None:
        graph = self._submission.graph
        shown = {step: view.steps[name].status for step, name in enumerate(graph.names)}
        has_failed = False
        for step, decision in enumerate(follows(graph, shown)):
            status = shown[step]
            if not _may_have_ended(status, decision, view.status):
                raise ReceiptError(
                    f"step {graph.names[step]} is shown as {status.value}, and after"
                    f" what came before it must {decision.value}"
                )
            is_fatal = graph.on_failure[step] == "fail"
            has_failed = has_failed or (ENDS[status] is End.FAILED and is_fatal)
        if has_failed and view.status is WorkflowStatus.COMPLETED:
            raise ReceiptError(
                f"workflow {self.id} is shown as completed, but a step of it failed"
            )


def run_workflow(
    client: Horus,
    draft: WorkflowDraft,
    *,
    on_look: Callable[[RunView], object] = lambda _: None,
    strategy: Strategy | None = None,
) -> RunOutcome:
    """Sign a workflow, have it run, and return what is proven of it at its end.

    Args:
        client: The connection to a supervisor; it signs.
        draft: What somebody wrote.
        on_look: Called with what is shown of it, again and again.
        strategy: How it runs, if it can; by default as the supervisor says.

    Raises:
        MalformedError: `schema.*`, naming the step.
        WorkflowError: if its steps cannot be run.
        RpcError: if the supervisor refuses it.
        ReceiptError: if its end is not as it was shown.
    """
    run = WorkflowRun(client, sign(draft, client.signer(), now=client.now()))
    run.submit(strategy=strategy)
    return run.prove(run.follow(on_look))


def fetch(client: Horus, workflow_id: str, *, keys: Mapping[str, bytes]) -> Submission:
    """Return a workflow that certain keys signed, as its supervisor keeps it.

    Args:
        client: The connection to the supervisor.
        workflow_id: Its id, or its digest.
        keys: The public keys by their ids, one of which must have signed each part.

    Raises:
        SignatureError: if none of them signed a part of it.
        RpcError: if there is no such workflow.
        UnavailableError: if the supervisor does not have all of its jobs.
    """
    steps = list(client.call("workflow.status", workflow_id=workflow_id)["steps"])
    jobs: dict[str, Any] = {}
    while True:
        missing = [name for name in steps if name not in jobs][:_FETCHED]
        told = client.call("workflow.get", workflow_id=workflow_id, steps=missing)
        jobs |= told["jobs"]
        if len(jobs) == len(steps):
            return read_back(told["manifest"], jobs, keys)
        if not told["jobs"]:
            raise UnavailableError(
                f"the supervisor does not have all jobs of workflow {workflow_id}"
            )


def _may_have_ended(
    status: StepStatus, decision: Decision, whole: WorkflowStatus
) -> bool:
    """Say whether a step may be so once its workflow is over."""
    if status is StepStatus.SKIPPED:
        # A stop skips steps whose turn would have come.
        return decision is Decision.SKIP or whole is WorkflowStatus.STOPPED
    return status in ENDS and decision is Decision.START


def _step(told: Mapping[str, Any]) -> StepView:
    return StepView(
        status=StepStatus(told["status"]),
        reason=told["reason"],
        job_id=told["job_id"],
        supervisor=told["supervisor"],
        started_at=_instant(told["started_at"]),
        ended_at=_instant(told["ended_at"]),
    )


def _instant(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)


@contextmanager
def _about_step(name: str) -> Iterator[None]:
    """Have what is not to be believed name the step that it is about."""
    try:
        yield
    except ReceiptError as error:
        raise ReceiptError(f"step {name}: {error.detail}") from None


def _size(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":")))


def _pieces(jobs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the jobs in their order, as many at a time as one call should hand in."""
    piece: dict[str, Any] = {}
    size = 0
    for name, envelope in jobs.items():
        length = _size(envelope)
        if piece and size + length > PIECE:
            yield piece
            piece, size = {}, 0
        piece[name] = envelope
        size += length
    if piece:
        yield piece
