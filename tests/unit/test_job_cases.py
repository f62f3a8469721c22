"""The protocol's own vectors: one job from seed to envelope, and every verdict."""

import itertools
import json
from datetime import timedelta
from pathlib import Path

import pytest

from horus_celery.check import check_job, read_trust_text
from horus_celery.instants import from_ms
from horus_celery.journal import Journal
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import Job
from horus_celery.statements.keys import KeyPair, key_id

VECTORS = Path(__file__).parents[1] / "vectors"
GOLDEN = json.loads((VECTORS / "job_golden.json").read_text("utf-8"))
CASES = json.loads((VECTORS / "job_cases.json").read_text("utf-8"))
TRUST = read_trust_text(json.dumps(CASES["trust"]))


def runs():
    """Group the cases: those that name a journal share it, the others stand alone."""
    alone = [[case] for case in CASES["cases"] if case["journal"] is None]
    sharing = sorted(
        (case for case in CASES["cases"] if case["journal"] is not None),
        key=lambda case: case["journal"],
    )
    return alone + [
        list(group)
        for _, group in itertools.groupby(sharing, key=lambda case: case["journal"])
    ]


def name_of(run):
    return run[0]["name"] if len(run) == 1 else f"journal {run[0]['journal']}"


def verdict(case, journal):
    runner = case["runner"]
    return check_job(
        case["envelope"],
        trust=TRUST,
        name=runner["name"],
        aud=runner["aud"],
        executors=runner["executors"],
        contexts=runner["contexts"],
        now=from_ms(case["now_ms"]),
        journal=journal,
    )


def test_there_are_all_74_cases():
    assert sum(map(len, runs())) == len(CASES["cases"]) == 74


@pytest.mark.parametrize("run", runs(), ids=name_of)
def test_a_runner_gives_the_verdict_of_the_vectors(run):
    journal = Journal(":memory:")
    found = [(case["name"], verdict(case, journal)) for case in run]
    journal.close()
    assert found == [(case["name"], case["expect"]) for case in run]


def test_without_a_journal_nothing_is_claimed():
    replay = next(case for case in CASES["cases"] if case["expect"] == "claim.replay")
    assert verdict(replay, None) == "accept"


def test_the_golden_key_is_made_from_its_seed():
    pair = KeyPair.from_seed(bytes.fromhex(GOLDEN["seed"]))
    assert pair.public.hex() == GOLDEN["public_key"]
    assert pair.keyid == key_id(pair.public) == GOLDEN["keyid"]


def test_the_golden_job_has_the_golden_body():
    body = bytes.fromhex(GOLDEN["body_hex"])
    assert body == GOLDEN["body_utf8"].encode()
    assert canonical.encode(GOLDEN["job"]) == body
    job = Job.from_wire(canonical.parse(body))
    assert job.to_wire() == GOLDEN["job"]
    assert job.body() == body
    assert job.timeout == timedelta(seconds=60)
    assert job.created_at == from_ms(1760000000000)


def test_the_golden_body_is_signed_to_the_golden_envelope():
    pair = KeyPair.from_seed(bytes.fromhex(GOLDEN["seed"]))
    envelope = dsse.sign(dsse.JOB, bytes.fromhex(GOLDEN["body_hex"]), [pair])
    assert envelope.signed_bytes.hex() == GOLDEN["signed_bytes_hex"]
    assert envelope.digest == GOLDEN["digest"]
    assert envelope.signatures[0].sig.hex() == GOLDEN["signature_hex"]
    assert dsse.to_wire(envelope) == GOLDEN["envelope"]
    assert dsse.from_wire(GOLDEN["envelope"], dsse.JOB) == envelope
