"""Which cycle is shown of a graph that has some: a shortest one.

Every cycle leads through the head of an edge that a depth-first walk finds to lead
back. So cycles are looked for from these heads alone, each of which is taken away when
nothing is left to be found through it: cycles of one node, of up to two, four, eight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Edges that are looked at before the shortest cycle found so far must do: a second or
#: two. Only graphs that were made for it need more.
MAX_EFFORT: Final = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """A cycle, and whether no other one is shorter."""

    #: Each leads to the next, and the last to the first.
    nodes: tuple[int, ...]
    is_shortest: bool


def find_cycle(edges: Sequence[Sequence[int]], *, effort: int = MAX_EFFORT) -> Cycle:
    """Return a shortest cycle of a graph.

    Args:
        edges: For each node those that it leads to.
        effort: How many edges may be looked at to find a shorter one than the first.

    Raises:
        ValueError: if there is no cycle.
    """
    heads = _heads_of_back_edges(edges)
    if not heads:
        raise ValueError("the graph has no cycle")
    search = _Search(edges, effort)
    limit = 1
    best: list[int] = []
    while not best and search.effort > 0:
        best = search.round(heads, limit)
        limit *= 2
    if not best:
        # There is one through every head.
        best = _Search(edges, len(edges) + sum(map(len, edges))).through(
            heads[0], len(edges)
        )
    return Cycle(nodes=tuple(best), is_shortest=search.effort > 0)


class _Search:
    """Looks for cycles, until it has looked at so many edges."""

    def __init__(self, edges: Sequence[Sequence[int]], effort: int) -> None:
        self._edges = edges
        #: Zero or less when a search was given up.
        self.effort = effort

    def round(self, heads: Sequence[int], limit: int) -> list[int]:
        """Return a shortest cycle of at most `limit` nodes; empty if there is none."""
        best: list[int] = []
        gone: set[int] = set()
        for head in heads:
            found = self.through(head, len(best) - 1 if best else limit, gone)
            best = found or best
            gone.add(head)
            if len(best) == 1 or self.effort <= 0:
                break
        return best

    def through(
        self, head: int, limit: int, gone: set[int] | frozenset[int] = frozenset()
    ) -> list[int]:
        """Return a shortest cycle through a node; empty if none is short enough."""
        came_from = {head: head}
        level = [head]
        for _ in range(limit):
            below: list[int] = []
            for node in level:
                self.effort -= len(self._edges[node])
                for target in self._edges[node]:
                    if target == head:
                        return _way_back(came_from, node)
                    if target not in came_from and target not in gone:
                        came_from[target] = node
                        below.append(target)
            if not below or self.effort <= 0:
                break
            level = below
        return []


def _way_back(came_from: dict[int, int], last: int) -> list[int]:
    way = [last]
    while came_from[way[-1]] != way[-1]:
        way.append(came_from[way[-1]])
    return way[::-1]


def _heads_of_back_edges(edges: Sequence[Sequence[int]]) -> list[int]:
    """Return the nodes that a walk, deep first, meets again on its own way."""
    unseen, on_way, left = 0, 1, 2
    status = bytearray(len(edges))
    heads: dict[int, None] = {}
    for start in range(len(edges)):
        if status[start] != unseen:
            continue
        status[start] = on_way
        way = [(start, iter(edges[start]))]
        while way:
            node, targets = way[-1]
            for target in targets:
                if status[target] == unseen:
                    status[target] = on_way
                    way.append((target, iter(edges[target])))
                    break
                if status[target] == on_way:
                    heads[target] = None
            else:
                status[node] = left
                way.pop()
    return list(heads)
