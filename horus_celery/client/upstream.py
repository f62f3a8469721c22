"""How a new job names those that it builds on."""

from __future__ import annotations

from typing import Final, TypeAlias

from horus_celery.outcome import JobNotCompleted, Outcome, Submitted
from horus_celery.statements.job import InputRef

#: A job whose result or completion another one builds on; a text is its digest.
Upstream: TypeAlias = Submitted | Outcome | str

#: Bytes of a result that may be given as an input, where nobody says otherwise and the
#: result is not known yet.
MAX_INPUT: Final = 4 * 1024 * 1024


def digest_of(job: Upstream) -> str:
    """Return the digest by which a job names another one.

    Raises:
        JobNotCompleted: if it is known that nothing can build on that.
    """
    if isinstance(job, str):
        return job
    if isinstance(job, Outcome) and not job.succeeded:
        raise JobNotCompleted(job)
    return job.digest


def input_of(job: Upstream | InputRef) -> InputRef:
    """Return how a job names another one's result.

    Raises:
        JobNotCompleted: as `digest_of`.
    """
    if isinstance(job, InputRef):
        return job
    size = MAX_INPUT
    if isinstance(job, Outcome):
        size = len((job.result or "").encode())
    return InputRef.from_wire({"from": digest_of(job), "max_bytes": size})
