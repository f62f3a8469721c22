"""What a graph is in the words of Celery's canvas: its chains, groups and chords.

A plan describes, it does not order: a graph runs by the rules of its steps alone, so no
step waits for anything but what it depends on, whatever shape the whole has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from horus_celery.dag.model import Graph

#: One to the runner when a step may start, one to the coordinator when it is over. Both
#: carry ids alone, so their size does not grow with the graph.
MESSAGES_PER_STEP: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Several steps that the end of one step lets start: a fan-out."""

    #: None: the steps that the start of the workflow lets start.
    after: int | None
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chord:
    """A step that several steps lead to: a join."""

    header: tuple[int, ...]
    body: int

    @property
    def size(self) -> int:
        """How many ends the body waits for."""
        return len(self.header)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The shape of a graph."""

    graph: Graph
    #: Runs of two steps or more, each the only child of the one before, which is its
    #: only parent. None of them could be longer.
    chains: tuple[tuple[int, ...], ...]
    groups: tuple[Group, ...]
    chords: tuple[Chord, ...]
    #: The longest way through: its steps can only run one after the other.
    critical_path: tuple[int, ...]
    #: How many steps there are of each depth, from the roots down.
    levels: tuple[int, ...]

    @property
    def depth(self) -> int:
        """How many steps the longest way has."""
        return len(self.levels)

    @property
    def width(self) -> int:
        """The most steps that have the same depth."""
        return max(self.levels)

    @property
    def messages(self) -> int:
        """How many messages a run takes where no step runs twice or is skipped."""
        return MESSAGES_PER_STEP * len(self.graph)

    def to_wire(self) -> dict[str, Any]:
        """Write the plan as a JSON object, with the names of the steps."""
        names = self.graph.names

        def named(steps: Iterable[int]) -> list[str]:
            return [names[step] for step in steps]

        return {
            "steps": len(self.graph),
            "edges": self.graph.edges,
            "chains": [named(chain) for chain in self.chains],
            "groups": [
                {
                    "after": None if one.after is None else names[one.after],
                    "members": named(one.members),
                }
                for one in self.groups
            ],
            "chords": [
                {"step": names[one.body], "size": one.size, "header": named(one.header)}
                for one in self.chords
            ],
            "critical_path": named(self.critical_path),
            "depth": self.depth,
            "width": self.width,
            "messages": self.messages,
        }


def compile_plan(graph: Graph) -> Plan:
    """Return the plan of a graph; takes time in proportion to its steps and edges."""
    levels = [0] * len(graph)
    for step, above in enumerate(graph.parents):
        levels[step] = 1 + max((levels[one] for one in above), default=-1)
    counts = [0] * (1 + max(levels))
    for level in levels:
        counts[level] += 1
    return Plan(
        graph=graph,
        chains=tuple(_chains(graph)),
        groups=tuple(_groups(graph)),
        chords=tuple(
            Chord(header=above, body=step)
            for step, above in enumerate(graph.parents)
            if len(above) > 1
        ),
        critical_path=critical_path(graph, [1] * len(graph)),
        levels=tuple(counts),
    )


def critical_path(graph: Graph, weights: Sequence[float]) -> tuple[int, ...]:
    """Return the heaviest way through a graph.

    Args:
        graph: The graph.
        weights: What each step takes, in any unit.
    """
    total = [0.0] * len(graph)
    came_from = [-1] * len(graph)
    for step, above in enumerate(graph.parents):
        if above:
            # The first of equals, so that the same graph has the same path each time.
            came_from[step] = max(above, key=lambda one: (total[one], -one))
            total[step] = total[came_from[step]]
        total[step] += weights[step]
    step = max(range(len(graph)), key=lambda one: (total[one], -one))
    path = [step]
    while (step := came_from[step]) >= 0:
        path.append(step)
    return tuple(reversed(path))


def _chains(graph: Graph) -> Iterator[tuple[int, ...]]:
    for step in range(len(graph)):
        if _next(graph, step) is None or _is_linked(graph, step):
            continue
        chain = [step]
        while (following := _next(graph, chain[-1])) is not None:
            chain.append(following)
        yield tuple(chain)


def _next(graph: Graph, step: int) -> int | None:
    """Return the step that follows in the same chain."""
    below = graph.children[step]
    if len(below) == 1 and len(graph.parents[below[0]]) == 1:
        return below[0]
    return None


def _is_linked(graph: Graph, step: int) -> bool:
    """Say whether a step follows another one in its chain."""
    above = graph.parents[step]
    return len(above) == 1 and len(graph.children[above[0]]) == 1


def _groups(graph: Graph) -> Iterator[Group]:
    roots = tuple(graph.roots)
    if len(roots) > 1:
        yield Group(after=None, members=roots)
    for step, below in enumerate(graph.children):
        if len(below) > 1:
            yield Group(after=step, members=below)
