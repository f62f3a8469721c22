"""Which requests have to wait for their turn, and which are too dense for any use."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import bulk
from horus_celery.errors import TooLargeError, UnavailableError

LIMIT = 4 * 1024 * 1024
MOST = LIMIT // 32


def body(*, values=0, text=b""):
    return b'{"text":"' + text + b'","values":[' + b"{}," * values + b"0]}"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (body(), False),
        (body(text=b"a" * 1_400_000), False),  # a job of the largest size
        (body(text=b"a" * 1_600_000), True),
        (body(values=1000), False),
        (body(values=bulk.MANY_VALUES), True),
    ],
)
def test_what_is_long_or_dense_is_bulky(raw, expected):
    assert bulk.is_bulky(raw) is expected


@pytest.mark.parametrize("value", [b"{},", b"[],", b"0,", b'{"a":0},', b'"",'])
def test_more_values_than_any_use_has_are_refused(value):
    bulk.require_few_values(b"[" + value * (MOST // 4) + b"0]", LIMIT)
    with pytest.raises(TooLargeError, match=f"at most {MOST} values"):
        bulk.require_few_values(b"[" + value * (MOST + 1) + b"0]", LIMIT)


@given(
    st.lists(
        st.sampled_from([b"\\\\", b'\\"', b"\\n", b",", b"[", b"{", b":", b"a"]),
        min_size=1,
        max_size=8,
    )
)
def test_what_stands_in_a_text_is_no_value(parts):
    text = b"".join(parts) * (MOST + 1)
    bulk.require_few_values(body(text=text), LIMIT)
    with pytest.raises(TooLargeError):
        bulk.require_few_values(body(text=text, values=MOST), LIMIT)


def test_a_turn_is_waited_for_and_passed_on():
    turns = bulk.Turns(places=1)
    has_had_its_turn = threading.Event()

    def second():
        with turns.turn() as turn:
            turn.take()
            has_had_its_turn.set()

    with turns.turn() as turn:
        assert not turn.is_bulky
        turn.take()
        turn.take()
        waiting = threading.Thread(target=second)
        waiting.start()
        assert not has_had_its_turn.is_set()
    waiting.join(5)
    assert has_had_its_turn.is_set()


def test_nobody_waits_for_a_turn_for_ever(monkeypatch):
    monkeypatch.setattr("api.bulk._PATIENCE", 0.0)
    turns = bulk.Turns(places=1)
    with turns.turn() as first, turns.turn() as second:
        first.take()
        with pytest.raises(UnavailableError):
            second.take()
    with turns.turn() as third:
        third.take()
