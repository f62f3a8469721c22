from __future__ import annotations

from datetime import timedelta

import pytest

from horus_celery.errors import RefusedError
from horus_celery.statements import canonical, dsse
from horus_celery.statements.runner import (
    SKEW,
    Registration,
    read_registration,
    require_covered,
    require_fresh,
)

NOW_MS = 1_760_000_000_000


def wire(**changes):
    return {
        "v": 1,
        "aud": "hero",
        "name": "first",
        "executor": "python",
        "contexts": ["*"],
        "concurrency": 4,
        "nonce": "0123456789abcdef",
        "at": NOW_MS,
    } | changes


def sealed(*pairs, kind=dsse.RUNNER, **changes):
    return dsse.sign(kind, canonical.encode(wire(**changes)), pairs)


def reason_of(envelope, town, *, aud="hero"):
    with pytest.raises(RefusedError) as refusal:
        read_registration(envelope, trust=town.trust, aud=aud)
    assert refusal.value.digest == envelope.digest
    return refusal.value.reason


def test_a_registration_is_written_as_it_was_read():
    said = Registration.from_wire(wire())
    assert said.to_wire() == wire()
    assert canonical.parse(said.body()) == wire()


@pytest.mark.parametrize("field", sorted(wire()))
def test_every_field_is_needed(field):
    body = wire()
    del body[field]
    with pytest.raises(RefusedError) as refusal:
        Registration.from_wire(body)
    assert refusal.value.reason == "schema.fields"


def test_no_further_field_is_taken():
    with pytest.raises(RefusedError) as refusal:
        Registration.from_wire(wire(host="here"))
    assert refusal.value.reason == "schema.fields"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("v", 2),
        ("v", True),
        ("aud", ""),
        ("name", "a b"),
        ("name", "*"),
        ("executor", "*"),
        ("executor", ["python"]),
        ("contexts", []),
        ("contexts", "*"),
        ("contexts", ["*", ""]),
        ("concurrency", 0),
        ("concurrency", True),
        ("concurrency", "1"),
        ("nonce", ""),
        ("nonce", "x" * 129),
        ("nonce", 7),
        ("at", -1),
        ("at", "now"),
    ],
    ids=str,
)
def test_a_value_of_another_form_is_refused_by_its_field(field, value):
    with pytest.raises(RefusedError) as refusal:
        Registration.from_wire(wire(**{field: value}))
    assert refusal.value.reason == f"schema.{field}"


def test_what_the_runner_signed_and_the_bundle_covers_is_read(town):
    said = read_registration(sealed(town.first), trust=town.trust, aud="hero")
    assert (said.name, said.concurrency, said.at) == ("first", 4, town.now)


def test_a_second_signature_does_no_harm(town):
    envelope = sealed(town.stranger, town.first)
    assert read_registration(envelope, trust=town.trust, aud="hero").name == "first"


def test_a_bound_runner_may_name_its_own_contexts(town):
    envelope = sealed(town.second, name="second", contexts=["payroll"])
    said = read_registration(envelope, trust=town.trust, aud="hero")
    assert said.contexts == ("payroll",)


def test_a_key_that_no_runner_has_counts_for_nothing(town):
    assert reason_of(sealed(town.stranger), town) == "sig.none"
    assert reason_of(sealed(town.alice), town) == "sig.none"


def test_a_runner_cannot_speak_for_another(town):
    assert reason_of(sealed(town.second), town) == "sig.none"


def test_a_name_that_the_bundle_does_not_list_is_refused(town):
    assert reason_of(sealed(town.first, name="third"), town) == "bind.runner"


def test_another_deployments_registration_is_refused(town):
    assert reason_of(sealed(town.first, aud="other"), town) == "bind.aud"
    assert reason_of(sealed(town.first), town, aud="other") == "bind.aud"


def covered(town, envelope):
    said = read_registration(envelope, trust=town.trust, aud="hero")
    require_covered(said, town.trust)


def test_what_the_bundle_allows_is_covered(town):
    covered(town, sealed(town.first, contexts=["billing", "*"]))
    covered(town, sealed(town.second, name="second", contexts=["payroll"]))


def test_an_executor_that_the_bundle_does_not_allow_is_refused(town):
    with pytest.raises(RefusedError) as refusal:
        covered(town, sealed(town.first, executor="osis"))
    assert refusal.value.reason == "bind.executor"


@pytest.mark.parametrize("contexts", [["*"], ["billing"], ["payroll", "billing"]])
def test_contexts_that_the_bundle_does_not_allow_are_refused(town, contexts):
    with pytest.raises(RefusedError) as refusal:
        covered(town, sealed(town.second, name="second", contexts=contexts))
    assert refusal.value.reason == "bind.context"


def test_a_signed_body_that_is_not_canonical_is_refused(town):
    body = canonical.encode(wire()).replace(b":", b": ", 1)
    envelope = dsse.sign(dsse.RUNNER, body, [town.first])
    assert reason_of(envelope, town) == "json.not_canonical"


def test_a_signature_over_another_type_does_not_count(town):
    receipt = sealed(town.first, kind=dsse.RECEIPT)
    as_registration = dsse.Envelope(dsse.RUNNER, receipt.body, receipt.signatures)
    assert reason_of(as_registration, town) == "sig.none"


@pytest.mark.parametrize("off", [-SKEW, timedelta(0), SKEW])
def test_clocks_may_differ_by_five_minutes(town, off):
    require_fresh(Registration.from_wire(wire()), town.now + off)


@pytest.mark.parametrize(
    ("off", "reason"), [(SKEW, "time.expired"), (-SKEW, "time.future")]
)
def test_what_was_said_at_another_time_does_not_count(town, off, reason):
    now = town.now + off * 1.001
    with pytest.raises(RefusedError) as refusal:
        require_fresh(Registration.from_wire(wire()), now)
    assert refusal.value.reason == reason
