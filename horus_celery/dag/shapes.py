"""Whether a graph can run as Celery's own canvas, and which shape it has then.

Canvas knows rows (chains) and steps beside each other (groups); a group with something
behind it is a chord. A graph is made of these alone if it can be cut, again and again,
into parts of which each waits for the whole part before, or that have nothing to do
with each other. What canvas would run otherwise, slowly, or not to its end is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from horus_celery.dag.compiler import Plan
from horus_celery.dag.model import Graph, shown

#: Steps in a row: each message of a chain carries all that is behind it.
MAX_LINKS: Final = 100
#: Bytes of all messages of a run together.
MAX_BYTES: Final = 1024 * 1024
#: Bytes of a message of canvas, and of each step that it carries along, at most.
MESSAGE_BYTES: Final = 1400
CARRIED_BYTES: Final = 400


class Strategy(StrEnum):
    """How a graph is run."""

    #: Whoever hears that a step is over starts what may start by the rules.
    REFERENCE = "reference"
    #: Celery's chains and chords bring the word from step to step.
    CANVAS = "canvas"


class Reason(StrEnum):
    """Why a graph does not run as canvas."""

    #: A step has another rule than all_success.
    RULE = "rule"
    #: Not all steps that may run may run at a time.
    MAX_PARALLEL = "max_parallel"
    #: A step goes to another supervisor.
    SUPERVISOR = "supervisor"
    #: A step waits for one of two that have to do with each other, as in the N graph.
    NOT_SERIES_PARALLEL = "not_series_parallel"
    #: A group right behind a group.
    ADJACENT_GROUPS = "adjacent_groups"
    #: A group, or a chord, among the parts of a chord.
    NESTED_CHORD = "nested_chord"
    TOO_LONG = "too_long"
    TOO_LARGE = "too_large"


class NoCanvas(Exception):
    """A graph does not run as canvas; `reason` is the word for why."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Row:
    """Parts that run one after the other, two or more; none of them is a row."""

    parts: tuple[int | Beside, ...]


@dataclass(frozen=True, slots=True)
class Beside:
    """Parts that run beside each other, two or more; none of them is such a part."""

    parts: tuple[int | Row, ...]


