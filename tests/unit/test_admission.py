import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from horus_celery import admission
from horus_celery.admission import CHECKS, CLOCK_SKEW, Gate, admit, summary
from horus_celery.errors import RefusedError
from horus_celery.instants import to_ms
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import Job, WorkflowRef, make_job
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.trust import Trust
from horus_celery.store import bell, keys

NOW = datetime(2025, 10, 9, tzinfo=UTC)
ALICE, BOB, RUNNER = (KeyPair.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
GRANT = {
    "context_id": "billing",
    "caller_id": "alice",
    "keys": [ALICE.keyid],
    "threshold": 1,
    "executors": ["python", "system"],
    "nets": ["none", "herodb"],
    "max_timeout": 3600,
    "secrets": ["token"],
}

JOB: dict[str, Any] = {
    "aud": "hero",
    "caller_id": "alice",
    "context_id": "billing",
    "executor": "python",
    "payload": "print(1)",
    "now": NOW,
}


def trust(*grants, **changes):
    return Trust.from_wire(
        {
            "v": 1,
            "aud": "hero",
            "version": 1,
            "issued_at": 0,
            "expires_at": to_ms(NOW + timedelta(days=90)),
            "keys": {one.keyid: one.public.hex() for one in (ALICE, BOB, RUNNER)},
            "grants": list(grants or [GRANT]),
            "runners": [
                {
                    "name": "python_runner_1",
                    "key": RUNNER.keyid,
                    "executors": ["python"],
                    "contexts": ["*"],
                }
            ],
        }
        | changes
    )


def gate(**changes):
    whole = Gate(
        aud="hero",
        name="python_runner_1",
        executors=frozenset({"python"}),
        contexts=frozenset({"*"}),
        trust=trust(),
        now=NOW,
    )
    return dataclasses.replace(whole, **changes)


def envelope(*pairs, **changes):
    job = make_job(**JOB | changes)
    return dsse.sign(dsse.JOB, job.body(), pairs or (ALICE,))


def refusal_of(refused, at=None):
    with pytest.raises(RefusedError) as refusal:
        admit(refused, at or gate())
    assert refusal.value.digest == refused.digest
    return refusal.value


def reason_of(refused, at=None):
    return refusal_of(refused, at).reason


#: For each check its reason, and a job and a gate that it refuses.
REFUSED = {
    admission.audience_is_this_deployment: (
        "bind.aud",
        lambda: (envelope(aud="acme"), gate()),
    ),
    admission.executor_may_have_a_queue: (
        "bind.executor",
        lambda: (envelope(executor="hero:secrets"), gate(executors=None)),
    ),
    admission.executor_is_served_here: (
        "bind.executor",
        lambda: (envelope(executor="system"), gate()),
    ),
    admission.runner_is_this_one: (
        "bind.runner",
        lambda: (envelope(runner="python_runner_2"), gate()),
    ),
    admission.context_is_served_here: (
        "bind.context",
        lambda: (envelope(), gate(contexts=frozenset({"payroll"}))),
    ),
    admission.grant_covers_context: (
        "auth.context",
        lambda: (envelope(context_id="payroll"), gate()),
    ),
    admission.grant_covers_key: ("auth.key", lambda: (envelope(BOB), gate())),
    admission.grant_covers_executor: (
        "auth.executor",
        lambda: (envelope(executor="osis"), gate(executors=None)),
    ),
    admission.grant_covers_net: ("auth.net", lambda: (envelope(net="host"), gate())),
    admission.grant_covers_timeout: (
        "auth.timeout",
        lambda: (envelope(timeout=timedelta(seconds=3601)), gate()),
    ),
    admission.grant_covers_secrets: (
        "auth.secrets",
        lambda: (envelope(secrets=["token", "other"]), gate()),
    ),
    admission.secrets_are_kept_here: (
        "auth.secrets",
        lambda: (envelope(secrets=["token"]), gate(secrets=frozenset({"other"}))),
    ),
    admission.job_has_not_expired: (
        "time.expired",
        lambda: (envelope(), gate(now=NOW + timedelta(days=2))),
    ),
    admission.job_was_not_made_later: (
        "time.future",
        lambda: (envelope(), gate(now=NOW - timedelta(days=2))),
    ),
}


def test_every_check_has_a_job_that_it_refuses():
    assert REFUSED.keys() == set(CHECKS)
    assert len(set(CHECKS)) == len(CHECKS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_check_refuses_what_the_checks_before_it_let_through(check):
    reason, make = REFUSED[check]
    refused, at = make()
    assert refusing(refused, at)[0] is check
    assert reason_of(refused, at) == reason


def test_a_secret_that_is_not_here_is_named():
    refused = envelope(secrets=["token"])
    assert "no secret token here" in str(refusal_of(refused, gate(secrets=frozenset())))
    assert admit(refused, gate(secrets=frozenset({"token"}))).job.secrets == ("token",)


def refusing(refused, at):
    job = Job.from_wire(canonical.parse(refused.body))
    signed_by = dsse.signers(refused, at.trust.caller_keys())
    found = []
    for check in CHECKS:
        try:
            check(job, at, signed_by)
        except RefusedError:
            found.append(check)
    return found


def test_an_admitted_job_comes_with_all_that_is_recorded():
    run = WorkflowRef(
        id="0198f3a0-7c1e-7d55-9f6b-0d4c8a3b1e77", step="s", manifest="0" * 64
    )
    good = envelope(BOB, ALICE, attempts=3, runner="python_runner_1", workflow=run)
    admitted = admit(good, gate())
    assert admitted.digest == good.digest
    assert admitted.signed_by == tuple(sorted([ALICE.keyid, BOB.keyid]))
    assert dsse.read(admitted.envelope, dsse.JOB) == good
    assert admitted.job.body() == good.body
    record = summary(admitted)
    assert (record.digest, record.id) == (good.digest, admitted.job.id)
    assert (record.caller_id, record.context_id) == ("alice", "billing")
    assert (record.executor, record.runner) == ("python", "python_runner_1")
    assert (record.attempts, record.workflow_id) == (3, run.id)
    assert record.expires_at == admitted.job.expires_at
    assert record.signed_by == admitted.signed_by
    assert summary(admit(envelope(), gate())).workflow_id is None


def test_a_supervisor_leaves_the_runners_own_checks_to_the_runner():
    supervisor = gate(name=None, executors=None, contexts=None)
    assert admit(envelope(runner="anybody", executor="system"), supervisor)
    assert reason_of(envelope(aud="acme"), supervisor) == "bind.aud"
    assert reason_of(envelope(executor="osis"), supervisor) == "auth.executor"


def test_a_bundle_for_another_deployment_vouches_for_nothing():
    acme = trust(aud="acme")
    assert reason_of(envelope(), gate(trust=acme)) == "bind.aud"
    assert reason_of(envelope(aud="acme"), gate(trust=acme)) == "bind.aud"
    assert reason_of(envelope(aud="acme"), gate(aud="acme")) == "bind.aud"


def test_a_runners_key_signs_no_job():
    assert reason_of(envelope(RUNNER)) == "sig.none"


def test_a_strangers_key_signs_no_job():
    assert reason_of(envelope(KeyPair.generate())) == "sig.none"


def test_a_revoked_key_signs_no_job():
    keys = {BOB.keyid: BOB.public.hex(), RUNNER.keyid: RUNNER.public.hex()}
    assert reason_of(envelope(), gate(trust=trust(keys=keys))) == "sig.none"


def test_an_expired_bundle_refuses_every_job_and_says_so():
    expired = trust(expires_at=to_ms(NOW))
    refusal = refusal_of(envelope(), gate(trust=expired))
    assert refusal.reason == "sig.none"
    assert "expired at 2025-10-09T00:00:00+00:00" in str(refusal)
    assert "run `horus trust renew` where the root key lies" in str(refusal)


def test_nothing_is_parsed_before_it_is_verified():
    junk = dsse.sign(dsse.JOB, b"[" * 100_000, [KeyPair.generate()])
    assert reason_of(junk) == "sig.none"
    signed = dsse.sign(dsse.JOB, b"[" * 100_000, [ALICE])
    assert reason_of(signed) == "json.syntax"
    other = dsse.sign(dsse.JOB, canonical.encode({"v": 1}), [ALICE])
    assert reason_of(other) == "schema.fields"


def test_a_threshold_counts_distinct_keys_of_the_grant():
    two = GRANT | {"keys": [ALICE.keyid, BOB.keyid], "threshold": 2}
    assert admit(envelope(ALICE, BOB), gate(trust=trust(two)))
    assert reason_of(envelope(ALICE), gate(trust=trust(two))) == "auth.key"
    assert reason_of(envelope(ALICE, ALICE), gate(trust=trust(two))) == "auth.key"
    doubled = GRANT | {"keys": [ALICE.keyid] * 2, "threshold": 2}
    assert reason_of(envelope(ALICE, BOB), gate(trust=trust(doubled))) == "auth.key"


def test_a_signature_more_than_needed_does_no_harm():
    assert admit(envelope(ALICE, BOB, KeyPair.generate()), gate())


def test_one_single_grant_must_cover_it_all():
    quick = GRANT | {"max_timeout": 60, "nets": ["host"]}
    slow = GRANT | {"max_timeout": 3600, "nets": ["none"]}
    both = gate(trust=trust(quick, slow))
    hour = timedelta(hours=1)
    assert admit(envelope(net="host"), both)
    assert admit(envelope(timeout=hour), both)
    assert reason_of(envelope(net="host", timeout=hour), both) == "auth.timeout"


def test_a_grant_for_all_executors_covers_any():
    every = gate(trust=trust(GRANT | {"executors": ["*"]}), executors=frozenset("*"))
    assert admit(envelope(executor="osis"), every)


@pytest.mark.parametrize(
    "name", [bell.QUEUE, *dataclasses.asdict(keys.Keys.of("hero")).values()]
)
def test_no_grant_covers_an_executor_whose_queue_would_be_a_key_of_ours(name):
    every = gate(trust=trust(GRANT | {"executors": ["*"]}), executors=None)
    assert reason_of(envelope(executor=name), every) == "bind.executor"


def test_an_executor_that_only_begins_like_the_namespace_is_one_like_others():
    every = gate(trust=trust(GRANT | {"executors": ["*"]}), executors=None)
    assert admit(envelope(executor="heroic"), every)


def test_a_grant_ends_at_its_timeout():
    assert admit(envelope(timeout=timedelta(seconds=3600)), gate())


def test_times_are_told_as_they_are_written():
    over = refusal_of(envelope(timeout=timedelta(seconds=3601)))
    assert over.detail == "no grant covers a timeout of 3601 s"
    early = refusal_of(envelope(), gate(now=NOW - timedelta(days=1, milliseconds=1)))
    assert "at 2025-10-09T00:00:00+00:00, but here it is 2025-10-07" in early.detail


def test_named_secrets_must_all_be_granted():
    assert admit(envelope(secrets=["token"]), gate())
    without = {name: value for name, value in GRANT.items() if name != "secrets"}
    refused = envelope(secrets=["token"])
    assert reason_of(refused, gate(trust=trust(without))) == "auth.secrets"


def test_a_job_lives_until_the_moment_it_expires():
    good = envelope(expires_at=NOW + timedelta(minutes=1))
    last = NOW + timedelta(minutes=1) - timedelta(milliseconds=1)
    assert admit(good, gate(now=last))
    assert reason_of(good, gate(now=NOW + timedelta(minutes=1))) == "time.expired"


def test_clocks_may_differ_by_five_minutes():
    assert timedelta(minutes=5) == CLOCK_SKEW
    assert admit(envelope(), gate(now=NOW - CLOCK_SKEW))
    early = NOW - CLOCK_SKEW - timedelta(milliseconds=1)
    assert reason_of(envelope(), gate(now=early)) == "time.future"
