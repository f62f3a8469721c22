"""What is wrong with receipts: in each runner's chain, and in what a store tells."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from horus_celery.errors import RefusedError
from horus_celery.lifecycle import TERMINAL
from horus_celery.record import UNSIGNED_REASONS
from horus_celery.statements import canonical, dsse
from horus_celery.statements.receipt import Receipt
from horus_celery.statements.trust import Trust

#: The reason of starts that the store had given up before they ended.
_GIVEN_UP: Final = "worker_lost"


class Kind(StrEnum):
    """What can be wrong."""

    #: It cannot be read as a receipt.
    MALFORMED = "malformed"
    #: No key that is listed for the runner that it names has signed it.
    SIGNATURE = "signature"
    #: It is another runner's, another deployment's, or about another job.
    FOREIGN = "foreign"
    #: It stands in the journal as something else than what was signed.
    ALTERED = "altered"
    #: There was one, and it is not there.
    MISSING = "missing"
    #: The runner signed two that cannot both be in its chain.
    FORK = "fork"
    #: A record says something else than its receipt.
    RECORD = "record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, and where."""

    kind: Kind
    #: Whose chain it is about; "" if nobody can tell.
    runner: str
    seq: int | None
    job_id: str | None
    #: The job's digest.
    job: str | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A receipt as a journal keeps it: what it stands under, and its envelope."""

    seq: object
    #: The digest of the job and the number of its start.
    job: object
    attempt: object
    envelope: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a journal says of the end of a chain."""

    seq: int
    #: The digest of the last receipt.
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a store tells of a job: its record, or its receipt where that is gone."""

    digest: str
    job_id: str
    #: The receipt's envelope as JSON text.
    receipt: str | None
    record: ToldEnd | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldEnd:
    """How a job stands by its record."""

    status: str
    reason: str | None
    exit_code: int | None
    #: The hash of its result.
    result_sha256: str


@dataclass(slots=True, kw_only=True)
class Chain:
    """What was found of one runner's chain."""

    runner: str
    first: int | None = None
    last: int | None = None
    #: Receipts that the runner signed, by their number.
    digests: dict[int, str] = field(default_factory=dict)
    #: The latest start of each job that was settled: its number, and its receipt's.
    starts: dict[str, tuple[int, int]] = field(default_factory=dict)
    #: The ids of all jobs that it is about, by digest.
    jobs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Read:
    """A receipt that its own runner signed, as far as the bundles can tell."""

    receipt: Receipt
    digest: str


