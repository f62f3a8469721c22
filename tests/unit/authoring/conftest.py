"""A deployment that believes whom the tests sign for, and its one runner."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from horus_celery.admission import Gate, admit
from horus_celery.authoring import Signer
from horus_celery.instants import to_ms
from horus_celery.statements import canonical, dsse
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.trust import Trust
from horus_celery.upstream import Found, take

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ALICE, RUNNER = (KeyPair.from_seed(bytes([number]) * 32) for number in (1, 2))
NO_OUTPUT = {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0, "truncated": False}
TRUST = Trust.from_wire(
    {
        "v": 1,
        "aud": "hero",
        "version": 1,
        "issued_at": to_ms(NOW),
        "expires_at": to_ms(NOW + timedelta(days=30)),
        "keys": {one.keyid: one.public.hex() for one in (ALICE, RUNNER)},
        "grants": [
            {
                "context_id": "billing",
                "caller_id": "alice",
                "keys": [ALICE.keyid],
                "threshold": 1,
                "executors": ["python", "system"],
                "nets": ["none", "herodb"],
                "max_timeout": 3600,
                "secrets": ["token"],
            }
        ],
        "runners": [
            {
                "name": "r1",
                "key": RUNNER.keyid,
                "executors": ["python", "system"],
                "contexts": ["*"],
            }
        ],
    }
)


class Node:
    """Admits jobs, proves what they build on, and says that they completed."""

    def __init__(self):
        self.over = {}

    def start(self, envelope):
        """Check a job as a runner does, and return what it is given."""
        gate = Gate(aud="hero", name="r1", trust=TRUST, now=NOW)
        job = admit(envelope, gate).job
        return take(job, trust=TRUST, look_up=self.over.get)

    def complete(self, signed, result):
        """Sign a receipt which says that the job of this step gave this result."""
        data = result.encode()
        body = {
            "v": 1,
            "aud": "hero",
            "runner": "r1",
            "seq": 1,
            "prev": None,
            "job": signed.envelope.digest,
            "job_id": signed.job.id,
            "attempt": 1,
            "status": "completed",
            "reason": None,
            "exit_code": 0,
            "started_at": to_ms(NOW),
            "ended_at": to_ms(NOW),
            "inputs": [],
            "stdout": NO_OUTPUT,
            "stderr": NO_OUTPUT,
            "result": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)},
            "sandbox": "plain",
            "software": "test",
        }
        receipt = dsse.sign(dsse.RECEIPT, canonical.encode(body), [RUNNER])
        self.over[signed.envelope.digest] = Found(
            envelope=dsse.to_json(signed.envelope),
            receipts=(dsse.to_json(receipt),),
            result=result,
        )


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def deployment():
    return SimpleNamespace(
        now=NOW,
        trust=TRUST,
        signer=Signer(
            aud="hero", caller_id="alice", context_id="billing", keys=[ALICE]
        ),
    )
