"""How a process of the platform writes its own log: an event a line, never raw text.

Values are written with `repr`, so a foreign line break or escape cannot forge a line;
tracebacks, whose texts and locals may hold a payload, are never written.
"""

from __future__ import annotations

import sys

import structlog


def through_logging() -> None:
    """Hand events on to the standard library's loggers, as Celery sets them up."""
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, _line()],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def to_stderr() -> None:
    """Write events to standard error, each with its time and level."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", key="at"),
            _line(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _line() -> structlog.processors.KeyValueRenderer:
    return structlog.processors.KeyValueRenderer(
        key_order=["at", "level", "event"], drop_missing=True
    )
