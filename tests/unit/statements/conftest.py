"""A deployment in miniature: a root, two callers, two runners, and their bundle."""

from types import SimpleNamespace

import pytest

from horus_celery.instants import from_ms
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.trust import Trust

NOW_MS = 1_760_000_000_000


def pair(number):
    return KeyPair.from_seed(bytes([number]) * 32)


def trust_body(**changes):
    alice, bob, first, second = map(pair, (1, 2, 3, 4))
    body = {
        "v": 1,
        "aud": "hero",
        "version": 7,
        "issued_at": NOW_MS,
        "expires_at": NOW_MS + 1000,
        "keys": {one.keyid: one.public.hex() for one in (alice, bob, first, second)},
        "grants": [
            {
                "context_id": "billing",
                "caller_id": "alice",
                "keys": [alice.keyid],
                "threshold": 1,
                "executors": ["python"],
                "nets": ["none", "herodb"],
                "max_timeout": 3600,
            },
            {
                "context_id": "billing",
                "caller_id": "bob",
                "keys": [alice.keyid, bob.keyid],
                "threshold": 2,
                "executors": ["*"],
                "nets": ["host"],
                "max_timeout": 60,
                "secrets": ["token"],
            },
        ],
        "runners": [
            {
                "name": "first",
                "key": first.keyid,
                "executors": ["python", "system"],
                "contexts": ["*"],
            },
            {
                "name": "second",
                "key": second.keyid,
                "executors": ["python"],
                "contexts": ["payroll"],
            },
        ],
    }
    return body | changes


@pytest.fixture
def town():
    """The keys of everybody, the body of the bundle, and the bundle."""
    return SimpleNamespace(
        root=pair(9),
        alice=pair(1),
        bob=pair(2),
        first=pair(3),
        second=pair(4),
        stranger=pair(5),
        now=from_ms(NOW_MS),
        trust_body=trust_body,
        trust=Trust.from_wire(trust_body()),
    )