class Audit:
    """Walks chains first, then compares with them what a store tells."""

    def __init__(self, trusts: Sequence[Trust]) -> None:
        """Begin.

        Args:
            trusts: The trust bundle, and older ones by whose keys receipts count, too.
        """
        self._auds = {trust.aud for trust in trusts}
        self._keys = {
            keyid: public
            for trust in trusts
            for keyid, public in trust.runner_keys().items()
        }
        self._names = {
            (entry.name, entry.key) for trust in trusts for entry in trust.runners
        }
        self._chains: dict[str, Chain] = {}
        #: Receipts of the store that stand behind the end of their chain.
        self._behind: list[Finding] = []

    @property
    def chains(self) -> Sequence[Chain]:
        """What was found of each chain that was walked."""
        return tuple(self._chains.values())

    def walk(
        self, runner: str, kept: Iterable[Kept], head: Head | None
    ) -> Iterator[Finding]:
        """Walk a runner's chain as a journal keeps it, by number, and yield findings.

        Args:
            runner: Whose chain it is.
            kept: Its receipts, in the order of their numbers.
            head: What the journal says of its end.
        """
        chain = self._chains[runner] = Chain(runner=runner)
        before: _Read | None = None
        for one in kept:
            if not _is_whole(one):
                yield _finding(
                    Kind.ALTERED, runner, detail="an entry of the journal is not ours"
                )
                continue
            seq = int(str(one.seq))
            expected = 1 if chain.last is None else chain.last + 1
            if seq > expected:
                yield _missing(runner, expected, seq - 1)
                before = None
            chain.first = seq if chain.first is None else chain.first
            chain.last = seq
            read = yield from self._read(str(one.envelope), runner=runner, seq=seq)
            if read is not None:
                misplaced = tuple(_misplaced(one, read, runner, seq))
                yield from misplaced or _linked(read, before, runner, seq)
                if misplaced:
                    read = None
                else:
                    _keep(chain, read, seq, str(one.job))
            before = read
        yield from _ended(chain, head)

    def compare(self, told: Told) -> Iterator[Finding]:
        """Compare what a store tells of a job with its receipt, and with the chains."""
        if told.receipt is None:
            yield from _unsigned(told)
            return
        read = yield from self._read(told.receipt, job_id=told.job_id, job=told.digest)
        if read is None:
            return
        receipt = read.receipt
        if (receipt.job, receipt.job_id) != (told.digest, told.job_id):
            yield _about(
                Kind.FOREIGN,
                receipt,
                f"the store shows it as that of job {told.job_id} ({told.digest[:16]})",
            )
            return
        if told.record is not None:
            yield from _recorded(told.record, receipt)
        chain = self._chains.get(receipt.runner)
        if chain is not None:
            yield from self._chained(chain, read, told)

    def close(self, heads: Mapping[str, int]) -> Iterator[Finding]:
        """Yield what is missing at the end of chains.

        Args:
            heads: The number of each chain's last receipt by now: what was signed after
                the chain was walked is not missing.
        """
        for found in self._behind:
            if found.seq is not None and found.seq > heads.get(found.runner, 0):
                yield found

    def _read(
        self,
        envelope_text: str,
        *,
        runner: str = "",
        seq: int | None = None,
        job_id: str | None = None,
        job: str | None = None,
    ) -> Generator[Finding, None, _Read | None]:
        """Read a receipt; None, after a finding, where it does not count."""
        try:
            envelope = dsse.read(envelope_text, dsse.RECEIPT)
            receipt = Receipt.from_wire(canonical.parse(envelope.body))
        except RefusedError as refusal:
            yield Finding(
                kind=Kind.MALFORMED,
                runner=runner,
                seq=seq,
                job_id=job_id,
                job=job,
                detail=f"it cannot be read as a receipt ({refusal.reason})",
            )
            return None
        signed_by = dsse.signers(envelope, self._keys)
        if not any((receipt.runner, keyid) in self._names for keyid in signed_by):
            others = {name for name, keyid in self._names if keyid in signed_by}
            who = " and ".join(sorted(others)) or "nobody whom the trust bundle lists"
            yield Finding(
                kind=Kind.SIGNATURE,
                runner=runner or receipt.runner,
                seq=receipt.seq if seq is None else seq,
                job_id=job_id or receipt.job_id,
                job=job or receipt.job,
                detail=f"it names the runner {receipt.runner}, and {who} signed it",
            )
            return None
        if receipt.aud not in self._auds:
            detail = f"it is of the deployment {receipt.aud}"
            yield _about(Kind.FOREIGN, receipt, detail)
            return None
        if runner and receipt.runner != runner:
            yield Finding(
                kind=Kind.FOREIGN,
                runner=runner,
                seq=seq,
                job_id=receipt.job_id,
                job=receipt.job,
                detail=f"it is receipt {receipt.seq} of the runner {receipt.runner}",
            )
            return None
        return _Read(receipt, envelope.digest)

    def _chained(self, chain: Chain, read: _Read, told: Told) -> Iterator[Finding]:
        """Find a receipt of the store in the chain of its runner."""
        receipt = read.receipt
        there = chain.digests.get(receipt.seq)
        if there is None and receipt.seq > (chain.last or 0):
            detail = "the store has it, and the journal ends before it"
            self._behind.append(_about(Kind.MISSING, receipt, detail))
        elif there is None:
            detail = "the store has it, and the journal does not"
            yield _about(Kind.MISSING, receipt, detail)
        elif there != read.digest:
            detail = "the store has another receipt with this number than the journal"
            yield _about(Kind.FORK, receipt, detail)
        start, seq = chain.starts.get(told.digest, (0, 0))
        if told.record is not None and start > receipt.attempt > 0:
            yield _about(
                Kind.RECORD,
                receipt,
                f"the record shows start {receipt.attempt} of the job, and receipt"
                f" {seq} is about start {start}",
            )


def _is_whole(kept: Kept) -> bool:
    """Say whether an entry is of the kinds that a journal writes."""
    return (
        type(kept.seq) is int
        and type(kept.attempt) is int
        and isinstance(kept.job, str)
        and isinstance(kept.envelope, str)
    )


