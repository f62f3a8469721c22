"""A refusal is told at once: as rejected, with its code and a receipt."""

from __future__ import annotations

import json
import statistics
import time
from datetime import UTC, datetime, timedelta

import pytest

from horus_celery import admission, wiring
from horus_celery.lifecycle import Status
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import Job
from horus_celery.statements.keys import KeyPair

pytestmark = pytest.mark.integration

SOON = timedelta(seconds=20)
AT_MOST = 0.1  # seconds from the bell to the client
TIMES = 7


@pytest.fixture(scope="module", autouse=True)
def worker(deployment):
    started = deployment.start_worker("-Q", "python,system", "-c", "1")
    # The pool's child makes its connections at its first job.
    assert deployment.run("print(1)").status is Status.COMPLETED
    return started


def by_a_stranger(deployment):
    key = deployment.key
    deployment.key = KeyPair.generate()
    try:
        return deployment.envelope("print(1)")
    finally:
        deployment.key = key


def too_late(deployment):
    long_ago = datetime.now(UTC) - timedelta(days=1)
    return deployment.envelope("print(1)", now=long_ago)


def too_long(deployment):
    return deployment.envelope("print(1)", net="host")


def with_secrets(deployment):
    return deployment.envelope("print(1)", secrets=["nobody.has.it"])


def again(deployment):
    """Return a job that has run already, and is known to nobody but the journal."""
    envelope = deployment.envelope("print(1)")
    record = deployment.supervisor.create_and_queue(
        envelope, priority=4, not_before=None
    )
    assert deployment.over(record).status is Status.COMPLETED
    deployment.store.delete(record.summary.digest)
    return envelope


def record_unchecked(deployment, envelope):
    """Queue a job without a check and without a bell, as who writes to Redis may."""
    text = json.dumps(envelope)
    signed = dsse.read(text, dsse.JOB)
    job = Job.from_wire(canonical.parse(signed.body))
    admitted = admission.Admitted(
        job=job, digest=signed.digest, envelope=text, signed_by=()
    )
    return deployment.store.add(
        admission.summary(admitted),
        text,
        at=datetime.now(UTC),
        priority=4,
        not_before=None,
        queue="python",
    )


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (by_a_stranger, "sig.none"),
        (too_late, "time.expired"),
        (too_long, "auth.net"),
        (with_secrets, "auth.secrets"),
        (again, "claim.replay"),
    ],
)
def test_a_refusal_reaches_who_waits_within_a_tenth_of_a_second_of_the_bell(
    deployment, make, reason
):
    dispatcher = wiring.make_dispatcher(deployment.settings)
    took = []
    for _ in range(TIMES):
        record = record_unchecked(deployment, make(deployment))
        began = time.monotonic()
        dispatcher.ring(record.summary.id, "python", 4)
        ending = deployment.supervisor.result(record.summary.digest, wait=SOON)
        took.append(time.monotonic() - began)
        assert ending.record.status is Status.REJECTED
        assert ending.record.reason == reason
        assert ending.record.receipt is not None
    # One of them may have met a machine that was busy with something else.
    assert statistics.median(took) < AT_MOST
