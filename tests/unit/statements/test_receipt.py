import dataclasses
import hashlib

import pytest

from horus_celery.errors import MalformedError, ReceiptError
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import make_job
from horus_celery.statements.receipt import (
    Expected,
    OutputDigest,
    Receipt,
    ResultDigest,
    check_receipt,
)
from horus_celery.statements.trust import Trust

JOB_ID = "0198f3a0-7c1e-7d55-9f6b-0d4c8a3b1e77"
DIGEST = "a" * 64
NOTHING = {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0}
EXPECTED = Expected(
    digest=DIGEST,
    job_id=JOB_ID,
    aud="hero",
    executor="python",
    context_id="billing",
    runner=None,
)


def wire(**changes):
    return {
        "v": 1,
        "aud": "hero",
        "runner": "first",
        "seq": 1,
        "prev": None,
        "job": DIGEST,
        "job_id": JOB_ID,
        "attempt": 1,
        "status": "completed",
        "reason": None,
        "exit_code": 0,
        "started_at": 1_760_000_000_000,
        "ended_at": 1_760_000_000_001,
        "inputs": [],
        "stdout": NOTHING | {"truncated": False},
        "stderr": NOTHING | {"truncated": True},
        "result": NOTHING,
        "sandbox": "plain",
        "software": "horus 0.1.0",
    } | changes


def sealed(pairs, kind=dsse.RECEIPT, **changes):
    return dsse.to_json(dsse.sign(kind, canonical.encode(wire(**changes)), pairs))


def expected(**changes):
    return dataclasses.replace(EXPECTED, **changes)


def refusal_of(text, trust, wanted=EXPECTED):
    with pytest.raises(ReceiptError) as refusal:
        check_receipt(text, trust=trust, expected=wanted)
    assert refusal.value.reason == "receipt_mismatch"
    return str(refusal.value)


def test_a_receipt_is_written_as_it_was_read():
    receipt = Receipt.from_wire(wire())
    assert receipt.to_wire() == wire()
    assert canonical.parse(receipt.body()) == wire()


def test_a_receipt_about_nothing_started_has_nulls():
    refused = wire(
        status="rejected",
        reason="sig.none",
        exit_code=None,
        started_at=None,
        attempt=0,
        prev=DIGEST,
    )
    assert Receipt.from_wire(refused).to_wire() == refused


def test_inputs_are_named_in_a_receipt():
    inputs = [{"name": "x", "from": DIGEST, "sha256": "b" * 64}]
    assert Receipt.from_wire(wire(inputs=inputs)).to_wire()["inputs"] == inputs


@pytest.mark.parametrize("field", wire())
def test_no_field_of_a_receipt_may_be_missing(field):
    rest = {name: value for name, value in wire().items() if name != field}
    with pytest.raises(MalformedError) as refusal:
        Receipt.from_wire(rest)
    assert refusal.value.reason == "schema.fields"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("v", True),
        ("seq", -1),
        ("prev", "00"),
        ("job", DIGEST.upper()),
        ("job_id", "x"),
        ("attempt", None),
        ("status", "running"),
        ("reason", "a\0"),
        ("exit_code", True),
        ("exit_code", "0"),
        ("started_at", -1),
        ("ended_at", None),
        ("inputs", [{"name": "x"}]),
        ("stdout", NOTHING),
        ("stderr", NOTHING | {"truncated": 1}),
        ("result", NOTHING | {"truncated": False}),
        ("result", {"sha256": "00", "bytes": 0}),
        ("sandbox", None),
        ("software", 1),
    ],
)
def test_a_wrong_field_of_a_receipt_is_named(field, value):
    with pytest.raises(MalformedError) as refusal:
        Receipt.from_wire(wire(**{field: value}))
    assert refusal.value.reason == f"schema.{field}"


def test_digests_are_taken_of_bytes():
    sha256 = hashlib.sha256(b"abc").hexdigest()
    assert dict(ResultDigest.of(b"abc")) == {"sha256": sha256, "bytes": 3}
    assert dict(OutputDigest.of(b"abc", truncated=True)) == {
        "sha256": sha256,
        "bytes": 3,
        "truncated": True,
    }


def test_a_receipt_counts_that_a_runner_signed_under_its_own_name(town):
    receipt = check_receipt(sealed([town.first]), trust=town.trust, expected=EXPECTED)
    assert receipt == Receipt.from_wire(wire())


def test_whoever_only_knows_a_record_takes_the_deployment_of_the_bundle(town):
    text = sealed([town.first])
    assert check_receipt(text, trust=town.trust, expected=expected(aud=None))


def test_what_is_expected_can_be_read_off_a_job(town):
    job = make_job(
        aud="hero",
        caller_id="alice",
        context_id="billing",
        executor="python",
        payload="",
        job_id=JOB_ID,
        now=town.now,
    )
    assert Expected.of(job, DIGEST) == EXPECTED


def test_a_receipt_that_no_runner_signed_does_not_count(town):
    for signer in (town.alice, town.root, town.stranger):
        assert "no runner" in refusal_of(sealed([signer]), town.trust)


def test_a_runner_signs_for_nobody_else(town):
    for name in ("second", "third"):
        text = sealed([town.first], runner=name)
        assert "did not sign" in refusal_of(text, town.trust)


def test_a_receipt_of_a_revoked_key_does_not_count(town):
    body = town.trust_body()
    del body["keys"][town.first.keyid]
    assert "no runner" in refusal_of(sealed([town.first]), Trust.from_wire(body))


def test_a_receipt_for_another_deployment_does_not_count(town):
    text = sealed([town.first], aud="acme")
    assert "deployment" in refusal_of(text, town.trust)
    assert "deployment" in refusal_of(text, town.trust, expected(aud=None))
    assert "deployment" in refusal_of(text, town.trust, expected(aud="acme"))
    right = sealed([town.first])
    assert "deployment" in refusal_of(right, town.trust, expected(aud="acme"))


def test_a_receipt_about_another_job_does_not_count(town):
    text = sealed([town.first])
    for other in (expected(digest="b" * 64), expected(job_id=JOB_ID[:-1] + "8")):
        assert "another job" in refusal_of(text, town.trust, other)


def test_a_receipt_of_a_runner_that_the_job_does_not_name_does_not_count(town):
    text = sealed([town.first])
    assert "another runner" in refusal_of(text, town.trust, expected(runner="second"))
    assert check_receipt(text, trust=town.trust, expected=expected(runner="first"))


def test_a_receipt_of_a_runner_that_may_not_run_the_job_does_not_count(town):
    first, second = sealed([town.first]), sealed([town.second], runner="second")
    assert "may not" in refusal_of(first, town.trust, expected(executor="osis"))
    assert "may not" in refusal_of(second, town.trust)
    payroll = expected(context_id="payroll")
    assert check_receipt(second, trust=town.trust, expected=payroll)


def test_what_is_signed_but_is_no_receipt_does_not_count(town):
    texts = [
        sealed([town.first], kind=dsse.JOB),
        sealed([town.first], v=2),
        sealed([town.first])[:-1],
        dsse.to_json(dsse.sign(dsse.RECEIPT, b"{ }", [town.first])),
        "",
    ]
    for text in texts:
        assert "malformed" in refusal_of(text, town.trust)
