"""Every key that Horus and Celery's queues have in Redis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

#: What Celery writes between the name of a queue and its priority.
_SEPARATOR: Final = "\x06\x16"
#: The priorities that have a list of their own on Redis; 0 is served first.
STEPS: Final = (0, 3, 6, 9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The keys of one namespace; a name that ends in a colon is a beginning."""

    #: + digest: hash, the record.
    record: str
    #: + job id: hash, context to digest.
    named: str
    #: + digest: list, the output lines.
    log: str
    #: + field:value: sorted set of digests by sequence, one for each `Filter` field; of
    #: a status also one for each context, `status:STATUS:CONTEXT`.
    by: str
    #: Sorted set of all digests by sequence.
    every: str
    #: The number of the latest record.
    sequence: str
    #: + row: sorted set of queued digests by the time of their latest bell.
    bells: str
    #: Set of the rows (step:queue) that have bells.
    rows: str
    #: Sorted set of queued digests that were not rung since their `not_before`.
    due: str
    #: Sorted set of queued digests by `expires_at`.
    expiring: str
    #: Sorted set of held digests by the end of their lease.
    leases: str
    #: + runner: sorted set of the digests that it holds, by sequence.
    held: str
    #: Sorted set of digests of records that are over, by the time of their end.
    ended: str
    #: Sorted set of the digests of stopped jobs, with records or without, by the time
    #: until which that is kept.
    stopped: str
    #: Sorted set of the same, in the order in which the stops came.
    stops: str
    #: Hash, numbers of what happened so far.
    tally: str
    #: + digest: hash, what is kept of a retired record.
    receipt: str
    #: + job id: hash, digest to context of its retired records.
    receipts: str
    #: Hash, runner's name to its latest beat.
    runners: str
    #: + hash of a nonce: string, while a registration with it is no new one.
    nonces: str
    #: Hash, id of an API secret to its sealed entry.
    secrets: str
    #: The newest trust bundle that a supervisor was given, as JSON text.
    trust: str
    #: + {digest}:part: all that is kept of a workflow (`workflow/prelude.lua`).
    workflow: str
    #: Sorted set of the digests of all workflows by sequence.
    workflows: str
    #: + workflow id: hash, context to digest.
    workflow_named: str
    #: + field:value: sorted set of digests of workflows by sequence, one for each
    #: `WorkflowFilter` field.
    workflow_by: str
    #: The number of the latest workflow.
    workflow_sequence: str
    #: Sorted set of digests of workflows by when something is to be done in them.
    workflow_due: str
    #: Sorted set of digests of workflows that are over, by the time of their end.
    workflow_ended: str
    #: Channel that carries the digest of each record or workflow that changed.
    wakes: str
    changes: str
    recalls: str

    @classmethod
    def of(cls, namespace: str) -> Self:
        """Return the keys of a namespace."""
        return cls(
            record=f"{namespace}:job:",
            named=f"{namespace}:id:",
            log=f"{namespace}:log:",
            by=f"{namespace}:by:",
            every=f"{namespace}:every",
            sequence=f"{namespace}:sequence",
            bells=f"{namespace}:bells:",
            rows=f"{namespace}:rows",
            due=f"{namespace}:due",
            expiring=f"{namespace}:expiring",
            leases=f"{namespace}:leases",
            held=f"{namespace}:held:",
            ended=f"{namespace}:ended",
            stopped=f"{namespace}:stopped",
            stops=f"{namespace}:stops",
            tally=f"{namespace}:tally",
            receipt=f"{namespace}:receipt:",
            receipts=f"{namespace}:receipts:",
            runners=f"{namespace}:runners",
            nonces=f"{namespace}:nonce:",
            secrets=f"{namespace}:secrets",
            trust=f"{namespace}:trust",
            workflow=f"{namespace}:workflow:",
            workflows=f"{namespace}:workflows",
            workflow_named=f"{namespace}:workflow_id:",
            workflow_by=f"{namespace}:workflow_by:",
            workflow_sequence=f"{namespace}:workflow_sequence",
            workflow_due=f"{namespace}:workflow_due",
            workflow_ended=f"{namespace}:workflow_ended",
            wakes=f"{namespace}:wakes",
            changes=f"{namespace}:changes",
            recalls=f"{namespace}:recalls",
        )


def step(priority: int) -> int:
    """Return the step that carries a priority of 0 to 9."""
    return max(at for at in STEPS if at <= priority)


def queue(name: str, priority: int) -> str:
    """Return the list that carries a queue's messages of this priority."""
    at = step(priority)
    return f"{name}{_SEPARATOR}{at}" if at else name
