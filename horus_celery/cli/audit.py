"""`horus audit`: walk the receipts of this node, and say what is wrong with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from horus_celery.audit import Audit, Chain, Finding, Told, ToldEnd
from horus_celery.check import read_trust_text
from horus_celery.cli import FAILED, output
from horus_celery.cli.connection import (
    connect,
    existing_state,
    json_option,
    state_option,
)
from horus_celery.client import Horus, RpcError
from horus_celery.errors import ConfigurationError
from horus_celery.journal import Journal

#: Records that are asked for at once.
_PAGE: Final = 1000


@click.group()
def command() -> None:
    """Walk the receipts of this node, and say what is wrong with them."""


@command.command()
@click.option(
    "--journal",
    "journal_file",
    type=click.Path(path_type=Path),
    help="The journal; by default that of the state directory.",
)
@click.option(
    "--runner",
    "runners",
    multiple=True,
    help="Only this runner, which must have receipts; by default all that have any.",
)
@click.option(
    "--trust",
    "trust_files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="An older trust bundle by whose keys receipts count, too.",
)
@click.option("--url", help="Compare with what this supervisor shows of the jobs, too.")
@state_option
@json_option
def verify(
    *,
    journal_file: Path | None,
    runners: Sequence[str],
    trust_files: Sequence[Path],
    url: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Walk each runner's chain of receipts, and name what is wrong.

    A receipt that is missing, altered, another's or not signed by its runner; two that
    cannot both be in the chain; and with --url a record that says something else than
    its receipt. The exit code is 0 only if nothing is wrong.
    """
    state = existing_state(state_dir)
    path = journal_file or state.journal
    if not path.is_file():
        raise ConfigurationError(
            f"there is no journal {path}: name one with --journal, or the state"
            " directory of a runner with --state-dir"
        )
    root = state.root_public()
    older = [read_trust_text(_read(each), root_public=root) for each in trust_files]
    audit = Audit([state.trust(), *older])
    compared = 0
    with closing(Journal(path)) as journal:
        findings = list(_walk(journal, audit, runners))
        if url is not None:
            with connect(url=url, state_dir=state_dir) as client:
                for told in _told(client, audit):
                    findings += audit.compare(told)
                    # Of a job that is deleted, or another's to see, nothing is shown.
                    compared += told.record is not None or told.receipt is not None
            findings += audit.close(_heads(journal))
    if as_json:
        output.data(
            {
                "ok": not findings,
                "chains": [_chain(chain) for chain in audit.chains],
                "jobs_compared": None if url is None else compared,
                "findings": [asdict(found) for found in findings],
            }
        )
    else:
        _show(audit.chains, findings, None if url is None else compared)
    return FAILED if findings else 0


def every_job(client: Horus, *, limit: int = _PAGE) -> Iterator[dict[str, Any]]:
    """Yield the records of all jobs, newest first, each once.

    The last one of a page may be gone when the next page is asked for: by its age, or
    because somebody deleted it.
    """
    shown: dict[str, None] = {}
    page = client.list(limit=limit)
    while page:
        for record in page:
            if record["digest"] not in shown:
                shown[record["digest"]] = None
                yield record
        page = _behind(client, reversed(shown), limit)


def _behind(client: Horus, shown: Iterable[str], limit: int) -> list[dict[str, Any]]:
    """Return the jobs behind the first of these that is still there."""
    for digest in shown:
        try:
            return client.list(limit=limit, after=digest)
        except RpcError as error:
            if error.reason != "not_found":
                raise
    return client.list(limit=limit)


def _walk(journal: Journal, audit: Audit, wanted: Sequence[str]) -> Iterator[Finding]:
    with journal.trail() as trail:
        for runner in wanted or trail.runners():
            yield from audit.walk(runner, trail.receipts(runner), trail.head(runner))


def _heads(journal: Journal) -> dict[str, int]:
    with journal.trail() as trail:
        heads = {runner: trail.head(runner) for runner in trail.runners()}
    return {runner: head.seq for runner, head in heads.items() if head is not None}


def _told(client: Horus, audit: Audit) -> Iterator[Told]:
    """Yield what a supervisor shows: all its jobs, and what is left of older ones."""
    shown: set[str] = set()
    for record in every_job(client):
        shown.add(record["digest"])
        yield _told_by(record)
    for chain in audit.chains:
        for digest, job_id in chain.jobs.items():
            if digest not in shown:
                shown.add(digest)
                receipt = _receipt(client, digest)
                yield Told(digest=digest, job_id=job_id, receipt=receipt, record=None)


def _told_by(record: dict[str, Any]) -> Told:
    receipt = record["receipt"]
    result = (record["result"] or "").encode("utf-8", "surrogatepass")
    return Told(
        digest=record["digest"],
        job_id=record["id"],
        receipt=None if receipt is None else json.dumps(receipt),
        record=ToldEnd(
            status=record["status"],
            reason=record["reason"],
            exit_code=record["exit_code"],
            result_sha256=hashlib.sha256(result).hexdigest(),
        ),
    )


def _receipt(client: Horus, digest: str) -> str | None:
    """Return the receipt of a job without a record; None if it was deleted with it."""
    try:
        receipt = client.call("job.receipt", job_id=digest)
    except RpcError as error:
        if error.reason == "not_found":
            return None
        raise
    return None if receipt is None else json.dumps(receipt)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None


def _show(
    chains: Sequence[Chain], findings: Sequence[Finding], compared: int | None
) -> None:
    for found in findings:
        output.line(output.printable(_line(found)))
    for chain in chains:
        if chain.last is not None:
            output.line(
                f"{output.printable(chain.runner)}: {len(chain.digests)} receipts that"
                f" it signed, {chain.first} to {chain.last}"
            )
    if compared is not None:
        output.line(f"{compared} jobs compared")
    output.line("nothing is wrong" if not findings else f"{len(findings)} findings")


def _line(found: Finding) -> str:
    where = [f"runner {found.runner}"] if found.runner else []
    if found.seq is not None:
        where.append(f"receipt {found.seq}")
    if found.job_id is not None:
        where.append(f"job {found.job_id}")
    return f"{found.kind.value}: {', '.join(where)}: {found.detail}"


def _chain(chain: Chain) -> dict[str, object]:
    return {
        "runner": chain.runner,
        "first": chain.first,
        "last": chain.last,
        "receipts": len(chain.digests),
    }
