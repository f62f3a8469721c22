"""How people write workflows, and what is signed of what they wrote."""

from __future__ import annotations

from horus_celery.authoring.builder import StepHandle, Workflow
from horus_celery.authoring.drafts import EarlierJob, StepResult
from horus_celery.authoring.signing import Signer, Submission

__all__ = [
    "EarlierJob",
    "Signer",
    "StepHandle",
    "StepResult",
    "Submission",
    "Workflow",
]
