"""Canvas runs a graph as the reference does, or says why it does not."""

from __future__ import annotations

import json
from itertools import product

import pytest
from celery import Celery, chain, chord
from hypothesis import given, settings
from hypothesis import strategies as st

from horus_celery.dag.canvas import to_canvas
from horus_celery.dag.compiler import compile_plan
from horus_celery.dag.model import Graph
from horus_celery.dag.progress import run
from horus_celery.dag.shapes import (
    CARRIED_BYTES,
    MAX_LINKS,
    MESSAGE_BYTES,
    Beside,
    NoCanvas,
    Reason,
    Row,
    shape_of,
)
from horus_celery.lifecycle import Status
from horus_celery.statements.manifest import make_step
from horus_celery.store.bell import STEP


def refusal(graph):
    with pytest.raises(NoCanvas) as refused:
        shape_of(compile_plan(graph))
    return refused.value


# --- shapes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("a", 0),
        ("a b", Beside((0, 1))),
        ("a b:a c:b", Row((0, 1, 2))),
        ("a b:a c:a", Row((0, Beside((1, 2))))),
        ("a b c:a,b", Row((Beside((0, 1)), 2))),
        ("a b:a c:a d:b,c", Row((0, Beside((1, 2)), 3))),
        ("a b:a c:b x y:x", Beside((Row((0, 1, 2)), Row((3, 4))))),
        ("a b c:b d:a,c", Row((Beside((0, Row((1, 2)))), 3))),
        # The edge from a to c is implied by the others.
        ("a b:a c:a,b", Row((0, 1, 2))),
        # A group at the end may hold groups at its end.
        (
            "a b:a c:a d:b e:b",
            Row((0, Beside((Row((1, Beside((3, 4)))), 2)))),
        ),
    ],
)
def test_a_graph_that_is_series_parallel_has_a_shape(graph_of, text, shape):
    assert shape_of(compile_plan(graph_of(text))) == shape


@pytest.mark.parametrize(
    ("text", "reason", "said"),
    [
        ("a b c:a d:a,b", Reason.NOT_SERIES_PARALLEL, "a, b, c, d"),
        ("r a:r b:r c:a d:a,b e:c,d", Reason.NOT_SERIES_PARALLEL, ": a, b, c, d"),
        ("a b c:a,b d:a,b", Reason.ADJACENT_GROUPS, "the group of a is followed by"),
        ("a b:a c:b d:b e:c,d f g:e,f", Reason.NESTED_CHORD, "that g waits for"),
        ("a b:a c:a d e:b,c,d", Reason.NESTED_CHORD, "that e waits for"),
    ],
)
def test_what_canvas_would_not_run_exactly_is_refused(graph_of, text, reason, said):
    refused = refusal(graph_of(text))
    assert refused.reason is reason
    assert said in refused.detail


@pytest.mark.parametrize("when", ["all_done", "one_failed", "none_failed"])
def test_canvas_has_one_rule_only(graph_of, when):
    refused = refusal(graph_of("a b:a", b={"when": when}))
    assert (refused.reason, refused.detail) == (
        Reason.RULE,
        f"step b has the rule {when}",
    )
    # A step that depends on none starts whatever its rule says.
    assert shape_of(compile_plan(graph_of("a", a={"when": when}))) == 0


def test_canvas_runs_as_many_steps_at_a_time_as_may_run():
    steps = [make_step("a"), make_step("b")]
    refused = refusal(Graph.of_steps(steps, max_parallel=1))
    assert (refused.reason, refused.detail) == (
        Reason.MAX_PARALLEL,
        "at most 1 steps may run at a time",
    )


def test_canvas_goes_to_no_other_supervisor(graph_of):
    refused = refusal(graph_of("a", a={"supervisor": "far"}))
    assert refused.reason is Reason.SUPERVISOR


def chain_of(size):
    steps = [make_step("s0")]
    steps += [make_step(f"s{n}", depends_on=[f"s{n - 1}"]) for n in range(1, size)]
    return Graph.of_steps(steps)


def test_a_chain_may_have_a_hundred_links():
    # Too many bytes come later: every message carries what is behind it.
    assert refusal(chain_of(MAX_LINKS + 1)).reason is Reason.TOO_LONG
    assert refusal(chain_of(MAX_LINKS)).reason is Reason.TOO_LARGE
    assert shape_of(compile_plan(chain_of(50))) == Row(tuple(range(50)))


def test_what_is_too_large_is_refused():
    wide = Graph.of_steps([make_step(f"s{number}") for number in range(1200)])
    refused = refusal(wide)
    assert refused.reason is Reason.TOO_LARGE
    assert "1,200 steps" in refused.detail


# --- runs --------------------------------------------------------------------------


class CanvasRun:
    """Runs steps as Celery says, in one process, and notes what it was told to."""

    def __init__(self, graph, *, failing=None):
        self.app = Celery(broker="memory://", backend="cache+memory://")
        self.app.conf.update(task_always_eager=True, task_eager_propagates=True)
        self.graph = graph
        self.values: dict[int, str] = {}
        self.started: list[int] = []

        @self.app.task(name="step")
        def step(index):
            self.started.append(index)
            if index == failing:
                raise RuntimeError("as told")
            above = [self.values[one] for one in graph.parents[index]]
            self.values[index] = f"{graph.names[index]}({','.join(above)})"

        self.task = step

    def run(self):
        to_canvas(compile_plan(self.graph), self.task.si).apply_async()


