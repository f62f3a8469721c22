"""Measure Rhai scripts beside plain CPython doing the same.

    python bench/rhai.py [--rounds N]

Every figure is the median of the rounds; a round takes its turns one after the other,
so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from horus_rhai import Engine
from table import Table

TURNS: Final = 1_000_000
RUNS: Final = 10_000
PIECES: Final = 10_000
KEEP: Final = f"let a = []; for i in 0..{PIECES} {{ a.push(`<${{i}}>`) }} a.len"
#: Milliseconds and microseconds in a second.
MS: Final = 1e3
US: Final = 1e6


@dataclass(frozen=True, kw_only=True)
class Race:
    """The same work as a script and as Python."""

    what: str
    goal: str
    unit: str
    #: From seconds of the whole to what is shown.
    factor: float
    script: str
    python: Callable[[], object]
    #: How often the script is run.
    runs: int = 1
    #: Whether the sizes of values are limited: Rhai measures anew what has changed.
    is_sized: bool = False


class Thing:
    """An object that scripts have by name."""

    def rhai_call(self, _name: str, arguments: tuple[object, ...]) -> object:
        """Return what it is given."""
        return arguments[0]


THING: Final = Thing()


def same(value: object) -> object:
    """Return what it is given."""
    return value


def add_in_a_loop() -> int:
    """Add a million numbers."""
    total = 0
    for number in range(TURNS):
        total += number
    return total


def count_in_a_loop() -> int:
    """Count to a million."""
    number = 0
    while number < TURNS:
        number += 1
    return number


def call_in_a_loop() -> None:
    """Call a function a million times."""
    for number in range(TURNS):
        same(number)


def ask_in_a_loop() -> None:
    """Call a function of an object a million times, as a script does."""
    for number in range(TURNS):
        THING.rhai_call("same", (number,))


def recurse(n: int) -> int:
    """Return the number of Fibonacci, slowly."""
    return n if n < 2 else recurse(n - 1) + recurse(n - 2)  # noqa: PLR2004 - its rule


def keep_in_a_loop() -> int:
    """Make ten thousand strings."""
    pieces = []
    for number in range(PIECES):
        pieces.append(f"<{number}>")  # noqa: PERF401 - as the script does
    return len(pieces)


def evaluate() -> None:
    """Evaluate a compiled expression often."""
    code = compile("1 + 1", "<bench>", "eval")
    for _ in range(RUNS):
        eval(code, {})  # noqa: S307 - the peer of a run


RACES: Final = (
    Race(
        what="1,000,000 turns of `for`",
        goal="<= 150 ms",
        unit="ms",
        factor=MS,
        script=f"let s = 0; for i in 0..{TURNS} {{ s += i }} s",
        python=add_in_a_loop,
    ),
    Race(
        what="1,000,000 turns of `while`",
        goal="",
        unit="ms",
        factor=MS,
        script=f"let x = 0; while x < {TURNS} {{ x += 1 }} x",
        python=count_in_a_loop,
    ),
    Race(
        what="a call of a Python function, with its turn",
        goal="<= 1 us",
        unit="us",
        factor=US / TURNS,
        script=f"for i in 0..{TURNS} {{ same(i) }}",
        python=call_in_a_loop,
    ),
    Race(
        what="a call of an object's function, with its turn",
        goal="",
        unit="us",
        factor=US / TURNS,
        script=f"for i in 0..{TURNS} {{ thing.same(i) }}",
        python=ask_in_a_loop,
    ),
    Race(
        what="fib(20), by recursion",
        goal="",
        unit="ms",
        factor=MS,
        script="fn fib(n) { if n < 2 { n } else { fib(n - 1) + fib(n - 2) } } fib(20)",
        python=lambda: recurse(20),
    ),
    Race(
        what="10,000 strings made and kept",
        goal="",
        unit="ms",
        factor=MS,
        script=KEEP,
        python=keep_in_a_loop,
    ),
    Race(
        what="10,000 strings, within limits of size",
        goal="",
        unit="ms",
        factor=MS,
        script=KEEP,
        python=keep_in_a_loop,
        is_sized=True,
    ),
    Race(
        what="a run of `1 + 1`, compiled before",
        goal="a few us",
        unit="us",
        factor=US / RUNS,
        script="1 + 1",
        python=evaluate,
        runs=RUNS,
    ),
)


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(race: Race, rounds: int) -> Mapping[str, float]:
    """Return the medians of both."""
    sizes = {"max_string_size": 0, "max_array_size": 0, "max_map_size": 0}
    named = {"thing": THING}
    engine = Engine({"same": same}, names=named, **({} if race.is_sized else sizes))
    script = engine.compile(race.script)

    def run() -> None:
        for _ in range(race.runs):
            engine.run(script)

    pairs = [(seconds(run), seconds(race.python)) for _ in range(rounds)]
    ours, theirs = zip(*pairs, strict=True)
    return {"ours": statistics.median(ours), "theirs": statistics.median(theirs)}


def main() -> None:
    """Run all races and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    table = Table(rounds, peer="CPython")
    for race in RACES:
        medians = measure(race, rounds)
        ours, theirs = (medians[side] * race.factor for side in ("ours", "theirs"))
        table.add(race.what, race.goal, ours, theirs, race.unit)
    table.show()


if __name__ == "__main__":
    main()
