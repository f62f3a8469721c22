"""The state directory: what lies where, how it is made, how it is kept valid."""

from __future__ import annotations

from horus_celery.statedir.layout import SCOPES, SEAL_BYTES
from horus_celery.statedir.making import (
    CLOCK_SKEW,
    TRUST_LIFETIME,
    TRUST_RENEWAL,
    StateDirectory,
)

__all__ = [
    "CLOCK_SKEW",
    "SCOPES",
    "SEAL_BYTES",
    "TRUST_LIFETIME",
    "TRUST_RENEWAL",
    "StateDirectory",
]