SHAPES = st.recursive(
    st.just("step"),
    lambda inner: st.tuples(
        st.sampled_from(["row", "beside"]), st.lists(inner, min_size=2, max_size=4)
    ),
    max_leaves=14,
)


@st.composite
def series_parallel(draw):
    """Graphs that are made of rows and groups, and of nothing else."""
    steps: list[tuple[str, list[str]]] = []

    def grow(shape, above):
        """Add the steps of a shape behind others, and return its last ones."""
        if shape == "step":
            steps.append((f"s{len(steps)}", list(above)))
            return [steps[-1][0]]
        kind, parts = shape
        if kind == "beside":
            return [last for part in parts for last in grow(part, above)]
        for part in parts:
            above = grow(part, above)
        return above

    grow(draw(SHAPES), [])
    # An edge that others imply changes nothing.
    if len(steps) > 2 and draw(st.booleans()):
        name, above = steps[-1]
        further = {one for parent in above for one in dict(steps)[parent]}
        steps[-1] = (name, [*above, *sorted(further - set(above))])
    return Graph.of_steps(
        [
            make_step(name, depends_on=above)
            for name, above in draw(st.permutations(steps))
        ]
    )


@given(series_parallel())
@settings(deadline=None)
def test_canvas_runs_what_the_reference_runs_with_the_same_results(graph):
    try:
        shape_of(compile_plan(graph))
    except NoCanvas as refused:
        assert refused.reason in {Reason.ADJACENT_GROUPS, Reason.NESTED_CHORD}  # noqa: PT017
        return
    canvas = CanvasRun(graph)
    canvas.run()
    values: dict[int, str] = {}

    def outcome(step):
        above = ",".join(values[one] for one in graph.parents[step])
        values[step] = f"{graph.names[step]}({above})"
        return Status.COMPLETED

    reference = run(graph, outcome)
    assert sorted(canvas.started) == sorted(reference.started)
    assert canvas.values == values
    at = {step: moment for moment, step in enumerate(canvas.started)}
    for step, above in enumerate(graph.parents):
        assert all(at[one] < at[step] for one in above)


@given(
    st.integers(1, 9).flatmap(
        lambda size: st.tuples(
            *(
                st.sets(st.integers(0, number - 1)) if number else st.just(set())
                for number in range(size)
            )
        )
    )
)
@settings(deadline=None)
def test_a_shape_waits_for_just_what_its_graph_does(parents):
    graph = Graph.of_steps(
        [
            make_step(f"s{number}", depends_on=[f"s{one}" for one in sorted(above)])
            for number, above in enumerate(parents)
        ]
    )
    try:
        shape = shape_of(compile_plan(graph))
    except NoCanvas:
        return
    assert orders(shape) == behind(graph)


def orders(shape):
    """Return the pairs of which a shape runs the second only behind the first."""
    if isinstance(shape, int):
        return set()
    pairs = set().union(*(orders(part) for part in shape.parts))
    if isinstance(shape, Row):
        for place, part in enumerate(shape.parts):
            for later in shape.parts[place + 1 :]:
                pairs |= set(product(steps_of(part), steps_of(later)))
    return pairs


def steps_of(shape):
    if isinstance(shape, int):
        return {shape}
    return set().union(*map(steps_of, shape.parts))


def behind(graph):
    """Return the pairs of which the second waits for the first, however far."""
    pairs: set[tuple[int, int]] = set()
    for step, above in enumerate(graph.parents):
        for one in above:
            pairs |= {(one, step), *((far, step) for far, near in pairs if near == one)}
    return pairs


def test_a_failure_keeps_what_is_behind_it_from_running(graph_of):
    canvas = CanvasRun(graph_of("a b:a c:b"), failing=1)
    with pytest.raises(RuntimeError, match="as told"):
        canvas.run()
    assert canvas.started == [0, 1]


def test_a_message_is_no_larger_than_it_is_counted():
    app = Celery(broker="memory://", backend="cache+memory://")

    @app.task(name=STEP)
    def run_step(workflow, step):
        """Run nothing: it is only sent."""

    def made(count):
        return [run_step.si("0" * 64, 99_999) for _ in range(count)]

    for size in (1, 2, 50):
        chain(*made(size)).apply_async()
    for size in (1, 20):
        chord(made(2), chain(*made(size))).apply_async()
    with app.connection_for_read() as connection:
        queue = connection.default_channel
        sizes = [len(json.dumps(queue._get("celery"))) for _ in range(7)]  # noqa: SLF001 - messages as they lie in the queue
    carried = [0, 1, 49, 1, 1, 20, 20]
    for size, steps in zip(sizes, carried, strict=True):
        assert size <= MESSAGE_BYTES + CARRIED_BYTES * steps
