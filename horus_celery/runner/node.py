"""What a runner works with, and what it knows of one start of a job."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from pydantic import SecretBytes

from horus_celery.clock import Clock
from horus_celery.journal import Journal
from horus_celery.lifecycle import Event
from horus_celery.node_secrets import NodeSecrets
from horus_celery.statements.job import Job
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.receipt import OutputDigest
from horus_celery.statements.trust import Trust
from horus_celery.store.base import Chunk, LogStore, RecordStore, Wakes
from horus_celery.upstream import Given

#: The reason of a start whose end nobody saw, or that the store had given up before:
#: its receipt stays in the journal, and the store decides what becomes of the job.
GIVEN_UP: Final = "worker_lost"
_NOTHING: Final = OutputDigest.of(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A job that passed every check and that nobody else runs now."""

    job: Job
    digest: str
    #: The number of this start in this node's journal, and in the receipt.
    start: int
    #: The number of this start in the record, where other nodes count as well.
    attempt: int
    #: When it was claimed.
    at: datetime
    #: Whether the runner is bound to contexts: what runs in one has nothing in common
    #: with what runs in another.
    is_bound: bool = False
    #: What the script is given as data, and the receipt names.
    inputs: tuple[Given, ...] = ()
    #: The values of the secrets that it names.
    secrets: Mapping[str, SecretBytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """Output that the log did not take while the script ran."""

    #: What the log took directly before it, which shows where it belongs: it reaches
    #: back to a chunk of another moment than the one after it, or to the first of all.
    before: tuple[Chunk, ...]
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one start, as the runner saw it."""

    #: COMPLETED, FAILED or STOPPED.
    event: Event
    reason: str | None = None
    exit_code: int | None = None
    stdout: OutputDigest = _NOTHING
    stderr: OutputDigest = _NOTHING
    result: str = ""
    #: The level of containment that was really in force.
    sandbox: str = "none"
    #: When nothing of it ran any more; None is the moment of settling.
    ended_at: datetime | None = None
    #: Lines of output that the log gets together with the end.
    last: tuple[Chunk, ...] = ()
    unsent: Unsent | None = None


class Executor(Protocol):
    """A kind of work.

    `run` returns when nothing of the job is left running. It keeps the lease and
    reports the output while the script runs, and ends it when a stop is asked for.
    """

    def check(self, job: Job) -> None:
        """See that this node can give a job what its signer demands.

        Raises:
            NotCoveredError: if it cannot.
        """
        ...

    def run(self, assignment: Assignment, node: Node, behind: ExitStack) -> Outcome:
        """Run a claimed job to its end.

        Args:
            assignment: The job.
            node: Where it runs.
            behind: Takes what is only to be cleared away: that is done as soon as it
                is told how the job ended.
        """
        ...


class TrustSource(Protocol):
    """Where the trust bundle is read."""

    def current(self) -> Trust:
        """Return the bundle that counts now.

        Raises:
            ConfigurationError: if there is none that may be believed.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One runner process with everything that it decides on and works with."""

    #: The runner's name.
    name: str
    #: The deployment.
    aud: str
    #: What it serves, by name.
    executors: Mapping[str, Executor]
    key: KeyPair
    trust: TrustSource
    journal: Journal
    store: RecordStore
    logs: LogStore
    wakes: Wakes
    clock: Clock
    #: By which leases and beats are given: the one of those who judge them.
    lease_clock: Clock
    #: Where the private directories of jobs are made.
    rooms: Path
    #: What scripts may be given that only this node has.
    secrets: NodeSecrets = field(default_factory=NodeSecrets)
    #: What runs the jobs, for the receipts.
    software: str
