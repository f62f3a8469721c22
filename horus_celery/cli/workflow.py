"""`horus workflow`: sign workflows, have them run, follow them, see what is proven."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from horus_celery.authoring.programs import read_workflow
from horus_celery.authoring.rerun import Rerun, rerun
from horus_celery.authoring.signing import Submission, sign
from horus_celery.cli import FAILED, output, signals
from horus_celery.cli.board import Board
from horus_celery.cli.connection import (
    call_options,
    connect,
    pasted,
    signer_options,
)
from horus_celery.cli.job import shown_value
from horus_celery.client import Horus, RpcError
from horus_celery.dag import pictures
from horus_celery.dag.compiler import Plan, compile_plan
from horus_celery.dag.model import Graph, shown
from horus_celery.dag.progress import ENDED, ENDS, End, StepStatus, WorkflowStatus
from horus_celery.dag.shapes import Strategy, why_no_canvas
from horus_celery.errors import ConfigurationError, UnavailableError
from horus_celery.instants import to_ms
from horus_celery.runs import RunOutcome, WorkflowRun, fetch
from horus_celery.statements import canonical, dsse, manifest
from horus_celery.statements.manifest import Manifest

_LISTED: Final = (
    "id",
    "name",
    "status",
    "steps",
    "left",
    "caller_id",
    "context_id",
    "created_at",
)
_OF_A_STEP: Final = (
    "status",
    "reason",
    "supervisor",
    "started_at",
    "ended_at",
    "job_id",
)
#: Steps of which it is asked why they wait: they mostly wait for the same.
_MOST_REASONS: Final = 5
#: Of larger workflows each tenth of the signatures is told.
_MANY_STEPS: Final = 1000


@click.group()
def command() -> None:
    """Sign workflows, have them run, follow them, see what is proven.

    FILE is a workflow as TOML, as YAML or in Python, WORKFLOW a workflow's id, or its
    digest.
    """


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@signer_options
@click.option(
    "--strategy",
    type=click.Choice([one.value for one in Strategy]),
    help="How it runs; canvas only where its plan can. By default as the supervisor is"
    " configured.",
)
@click.option("--detach", is_flag=True, help="Print the id, and do not wait.")
@call_options
def run(
    *,
    file: Path,
    context: str,
    caller: str,
    key: str,
    strategy: str | None,
    detach: bool,
    url: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Sign a workflow, have it run, follow its steps, and verify what came of it.

    The exit code is 0 only if it completed and every completed step is proven; 1 if it
    failed, 3 for a refusal. Ctrl-C, or TERM, stops it: then it is 130, or 143.
    """
    draft = read_workflow(file)
    with connect(
        url=url, state_dir=state_dir, key=key, context=context, caller=caller
    ) as client:
        every = len(draft.steps)
        submission = sign(
            draft,
            client.signer(),
            now=client.now(),
            on_signed=_telling("signed", every),
        )
        wanted = None if strategy is None else Strategy(strategy)
        return hand_in(
            client,
            submission,
            strategy=wanted,
            detach=detach,
            paste=partial(pasted, url=url, state_dir=state_dir),
            as_json=as_json,
        )


@command.command()
@click.argument("workflow", metavar="FILE|WORKFLOW")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "dot", "mermaid"]),
    default="text",
    show_default=True,
    help="A picture instead: for Graphviz, or for Mermaid.",
)
@call_options
def explain(
    *, workflow: str, form: str, url: str | None, state_dir: Path | None, as_json: bool
) -> None:
    """Show what a workflow is in chains, groups and chords.

    Of a file nothing is signed, and no supervisor is asked.
    """
    plan = compile_plan(_graph(workflow, url=url, state_dir=state_dir))
    if as_json:
        refusal = why_no_canvas(plan)
        output.data(
            {
                **plan.to_wire(),
                "canvas": None if refusal is None else refusal.reason.value,
                "dot": pictures.to_dot(plan),
                "mermaid": pictures.to_mermaid(plan),
            }
        )
    elif form == "dot":
        output.text(pictures.to_dot(plan))
    elif form == "mermaid":
        output.text(pictures.to_mermaid(plan))
    else:
        explain_plan(plan)


