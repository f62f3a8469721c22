"""`horus job`: look at jobs, stop them, delete them; check an envelope."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from horus_celery.check import ACCEPT, builds_on, check_job, read_trust_text
from horus_celery.cli import FAILED, REFUSED, output
from horus_celery.cli.connection import call_options, connect, pasted
from horus_celery.cli.run import (
    exit_code,
    is_as_signed,
    show_all,
    summary,
    to_json,
)
from horus_celery.client import Horus, Transcript
from horus_celery.errors import ConfigurationError, NotFoundError
from horus_celery.instants import from_ms
from horus_celery.journal import Journal
from horus_celery.lifecycle import TERMINAL, Status

_LISTED = (
    "id",
    "status",
    "reason",
    "executor",
    "caller_id",
    "context_id",
    "created_at",
)


@click.group()
def command() -> None:
    """Look at jobs, stop them, delete them; check an envelope.

    JOB is a job's id, or its digest.
    """


@command.command()
@click.argument("job")
@call_options
def show(*, job: str, url: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Show a job and what became of it."""
    with connect(url=url, state_dir=state_dir) as client:
        record = client.get(job)
    if as_json:
        output.data(record)
        return
    output.fields(_told(record))


@command.command(name="list")
@click.option("--status", help="Only those with this status.")
@click.option("--executor", help="Only those of this executor.")
@click.option("--runner", help="Only those for this runner.")
@click.option("--context", "context_id", help="Only those of this context.")
@click.option("--caller", "caller_id", help="Only those of this caller.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option("--after", help="Go on behind this job.")
@call_options
def list_jobs(
    *,
    url: str | None,
    state_dir: Path | None,
    as_json: bool,
    **wanted: str | int | None,
) -> None:
    """List jobs, newest first; long ones in shorter pages: go on with --after."""
    given = {name: value for name, value in wanted.items() if value is not None}
    with connect(url=url, state_dir=state_dir) as client:
        records = client.list(**given)
    if as_json:
        output.data(records)
        return
    rows = [dict(_told(record)) for record in records]
    output.table(_LISTED, [[row[name] for name in _LISTED] for row in rows])


@command.command()
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Until the job is over.")
@call_options
def logs(
    *, job: str, follow: bool, url: str | None, state_dir: Path | None, as_json: bool
) -> int:
    """Show a job's output, each line on the stream that it came from.

    The exit code is 1 if the job is over and that is not what the runner signed.
    """
    with connect(url=url, state_dir=state_dir) as client:
        if as_json:
            page = client.call("job.logs", job_id=job, limit=1000)
            output.data(page)
            return 0
        # Before the lines are read: whatever was written before its end is read then.
        is_over = follow or client.status(job)["status"] in TERMINAL
        transcript = Transcript(may_repeat=True)
        show_all(client.logs(job, follow=follow, verify=False), transcript)
        if is_over and not is_as_signed(transcript, client.outcome(job)):
            return FAILED
    return 0


@command.command()
@click.argument("job")
@call_options
def result(*, job: str, url: str | None, state_dir: Path | None, as_json: bool) -> int:
    """Wait for a job's end, verify it, and print its result alone.

    The exit code is as that of `horus run`.
    """
    with connect(url=url, state_dir=state_dir) as client:
        outcome = client.outcome(job)
    if as_json:
        output.data(to_json(outcome))
    else:
        output.text(outcome.result or "")
        output.note(summary(outcome))
    return exit_code(outcome)


@command.command()
@click.argument("job")
@call_options
def receipt(
    *, job: str, url: str | None, state_dir: Path | None, as_json: bool
) -> None:
    """Verify a job's receipt and show it; with --json the signed envelope."""
    with connect(url=url, state_dir=state_dir) as client:
        envelope = client.call("job.receipt", job_id=job)
        if envelope is None:
            raise NotFoundError(f"job {job} has no receipt: no runner has ended it yet")
        outcome = client.outcome(job)
    if as_json:
        output.data(envelope)
    elif outcome.receipt is not None:
        values = outcome.receipt.to_wire()
        output.fields((name, _flat(value)) for name, value in values.items())


@command.command()
@click.argument("job")
@call_options
def why(*, job: str, url: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Say the one thing that holds a job now, or what ended it."""
    with connect(url=url, state_dir=state_dir) as client:
        told = client.why(job)
        if as_json:
            output.data(told)
            return
        paste = partial(pasted, url=url, state_dir=state_dir)
        look = where_to_look(client, job, told, paste=paste)
    said = told["detail"] or told["gate"]
    # How one ended begins with its status already.
    is_over = told["status"] in TERMINAL
    output.line(output.printable(said if is_over else f"{told['status']}: {said}"))
    if look is not None:
        output.note(f"see: {look}")


@command.command()
@click.argument("job")
@call_options
def stop(*, job: str, url: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Stop a job; stopping it again changes nothing."""
    with connect(url=url, state_dir=state_dir) as client:
        status = client.stop(job)
    if as_json:
        output.data(status)
        return
    output.line(output.printable(f"{status['job_id']} {status['status']}"))


@command.command()
@click.argument("job")
@call_options
def delete(*, job: str, url: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Forget a job; one that is not over is stopped first."""
    with connect(url=url, state_dir=state_dir) as client:
        client.delete(job)
    if as_json:
        output.data(True)  # noqa: FBT003 - what the API answers
        return
    output.line(f"{job} deleted")


@command.command()
@click.option(
    "--trust",
    "trust_file",
    type=click.Path(path_type=Path),
    required=True,
    help="A trust bundle: its envelope, or its bare body.",
)
@click.option("--runner", required=True, help="The name of the runner.")
@click.option("--executors", required=True, metavar="A,B", help="What it serves.")
@click.option("--aud", required=True, help="The deployment that it belongs to.")
@click.option("--contexts", metavar="A,B", default="*", help="Whom it serves.")
@click.option("--at", type=int, metavar="MS", help="Its clock; by default now.")
@click.option(
    "--journal",
    type=click.Path(path_type=Path),
    help="Its journal, in which the job is claimed; by default an empty one.",
)
def check(
    *,
    trust_file: Path,
    runner: str,
    executors: str,
    aud: str,
    contexts: str,
    at: int | None,
    journal: Path | None,
) -> int:
    """Say what a runner would say to the envelope on standard input.

    Prints `accept`, or the reason code; the exit code is 0 or 3. There are no records
    here: a note says so where the job builds on others.
    """
    envelope = sys.stdin.buffer.read()
    verdict = check_job(
        envelope,
        trust=read_trust_text(_read(trust_file)),
        name=runner,
        executors=_names(executors),
        aud=aud,
        contexts=_names(contexts),
        now=_moment(at),
        journal=None if journal is None else Journal(journal),
    )
    output.line(verdict)
    if verdict != ACCEPT:
        return REFUSED
    if others := builds_on(envelope):
        output.note(
            f"it builds on {len(others)} other job{'s' * (len(others) > 1)}: a runner"
            " would also want the receipts, which are not here"
        )
    return 0


def where_to_look(
    client: Horus, job: str, told: Mapping[str, Any], *, paste: Callable[..., str]
) -> str | None:
    """Return the command that says more of what holds a job, or ended it."""
    if told["status"] == Status.QUEUED and told["gate"] == "runner":
        return paste("runners", "list")
    if told["status"] != Status.REJECTED:
        return None
    receipt = client.outcome(job).receipt
    if receipt is None:
        return None
    # Its line `job refused` says in words what the receipt has as a code.
    return paste("runners", "logs", receipt.runner)


def _names(words: str) -> frozenset[str]:
    return frozenset(word.strip() for word in words.split(",") if word.strip())


def _moment(at: int | None) -> datetime:
    if at is None:
        return datetime.now(UTC)
    try:
        return from_ms(at)
    except ValueError:
        raise click.UsageError("--at takes milliseconds since the epoch") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None


def shown_value(name: str, value: Any) -> str:  # noqa: ANN401 - a field of a record
    """Return a field of what the API shows, for a person."""
    if not name.endswith("_at"):
        return _flat(value)
    if value is None:
        return ""
    return f"{from_ms(value).astimezone():%Y-%m-%d %H:%M:%S}"


def _told(record: dict[str, Any]) -> list[tuple[str, object]]:
    return [
        (name, shown_value(name, value))
        for name, value in record.items()
        if name != "receipt"
    ]


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={_flat(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_flat, value))
    return "" if value is None else str(value)
