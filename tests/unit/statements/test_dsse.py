import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from horus_celery.errors import MalformedError
from horus_celery.statements import dsse
from horus_celery.statements.keys import KeyPair

PAIR = KeyPair.from_seed(bytes(range(32)))
KEYS = {PAIR.keyid: PAIR.public}
BODY = json.dumps({"payload": "print('héllo')", "timeout": 60}).encode()
ENVELOPE = dsse.sign(dsse.JOB, BODY, [PAIR])
KINDS = (dsse.JOB, dsse.RECEIPT, dsse.TRUST, dsse.RUNNER)


def wire(**changes):
    return dsse.to_wire(ENVELOPE) | changes


def signature(**changes):
    return dsse.to_wire(ENVELOPE)["signatures"][0] | changes


def reason_of(value, **options):
    with pytest.raises(MalformedError) as refusal:
        dsse.from_wire(value, dsse.JOB, **options)
    return refusal.value.reason


def is_signed(envelope):
    return dsse.signers(envelope, KEYS) == {PAIR.keyid}


@given(st.binary(max_size=2000), st.sampled_from(KINDS), st.integers(1, 8))
@settings(deadline=None)
def test_what_was_signed_is_read_and_verified_again(body, kind, count):
    pairs = [KeyPair.from_seed(bytes([number]) * 32) for number in range(count)]
    envelope = dsse.sign(kind, body, pairs)
    again = dsse.read(dsse.to_json(envelope), kind)
    assert again == envelope
    assert again.digest == envelope.digest
    assert dsse.from_wire(dsse.to_wire(envelope), kind) == envelope
    keys = {pair.keyid: pair.public for pair in pairs}
    assert dsse.signers(again, keys) == keys.keys()


def test_every_flipped_bit_of_a_body_is_refused():
    for place in range(len(BODY)):
        for bit in range(8):
            edited = bytearray(BODY)
            edited[place] ^= 1 << bit
            envelope = dsse.Envelope(dsse.JOB, bytes(edited), ENVELOPE.signatures)
            assert not dsse.signers(envelope, KEYS)


@given(st.integers(0, len(BODY)), st.integers(0, 3), st.binary(max_size=3))
@settings(deadline=None)
def test_every_other_edit_of_a_body_is_refused(place, cut, insert):
    edited = BODY[:place] + insert + BODY[place + cut :]
    envelope = dsse.Envelope(dsse.JOB, edited, ENVELOPE.signatures)
    assert is_signed(envelope) == (edited == BODY)


@given(st.integers(0, 511))
@settings(deadline=None)
def test_every_flipped_bit_of_a_signature_is_refused(bit):
    edited = bytearray(ENVELOPE.signatures[0].sig)
    edited[bit // 8] ^= 1 << (bit % 8)
    forged = dsse.Signature(PAIR.keyid, bytes(edited))
    assert not dsse.signers(dsse.Envelope(dsse.JOB, BODY, (forged,)), KEYS)


def test_a_signature_of_one_type_never_counts_for_another():
    for signed in KINDS:
        signatures = dsse.sign(signed, BODY, [PAIR]).signatures
        for kind in KINDS:
            envelope = dsse.Envelope(kind, BODY, signatures)
            assert is_signed(envelope) == (kind == signed)


def test_type_and_body_are_kept_apart_by_their_lengths():
    one = dsse.Envelope("a", b"1 b", ())
    other = dsse.Envelope("a 1", b"b", ())
    assert one.signed_bytes == b"DSSEv1 1 a 3 1 b"
    assert one.digest != other.digest


def test_the_key_id_is_only_a_hint():
    sig = ENVELOPE.signatures[0].sig
    for keyid in ("", "0" * 32, "anything"):
        envelope = dsse.Envelope(dsse.JOB, BODY, (dsse.Signature(keyid, sig),))
        assert is_signed(envelope)


def test_a_hint_at_a_known_key_does_not_make_a_signature_its_own():
    stranger = dsse.sign(dsse.JOB, BODY, [KeyPair.generate()]).signatures[0]
    lying = dsse.Signature(PAIR.keyid, stranger.sig)
    assert not dsse.signers(dsse.Envelope(dsse.JOB, BODY, (lying,)), KEYS)


def test_a_wrong_hint_at_another_known_key_still_finds_the_right_one():
    other = KeyPair.generate()
    keys = {other.keyid: other.public, **KEYS}
    swapped = dsse.Signature(other.keyid, ENVELOPE.signatures[0].sig)
    envelope = dsse.Envelope(dsse.JOB, BODY, (swapped,))
    assert dsse.signers(envelope, keys) == {PAIR.keyid}


def test_a_key_counts_once_however_often_it_signed():
    sig = ENVELOPE.signatures[0].sig
    hints = (PAIR.keyid, "0" * 32, PAIR.keyid)
    twice = tuple(dsse.Signature(keyid, sig) for keyid in hints)
    assert dsse.signers(dsse.Envelope(dsse.JOB, BODY, twice), KEYS) == {PAIR.keyid}


def test_keys_that_are_not_asked_for_do_not_count():
    both = dsse.sign(dsse.JOB, BODY, [KeyPair.generate(), PAIR])
    assert dsse.signers(both, KEYS) == {PAIR.keyid}
    assert dsse.signers(both, {}) == frozenset()


def test_a_right_hint_is_found_among_many_keys_and_much_junk():
    crowd = [KeyPair.from_seed(number.to_bytes(32, "big")) for number in range(200)]
    keys = {one.keyid: one.public for one in (*crowd, PAIR)}
    junk = tuple(dsse.Signature("0" * 32, bytes(64)) for _ in range(7))
    signatures = (*junk, ENVELOPE.signatures[0])
    envelope = dsse.Envelope(dsse.JOB, BODY, signatures)
    assert dsse.signers(envelope, keys) == {PAIR.keyid}


def test_without_hints_only_so_many_keys_are_tried():
    crowd = [KeyPair.from_seed(number.to_bytes(32, "big")) for number in range(100)]
    sig = dsse.sign(dsse.JOB, BODY, [crowd[99]]).signatures[0].sig
    envelope = dsse.Envelope(dsse.JOB, BODY, (dsse.Signature("", sig),))
    early = {one.keyid: one.public for one in reversed(crowd)}
    late = {one.keyid: one.public for one in crowd}
    assert dsse.signers(envelope, early) == {crowd[99].keyid}
    assert dsse.signers(envelope, late) == frozenset()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "env.fields"),
        ([], "env.fields"),
        ("text", "env.fields"),
        ({}, "env.fields"),
        (wire(extra=1), "env.fields"),
        (
            {"payloadType": dsse.JOB, "payload": "", "signature": []},
            "env.fields",
        ),
        (wire(payloadType=None), "env.type"),
        (wire(payloadType=dsse.RECEIPT), "env.type"),
        (wire(payloadType=dsse.JOB + " "), "env.type"),
        (wire(payload=None), "env.shape"),
        (wire(payload=["e30="]), "env.shape"),
        (wire(signatures=None), "env.shape"),
        (wire(signatures={}), "env.shape"),
        (wire(signatures=[]), "env.shape"),
        (wire(signatures=[signature()] * 9), "env.shape"),
        (wire(payload="Q"), "env.base64"),
        (wire(payload="QQ"), "env.base64"),
        (wire(payload="QR=="), "env.base64"),
        (wire(payload="QQ==\n"), "env.base64"),
        (wire(payload=" QQ=="), "env.base64"),
        (wire(payload="QQ==QQ=="), "env.base64"),
        (wire(payload="_-8="), "env.base64"),
        (wire(payload="Qé=="), "env.base64"),
        (wire(payload="\ud800"), "env.base64"),
        (wire(signatures=["x"]), "env.sig"),
        (wire(signatures=[{"sig": "QQ=="}]), "env.sig"),
        (wire(signatures=[signature(x=1)]), "env.sig"),
        (wire(signatures=[signature(keyid=None)]), "env.sig"),
        (wire(signatures=[signature(sig=1)]), "env.sig"),
        (wire(signatures=[signature(keyid="k" * 129)]), "env.sig"),
        (wire(signatures=[signature(sig="QQQQ" * 300)]), "env.sig"),
        (wire(signatures=[signature(sig="QR==")]), "env.base64"),
        (wire(signatures=[signature(), signature(sig="!")]), "env.base64"),
    ],
)
def test_what_is_no_envelope_of_the_type_is_refused(value, reason):
    assert reason_of(value) == reason


