from __future__ import annotations

from dataclasses import replace

import pytest

from horus_celery.registry import PATIENCE, RunnerBeat, is_alive


@pytest.fixture
def beat(clock):
    def make(name: str = "osis_runner_1") -> RunnerBeat:
        return RunnerBeat(
            name=name,
            executors=("osis", "v"),
            contexts=("*",),
            concurrency=4,
            host="näde",
            pid=4711,
            at=clock.at,
        )

    return make


def test_nobody_is_listed_before_a_beat(registry):
    assert registry.list() == ()


def test_runners_are_listed_by_name(registry, beat):
    for name in ("b", "a", "c"):
        registry.beat(beat(name))
    assert registry.list() == (beat("a"), beat("b"), beat("c"))


def test_a_beat_takes_the_place_of_the_one_before(registry, beat, clock):
    registry.beat(beat())
    clock.advance(seconds=2)
    registry.beat(replace(beat(), concurrency=8))
    assert registry.list() == (replace(beat(), concurrency=8),)


def test_a_runner_that_leaves_is_not_listed(registry, beat):
    registry.beat(beat("a"))
    registry.beat(beat("b"))
    registry.leave("a")
    registry.leave("a")
    assert registry.list() == (beat("b"),)


def test_a_runner_is_alive_as_long_as_patience_lasts(beat, clock):
    heard = beat()
    assert is_alive(heard, clock.at + PATIENCE)
    assert not is_alive(heard, clock.at + PATIENCE * 1.01)
