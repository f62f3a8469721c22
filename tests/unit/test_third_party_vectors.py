"""Vectors of others, read where they lie, beside the project."""

import json
from pathlib import Path

import pytest

from horus_celery.errors import MalformedError
from horus_celery.statements import canonical
from horus_celery.statements.keys import is_registrable, is_signed_by

FOLDER = Path(__file__).parents[2].parent / "shared" / "vectors"

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason="the third-party vectors are not beside this checkout (../shared/vectors)",
)


def load(name):
    return json.loads((FOLDER / name).read_text("utf-8"))


def test_every_wycheproof_verdict_is_ours():
    tests = [
        (group["publicKey"]["pk"], test)
        for group in load("wycheproof/ed25519_test.json")["testGroups"]
        for test in group["tests"]
    ]
    wrong = [
        test["tcId"]
        for public, test in tests
        if is_signed_by(*map(bytes.fromhex, (public, test["msg"], test["sig"])))
        != (test["result"] == "valid")
    ]
    assert wrong == []
    assert len(tests) == 151
    assert sum(test["result"] == "valid" for _, test in tests) == 88


def test_of_the_speccheck_cases_only_number_three_verifies():
    verified = [
        number
        for number, case in enumerate(load("speccheck/cases.json"))
        if is_signed_by(
            bytes.fromhex(case["pub_key"]),
            bytes.fromhex(case["message"]),
            bytes.fromhex(case["signature"]),
        )
    ]
    assert verified == [3]


def test_of_the_speccheck_keys_only_those_of_six_and_seven_are_registrable():
    cases = load("speccheck/cases.json")
    keys = [bytes.fromhex(case["pub_key"]) for case in cases]
    found = [number for number, key in enumerate(keys) if is_registrable(key)]
    assert found == [6, 7]


@pytest.mark.parametrize("name", ["arrays", "unicode"])
def test_a_jcs_set_of_the_restricted_form_is_written_byte_for_byte(name):
    value = canonical.load((FOLDER / f"jcs/testdata/input/{name}.json").read_bytes())
    output = (FOLDER / f"jcs/testdata/output/{name}.json").read_bytes()
    outhex = (FOLDER / f"jcs/testdata/outhex/{name}.txt").read_text("ascii")
    assert canonical.encode(value) == output == bytes.fromhex(outhex)
    assert canonical.parse(output) == value


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("french", "json.not_canonical"),
        ("structures", "json.float"),
        ("values", "json.float"),
        ("weird", "json.not_canonical"),
    ],
)
def test_a_jcs_set_outside_the_restricted_form_is_refused(name, reason):
    body = (FOLDER / f"jcs/testdata/input/{name}.json").read_bytes()
    with pytest.raises(MalformedError) as refusal:
        canonical.parse(body)
    assert refusal.value.reason == reason


@pytest.mark.parametrize("name", ["french", "values", "weird"])
def test_it_is_refused_in_its_canonical_form_as_well(name):
    # Not "structures": there 56.0 is written 56, which is an integer.
    body = (FOLDER / f"jcs/testdata/output/{name}.json").read_bytes()
    with pytest.raises(MalformedError):
        canonical.parse(body)
