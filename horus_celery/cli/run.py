"""`horus run`: sign a script, have it run, follow it, show what is proven of it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import click

from horus_celery.authoring.scripts import (
    executor_for,
    read_script,
    text_of,
    usual_executor,
)
from horus_celery.cli import FAILED, REFUSED, output, signals
from horus_celery.cli.connection import (
    call_options,
    connect,
    pasted,
    signer_options,
)
from horus_celery.client import (
    Agreement,
    Horus,
    JobNotCompleted,
    Outcome,
    Submitted,
    Transcript,
    about_job,
)
from horus_celery.errors import UnavailableError
from horus_celery.instants import to_ms
from horus_celery.lifecycle import TERMINAL, Status
from horus_celery.statements.receipt import Receipt
from horus_celery.store.base import LogLine

#: As the command `timeout` has it.
TIMED_OUT: Final = 124
#: What is to be said of output that is not just what the runner signed.
_DOUBTS: Final = {
    Agreement.ENDS_SIGNED: "only the end of the output above is signed by the runner:"
    " the rest is of earlier attempts, or of nobody",
    Agreement.NOT_COMPARABLE: "the output above has bytes that are no UTF-8: it cannot"
    " be compared with what the runner signed",
    Agreement.DIFFERENT: "the output above is not what the runner signed",
}
_NOTHING: Final = (
    "of the output that the runner signed there is nothing here: that of a step lies at"
    " the supervisor where it ran"
)


class _Run(click.Command):
    """Takes its options behind FILE, too; what is none of them is the script's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given, _, _ = self.make_parser(ctx).parse_args([*args])
        words = given["words"]
        # Without any, click has an object of its own there, not an empty list.
        if isinstance(words, (list, tuple)) and words and "code" not in given:
            head = args[: len(args) - len(words)]
            if head[-1:] != ["--"]:
                ours, theirs = self._sort_out(words[1:])
                args = [*head, *ours, "--", words[0], *theirs]
        return super().parse_args(ctx, args)

    def _sort_out(self, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """Tell our own long options from the script's arguments."""
        flags = {
            name: isinstance(param, click.Option) and param.is_flag
            for param in self.params
            for name in param.opts
            if name.startswith("--")
        }
        ours: list[str] = []
        theirs: list[str] = []
        rest = iter(words)
        for word in rest:
            name, has_value, _ = word.partition("=")
            if word == "--":
                theirs += rest
            elif name in flags:
                ours.append(word)
                if not (has_value or flags[name]):
                    ours.append(_value_of(name, rest))
            else:
                theirs.append(word)
        return ours, theirs


def _value_of(option: str, rest: Iterator[str]) -> str:
    for word in rest:
        return word
    raise click.BadOptionUsage(option, f"Option {option!r} requires an argument.")


@click.command(cls=_Run, context_settings={"allow_interspersed_args": False})
@click.argument("words", metavar="[FILE] [ARGS]...", nargs=-1)
@click.option("-c", "code", help="The script itself, instead of a file.")
@click.option("--executor", help="The kind of work; by default by the file's name.")
@signer_options
@click.option(
    "--timeout",
    type=click.IntRange(1, 86400),
    default=60,
    show_default=True,
    help="Seconds that it may run.",
)
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="For the script.")
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="NAME",
    help="A secret of the node, as a file of that name in $HORUS_SECRETS.",
)
@click.option(
    "--net",
    type=click.Choice(["none", "herodb", "host"]),
    help="Which network it gets; none, but herodb for osis and hero.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=JOB",
    help="The result of that job, as the file NAME in $HORUS_INPUTS.",
)
@click.option(
    "--needs",
    multiple=True,
    metavar="JOB",
    help="A job that must have completed.",
)
@click.option("--runner", help="One runner by its name.")
@click.option("--attempts", type=click.IntRange(1, 10), default=1, show_default=True)
@click.option("--priority", type=click.IntRange(0, 9), default=4, show_default=True)
@call_options
def command(
    *,
    words: tuple[str, ...],
    code: str | None,
    executor: str | None,
    context: str,
    caller: str,
    key: str,
    timeout: int,
    env: tuple[str, ...],
    secrets: tuple[str, ...],
    net: str | None,
    inputs: tuple[str, ...],
    needs: tuple[str, ...],
    runner: str | None,
    attempts: int,
    priority: int,
    url: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Sign a script, have it run, follow it, and verify what came of it.

    FILE may be - for standard input. What follows it are the script's arguments, but
    for the long options below; behind -- everything is the script's.
    JOB is a job's id, or its digest; its end is waited for and verified first.
    The exit code is the script's; 124 after a timeout, 3 for a refusal, 1 if the
    output that was shown is not what the runner signed. Ctrl-C, or TERM, stops the job:
    then it is 130, or 143.
    """
    payload, arguments, file = _script(words, code)
    by_file = None if file is None else executor_for(file)
    executor = executor or by_file or usual_executor(file)
    variables = dict(_named(given, "--env NAME=VALUE") for given in env)
    sources = dict(_named(given, "--input NAME=JOB") for given in inputs)
    paste = partial(pasted, url=url, state_dir=state_dir)
    with connect(
        url=url, state_dir=state_dir, key=key, context=context, caller=caller
    ) as client:
        submitted = client.submit(
            payload,
            executor=executor,
            args=arguments,
            env=variables,
            secrets=secrets,
            timeout=timedelta(seconds=timeout),
            needs=[_ended_well(client, job) for job in needs],
            inputs={name: _ended_well(client, job) for name, job in sources.items()},
            priority=priority,
            net=net,
            runner=runner,
            attempts=attempts,
        )
        return signals.follow(
            lambda: _await(client, submitted, as_json=as_json, paste=paste),
            stop=lambda: _stop(client, submitted.id),
            later=paste("job", "stop", submitted.id),
        )


def show_all(lines: Iterable[LogLine], transcript: Transcript) -> None:
    """Show a script's output, and note in the transcript what was shown."""
    last = None
    for last in lines:
        output.script(last)
        transcript.add(last)
    if last is not None:
        output.end_of_script(last)


def is_as_signed(transcript: Transcript, outcome: Outcome) -> bool:
    """Say whether the shown output may be the signed one, and tell of any doubt."""
    agreement = transcript.agreement(outcome)
    if agreement is Agreement.DIFFERENT and transcript.is_empty:
        output.error(f"{_NOTHING} (job {outcome.job_id})")
    elif agreement in _DOUBTS:
        output.error(f"{_DOUBTS[agreement]} (job {outcome.job_id})")
    return agreement is not Agreement.DIFFERENT


def exit_code(outcome: Outcome) -> int:
    """Return the exit code that stands for an outcome."""
    if outcome.succeeded:
        return 0
    if outcome.status is Status.REJECTED:
        return REFUSED
    if outcome.reason == "timeout":
        return TIMED_OUT
    code = outcome.exit_code or 1
    # As a shell has it: a script that died of signal n.
    return code if code > 0 else 128 - code


def summary(outcome: Outcome) -> str:
    """Return what is proven of a job, as one line."""
    # What no runner signed has a reason that anybody may have written.
    ended = output.printable(_ended(outcome))
    receipt = outcome.receipt
    if receipt is None:
        return f"{ended}; no runner answers for it"
    if outcome.status is Status.REJECTED:
        return f"{ended}; refused by {receipt.runner}, whose receipt is verified"
    cut = f", output cut at {_size(receipt)} bytes" if _is_cut(receipt) else ""
    return (
        f"{ended}; signed by {output.printable(', '.join(outcome.signed_by))}, verified"
        f" by supervisor and {receipt.runner}, {_times(outcome)}{cut}"
    )


def _ended(outcome: Outcome) -> str:
    if outcome.reason == "exit_code":
        return f"{outcome.status.value}: exit code {outcome.exit_code}"
    if outcome.reason is not None:
        return f"{outcome.status.value}: {outcome.reason}"
    return outcome.status.value


def to_json(outcome: Outcome) -> dict[str, object]:
    """Return an outcome for a program."""
    receipt = outcome.receipt
    return {
        "job_id": outcome.job_id,
        "digest": outcome.digest,
        "status": outcome.status.value,
        "reason": outcome.reason,
        "exit_code": outcome.exit_code,
        "result": outcome.result,
        "created_at": to_ms(outcome.created_at),
        "queued_at": to_ms(outcome.queued_at),
        "started_at": to_ms(outcome.started_at),
        "ended_at": to_ms(outcome.ended_at),
        "signed_by": list(outcome.signed_by),
        "runner": None if receipt is None else receipt.runner,
        "truncated": None if receipt is None else _is_cut(receipt),
        "verified": outcome.is_verified,
    }


class Reasons:
    """Says why a job waits, and again when that has changed."""

    def __init__(self, client: Horus, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._said: str | None = None

    def tell(self) -> None:
        """Ask why, and say it if it is news."""
        with about_job(self._job_id):
            told = self._client.why(self._job_id)
        is_waiting = told["status"] == Status.QUEUED
        if not is_waiting and self._said is None:
            return
        kind = "waiting" if is_waiting else told["status"]
        said = output.printable(f"{kind}: {told['detail']}")
        if said != self._said:
            self._said = said
            output.note(said)


def _await(
    client: Horus, job: Submitted, *, as_json: bool, paste: Callable[..., str]
) -> int:
    try:
        return _wait(client, job) if as_json else _follow(client, job)
    except UnavailableError as error:
        later = paste("job", "result", job.id)
        raise UnavailableError(f"{error.detail}; to see its end: {later}") from None


def _wait(client: Horus, job: Submitted) -> int:
    tell = Reasons(client, job.id).tell
    outcome = client.outcome(job, on_quiet=tell, on_away=output.note)
    output.data(to_json(outcome))
    return exit_code(outcome)


def _follow(client: Horus, job: Submitted) -> int:
    transcript = Transcript.of(job)
    tell = Reasons(client, job.id).tell
    lines = client.logs(job, on_quiet=tell, on_away=output.note, verify=False)
    show_all(lines, transcript)
    outcome = client.outcome(job, on_away=output.note)
    if not is_as_signed(transcript, outcome):
        return FAILED
    if _has_own_result(outcome):
        output.text(outcome.result or "")
    output.note(summary(outcome))
    return exit_code(outcome)


def _stop(client: Horus, job_id: str) -> str:
    """Have a job stopped, and return what is to be said of it."""
    with about_job(job_id):
        status = Status(client.stop(job_id)["status"])
    if status in TERMINAL and status is not Status.STOPPED:
        return f"job {job_id} was over: {status.value}"
    return f"stopped {job_id}"


def _has_own_result(outcome: Outcome) -> bool:
    """Whether the result is something else than the output that was shown."""
    receipt = outcome.receipt
    if receipt is None or not outcome.succeeded or receipt.stdout.truncated:
        return False
    # Nor is it shown once more for the newline that a script printed behind it.
    printed = hashlib.sha256(f"{outcome.result}\n".encode()).hexdigest()
    return receipt.stdout.sha256 not in {receipt.result.sha256, printed}


def _ended_well(client: Horus, job: str) -> Outcome:
    """Wait for a job to build on, and return what is proven of it.

    Raises:
        JobNotCompleted: if it did not complete.
        ReceiptError: if the outcome is not what a trusted runner signed.
    """
    tell = Reasons(client, job).tell
    outcome = client.outcome(job, on_quiet=tell, on_away=output.note)
    if not outcome.succeeded:
        raise JobNotCompleted(outcome)
    return outcome


def _is_cut(receipt: Receipt) -> bool:
    return receipt.stdout.truncated or receipt.stderr.truncated


def _size(receipt: Receipt) -> int:
    """Return where the output was cut: both streams share the limit."""
    return receipt.stdout.bytes + receipt.stderr.bytes


def _times(outcome: Outcome) -> str:
    receipt = outcome.receipt
    began = None if receipt is None else receipt.started_at
    if receipt is None or began is None:
        return "never started"
    queued = _ms(outcome.queued_at, outcome.started_at)
    start = _ms(outcome.started_at, began)
    return f"queued {queued}, start {start}, run {_ms(began, receipt.ended_at)}"


def _ms(since: datetime | None, until: datetime | None) -> str:
    if since is None or until is None:
        return "? ms"
    return f"{max(0, (until - since) // timedelta(milliseconds=1))} ms"


def _script(
    words: Sequence[str], code: str | None
) -> tuple[str, Sequence[str], Path | None]:
    """Return the script, its arguments, and its file, if it has one."""
    if code is not None:
        return code, words, None
    if not words:
        raise click.UsageError("name a FILE, or give the script with -c CODE")
    name, *arguments = words
    if name == "-":
        return text_of(sys.stdin.buffer.read(), name), arguments, None
    return read_script(Path(name)), arguments, Path(name)


def _named(given: str, usage: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not (name and equals):
        flag, form = usage.split()
        raise click.UsageError(f"{flag} takes {form}, not {given!r}")
    return name, value
