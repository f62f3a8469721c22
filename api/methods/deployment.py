"""The methods about the deployment itself: whom it trusts, and how it does."""

from __future__ import annotations

from api.methods.values import (
    EnvelopeObject,
    InfoObject,
    TrustEnvelope,
    envelope_to_wire,
    info_to_wire,
    runner_to_wire,
)
from api.session import Session
from horus_celery.statements import dsse


def trust(session: Session) -> EnvelopeObject:
    """Return the trust bundle as the root signed it: check it with the root's key."""
    return envelope_to_wire(dsse.read(session.jobs.trust_envelope(), dsse.TRUST))


def install_trust(session: Session, trust: TrustEnvelope) -> int:
    """Take in a newer trust bundle that the root signed, and return its version.

    Every node of the deployment takes it up within half a minute.
    """
    return session.trust.install(trust).version


def info(session: Session) -> InfoObject:
    """Return name, version and uptime, jobs by status, queue lengths and runners."""
    runners = [runner_to_wire(view) for view in session.runners.list()]
    return info_to_wire(session.jobs.info(), runners)
