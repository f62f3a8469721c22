"""Which steps a workflow has and what each waits for: the graph, if it can be run.

A graph knows its steps by index, in a topological order: every step stands behind all
those that it depends on, and otherwise the steps stand as in the manifest.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from horus_celery.dag.cycles import find_cycle
from horus_celery.errors import WorkflowError
from horus_celery.statements.manifest import Manifest, OnFailure, Step, When

#: What one workflow may have.
MAX_STEPS: Final = 100_000
MAX_EDGES: Final = 500_000
#: The most names that the text of an error shows.
MAX_SHOWN: Final = 20


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The steps of a workflow by index; there is a way to run every one of them."""

    names: tuple[str, ...]
    #: Of each step those that it depends on, in the order in which it names them.
    parents: tuple[tuple[int, ...], ...]
    #: Of each step those that depend on it, ascending.
    children: tuple[tuple[int, ...], ...]
    when: tuple[When, ...]
    on_failure: tuple[OnFailure, ...]
    #: None stands for the supervisor that is asked.
    supervisors: tuple[str | None, ...]
    #: How many steps may run at a time; None: as many as can.
    max_parallel: int | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Graph:
        """Return the graph of a manifest's steps.

        Raises:
            WorkflowError: as `of_steps`.
        """
        return cls.of_steps(manifest.steps, max_parallel=manifest.max_parallel)

    @classmethod
    def of_steps(
        cls, steps: Sequence[Step], *, max_parallel: int | None = None
    ) -> Graph:
        """Return the graph of these steps.

        Raises:
            WorkflowError: `workflow.too_large`, `workflow.duplicate_step`,
                `workflow.unknown_step` or `workflow.cycle`, the first that holds.
        """
        _require_small(steps)
        places = _places(steps)
        depends = [tuple(_known(step, places)) for step in steps]
        order = _order(depends, steps)
        index = [0] * len(steps)
        for new, old in enumerate(order):
            index[old] = new
        parents = tuple(tuple(index[one] for one in depends[old]) for old in order)
        return cls(
            names=tuple(steps[old].name for old in order),
            parents=parents,
            children=reverse(parents),
            when=tuple(steps[old].when for old in order),
            on_failure=tuple(steps[old].on_failure for old in order),
            supervisors=tuple(steps[old].supervisor for old in order),
            max_parallel=max_parallel,
        )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def index(self) -> Mapping[str, int]:
        """The index of each step by its name."""
        return {name: index for index, name in enumerate(self.names)}

    @cached_property
    def edges(self) -> int:
        """How many dependencies there are."""
        return sum(map(len, self.parents))

    @property
    def roots(self) -> Iterator[int]:
        """The steps that depend on none."""
        return (step for step, above in enumerate(self.parents) if not above)

    @property
    def leaves(self) -> Iterator[int]:
        """The steps that none depends on."""
        return (step for step, below in enumerate(self.children) if not below)


def reverse(edges: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Return for each node those that lead to it, ascending."""
    back: list[list[int]] = [[] for _ in edges]
    for node, targets in enumerate(edges):
        for target in targets:
            back[target].append(node)
    return tuple(map(tuple, back))


def shown(names: Iterable[str], *, between: str = ", ") -> str:
    """Write names for a person: all of them, or the first and how many more."""
    every = tuple(names)
    text = between.join(every[:MAX_SHOWN])
    if len(every) <= MAX_SHOWN:
        return text
    return f"{text}{between}… ({len(every) - MAX_SHOWN} more)"


def _require_small(steps: Sequence[Step]) -> None:
    if len(steps) > MAX_STEPS:
        raise WorkflowError(
            "workflow.too_large",
            f"it has {len(steps):,} steps, and at most {MAX_STEPS:,} are allowed:"
            " run it as several workflows",
        )
    edges = sum(len(step.depends_on) for step in steps)
    if edges > MAX_EDGES:
        raise WorkflowError(
            "workflow.too_large",
            f"its steps name {edges:,} others in depends_on, and at most {MAX_EDGES:,}"
            " are allowed: have many steps depend on one that gathers",
        )


def _places(steps: Sequence[Step]) -> dict[str, int]:
    places: dict[str, int] = {}
    twice: dict[str, None] = {}
    for place, step in enumerate(steps):
        if places.setdefault(step.name, place) != place:
            twice[step.name] = None
    if twice:
        raise WorkflowError(
            "workflow.duplicate_step",
            f"several steps have the same name: {shown(twice)}",
            names=tuple(twice),
        )
    return places


def _known(step: Step, places: Mapping[str, int]) -> Iterator[int]:
    for name in step.depends_on:
        place = places.get(name)
        if place is None:
            raise WorkflowError(
                "workflow.unknown_step",
                f"the step {step.name} depends on {name}, which is no step of this"
                " workflow",
                names=(step.name, name),
            )
        yield place


def _order(depends: Sequence[Sequence[int]], steps: Sequence[Step]) -> list[int]:
    """Return the steps so that each stands behind those that it depends on.

    Of several that could come next, the one that stands first is taken.
    """
    followers = reverse(depends)
    missing = [len(above) for above in depends]
    ready = [step for step, count in enumerate(missing) if count == 0]
    order: list[int] = []
    while ready:
        step = heapq.heappop(ready)
        order.append(step)
        for follower in followers[step]:
            missing[follower] -= 1
            if missing[follower] == 0:
                heapq.heappush(ready, follower)
    if len(order) < len(depends):
        raise _cycle(followers, steps)
    return order


def _cycle(followers: Sequence[Sequence[int]], steps: Sequence[Step]) -> WorkflowError:
    found = find_cycle(followers)
    names = tuple(steps[step].name for step in found.nodes)
    circle = shown((*names, names[0]), between=" -> ")
    which = "the shortest cycle" if found.is_shortest else "a cycle"
    return WorkflowError(
        "workflow.cycle",
        f"steps wait for each other; {which} has {len(names):,}"
        f" step{'s' * (len(names) > 1)}: {circle}",
        names=names,
    )
