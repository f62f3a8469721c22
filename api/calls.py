"""What the log says of a call: one line, with nothing of what it brought or got."""

from __future__ import annotations

import re
from typing import Final

import structlog

from api.codes import Code
from api.site import Called

#: What a method is called that is none: its name may be anything, a secret also.
UNKNOWN: Final = "other"
#: A job's id or its digest; whatever else stands in their place is not written.
_JOB: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{64}")
#: What went wrong on our side.
_FAULTS: Final = frozenset({Code.INTERNAL, Code.UNAVAILABLE})

_logger: Final = structlog.get_logger(__name__)


def write_down(called: Called) -> None:
    """Write one call down."""
    write = _logger.error if called.code in _FAULTS else _logger.info
    write(
        "api call",
        method=called.method or UNKNOWN,
        secret=called.secret_id,
        job_id=_job_id(called.job_id),
        context_id=called.context_id,
        code=called.code,
        reason=called.reason,
        ms=round(called.seconds * 1000, 3),
    )


def _job_id(given: str | None) -> str | None:
    return given if given is not None and _JOB.fullmatch(given) else None
