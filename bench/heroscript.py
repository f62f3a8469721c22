"""Measure how long a large script of HeroScript takes to be read.

    python bench/heroscript.py [--rounds N] [--actions N]

The peer is PyYAML's `safe_load`, by its C parser if it is there, of a file that says
the same. Every figure is the median of the rounds, which the two take by turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import yaml
from table import Table

from workers.heroscript.hashes import hashkey_of_all
from workers.heroscript.model import Action
from workers.heroscript.reading import parse
from workers.heroscript.writing import write

#: The C parser is ten times as fast, and not in every build of PyYAML.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def script_of(actions: int) -> str:
    """Return a script in which every form stands: lists, quotes, comments, blocks."""
    return "".join(
        f"""// machine {number}
!!web.start verbose name:host_{number} port:{8000 + number % 1000}
    title: 'The host number {number}' // as people call it
    tags: alpha, beta, 'two words'
    url:'https://host-{number}.example/start?x={number}'
    text:'
        Line one of number {number}.
          Line two, which says "so".
        '

"""
        for number in range(actions)
    )


def as_yaml(actions: Sequence[Action]) -> str:
    """Write the same as YAML."""
    return yaml.safe_dump(
        [
            {
                "action": action.full_name,
                "comment": action.comments,
                "arguments": [one.word for one in action.params.arguments],
                "parameters": {one.key: one.value for one in action.params},
            }
            for action in actions
        ],
        sort_keys=False,
    )


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--actions", type=int, default=10_000)
    options = parser.parse_args()
    script = script_of(options.actions)
    actions = parse(script)
    same = as_yaml(actions)
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: parse(script),
        "yaml": lambda: yaml.load(same, LOADER),  # noqa: S506 - either of them is safe
        "written": lambda: write(actions),
        "hash": lambda: hashkey_of_all(actions),
    }
    rounds = [
        {name: seconds_of(call) for name, call in calls.items()}
        for _ in range(options.rounds)
    ]
    took = {name: statistics.median(one[name] for one in rounds) for name in calls}
    table = Table(options.rounds)
    size = f"{options.actions:,} actions ({len(script) / 1e6:.1f} MB)"
    peer = f"PyYAML {LOADER.__name__}"
    table.add(f"{size}: read ({peer})", "≤ 1 s", took["read"], took["yaml"], "s")
    table.add(f"{size}: written", "-", took["written"], None, "s")
    table.add(f"{size}: their hash", "-", took["hash"], None, "s")
    table.show()


if __name__ == "__main__":
    main()
