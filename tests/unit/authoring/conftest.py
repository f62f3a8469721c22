"""A deployment that believes whom the tests sign for, and its one runner."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from horus_celery.admission import Gate, admit
from horus_celery.statements import dsse
from horus_celery.upstream import Found, take
from tests.coordinator import NOW, make_receipt, make_signer, make_trust


class Node:
    """Admits jobs, proves what they build on, and says that they completed."""

    def __init__(self):
        self.over = {}

    def start(self, envelope):
        """Check a job as a runner does, and return what it is given."""
        gate = Gate(aud="hero", name="r1", trust=make_trust(), now=NOW)
        job = admit(envelope, gate).job
        return take(job, trust=gate.trust, look_up=self.over.get)

    def complete(self, signed, result, **facts):
        """Sign a receipt which says that the job of this step gave this result."""
        digest = signed.envelope.digest
        receipt = make_receipt(signed.job, digest, result=result, **facts)
        self.over[digest] = Found(
            envelope=dsse.to_json(signed.envelope),
            receipts=(dsse.to_json(receipt),),
            result=result,
        )


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def deployment():
    return SimpleNamespace(now=NOW, signer=make_signer())
