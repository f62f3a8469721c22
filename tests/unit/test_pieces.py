"""What is kept of output: lines, pieces of long ones, and nothing of a secret."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretBytes

from horus_celery.clock import SystemClock
from horus_celery.statements.receipt import OutputDigest
from horus_celery.store.base import Chunk, Stream
from workers.capture import MAX_LINE, Console
from workers.masking import mask_of


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


# --- what is masked ----------------------------------------------------------------


def console_of(parts, *, limit=1 << 20, value=b"correct horse\nbattery"):
    """Return a console that has taken these parts of an output, and its chunks."""
    chunks: list[Chunk] = []
    mask = mask_of({"token": SecretBytes(value)})
    console = Console(
        limit=limit, clock=SystemClock(), pass_on=chunks.append, mask=mask
    )
    for stream, part in parts:
        console.write(stream, part)
    console.finish()
    return console, chunks


@given(st.integers(0, 30), st.integers(0, 30))
def test_a_value_is_masked_in_all_that_is_kept_wherever_it_is_split(first, second):
    said = b"a correct horse\nbattery\nb"
    cuts = [0, *sorted((first, second)), len(said)]
    parts = [(stream, said[a:b]) for a, b in pairwise(cuts) for stream in Stream]
    console, chunks = console_of(parts)
    for stream in Stream:
        shown = [chunk.data for chunk in chunks if chunk.stream is stream]
        assert b"".join(shown) == b"a ***\nb"
        assert console.digest(stream) == OutputDigest.of(b"a ***\nb")
    assert console.stdout == b"a ***\nb"


def test_output_is_cut_after_it_was_masked():
    said = b"1234" + b"correct horse\nbattery" + b"5678"
    console, chunks = console_of([(Stream.STDOUT, said)], limit=9)
    assert [chunk.data for chunk in chunks] == [b"1234***56"]
    assert console.digest(Stream.STDOUT).truncated
    whole, _ = console_of([(Stream.STDOUT, said)], limit=11)
    assert not whole.digest(Stream.STDOUT).truncated


def test_a_line_that_cannot_be_part_of_a_value_is_passed_on_at_once():
    chunks: list[Chunk] = []
    mask = mask_of({"token": SecretBytes(b"correct horse" * 1000)})
    console = Console(limit=100, clock=SystemClock(), pass_on=chunks.append, mask=mask)
    console.write(Stream.STDOUT, b"ready\n")
    assert [chunk.data for chunk in chunks] == [b"ready\n"]
