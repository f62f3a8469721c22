import json
from datetime import UTC, datetime
from typing import Any

import pytest

from horus_celery.check import builds_on, check_job, read_trust_text
from horus_celery.errors import ConfigurationError
from horus_celery.journal import Journal
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import InputRef, make_job
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.trust import Trust

NOW = datetime(2025, 10, 9, tzinfo=UTC)
ROOT, ALICE = (KeyPair.from_seed(bytes([number]) * 32) for number in (9, 1))
BODY = {
    "v": 1,
    "aud": "hero",
    "version": 1,
    "issued_at": 0,
    "expires_at": 2_000_000_000_000,
    "keys": {ALICE.keyid: ALICE.public.hex()},
    "grants": [
        {
            "context_id": "billing",
            "caller_id": "alice",
            "keys": [ALICE.keyid],
            "threshold": 1,
            "executors": ["python"],
            "nets": ["none"],
            "max_timeout": 3600,
        }
    ],
    "runners": [],
}
SEALED = dsse.to_json(dsse.sign(dsse.TRUST, canonical.encode(BODY), [ROOT]))

RUNNER: dict[str, Any] = {
    "trust": Trust.from_wire(BODY),
    "name": "r",
    "aud": "hero",
    "executors": ["python"],
    "contexts": ["*"],
    "now": NOW,
}
JOB: dict[str, Any] = {
    "aud": "hero",
    "caller_id": "alice",
    "context_id": "billing",
    "executor": "python",
    "payload": "print(1)",
    "now": NOW,
}


def verdict(text, **changes):
    return check_job(text, **RUNNER | changes)


def job_text(**changes):
    job = make_job(**JOB | changes)
    return dsse.to_json(dsse.sign(dsse.JOB, job.body(), [ALICE]))


def test_a_good_job_is_accepted():
    assert verdict(job_text()) == "accept"
    assert verdict(job_text().encode()) == "accept"


def test_what_a_job_builds_on_is_told_apart():
    first, second = "1" * 64, "2" * 64
    wanted = InputRef.from_wire({"from": second, "max_bytes": 1})
    text = job_text(needs=[first, first], inputs={"A": wanted, "B": wanted})
    assert verdict(text) == "accept"
    assert builds_on(text) == {first, second}
    assert builds_on(job_text()) == frozenset()


def test_a_bad_job_is_answered_with_its_reason():
    assert verdict(job_text(), executors=["system"]) == "bind.executor"
    assert verdict("") == "json.syntax"
    assert verdict(b"\xff") == "json.utf8"


def test_with_a_journal_a_job_is_claimed_as_by_its_start():
    journal = Journal(":memory:")
    once = job_text()
    assert verdict(once, journal=journal) == "accept"
    assert verdict(once, journal=journal) == "claim.replay"
    journal.close()


def test_a_refused_job_is_not_claimed():
    journal = Journal(":memory:")
    once = job_text()
    assert verdict(once, executors=["system"], journal=journal) == "bind.executor"
    assert verdict(once, journal=journal) == "accept"
    journal.close()


@pytest.mark.parametrize(
    "text", [SEALED, SEALED.encode(), json.dumps(BODY), json.dumps(BODY, indent=2)]
)
def test_a_trust_bundle_is_read_as_an_envelope_or_as_a_bare_body(text):
    assert read_trust_text(text) == Trust.from_wire(BODY)


def test_an_envelope_is_held_against_the_root_key_if_one_is_given():
    assert read_trust_text(SEALED, root_public=ROOT.public).version == 1
    with pytest.raises(ConfigurationError, match=r"sig\.none"):
        read_trust_text(SEALED, root_public=ALICE.public)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "json.syntax"),
        ("[]", "schema.fields"),
        (json.dumps(BODY | {"version": 1.5}), "json.float"),
        (json.dumps(BODY | {"more": 1}), "schema.fields"),
        (job_text(), "env.type"),
        (SEALED.replace('payload":"', 'payload":"!'), "env.base64"),
    ],
)
def test_what_is_no_trust_bundle_is_a_mistake_of_the_person_who_named_it(text, reason):
    with pytest.raises(ConfigurationError, match=reason):
        read_trust_text(text)