def test_a_refusal_after_the_body_was_read_knows_its_digest():
    with pytest.raises(MalformedError) as refusal:
        dsse.from_wire(wire(signatures=[signature(sig="!")]), dsse.JOB)
    assert refusal.value.digest == ENVELOPE.digest
    with pytest.raises(MalformedError) as refusal:
        dsse.from_wire(wire(payload="!"), dsse.JOB)
    assert refusal.value.digest is None


@pytest.mark.parametrize("size", [0, 1, 63, 65])
def test_a_signature_of_another_length_is_read_and_does_not_count(size):
    short = base64.b64encode(bytes(size)).decode()
    envelope = dsse.from_wire(
        wire(signatures=[signature(sig=short), signature()]), dsse.JOB
    )
    assert is_signed(envelope)


def test_a_body_may_be_as_large_as_the_limit_and_no_larger():
    for limit in (10, 11, 12, 1000, dsse.MAX_BODY):
        fits = dsse.sign(dsse.JOB, b"x" * limit, [PAIR])
        large = dsse.sign(dsse.JOB, b"x" * (limit + 1), [PAIR])
        text = dsse.to_json(fits)
        assert dsse.read(text, dsse.JOB, max_bytes=limit).body == fits.body
        assert reason_of(dsse.to_wire(large), max_bytes=limit) == "env.size"
        with pytest.raises(MalformedError) as refusal:
            dsse.read(dsse.to_json(large), dsse.JOB, max_bytes=limit)
        assert refusal.value.reason == "env.size"


def test_an_endless_text_is_refused_unread():
    for text in ("[" * (2**21 + 1), b" " * (2**21 + 1)):
        with pytest.raises(MalformedError) as refusal:
            dsse.read(text, dsse.JOB)
        assert refusal.value.reason == "env.size"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "json.syntax"),
        (b"\xff", "json.utf8"),
        ('{"payload":"","payload":""}', "json.duplicate_key"),
        ('{"payload":NaN}', "json.const"),
        ("1.5", "json.float"),
        ("[" * 1000, "json.syntax"),
    ],
)
def test_text_that_is_not_strict_json_is_refused(text, reason):
    with pytest.raises(MalformedError) as refusal:
        dsse.read(text, dsse.JOB)
    assert refusal.value.reason == reason


def test_text_may_be_given_as_bytes_and_in_any_layout():
    text = json.dumps(dsse.to_wire(ENVELOPE), indent=4)
    assert dsse.read(text, dsse.JOB) == dsse.read(text.encode(), dsse.JOB) == ENVELOPE


def test_the_text_of_an_envelope_is_ascii_whatever_its_hints_are():
    hint = "\ud800é\n"
    sig = ENVELOPE.signatures[0].sig
    envelope = dsse.Envelope(dsse.JOB, BODY, (dsse.Signature(hint, sig),))
    text = dsse.to_json(envelope)
    assert text.isascii()
    assert "\n" not in text
    assert dsse.read(text, dsse.JOB) == envelope
