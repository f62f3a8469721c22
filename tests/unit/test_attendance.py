"""What becomes of a script's lines while the store is away."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from horus_celery.errors import UnavailableError
from horus_celery.store.base import Chunk, Stream
from horus_celery.store.memory import MemoryStore, MemoryWakes
from workers.attendance import attendance

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "0" * 64


@dataclass
class Calls:
    """A log that takes a call whole or not at all, and not from a given call on."""

    taken: int
    said: list[tuple[Chunk, ...]] = field(default_factory=list)

    def append(self, _digest, chunks):
        if len(self.said) >= self.taken:
            raise UnavailableError("away")
        self.said.append(tuple(chunks))


def chunk(number, *, ms):
    at = BEGIN + timedelta(milliseconds=ms)
    return Chunk(at=at, stream=Stream.STDOUT, data=b"%d\n" % number)


def attend(log, chunks, clock, *, begins=True):
    assignment: Any = SimpleNamespace(
        digest=DIGEST, attempt=1, job=SimpleNamespace(id="job")
    )
    wakes = MemoryWakes()
    node: Any = SimpleNamespace(
        logs=log,
        store=MemoryStore(wakes=wakes),
        wakes=wakes,
        clock=clock,
        lease_clock=clock,
    )
    with attendance(assignment, node) as attending:
        if begins:
            attending.begin()
        for one in chunks:
            attending.say(one)
    assert not (attending.last and attending.unsent)
    return attending


def test_what_was_sent_need_not_be_kept(clock):
    log = Calls(taken=1000)
    chunks = [chunk(n, ms=n) for n in range(1000)]
    assert attend(log, chunks, clock).unsent is None
    assert [one for call in log.said for one in call] == chunks


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_what_was_not_sent_is_kept_in_its_order(clock, taken):
    log = Calls(taken=taken)
    chunks = [chunk(n, ms=n) for n in range(1000)]
    unsent = attend(log, chunks, clock).unsent
    sent = [one for call in log.said for one in call]
    assert [*sent, *unsent.chunks] == chunks
    assert unsent.before == tuple(sent[-2:])


def test_no_call_is_larger_than_what_the_store_takes_at_once(clock):
    log = Calls(taken=1000)
    attend(log, [chunk(n, ms=0) for n in range(5000)], clock)
    assert max(map(len, log.said)) <= 200


def test_the_landmark_reaches_back_to_another_moment(clock):
    log = Calls(taken=1)
    chunks = [chunk(n, ms=n // 500) for n in range(1000)]
    unsent = attend(log, chunks, clock).unsent
    assert unsent.before == log.said[0]


def test_the_lines_of_a_script_that_is_over_soon_go_with_its_end(clock):
    log = Calls(taken=1000)
    chunks = [chunk(n, ms=n) for n in range(200)]
    attending = attend(log, chunks, clock, begins=False)
    assert attending.last == tuple(chunks)
    assert log.said == []


@pytest.mark.parametrize("text", [b"\n", b"x" * 1000])
def test_much_output_goes_at_once(clock, text):
    log = Calls(taken=1000)
    chunks = [replace(chunk(n, ms=n), data=text) for n in range(400)]
    attending = attend(log, chunks, clock, begins=False)
    assert attending.last == ()
    assert [one for call in log.said for one in call] == chunks
