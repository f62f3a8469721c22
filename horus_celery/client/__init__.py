"""The Python client: signs jobs, follows them, believes only what a runner signed."""

from __future__ import annotations

from horus_celery.client.connection import NOT_OVER, RpcError, about_job
from horus_celery.client.horus import Horus
from horus_celery.client.upstream import MAX_INPUT
from horus_celery.outcome import JobNotCompleted, Outcome, Submitted
from horus_celery.transcript import Agreement, Transcript

__all__ = [
    "MAX_INPUT",
    "NOT_OVER",
    "Agreement",
    "Horus",
    "JobNotCompleted",
    "Outcome",
    "RpcError",
    "Submitted",
    "Transcript",
    "about_job",
]