#: A step, by its index, or what holds several.
Shape: TypeAlias = int | Row | Beside


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a step stands in a shape: what its end lets start."""

    #: What follows it in its row: what comes first of that starts.
    rest: tuple[int | Beside, ...] = ()
    #: The step that a chord ends with which this step is one of the last before.
    body: int | None = None
    #: How many such steps there are.
    parts: int = 0


def shape_of(plan: Plan) -> Shape:
    """Return the shape in which a graph runs as canvas.

    Raises:
        NoCanvas: if it should not, with the first reason that holds.
    """
    graph = plan.graph
    _require_plain_steps(graph)
    if plan.depth > MAX_LINKS:
        raise NoCanvas(
            Reason.TOO_LONG, f"{plan.depth:,} steps in a row are over {MAX_LINKS}"
        )
    if MESSAGE_BYTES * len(graph) > MAX_BYTES:
        raise NoCanvas(
            Reason.TOO_LARGE, f"the messages of {len(graph):,} steps are over 1 MiB"
        )
    shape = _cut(graph, _reach(graph), range(len(graph)))
    for row in _rows(shape):
        _require_safe(row, graph)
    if (size := _bytes(shape, 0)) > MAX_BYTES:
        raise NoCanvas(
            Reason.TOO_LARGE, f"its messages have {size:,} bytes, over 1 MiB"
        )
    return shape


def places_in(shape: Shape) -> Mapping[int, Place]:
    """Return where each step stands in a shape."""
    return dict(_places(shape, Place()))


def why_no_canvas(plan: Plan) -> NoCanvas | None:
    """Return why a graph does not run as canvas; None if it does."""
    try:
        shape_of(plan)
    except NoCanvas as refusal:
        return refusal
    return None


def _require_plain_steps(graph: Graph) -> None:
    if graph.max_parallel is not None:
        raise NoCanvas(
            Reason.MAX_PARALLEL,
            f"at most {graph.max_parallel:,} steps may run at a time",
        )
    for step, name in enumerate(graph.names):
        if graph.parents[step] and graph.when[step] != "all_success":
            raise NoCanvas(Reason.RULE, f"step {name} has the rule {graph.when[step]}")
        if graph.supervisors[step] is not None:
            raise NoCanvas(
                Reason.SUPERVISOR,
                f"step {name} goes to the supervisor {graph.supervisors[step]}",
            )


def _places(shape: Shape, here: Place) -> Iterator[tuple[int, Place]]:
    if isinstance(shape, int):
        yield shape, here
    elif isinstance(shape, Beside):
        for each in shape.parts:
            yield from _places(each, here)
    else:
        for at, part in enumerate(shape.parts, 1):
            rest = shape.parts[at:]
            following = rest[0] if rest else None
            if isinstance(part, Beside) and isinstance(following, int):
                there = Place(body=following, parts=len(part.parts))
            else:
                there = Place(rest=rest) if rest else here
            yield from _places(part, there)


def _reach(graph: Graph) -> list[int]:
    """Return for each step those behind it, however far, as bits."""
    reach = [0] * len(graph)
    for step in reversed(range(len(graph))):
        for child in graph.children[step]:
            reach[step] |= 1 << child | reach[child]
    return reach


# As deep as these two call each other there are steps in a row: at most MAX_LINKS.


def _cut(graph: Graph, reach: Sequence[int], steps: Sequence[int]) -> Shape:
    """Cut steps into parts that have nothing to do with each other, each into a row."""
    parts = [_cut_row(graph, reach, part) for part in _components(graph, steps)]
    return parts[0] if len(parts) == 1 else Beside(tuple(parts))


def _cut_row(graph: Graph, reach: Sequence[int], steps: Sequence[int]) -> int | Row:
    """Cut steps that have to do with each other into a row."""
    if len(steps) == 1:
        return steps[0]
    parts: list[int | Beside] = []
    for part in _series(reach, steps):
        shape = _cut(graph, reach, part) if len(part) < len(steps) else None
        # What cannot be cut in any way would come back as a row, or not at all.
        if shape is None or isinstance(shape, Row):
            raise _uncut(graph, part)
        parts.append(shape)
    return Row(tuple(parts))


def _uncut(graph: Graph, steps: Sequence[int]) -> NoCanvas:
    return NoCanvas(
        Reason.NOT_SERIES_PARALLEL,
        "each of these waits for some of the others, and not for all:"
        f" {shown(graph.names[step] for step in steps)}",
    )


def _components(graph: Graph, steps: Sequence[int]) -> Iterator[list[int]]:
    """Yield the parts of these steps that have nothing to do with each other."""
    inside = set(steps)
    while inside:
        found = {min(inside)}
        edge = list(found)
        while edge:
            step = edge.pop()
            near = {*graph.parents[step], *graph.children[step]} & inside
            edge += near - found
            found |= near
        inside -= found
        yield sorted(found)


def _series(reach: Sequence[int], steps: Sequence[int]) -> Iterator[list[int]]:
    """Yield the parts of these steps of which each waits for all of the one before."""
    behind = sum(1 << step for step in steps)
    waiting = behind
    part: list[int] = []
    for step in steps:
        part.append(step)
        behind &= ~(1 << step)
        waiting &= reach[step]
        if behind & ~waiting == 0:
            yield part
            part = []
            waiting = behind


def _rows(shape: Shape) -> Iterator[Row]:
    found = [shape]
    for one in found:  # which grows meanwhile
        if isinstance(one, Row):
            yield one
        if not isinstance(one, int):
            found.extend(one.parts)


def _require_safe(row: Row, graph: Graph) -> None:
    for part, following in zip(row.parts, row.parts[1:], strict=False):
        if not isinstance(part, Beside):
            continue
        if isinstance(following, Beside):
            raise NoCanvas(
                Reason.ADJACENT_GROUPS,
                f"the group of {_first(part, graph)} is followed by the group of"
                f" {_first(following, graph)}: put a step between them",
            )
        for inner in part.parts:
            if isinstance(inner, Row) and not all(
                isinstance(one, int) for one in inner.parts
            ):
                raise NoCanvas(
                    Reason.NESTED_CHORD,
                    f"a group stands among those that {_first(following, graph)} waits"
                    " for",
                )


def _first(shape: Shape, graph: Graph) -> str:
    while not isinstance(shape, int):
        shape = shape.parts[0]
    return graph.names[shape]


def _steps(shape: Shape) -> int:
    return 1 if isinstance(shape, int) else sum(map(_steps, shape.parts))


def _bytes(shape: Shape, carried: int) -> int:
    """Return what the messages of a part take that has so many steps behind it."""
    if isinstance(shape, int):
        return MESSAGE_BYTES + CARRIED_BYTES * carried
    if isinstance(shape, Beside):
        return sum(_bytes(part, carried) for part in shape.parts)
    total = 0
    for part in reversed(shape.parts):
        total += _bytes(part, carried)
        carried += _steps(part)
    return total
