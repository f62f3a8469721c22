"""`horus workflow`: sign workflows, have them run, follow them, see what is proven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from horus_celery.authoring.files import read_file
from horus_celery.authoring.rerun import Rerun, rerun
from horus_celery.authoring.signing import Submission, sign
from horus_celery.cli import FAILED, INTERRUPTED, output
from horus_celery.cli.board import Board
from horus_celery.cli.connection import connect, json_option, state_option, url_option
from horus_celery.client import Horus
from horus_celery.dag import pictures
from horus_celery.dag.compiler import Plan, compile_plan
from horus_celery.dag.model import shown
from horus_celery.dag.progress import ENDS, End, WorkflowStatus
from horus_celery.dag.shapes import why_no_canvas
from horus_celery.errors import ConfigurationError
from horus_celery.instants import to_ms
from horus_celery.runs import RunOutcome, WorkflowRun, fetch

#: Of larger workflows each tenth of the signatures is told.
_MANY_STEPS: Final = 1000


@click.group()
def command() -> None:
    """Sign workflows, have them run, follow them, see what is proven.

    FILE is a workflow as TOML or YAML.
    """


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--context", default="default", show_default=True, help="Whose data.")
@click.option("--caller", default="default", show_default=True, help="Who asks.")
@click.option(
    "--key",
    default="default",
    show_default=True,
    help="Key to sign with: NAME or FILE.",
)
@click.option("--detach", is_flag=True, help="Print the id, and do not wait.")
@url_option
@state_option
@json_option
def run(
    *,
    file: Path,
    context: str,
    caller: str,
    key: str,
    detach: bool,
    url: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Sign a workflow, have it run, follow its steps, and verify what came of it.

    The exit code is 0 only if it completed and every completed step is proven; 1 if it
    failed, 3 for a refusal.
    """
    draft = read_file(file)
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
        return hand_in(client, submission, detach=detach, as_json=as_json)


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "dot", "mermaid"]),
    default="text",
    show_default=True,
    help="A picture instead: for Graphviz, or for Mermaid.",
)
@json_option
def explain(*, file: Path, form: str, as_json: bool) -> None:
    """Show what a workflow is in chains, groups and chords; nothing is signed."""
    plan = compile_plan(read_file(file).graph())
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


@command.command(name="rerun")
@click.argument("workflow")
@click.option(
    "--key",
    default="default",
    show_default=True,
    help="Key that signed it, and signs again: NAME or FILE.",
)
@click.option("--dry-run", is_flag=True, help="Show the difference, and no more.")
@click.option("--detach", is_flag=True, help="Print the id, and do not wait.")
@url_option
@state_option
@json_option
def rerun_workflow(
    *,
    workflow: str,
    key: str,
    dry_run: bool,
    detach: bool,
    url: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Run again what failed of a workflow, and what follows it.

    WORKFLOW is the id, or the digest, of one that is over. The steps that run again
    are signed again, as a workflow of their own; completed steps are not run again:
    their results are used, once their receipts are verified.
    """
    with connect(url=url, state_dir=state_dir, key=key) as client:
        before = fetch(client, workflow)
        old = WorkflowRun(client, before)
        view = old.look()
        if not view.is_over:
            raise ConfigurationError(
                f"workflow {before.id} is {view.status.value}: wait for its end, or"
                " stop it, then run it again"
            )
        old.prove(view)
        plan = rerun(before, {name: one.status for name, one in view.steps.items()})
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
        return hand_in(client, submission, detach=detach, as_json=as_json)


def hand_in(
    client: Horus, submission: Submission, *, detach: bool, as_json: bool
) -> int:
    """Have a signed workflow run, show how it goes, and return the exit code."""
    run_ = WorkflowRun(client, submission)
    run_.submit(_telling("handed in", len(submission.jobs)))
    if detach:
        _show_id(run_, as_json=as_json)
        return 0
    board = Board(submission.graph.names, is_silent=as_json)
    output.note(f"workflow {run_.id}: {submission.manifest.name}")
    try:
        with board:
            view = run_.follow(board.show)
    except KeyboardInterrupt:
        run_.stop()
        output.note(f"stopped workflow {run_.id}")
        return INTERRUPTED
    outcome = run_.prove(view)
    if as_json:
        output.data(to_json(submission, outcome))
    else:
        _show_end(outcome, board)
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


def _show_end(outcome: RunOutcome, board: Board) -> None:
    view = outcome.view
    for name, result in outcome.results.items():
        if result:
            told = output.printable(result.rstrip(), keep="\n\t")
            output.line(f"{name}: {told}")
    for name, step in view.steps.items():
        if step.job_id is not None and ENDS[step.status] is End.FAILED:
            output.note(f"see: horus job logs {step.job_id}  # {name}")
    proven = sum(one.is_verified for one in outcome.steps.values())
    output.note(
        f"{view.status.value}: {board.totals}; {proven:,} verified; took {board.took}"
    )
