"""Each way to tamper with receipts, or with what stands on them, has its name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from horus_celery.audit import Audit, Head, Kept, Kind, Told, ToldEnd
from horus_celery.instants import to_ms
from horus_celery.statements import canonical, dsse
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.trust import Trust

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUNNER, OTHER, STRANGER, OLD = (KeyPair.from_seed(bytes([n]) * 32) for n in range(4))
EMPTY = {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0}


def make_trust(keys, *, aud="hero"):
    return Trust.from_wire(
        {
            "v": 1,
            "aud": aud,
            "version": 1,
            "issued_at": to_ms(NOW),
            "expires_at": to_ms(NOW) + 1,
            "keys": {key.keyid: key.public.hex() for key in keys.values()},
            "grants": [],
            "runners": [
                {
                    "name": name,
                    "key": key.keyid,
                    "executors": ["python"],
                    "contexts": ["*"],
                }
                for name, key in keys.items()
            ],
        }
    )


TRUST = make_trust({"r": RUNNER, "other": OTHER})


def digest_of(number):
    return f"{number:064x}"


def id_of(number):
    return f"00000000-0000-0000-0000-{number:012x}"


def sign(seq, prev, *, job=None, key=RUNNER, result=b"7", **changes):
    """Sign a receipt about a job of its number."""
    job = seq if job is None else job
    body = {
        "v": 1,
        "aud": "hero",
        "runner": "r",
        "seq": seq,
        "prev": prev,
        "job": digest_of(job),
        "job_id": id_of(job),
        "attempt": 1,
        "status": "completed",
        "reason": None,
        "exit_code": 0,
        "started_at": to_ms(NOW),
        "ended_at": to_ms(NOW),
        "inputs": [],
        "stdout": {**EMPTY, "truncated": False},
        "stderr": {**EMPTY, "truncated": False},
        "result": {"sha256": hashlib.sha256(result).hexdigest(), "bytes": len(result)},
        "sandbox": "plain",
        "software": "test",
    }
    return dsse.sign(dsse.RECEIPT, canonical.encode({**body, **changes}), [key])


def kept(envelope, **changes):
    """Return a receipt as a journal keeps it."""
    said = json.loads(envelope.body)
    entry = Kept(
        seq=said["seq"],
        job=said["job"],
        attempt=said["attempt"],
        envelope=dsse.to_json(envelope),
    )
    return replace(entry, **changes)


def make_chain(count, **changes_of_each):
    """Return the envelopes of a chain in which everything is right."""
    envelopes, prev = [], None
    for seq in range(1, count + 1):
        envelopes.append(sign(seq, prev, **changes_of_each))
        prev = envelopes[-1].digest
    return envelopes


CHAIN = make_chain(5)
ENTRIES = [kept(one) for one in CHAIN]
HEAD = Head(seq=5, digest=CHAIN[-1].digest)


def walked(entries, head=HEAD, *, trusts=(TRUST,), runner="r"):
    audit = Audit(trusts)
    return list(audit.walk(runner, entries, head)), audit


def kinds(findings):
    return [(found.kind, found.seq) for found in findings]


def with_entry(place, entry):
    return [*ENTRIES[:place], entry, *ENTRIES[place + 1 :]]


# --- the chain -------------------------------------------------------------------


def test_a_chain_in_which_nothing_is_wrong_has_no_findings():
    findings, audit = walked(ENTRIES)
    assert findings == []
    [chain] = audit.chains
    assert (chain.runner, chain.first, chain.last) == ("r", 1, 5)
    assert set(chain.jobs) == {digest_of(number) for number in range(1, 6)}


@pytest.mark.parametrize("place", range(5))
def test_a_receipt_that_was_taken_out_is_missing(place):
    findings, _ = walked(ENTRIES[:place] + ENTRIES[place + 1 :])
    assert kinds(findings) == [(Kind.MISSING, place + 1)]


def test_a_gap_is_told_with_both_its_ends():
    [found], _ = walked([ENTRIES[0], ENTRIES[4]])
    assert found.detail == "receipts 2 to 4 are not in the journal"


def test_a_chain_that_was_taken_out_but_for_its_end_is_missing():
    findings, _ = walked([])
    assert kinds(findings) == [(Kind.MISSING, 1)]


def test_a_runner_without_any_receipt_is_told():
    findings, _ = walked([], None)
    assert kinds(findings) == [(Kind.MISSING, None)]
    assert findings[0].runner == "r"


def altered(envelope, **changes):
    """Change what an envelope says and leave its signature."""
    body = canonical.encode({**json.loads(envelope.body), **changes})
    return dsse.Envelope(dsse.RECEIPT, body, envelope.signatures)


@pytest.mark.parametrize(
    "changes",
    [{"status": "failed"}, {"exit_code": 1}, {"prev": None}, {"seq": 9}],
    ids=str,
)
def test_a_receipt_whose_bytes_were_altered_is_not_signed(changes):
    forged = kept(altered(CHAIN[2], **changes), seq=3)
    findings, _ = walked(with_entry(2, forged))
    assert kinds(findings) == [(Kind.SIGNATURE, 3)]
    assert "nobody" in findings[0].detail


def test_a_receipt_by_a_key_of_nobody_is_not_signed():
    forged = kept(sign(3, CHAIN[1].digest, key=STRANGER))
    findings, _ = walked(with_entry(2, forged))
    assert kinds(findings) == [(Kind.SIGNATURE, 3)]
    assert (findings[0].runner, findings[0].job_id) == ("r", id_of(3))


def test_a_receipt_that_another_runner_signed_tells_who():
    forged = kept(sign(3, CHAIN[1].digest, key=OTHER))
    findings, _ = walked(with_entry(2, forged))
    assert kinds(findings) == [(Kind.SIGNATURE, 3)]
    assert "names the runner r, and other signed it" in findings[0].detail


def test_another_runner_s_receipt_is_foreign():
    forged = kept(sign(3, CHAIN[1].digest, key=OTHER, runner="other"))
    findings, _ = walked(with_entry(2, forged))
    assert kinds(findings) == [(Kind.FOREIGN, 3)]
    assert findings[0].detail == "it is receipt 3 of the runner other"


def test_another_deployment_s_receipt_is_foreign():
    forged = kept(sign(3, CHAIN[1].digest, aud="elsewhere"))
    findings, _ = walked(with_entry(2, forged))
    assert kinds(findings) == [(Kind.FOREIGN, 3)]


@pytest.mark.parametrize("text", ["", "{}", "\ud800", dsse.to_json(CHAIN[2])[:-1]])
def test_what_is_no_receipt_is_malformed(text):
    findings, _ = walked(with_entry(2, replace(ENTRIES[2], envelope=text)))
    assert kinds(findings) == [(Kind.MALFORMED, 3)]


def test_a_body_that_is_no_receipt_is_malformed():
    body = canonical.encode({"v": 1})
    text = dsse.to_json(dsse.sign(dsse.RECEIPT, body, [RUNNER]))
    findings, _ = walked(with_entry(2, replace(ENTRIES[2], envelope=text)))
    assert kinds(findings) == [(Kind.MALFORMED, 3)]


@pytest.mark.parametrize(
    "changes", [{"job": "f" * 64}, {"attempt": 2}], ids=lambda each: next(iter(each))
)
def test_a_receipt_that_stands_under_another_name_is_altered(changes):
    findings, _ = walked(with_entry(2, replace(ENTRIES[2], **changes)))
    assert kinds(findings) == [(Kind.ALTERED, 3)]


def test_a_receipt_under_another_number_is_altered():
    moved = replace(ENTRIES[4], seq=6)
    findings, _ = walked([*ENTRIES[:4], moved], Head(seq=6, digest=CHAIN[4].digest))
    assert kinds(findings) == [(Kind.MISSING, 5), (Kind.ALTERED, 6)]


@pytest.mark.parametrize(
    "changes",
    [{"seq": "3"}, {"job": None}, {"attempt": b"1"}, {"envelope": b"{}"}],
    ids=str,
)
def test_an_entry_that_is_not_ours_is_altered(changes):
    entry = replace(ENTRIES[2], **changes)
    findings, _ = walked(with_entry(2, entry))
    assert kinds(findings)[0] == (Kind.ALTERED, None)


def test_a_receipt_that_follows_another_one_is_a_fork():
    # Signed by the runner itself: after its journal was put back to an earlier state.
    again = sign(3, CHAIN[1].digest, job=9)
    findings, _ = walked(with_entry(2, kept(again)))
    assert kinds(findings) == [(Kind.FORK, 4)]


@pytest.mark.parametrize("prev", ["0" * 64, None])
def test_a_chain_is_followed_from_the_first_receipt_on(prev):
    first = sign(1, prev)
    head = Head(seq=1, digest=first.digest)
    expected = [(Kind.FORK, 1)] if prev else []
    assert kinds(walked([kept(first)], head)[0]) == expected


def test_receipts_behind_the_end_are_a_fork():
    findings, _ = walked(ENTRIES, Head(seq=3, digest=CHAIN[2].digest))
    assert kinds(findings) == [(Kind.FORK, 4)]


@pytest.mark.parametrize("head", [None, Head(seq=5, digest="0" * 64)])
def test_another_end_than_the_journal_noted_is_a_fork(head):
    findings, _ = walked(ENTRIES, head)
    assert [found.kind for found in findings] == [Kind.FORK]


def test_a_refusal_may_be_about_bytes_that_are_no_job():
    refusal = sign(1, None, attempt=0, status="rejected", reason="sig.none")
    entry = kept(refusal, job="e" * 64)
    assert walked([entry], Head(seq=1, digest=refusal.digest))[0] == []


def test_receipts_by_an_older_key_count_with_the_older_bundle():
    chain = make_chain(2, key=OLD)
    entries, head = [kept(one) for one in chain], Head(seq=2, digest=chain[-1].digest)
    assert kinds(walked(entries, head)[0]) == [(Kind.SIGNATURE, 1), (Kind.SIGNATURE, 2)]
    both = (TRUST, make_trust({"r": OLD}))
    assert walked(entries, head, trusts=both)[0] == []


# --- the store -------------------------------------------------------------------


def told(number=3, *, receipt="its own", **changes):
    """Return what a store tells of a job of the chain."""
    end = ToldEnd(
        status="completed",
        reason=None,
        exit_code=0,
        result_sha256=hashlib.sha256(b"7").hexdigest(),
    )
    if receipt == "its own":
        receipt = dsse.to_json(CHAIN[number - 1])
    return Told(
        digest=digest_of(number),
        job_id=id_of(number),
        receipt=receipt,
        record=replace(end, **changes),
    )


def compared(said, entries=ENTRIES, head=HEAD):
    _, audit = walked(entries, head)
    return list(audit.compare(said)), audit


@pytest.mark.parametrize("number", range(1, 6))
def test_a_record_that_says_what_was_signed_has_no_findings(number):
    assert compared(told(number))[0] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "failed"},
        {"reason": "timeout"},
        {"exit_code": 1},
        {"result_sha256": "0" * 64},
        {"status": "queued"},
    ],
    ids=str,
)
def test_a_record_that_says_otherwise_is_found_with_what_differs(changes):
    [found], _ = compared(told(**changes))
    assert (found.kind, found.runner, found.seq) == (Kind.RECORD, "r", 3)
    assert found.job_id == id_of(3)
    for value in changes.values():
        assert str(value) in found.detail


@pytest.mark.parametrize(
    ("status", "reason"),
    [("completed", None), ("failed", "exit_code"), ("rejected", "sig.none")],
)
def test_an_end_that_had_to_be_signed_is_found_without_a_receipt(status, reason):
    [found], _ = compared(told(receipt=None, status=status, reason=reason))
    assert (found.kind, found.job_id) == (Kind.RECORD, id_of(3))


@pytest.mark.parametrize(
    ("status", "reason"),
    [("stopped", None), ("failed", "expired"), ("running", None), ("queued", None)],
)
def test_what_nobody_had_to_sign_is_right_without_a_receipt(status, reason):
    assert compared(told(receipt=None, status=status, reason=reason))[0] == []


def test_a_receipt_of_another_job_is_foreign():
    [found], _ = compared(told(3, receipt=dsse.to_json(CHAIN[1])))
    assert (found.kind, found.seq) == (Kind.FOREIGN, 2)


def test_a_receipt_of_the_store_that_nobody_signed_is_found():
    forged = dsse.to_json(sign(3, CHAIN[1].digest, key=STRANGER))
    [found], _ = compared(told(receipt=forged))
    assert (found.kind, found.job_id) == (Kind.SIGNATURE, id_of(3))


def test_what_the_store_has_for_a_receipt_may_be_none():
    [found], _ = compared(told(receipt="{}"))
    assert (found.kind, found.job_id) == (Kind.MALFORMED, id_of(3))


def test_a_receipt_that_only_the_store_has_is_missing():
    [found], _ = compared(told(3), ENTRIES[:2] + ENTRIES[3:])
    assert (found.kind, found.seq) == (Kind.MISSING, 3)


def test_two_receipts_of_one_number_are_a_fork():
    again = dsse.to_json(sign(3, CHAIN[1].digest, result=b"8"))
    forged = told(receipt=again, result_sha256=hashlib.sha256(b"8").hexdigest())
    [found], _ = compared(forged)
    assert (found.kind, found.seq) == (Kind.FORK, 3)


def test_a_receipt_behind_the_end_is_missing_unless_it_was_signed_meanwhile():
    journal_cut = (ENTRIES[:3], Head(seq=3, digest=CHAIN[2].digest))
    findings, audit = compared(told(5), *journal_cut)
    assert findings == []
    assert list(audit.close({"r": 5})) == []
    [found] = audit.close({"r": 3})
    assert (found.kind, found.seq) == (Kind.MISSING, 5)
    assert kinds(audit.close({})) == [(Kind.MISSING, 5)]


def test_an_earlier_start_that_was_put_in_place_of_the_last_is_found():
    failed = sign(1, None, job=1, status="failed", reason="timeout", exit_code=143)
    done = sign(2, failed.digest, job=1, attempt=2)
    entries, head = [kept(failed), kept(done)], Head(seq=2, digest=done.digest)
    earlier = told(1, receipt=dsse.to_json(failed), status="failed", reason="timeout")
    earlier = replace(earlier, record=replace(earlier.record, exit_code=143))
    [found], _ = compared(earlier, entries, head)
    assert (found.kind, found.seq) == (Kind.RECORD, 1)
    assert "receipt 2 is about start 2" in found.detail


def test_a_start_that_the_store_had_given_up_is_not_the_last():
    done = sign(1, None, job=1)
    lost = sign(2, done.digest, job=1, attempt=2, status="failed", reason="worker_lost")
    entries, head = [kept(done), kept(lost)], Head(seq=2, digest=lost.digest)
    assert compared(told(1, receipt=dsse.to_json(done)), entries, head)[0] == []


def test_what_is_left_of_a_record_is_compared_with_the_chain():
    left = replace(told(), record=None)
    assert compared(left)[0] == []
    again = dsse.to_json(sign(3, CHAIN[1].digest, result=b"8"))
    [found], _ = compared(replace(left, receipt=again))
    assert found.kind is Kind.FORK
    assert compared(replace(left, receipt=None))[0] == []


def test_the_chain_of_a_runner_of_another_node_is_not_looked_for():
    elsewhere = sign(7, None, job=3, key=OTHER, runner="other")
    assert compared(told(receipt=dsse.to_json(elsewhere)))[0] == []
