import json
from datetime import timedelta

import pytest

from horus_celery.errors import MalformedError, SignatureError
from horus_celery.statements import canonical, dsse
from horus_celery.statements.keys import KeyPair, key_id
from horus_celery.statements.trust import Trust, is_listed, read_trust


def reason_of(value):
    with pytest.raises(MalformedError) as refusal:
        Trust.from_wire(value)
    return refusal.value.reason


def sealed(body, *pairs):
    return dsse.to_json(dsse.sign(dsse.TRUST, canonical.encode(body), pairs))


def test_a_bundle_that_the_root_signed_is_read(town):
    text = sealed(town.trust_body(), town.root)
    assert read_trust(text, town.root.public) == town.trust


def test_a_bundle_that_somebody_else_signed_is_refused(town):
    text = sealed(town.trust_body(), town.alice, town.stranger)
    with pytest.raises(SignatureError) as refusal:
        read_trust(text, town.root.public)
    assert refusal.value.reason == "sig.none"
    assert refusal.value.digest == dsse.read(text, dsse.TRUST).digest


def test_a_bundle_is_verified_before_it_is_read(town):
    with pytest.raises(SignatureError):
        read_trust(sealed({"v": 2}, town.stranger), town.root.public)
    with pytest.raises(MalformedError, match="missing"):
        read_trust(sealed({"v": 2}, town.root), town.root.public)


def test_a_bundle_is_no_other_statement(town):
    body = canonical.encode(town.trust_body())
    text = dsse.to_json(dsse.sign(dsse.JOB, body, [town.root]))
    with pytest.raises(MalformedError) as refusal:
        read_trust(text, town.root.public)
    assert refusal.value.reason == "env.type"


def test_a_bundle_is_written_as_it_was_read(town):
    wire = town.trust.to_wire()
    assert Trust.from_wire(json.loads(json.dumps(wire))) == town.trust
    assert canonical.parse(town.trust.body()) == wire
    assert wire["grants"][0]["secrets"] == []


def test_a_bundle_ends_at_its_last_moment(town):
    end = town.trust.expires_at
    assert not town.trust.is_expired(end - timedelta(milliseconds=1))
    assert town.trust.is_expired(end)


def test_callers_and_runners_have_keys_of_their_own(town):
    callers = {one.keyid: one.public for one in (town.alice, town.bob)}
    runners = {one.keyid: one.public for one in (town.first, town.second)}
    assert town.trust.caller_keys() == callers
    assert town.trust.runner_keys() == runners


def test_a_runner_is_found_by_its_name(town):
    first = town.trust.runner("first")
    assert first.key == town.first.keyid
    assert first.serves(executor="system", context_id="anything")
    assert not first.serves(executor="osis", context_id="billing")
    second = town.trust.runner("second")
    assert not second.serves(executor="python", context_id="billing")
    assert town.trust.runner("third") is None


def test_grants_are_found_by_context_and_caller(town):
    (grant,) = town.trust.grants_for("billing", "bob")
    assert grant.threshold == 2
    assert grant.secrets == ("token",)
    assert town.trust.grants_for("billing", "carol") == ()
    assert town.trust.grants_for("payroll", "alice") == ()


def test_a_key_stands_under_its_own_id(town):
    keys = {town.alice.keyid: town.bob.public.hex()}
    assert reason_of(town.trust_body(keys=keys)) == "schema.keys"


@pytest.mark.parametrize("public", [bytes(32), (1).to_bytes(32, "little")])
def test_a_key_that_is_no_valid_point_is_not_registered(town, public):
    keys = {key_id(public): public.hex()}
    assert reason_of(town.trust_body(keys=keys)) == "schema.keys"


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "0" * 63, "0" * 65])
def test_a_key_is_64_hex_digits(town, text):
    assert reason_of(town.trust_body(keys={"0" * 32: text})) == "schema.keys"


def test_two_runners_never_share_a_key_or_a_name(town):
    first, second = town.trust_body()["runners"]
    same_key = [first, second | {"key": first["key"]}]
    same_name = [first, second | {"name": first["name"]}]
    assert reason_of(town.trust_body(runners=same_key)) == "schema.runners"
    assert reason_of(town.trust_body(runners=same_name)) == "schema.runners"


def test_a_runners_key_signs_no_jobs(town):
    (grant, other) = town.trust_body()["grants"]
    grants = [grant, other | {"keys": [town.bob.keyid, town.first.keyid]}]
    assert reason_of(town.trust_body(grants=grants)) == "schema.runners"


def test_a_revoked_key_may_still_stand_in_a_grant_and_never_counts(town):
    body = town.trust_body()
    del body["keys"][town.alice.keyid]
    del body["keys"][town.first.keyid]
    trust = Trust.from_wire(body)
    assert trust.caller_keys().keys() == {town.bob.keyid}
    assert trust.runner_keys().keys() == {town.second.keyid}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"v": 2}, "schema.v"),
        ({"v": True}, "schema.v"),
        ({"aud": "a b"}, "schema.aud"),
        ({"version": -1}, "schema.version"),
        ({"version": "1"}, "schema.version"),
        ({"issued_at": -1}, "schema.issued_at"),
        ({"expires_at": 2**53}, "schema.expires_at"),
        ({"keys": []}, "schema.keys"),
        ({"grants": {}}, "schema.grants"),
        ({"runners": None}, "schema.runners"),
        ({"more": 1}, "schema.fields"),
    ],
)
def test_a_field_of_the_bundle_that_is_wrong_is_named(town, changes, reason):
    assert reason_of(town.trust_body(**changes)) == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"context_id": ""},
        {"caller_id": "*"},
        {"keys": ["abc"]},
        {"keys": "abc"},
        {"threshold": 0},
        {"threshold": True},
        {"executors": ["**"]},
        {"executors": "*"},
        {"nets": ["all"]},
        {"max_timeout": 0},
        {"max_timeout": 2**53 - 1},
        {"secrets": None},
        {"secrets": ["a/b"]},
        {"more": 1},
    ],
)
def test_a_wrong_grant_is_refused(town, changes):
    grants = [town.trust_body()["grants"][0] | changes]
    assert reason_of(town.trust_body(grants=grants)) == "schema.grants"


@pytest.mark.parametrize(
    "changes",
    [{"name": "*"}, {"key": "k"}, {"executors": [1]}, {"contexts": [""]}, {"more": 1}],
)
def test_a_wrong_runner_is_refused(town, changes):
    runners = [town.trust_body()["runners"][0] | changes]
    assert reason_of(town.trust_body(runners=runners)) == "schema.runners"


def test_a_bundle_is_equal_to_its_twin_whether_or_not_it_was_asked(town):
    twin = Trust.from_wire(town.trust_body())
    assert town.trust.caller_keys()
    assert twin == town.trust


def test_a_star_lists_everything():
    assert is_listed("python", ("*",))
    assert is_listed("python", frozenset({"python"}))
    assert not is_listed("python", ("system", "pyth*"))
    assert not is_listed("python", ())


def test_a_fresh_key_can_be_registered(town):
    fresh = KeyPair.generate()
    body = town.trust_body()
    body["keys"][fresh.keyid] = fresh.public.hex()
    assert fresh.keyid in Trust.from_wire(body).caller_keys()
