from __future__ import annotations

import pytest


def test_bells_are_counted_by_queue_whatever_their_priority(dispatcher):
    for priority in range(10):
        dispatcher.ring("11111111-2222-3333-4444-555555555555", "python", priority)
    dispatcher.ring("11111111-2222-3333-4444-555555555555", "python.at.first", 4)
    lengths = dispatcher.queue_lengths(["python", "python.at.first", "v"])
    assert lengths == {"python": 10, "python.at.first": 1, "v": 0}


def test_nobody_asked_for_is_an_empty_answer(dispatcher):
    assert dispatcher.queue_lengths([]) == {}


def test_an_empty_queue_has_no_front(dispatcher):
    assert dispatcher.front("python", 4) is None


def test_the_oldest_bell_is_in_front(dispatcher, clock):
    first = clock.at
    dispatcher.ring("11111111-2222-3333-4444-555555555555", "python", 4)
    clock.advance(seconds=1)
    dispatcher.ring("11111111-2222-3333-4444-666666666666", "python", 5)
    assert dispatcher.front("python", 3).rung_at == first


@pytest.mark.parametrize(("priority", "other"), [(2, 3), (5, 6), (8, 9)])
def test_each_step_of_priority_has_its_own_queue(dispatcher, priority, other):
    dispatcher.ring("11111111-2222-3333-4444-555555555555", "python", priority)
    assert dispatcher.front("python", priority) is not None
    assert dispatcher.front("python", other) is None
