"""What holds whatever breaks: the promises to callers, checked from outside.

A check is named as the sentence that holds when it passes. What it looks at was told by
the scripts themselves, by the journal, by the store and by the answers to callers; so
each of them is held against the others.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeAlias

import psutil

from horus_celery.errors import DamagedError, NotFoundError, UnavailableError
from horus_celery.lifecycle import TERMINAL, Status
from horus_celery.proof import MISMATCH
from horus_celery.record import Record
from horus_celery.statements import canonical, dsse
from horus_celery.statements.receipt import Receipt
from tests.faults.witness import Run, Witness, mark_of, text_of
from tests.waiting import within


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A job to which somebody was told yes."""

    mark: str
    #: SHA-256 of its payload.
    text: str
    digest: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Everything that was told of some jobs."""

    #: By mark.
    accepted: Mapping[str, Accepted]
    runs: tuple[Run, ...]
    #: As the store has them, and as they are shown, by digest.
    records: Mapping[str, Record]
    shown: Mapping[str, Record]
    #: The terminal statuses that callers were shown, by digest.
    told: Mapping[str, frozenset[Status]] = field(default_factory=dict)
    #: How often each job was started by the journal, by digest.
    starts: Mapping[str, int]
    #: All receipts of each runner in the order of the journal, as JSON text.
    receipts: Mapping[str, Sequence[str]]
    #: How many of them the store was not told.
    undelivered: int
    #: When a stop was acknowledged, by mark.
    stops: Mapping[str, float] = field(default_factory=dict)
    #: Processes and directories of jobs, as text.
    left: tuple[str, ...]


Check: TypeAlias = Callable[[Seen], None]


# I1
def every_accepted_job_is_over(seen: Seen) -> None:
    waiting = {
        record.summary.id: record.status
        for record in seen.shown.values()
        if record.status not in TERMINAL
    }
    assert not waiting
    assert seen.shown.keys() == {job.digest for job in seen.accepted.values()}


# I2
def no_end_has_changed(seen: Seen) -> None:
    for digest, statuses in seen.told.items():
        assert statuses == {seen.shown[digest].status}, digest


# I3
def no_job_runs_too_often_or_beside_itself(seen: Seen) -> None:
    counted = Counter(run.mark for run in seen.runs)
    for mark, count in counted.items():
        assert count <= seen.accepted[mark].attempts, mark
    assert [run.mark for run in seen.runs if not run.is_alone] == []
    of_mark: dict[str, list[Run]] = defaultdict(list)
    for run in seen.runs:
        of_mark[run.mark].append(run)
    for runs in of_mark.values():
        for earlier, later in pairwise(sorted(runs, key=lambda run: run.began)):
            assert earlier.ended is None or earlier.ended <= later.began


# I4
def what_completed_is_what_a_run_said(seen: Seen) -> None:
    for job in seen.accepted.values():
        record = seen.shown.get(job.digest)
        assert record is None or record.reason != MISMATCH, job.digest
        if record is None or record.status is not Status.COMPLETED:
            continue
        assert record.result is not None
        result = hashlib.sha256(record.result.encode()).hexdigest()
        assert result in {run.result for run in seen.runs if run.mark == job.mark}


# I5
def nothing_begins_after_its_stop(seen: Seen) -> None:
    for run in seen.runs:
        assert run.began <= seen.stops.get(run.mark, run.began), run.mark


# I6
def nothing_of_a_job_is_left(seen: Seen) -> None:
    assert seen.left == ()


# I7, I9
def nothing_runs_that_nobody_signed(seen: Seen) -> None:
    for run in seen.runs:
        assert run.mark in seen.accepted, run.mark
        assert run.text == seen.accepted[run.mark].text, run.mark


# I8
def the_journal_has_every_run(seen: Seen) -> None:
    counted = Counter(run.mark for run in seen.runs)
    for job in seen.accepted.values():
        starts = seen.starts.get(job.digest, 0)
        assert counted[job.mark] <= starts <= job.attempts, job.digest


# I8
def receipts_are_a_chain(seen: Seen) -> None:
    for runner, texts in seen.receipts.items():
        # What was delivered, and whose job is no matter any more, may have gone.
        before: tuple[int, str | None] = (0, None)
        for text in texts:
            receipt = read_receipt(text)
            assert receipt.runner == runner
            assert receipt.seq > before[0]
            if receipt.seq == before[0] + 1:
                assert receipt.prev == before[1]
            before = (receipt.seq, dsse.read(text, dsse.RECEIPT).digest)


# I8
def the_store_knows_every_receipt(seen: Seen) -> None:
    assert seen.undelivered == 0
    kept = {text for texts in seen.receipts.values() for text in texts}
    for record in seen.records.values():
        assert record.receipt is None or record.receipt in kept, record.summary.id
    completed = {
        receipt.job
        for text in kept
        if (receipt := read_receipt(text)).status == "completed"
    }
    over = {
        digest
        for digest, record in seen.records.items()
        if record.status is Status.COMPLETED
    }
    assert over <= completed


#: What no attacker may break.
SAFETY: Final[tuple[Check, ...]] = (
    no_job_runs_too_often_or_beside_itself,
    nothing_of_a_job_is_left,
    nothing_runs_that_nobody_signed,
    the_journal_has_every_run,
    receipts_are_a_chain,
)
#: What no fault may break.
INVARIANTS: Final[tuple[Check, ...]] = (
    every_accepted_job_is_over,
    no_end_has_changed,
    what_completed_is_what_a_run_said,
    nothing_begins_after_its_stop,
    the_store_knows_every_receipt,
    *SAFETY,
)


def require(seen: Seen, checks: Iterable[Check] = INVARIANTS) -> None:
    """See that all of it holds."""
    for check in checks:
        check(seen)


def read_receipt(text: str) -> Receipt:
    return Receipt.from_wire(canonical.parse(dsse.read(text, dsse.RECEIPT).body))


class Callers:
    """Those who send jobs to a deployment, and remember what they were told."""

    def __init__(self, deployment, witness: Witness) -> None:
        self.deployment = deployment
        self.witness = witness
        self.accepted: dict[str, Accepted] = {}
        self.stops: dict[str, float] = {}
        self._told: defaultdict[str, set[Status]] = defaultdict(set)

    def submit(self, *, seconds: float = 0.0, attempts: int = 1, **facts) -> Record:
        """Send a job that takes so long."""
        payload = self.witness.payload(seconds=seconds)
        record = self.deployment.submit(payload, attempts=attempts, **facts)
        self.note(payload, record.summary.digest, attempts=attempts)
        return record

    def insist(
        self, *, limit: float, seconds: float = 0.0, attempts: int = 1
    ) -> Record:
        """Send a job that takes so long, and the same again until it is accepted.

        Who is told that it cannot be kept now does so; it has to be within so many
        seconds.
        """
        payload = self.witness.payload(seconds=seconds)
        envelope = self.deployment.envelope(payload, attempts=attempts)
        records: list[Record] = []

        def is_accepted() -> bool:
            with suppress(UnavailableError):
                records.append(
                    self.deployment.supervisor.create_and_queue(
                        envelope, priority=4, not_before=None
                    )
                )
            return bool(records)

        within(limit, is_accepted)
        self.note(payload, records[0].summary.digest, attempts=attempts)
        return records[0]

    def note(self, payload: str, digest: str, *, attempts: int) -> None:
        """Remember that a job was accepted."""
        mark = mark_of(payload)
        self.accepted[mark] = Accepted(
            mark=mark, text=text_of(payload), digest=digest, attempts=attempts
        )

    def mark(self, record: Record) -> str:
        """Return the mark of a job that was accepted."""
        digest = record.summary.digest
        return next(m for m, job in self.accepted.items() if job.digest == digest)

    def runs_of(self, record: Record) -> list[Run]:
        """Return the runs of a job so far."""
        mark = self.mark(record)
        return [run for run in self.witness.runs() if run.mark == mark]

    def are_over(self) -> bool:
        """Look at every job once; whether all of them are over."""
        left = 0
        for job in self.accepted.values():
            if self._told[job.digest]:
                continue
            record = self.deployment.supervisor.get(job.digest).record
            if record.is_over:
                self._told[job.digest].add(record.status)
            else:
                left += 1
        return not left

    def undelivered(self) -> int:
        """Return how many receipts wait for the store."""
        return _journal(self.deployment.state.journal)[2]

    def look(self) -> Seen:
        """Return everything that there is to be seen now."""
        deployment = self.deployment
        records, shown = {}, {}
        for job in self.accepted.values():
            with suppress(NotFoundError, DamagedError):
                records[job.digest] = deployment.store.get(job.digest)
                shown[job.digest] = deployment.supervisor.get(job.digest).record
        starts, receipts, undelivered = _journal(deployment.state.journal)
        return Seen(
            accepted=dict(self.accepted),
            runs=self.witness.runs(),
            records=records,
            shown=shown,
            told={digest: frozenset(said) for digest, said in self._told.items()},
            starts=starts,
            receipts=receipts,
            undelivered=undelivered,
            stops=dict(self.stops),
            left=tuple(left_of(deployment.state.rooms)),
        )


def left_of(rooms: Path) -> list[str]:
    """Return what is left of jobs: their directories, and processes that name them."""
    found = [str(room) for room in rooms.iterdir()]
    inside = f"{rooms}/"
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = [*process.cmdline(), process.cwd()]
            if any(word.startswith(inside) for word in words):
                found.append(f"{process.pid}: {' '.join(words)}")
    return found


def _journal(
    path: Path,
) -> tuple[Mapping[str, int], Mapping[str, Sequence[str]], int]:
    with closing(sqlite3.connect(path)) as db:
        starts = dict(db.execute("SELECT digest, starts FROM claims").fetchall())
        receipts: defaultdict[str, list[str]] = defaultdict(list)
        waiting = 0
        rows = db.execute(
            "SELECT runner, envelope, outcome IS NOT NULL FROM receipts"
            " ORDER BY runner, seq"
        )
        for runner, envelope, is_waiting in rows:
            receipts[runner].append(envelope)
            waiting += is_waiting
    return starts, receipts, waiting
