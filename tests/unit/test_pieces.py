"""Pieces of long lines: shown one behind the other they are the line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horus_celery.clock import SystemClock
from horus_celery.store.base import Chunk, Stream
from workers.capture import MAX_LINE, Console


def pieces_of(data):
    chunks: list[Chunk] = []
    console = Console(limit=1 << 20, clock=SystemClock(), pass_on=chunks.append)
    console.write(Stream.STDOUT, data)
    console.finish()
    return [chunk.data for chunk in chunks]


def shown(pieces):
    return "".join(piece.decode("utf-8", "replace") for piece in pieces)


@pytest.mark.parametrize("char", ["x", "\u00e4", "\u20ac", "\U0001f600"])
@pytest.mark.parametrize("shift", range(4))
def test_no_character_is_cut(char, shift):
    line = "x" * shift + char * (2 * MAX_LINE)
    pieces = pieces_of(line.encode())
    assert [piece.decode() for piece in pieces]
    assert shown(pieces) == line
    assert max(map(len, pieces)) <= MAX_LINE


@given(tail=st.lists(st.sampled_from([0x41, 0x80, 0xA0, 0xC3, 0xE2, 0xF0, 0xFF])))
def test_what_is_no_utf_8_is_shown_as_if_it_were_not_cut(tail):
    for shift in range(5):
        data = b"x" * (MAX_LINE - shift) + bytes(tail)
        assert shown(pieces_of(data)) == data.decode("utf-8", "replace")
        assert b"".join(pieces_of(data)) == data