def _misplaced(kept: Kept, read: _Read, runner: str, seq: int) -> Iterator[Finding]:
    """Compare what a receipt stands under with what was signed."""
    receipt = read.receipt
    said = {
        "number": (seq, receipt.seq),
        "start": (kept.attempt, receipt.attempt),
        # A refusal may be about bytes that are no job.
        "job": (kept.job if receipt.attempt else receipt.job, receipt.job),
    }
    different = [
        f"the {name} {shown}, the runner signed {signed}"
        for name, (shown, signed) in said.items()
        if shown != signed
    ]
    if different:
        yield Finding(
            kind=Kind.ALTERED,
            runner=runner,
            seq=seq,
            job_id=receipt.job_id,
            job=receipt.job,
            detail=f"it stands under {'; '.join(different)}",
        )


def _linked(
    read: _Read, before: _Read | None, runner: str, seq: int
) -> Iterator[Finding]:
    """See that a receipt follows the one before it, where that one counts."""
    prev = read.receipt.prev
    if before is None and seq == 1 and prev is not None:
        detail = f"it is the first, and follows {prev[:16]}"
    elif before is not None and prev != before.digest:
        follows = "none" if prev is None else prev[:16]
        detail = f"it follows {follows}, and the one before it is {before.digest[:16]}"
    else:
        return
    yield Finding(
        kind=Kind.FORK,
        runner=runner,
        seq=seq,
        job_id=read.receipt.job_id,
        job=read.receipt.job,
        detail=detail,
    )


def _keep(chain: Chain, read: _Read, seq: int, job: str) -> None:
    receipt = read.receipt
    chain.digests[seq] = read.digest
    chain.jobs[job] = receipt.job_id
    known, _ = chain.starts.get(job, (0, 0))
    if receipt.attempt > known and receipt.reason != _GIVEN_UP:
        chain.starts[job] = (receipt.attempt, seq)


def _ended(chain: Chain, head: Head | None) -> Iterator[Finding]:
    """Compare the last receipt with what the journal says of the end."""
    last = chain.last or 0
    noted = 0 if head is None else head.seq
    if not last and head is None:
        detail = "the journal has no receipt of this runner"
        yield _finding(Kind.MISSING, chain.runner, detail=detail)
    if last < noted:
        yield _missing(chain.runner, last + 1, noted)
    elif last > noted:
        yield _finding(
            Kind.FORK,
            chain.runner,
            seq=noted + 1,
            detail=f"the journal's chain ends with {noted}, and there are receipts up"
            f" to {last}",
        )
    elif head is not None and chain.digests.get(last, head.digest) != head.digest:
        yield _finding(
            Kind.FORK,
            chain.runner,
            seq=last,
            detail="it is not the one with which the journal's chain ends",
        )


def _unsigned(told: Told) -> Iterator[Finding]:
    """Judge a record that shows no receipt."""
    end = told.record
    if end is None or end.status not in TERMINAL:
        return
    if end.status == "stopped" or (
        end.status == "failed" and end.reason in UNSIGNED_REASONS
    ):
        return
    yield Finding(
        kind=Kind.RECORD,
        runner="",
        seq=None,
        job_id=told.job_id,
        job=told.digest,
        detail=f"the record says {_end(end.status, end.reason)}, and no runner signed"
        " anything",
    )


def _recorded(end: ToldEnd, receipt: Receipt) -> Iterator[Finding]:
    """Compare a record with its receipt."""
    said = {
        "status": (end.status, receipt.status),
        "reason": (end.reason, receipt.reason),
        "exit code": (end.exit_code, receipt.exit_code),
        "hash of the result": (end.result_sha256, receipt.result.sha256),
    }
    different = [
        f"{name} {shown}, the runner signed {signed}"
        for name, (shown, signed) in said.items()
        if shown != signed
    ]
    if different:
        detail = f"the record says: {'; '.join(different)}"
        yield _about(Kind.RECORD, receipt, detail)


def _end(status: str, reason: str | None) -> str:
    return status if reason is None else f"{status}: {reason}"


def _missing(runner: str, first: int, last: int) -> Finding:
    what = f"receipt {first} is" if first == last else f"receipts {first} to {last} are"
    detail = f"{what} not in the journal"
    return _finding(Kind.MISSING, runner, seq=first, detail=detail)


def _finding(
    kind: Kind, runner: str, *, detail: str, seq: int | None = None
) -> Finding:
    return Finding(
        kind=kind, runner=runner, seq=seq, job_id=None, job=None, detail=detail
    )


def _about(kind: Kind, receipt: Receipt, detail: str) -> Finding:
    return Finding(
        kind=kind,
        runner=receipt.runner,
        seq=receipt.seq,
        job_id=receipt.job_id,
        job=receipt.job,
        detail=detail,
    )