@command.command()
@click.argument("workflow")
@call_options
def status(
    *, workflow: str, url: str | None, state_dir: Path | None, as_json: bool
) -> None:
    """Show where a workflow and its steps stand, by its coordinator's word."""
    with connect(url=url, state_dir=state_dir) as client:
        told = client.call("workflow.status", workflow_id=workflow)
        reasons = {} if as_json else _reasons(client, told["steps"])
    if as_json:
        output.data(told)
        return
    output.fields(
        (name, shown_value(name, value))
        for name, value in told.items()
        if name != "steps"
    )
    steps = told["steps"].items()
    rows = [
        [name, *(shown_value(field, step[field]) for field in _OF_A_STEP)]
        for name, step in steps
    ]
    output.line()
    output.table(["step", *_OF_A_STEP], rows)
    for name, why in reasons.items():
        output.note(output.printable(f"{name} waits: {why}"))


@command.command(name="list")
@click.option(
    "--status",
    type=click.Choice([one.value for one in WorkflowStatus]),
    help="Only those with this status.",
)
@click.option("--context", "context_id", help="Only those of this context.")
@click.option("--caller", "caller_id", help="Only those of this caller.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option("--after", help="Go on behind this workflow.")
@call_options
def list_workflows(
    *,
    url: str | None,
    state_dir: Path | None,
    as_json: bool,
    **wanted: str | int | None,
) -> None:
    """List workflows, newest first."""
    given = {name: value for name, value in wanted.items() if value is not None}
    with connect(url=url, state_dir=state_dir) as client:
        records = client.call("workflow.list", **given)
    if as_json:
        output.data(records)
        return
    rows = [[shown_value(name, one[name]) for name in _LISTED] for one in records]
    output.table(_LISTED, rows)


@command.command()
@click.argument("workflow")
@call_options
def result(
    *, workflow: str, url: str | None, state_dir: Path | None, as_json: bool
) -> int:
    """Wait for a workflow's end, verify it, and print its results.

    The exit code is as that of `horus workflow run`.
    """
    with connect(url=url, state_dir=state_dir) as client:
        keys = client.trust().caller_keys()
        submission = fetch(client, workflow, keys=keys)
        paste = partial(pasted, url=url, state_dir=state_dir)
        return follow(client, submission, paste=paste, as_json=as_json)


@command.command()
@click.argument("workflow")
@call_options
def stop(
    *, workflow: str, url: str | None, state_dir: Path | None, as_json: bool
) -> None:
    """Stop a workflow; what runs of it is stopped, and nothing else of it starts."""
    with connect(url=url, state_dir=state_dir) as client:
        told = client.call("workflow.stop", workflow_id=workflow)
    if as_json:
        output.data(told)
        return
    output.line(output.printable(f"{told['workflow_id']} {told['status']}"))


@command.command()
@click.argument("workflow")
@call_options
def delete(
    *, workflow: str, url: str | None, state_dir: Path | None, as_json: bool
) -> None:
    """Forget a workflow; it is stopped first. The records of its jobs stay."""
    with connect(url=url, state_dir=state_dir) as client:
        client.call("workflow.delete", workflow_id=workflow)
    if as_json:
        output.data(True)  # noqa: FBT003 - what the API answers
        return
    output.line(f"{workflow} deleted")


@command.command(name="rerun")
@click.argument("workflow")
@click.option(
    "--key",
    default="default",
    show_default=True,
    help="Key that signed it, and signs again: NAME or FILE.",
)
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help="The workflow as it is written now: what runs again is taken from it.",
)
@click.option("--dry-run", is_flag=True, help="Show the difference, and no more.")
@click.option("--detach", is_flag=True, help="Print the id, and do not wait.")
@call_options
def rerun_workflow(
    *,
    workflow: str,
    key: str,
    file: Path | None,
    dry_run: bool,
    detach: bool,
    url: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Run again what failed of a workflow, and what follows it.

    It must be over. The steps that run again are signed again, as a workflow of their
    own; completed steps are not run again: their results are used, once their receipts
    are verified.
    """
    with connect(url=url, state_dir=state_dir, key=key) as client:
        keys = {one.keyid: one.public for one in client.signer().keys}
        before = fetch(client, workflow, keys=keys)
        old = WorkflowRun(client, before)
        view = old.look()
        if not view.is_over:
            raise ConfigurationError(
                f"workflow {before.id} is {view.status.value}: wait for its end, or"
                " stop it, then run it again"
            )
        old.prove(view)
        plan = rerun(
            before,
            {name: one.status for name, one in view.steps.items()},
            edited=None if file is None else read_workflow(file),
        )
        if not as_json:
            _show_difference(plan)
        if dry_run:
            if as_json:
                output.data({"again": dict(plan.again), "kept": dict(plan.kept)})
            return 0
        said = before.manifest
        signer = replace(
            client.signer(), caller_id=said.caller_id, context_id=said.context_id
        )
        submission = sign(plan.draft, signer, now=client.now())
        return hand_in(
            client,
            submission,
            detach=detach,
            paste=partial(pasted, url=url, state_dir=state_dir),
            as_json=as_json,
        )


def hand_in(
    client: Horus,
    submission: Submission,
    *,
    strategy: Strategy | None = None,
    detach: bool,
    paste: Callable[..., str],
    as_json: bool,
) -> int:
    """Have a signed workflow run, show how it goes, and return the exit code.

    Args:
        client: The connection to the supervisor.
        submission: The workflow.
        strategy: How it runs, if it can.
        detach: Whether its id is all that is wanted.
        paste: Writes a command that finds the same supervisor.
        as_json: Whether a program reads it.
    """
    run_ = WorkflowRun(client, submission)
    run_.submit(_telling("handed in", len(submission.jobs)), strategy=strategy)
    if detach:
        _show_id(run_, as_json=as_json)
        return 0
    return signals.follow(
        lambda: follow(client, submission, paste=paste, as_json=as_json),
        stop=lambda: _stop(run_),
        later=paste("workflow", "stop", run_.id),
    )


def _stop(run_: WorkflowRun) -> str:
    """Have a workflow stopped, and return what is to be said of it."""
    status = run_.stop()
    if status in ENDED and status is not WorkflowStatus.STOPPED:
        return f"workflow {run_.id} was over: {status.value}"
    return f"stopped workflow {run_.id}"


def follow(
    client: Horus, submission: Submission, *, paste: Callable[..., str], as_json: bool
) -> int:
    """Show how a workflow goes until it is over, and return the exit code."""
    run_ = WorkflowRun(client, submission)
    board = Board(submission.graph.names, is_silent=as_json)
    output.note(f"workflow {run_.id}: {submission.manifest.name}")
    try:
        with board:
            view = run_.follow(board.show, on_away=output.note)
    except UnavailableError as error:
        later = paste("workflow", "result", run_.id)
        raise UnavailableError(f"{error.detail}; to see its end: {later}") from None
    outcome = run_.prove(view)
    if as_json:
        output.data(to_json(submission, outcome))
    else:
        _show_end(outcome, board, paste=paste)
    return 0 if view.status is WorkflowStatus.COMPLETED else FAILED


def explain_plan(plan: Plan) -> None:
    """Show a plan to a person."""
    names = plan.graph.names
    refusal = why_no_canvas(plan)
    output.fields(
        [
            ("steps", f"{len(plan.graph):,}"),
            ("edges", f"{plan.graph.edges:,}"),
            ("depth", f"{plan.depth:,}"),
            ("width", f"{plan.width:,}"),
            ("messages", f"{plan.messages:,}"),
            ("canvas", "yes" if refusal is None else f"no: {refusal.detail}"),
            (
                "critical path",
                shown((names[step] for step in plan.critical_path), between=" -> "),
            ),
        ]
    )
    for chain in plan.chains:
        output.line(f"chain  {shown((names[step] for step in chain), between=' -> ')}")
    for group in plan.groups:
        after = "the start" if group.after is None else names[group.after]
        members = shown(names[step] for step in group.members)
        output.line(f"group  after {after}: {members}")
    for chord in plan.chords:
        header = shown(names[step] for step in chord.header)
        output.line(f"chord  {names[chord.body]} after {chord.size:,}: {header}")


def to_json(submission: Submission, outcome: RunOutcome) -> dict[str, object]:
    """Return how a workflow ended, for a program."""
    view = outcome.view
    steps: dict[str, object] = {}
    for name, step in view.steps.items():
        proven = outcome.steps.get(name)
        steps[name] = {
            "status": step.status.value,
            "reason": step.reason,
            "job_id": step.job_id,
            "supervisor": step.supervisor,
            "started_at": to_ms(step.started_at),
            "ended_at": to_ms(step.ended_at),
            "verified": proven is not None and proven.is_verified,
        }
    return {
        "workflow_id": submission.id,
        "digest": submission.digest,
        "name": submission.manifest.name,
        "status": view.status.value,
        "reason": view.reason,
        "steps": steps,
        "results": dict(outcome.results),
    }


def _graph(workflow: str, *, url: str | None, state_dir: Path | None) -> Graph:
    """Return the graph of a file, or of a workflow that a supervisor has."""
    path = Path(workflow)
    if path.suffix or path.exists():
        return read_workflow(path).graph()
    with connect(url=url, state_dir=state_dir) as client:
        told = client.call("workflow.get", workflow_id=workflow)
    envelope = dsse.from_wire(
        told["manifest"], dsse.WORKFLOW, max_bytes=manifest.MAX_BODY
    )
    return Graph.of(Manifest.from_wire(canonical.parse(envelope.body)))


def _reasons(client: Horus, steps: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return why the first of the queued steps wait that are to run here."""
    waiting = [
        name
        for name, step in steps.items()
        if step["status"] == StepStatus.QUEUED
        and step["job_id"] is not None
        and step["supervisor"] is None
    ]
    found = {}
    for name in waiting[:_MOST_REASONS]:
        # It may be gone by now, or shown to others alone.
        with suppress(RpcError):
            told = client.why(steps[name]["job_id"])
            if told["status"] == StepStatus.QUEUED:
                found[name] = told["detail"]
    return found


def _show_difference(plan: Rerun) -> None:
    rows = [(name, status.value, "runs again") for name, status in plan.again.items()]
    rows += [(name, status.value, "is kept") for name, status in plan.kept.items()]
    width = max(len(name) for name, _, _ in rows)
    for name, status, what in rows:
        output.note(f"{name:<{width}}  {status:<9}  {what}")


def _telling(done: str, every: int) -> Callable[[int], None] | None:
    """Return what tells how far a long work is; None where it is short."""
    if every < _MANY_STEPS:
        return None
    tenth = every // 10
    told = 0

    def tell(count: int) -> None:
        nonlocal told
        if count // tenth > told:
            told = count // tenth
            output.note(f"{done}: {count:,} of {every:,} jobs")

    return tell


def _show_id(run_: WorkflowRun, *, as_json: bool) -> None:
    if as_json:
        output.data({"workflow_id": run_.id})
    else:
        output.line(run_.id)


def _show_end(outcome: RunOutcome, board: Board, *, paste: Callable[..., str]) -> None:
    view = outcome.view
    for name, result in outcome.results.items():
        if result:
            told = output.printable(result.rstrip(), keep="\n\t")
            output.line(f"{name}: {told}")
    for name, step in view.steps.items():
        if step.job_id is not None and ENDS[step.status] is End.FAILED:
            where = "" if step.supervisor is None else f" at {step.supervisor}"
            told = f"see: {paste('job', 'logs', step.job_id)}  # {name}{where}"
            output.note(output.printable(told))
    proven = sum(one.is_verified for one in outcome.steps.values())
    output.note(
        f"{view.status.value}: {board.totals}; {proven:,} verified; took {board.took}"
    )
