"""The methods about the deployment itself: whom it trusts, and how it does."""

from __future__ import annotations

from api.methods.values import (
    EnvelopeObject,
    InfoObject,
    envelope_to_wire,
    info_to_wire,
)
from horus_celery.statements import dsse
from horus_celery.supervisor import Supervisor


def trust(supervisor: Supervisor) -> EnvelopeObject:
    """Return the trust bundle as the root signed it: check it with the root's key."""
    return envelope_to_wire(dsse.read(supervisor.trust_envelope(), dsse.TRUST))


def info(supervisor: Supervisor) -> InfoObject:
    """Return name, version and uptime, jobs by status, queue lengths and runners."""
    return info_to_wire(supervisor.info())
