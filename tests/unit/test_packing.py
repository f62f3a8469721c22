from __future__ import annotations

import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from horus_celery.statements import dsse
from horus_celery.statements.job import make_job
from horus_celery.statements.keys import KeyPair
from horus_celery.store.packing import pack, unpack

BASE64 = st.binary(min_size=20, max_size=90).map(
    lambda data: dsse.to_json(dsse.Envelope("kind", data, ()))
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=200)


@given(text=TEXTS | BASE64 | st.tuples(BASE64, TEXTS, BASE64).map("".join))
@example(text="")
@example(text="\x01")
@example(text="\x01" + '"' + "QUJD" * 20 + '"')
@example(text='\0"' + "QUJD" * 20 + '"')
@example(text='"' + "QUJD" * 20 + 'QQ=="')
@example(text='"' + "QUJD" * 20 + 'QR=="')  # other bits, the same bytes
@example(text='"' + "QUJD" * 20 + 'QQ=""')
@example(text='"' + "a" * 33 + '"')
def test_a_text_comes_back_as_it_was(text):
    assert unpack(pack(text)) == text


@given(text=TEXTS)
def test_a_text_gets_hardly_longer(text):
    assert len(pack(text)) <= max(len(text.encode()), 40 + 2 * len(text.encode()))
    if not text.startswith("\x01"):
        assert len(pack(text)) <= len(text.encode())


def test_an_envelope_takes_less_than_its_body():
    job = make_job(
        aud="hero",
        caller_id="alice",
        context_id="billing",
        executor="python",
        payload="print('hello')",
        now=datetime.now(UTC),
    )
    text = dsse.to_json(dsse.sign(dsse.JOB, job.body(), [KeyPair.generate()]))
    assert len(pack(text)) < len(job.body())


def test_what_was_kept_as_it_is_is_read_as_it_is():
    assert unpack(b'{"payload":"QUJD"}') == '{"payload":"QUJD"}'


PACKED = pack('{"payload":"' + "QUJD" * 50 + '"}')


@pytest.mark.parametrize(
    "kept",
    [
        b"\xff",
        b"\x01",
        b"\x01junk",
        PACKED[:-1],
        PACKED[: len(PACKED) // 2],
        b"\x01" + zlib.compress(b"[]"),
    ],
)
def test_what_is_damaged_is_no_text(kept):
    with pytest.raises(ValueError, match=r"."):
        unpack(kept)


@given(at=st.integers(1, len(PACKED) - 1), byte=st.integers(0, 255))
def test_damage_breaks_nothing_else(at, byte):
    damaged = PACKED[:at] + bytes([byte]) + PACKED[at + 1 :]
    try:
        unpack(damaged)
    except (ValueError, TypeError):
        return


def test_nobody_fills_the_memory_with_a_few_bytes():
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = squeeze.compress(b"[]" + bytes(64 * 1024 * 1024)) + squeeze.flush()
    with pytest.raises(ValueError, match="too long"):
        unpack(b"\x01" + bomb)


@pytest.mark.parametrize(
    "sizes", [b"[9,-9,9,-9]", b"[-1]", b"[1.5]", b'["1"]', b"[null]", b"[{}]"]
)
def test_no_piece_of_a_text_is_taken_twice(sizes):
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    kept = squeeze.compress(sizes + b"123456789" + b"\0" * 4) + squeeze.flush()
    with pytest.raises(ValueError, match="impossible sizes"):
        unpack(b"\x01" + kept)
