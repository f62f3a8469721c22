"""Which status follows which event: the one table of transitions.

The store's scripts are given this very table, so nothing else decides a status.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from horus_celery.errors import IllegalTransition


class Status(StrEnum):
    """Where a record stands (protocol section 5)."""

    CREATED = "created"
    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    REJECTED = "rejected"


class Event(StrEnum):
    """What can happen to a record; the words complete "a job is …"."""

    #: Somebody asked for it to run.
    QUEUED = "queued"
    #: A runner took it, after all checks and the claim in its journal.
    CLAIMED = "claimed"
    #: A runner refused it.
    REFUSED = "refused"
    #: Its script ended with exit code 0.
    COMPLETED = "completed"
    #: Its script ended otherwise, or it could not be run any more.
    FAILED = "failed"
    #: Its runner died, and it may be started once more.
    REQUEUED = "requeued"
    #: Somebody asked for its end.
    STOP_ASKED = "asked to stop"
    #: Its script was ended because somebody asked for it.
    STOPPED = "stopped"


TRANSITIONS: Final[Mapping[tuple[Status, Event], Status]] = MappingProxyType(
    {
        (Status.CREATED, Event.QUEUED): Status.QUEUED,
        (Status.CREATED, Event.FAILED): Status.FAILED,
        (Status.CREATED, Event.STOP_ASKED): Status.STOPPED,
        (Status.QUEUED, Event.CLAIMED): Status.RUNNING,
        (Status.QUEUED, Event.REFUSED): Status.REJECTED,
        (Status.QUEUED, Event.FAILED): Status.FAILED,
        (Status.QUEUED, Event.STOP_ASKED): Status.STOPPED,
        (Status.RUNNING, Event.COMPLETED): Status.COMPLETED,
        (Status.RUNNING, Event.FAILED): Status.FAILED,
        (Status.RUNNING, Event.REQUEUED): Status.QUEUED,
        (Status.RUNNING, Event.STOP_ASKED): Status.STOPPING,
        (Status.STOPPING, Event.STOP_ASKED): Status.STOPPING,
        (Status.STOPPING, Event.STOPPED): Status.STOPPED,
        # It ended by itself before the stop reached it: then that is the truth.
        (Status.STOPPING, Event.COMPLETED): Status.COMPLETED,
        (Status.STOPPING, Event.FAILED): Status.FAILED,
    }
)

TERMINAL: Final = frozenset(Status) - {source for source, _ in TRANSITIONS}
#: A runner holds the job: its record carries a lease.
HELD: Final = frozenset({Status.RUNNING, Status.STOPPING})


def advance(status: Status, event: Event) -> Status:
    """Return the status after the event.

    Raises:
        IllegalTransition: if the table has no such arrow.
    """
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise IllegalTransition(status, event) from None
