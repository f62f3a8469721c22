import itertools
import random
from collections import deque
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from horus_celery.dag.cycles import find_cycle
from horus_celery.dag.model import MAX_EDGES, MAX_STEPS, Graph, shown
from horus_celery.errors import WorkflowError
from horus_celery.statements.manifest import make_manifest, make_step


def error_of(steps):
    with pytest.raises(WorkflowError) as refusal:
        Graph.of_steps(list(steps))
    return refusal.value


def read_error(text):
    steps = []
    for word in text.split():
        name, _, above = word.partition(":")
        steps.append(make_step(name, depends_on=above.split(",") if above else []))
    return error_of(steps)


# --- the graph ---------------------------------------------------------------------


def test_a_step_stands_behind_those_that_it_depends_on(graph_of):
    graph = graph_of("d:c,b c:a b a")
    assert graph.names == ("b", "a", "c", "d")
    assert graph.parents == ((), (), (1,), (2, 0))
    assert graph.children == ((3,), (2,), (3,), ())


def test_steps_that_are_in_order_stay_as_they_are(graph_of):
    assert graph_of("z y x:z w:z v:y,x").names == ("z", "y", "x", "w", "v")


def test_the_rules_of_a_step_go_where_it_goes():
    manifest = make_manifest(
        aud="hero",
        caller_id="alice",
        context_id="billing",
        name="x",
        steps=[
            make_step("b", depends_on=["a"], when="one_failed", on_failure="continue"),
            make_step("a", supervisor="far"),
        ],
        now=datetime(2026, 1, 1, tzinfo=UTC),
    )
    graph = Graph.of(manifest)
    assert graph.names == ("a", "b")
    assert graph.when == ("all_success", "one_failed")
    assert graph.on_failure == ("fail", "continue")
    assert graph.supervisors == ("far", None)


def test_a_graph_knows_its_size_and_its_ends(graph_of):
    graph = graph_of("a b c:a,b d:b e:c,d")
    assert (len(graph), graph.edges) == (5, 5)
    assert [graph.names[step] for step in graph.roots] == ["a", "b"]
    assert [graph.names[step] for step in graph.leaves] == ["e"]
    assert {name: graph.index[name] for name in "abcde"} == dict(
        zip("abcde", range(5), strict=True)
    )


@st.composite
def acyclic(draw):
    """Steps of a graph without a cycle, in any order."""
    size = draw(st.integers(1, 12))
    names = draw(st.permutations([f"s{number}" for number in range(size)]))
    steps = [
        make_step(
            names[place],
            depends_on=draw(st.lists(st.sampled_from(names[:place]), unique=True))
            if place
            else [],
        )
        for place in range(size)
    ]
    return draw(st.permutations(steps))


@given(acyclic())
@settings(deadline=None)
def test_every_edge_leads_forward_and_none_is_lost(steps):
    graph = Graph.of_steps(steps)
    assert set(graph.names) == {step.name for step in steps}
    for step in steps:
        index = graph.index[step.name]
        above = graph.parents[index]
        assert tuple(graph.names[one] for one in above) == step.depends_on
        assert all(one < index for one in above)
    pairs = {(one, step) for step, up in enumerate(graph.parents) for one in up}
    assert pairs == {
        (step, one) for step, down in enumerate(graph.children) for one in down
    }
    assert graph.edges == len(pairs)
    assert all(list(down) == sorted(down) for down in graph.children)


@given(acyclic())
@settings(deadline=None)
def test_the_order_is_the_first_of_all_that_are_possible(steps):
    expected: list[str] = []
    while len(expected) < len(steps):
        expected.append(
            next(
                step.name
                for step in steps
                if step.name not in expected and set(step.depends_on) <= set(expected)
            )
        )
    assert Graph.of_steps(steps).names == tuple(expected)


# --- what is refused ---------------------------------------------------------------


def test_a_step_that_does_not_exist_is_named_with_the_one_that_wants_it():
    error = read_error("a b:a,c")
    assert error.reason == "workflow.unknown_step"
    assert error.names == ("b", "c")
    assert "the step b depends on c" in error.detail


def test_names_that_stand_twice_are_all_named():
    error = read_error("a b a c b a")
    assert error.reason == "workflow.duplicate_step"
    assert error.names == ("a", "b")


def test_too_many_steps_are_counted():
    one = make_step("a")
    error = error_of([one] * (MAX_STEPS + 1))
    assert error.reason == "workflow.too_large"
    assert "100,001 steps" in error.detail


def test_too_many_edges_are_counted():
    many = make_step("a", depends_on=[f"s{n}" for n in range(1001)], when="all_done")
    error = error_of([many] * (MAX_EDGES // 1001 + 1))
    assert error.reason == "workflow.too_large"
    assert "500,500 others" in error.detail


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a:a", ("a",)),
        ("a:b b:a", ("a", "b")),
        ("a:c b:a c:b", ("a", "b", "c")),
        # The short one, though the long one is met first.
        ("a:d b:a c:b d:c,e e:d", ("d", "e")),
        ("x a:x b:a c:b,c d:c", ("c",)),
    ],
)
def test_the_shortest_cycle_is_named_in_its_order(text, names):
    error = read_error(text)
    assert error.reason == "workflow.cycle"
    assert error.names == names
    assert error.detail.endswith(": " + " -> ".join([*names, names[0]]))


def test_of_a_long_cycle_twenty_names_are_shown():
    size = 1000
    error = error_of(
        make_step(f"s{number}", depends_on=[f"s{(number - 1) % size}"])
        for number in range(size)
    )
    assert len(error.names) == size
    assert error.detail.count("->") == 20
    assert error.detail.endswith("s19 -> … (981 more)")
    assert "1,000 steps" in error.detail


def test_few_names_are_all_shown():
    assert shown("abc") == "a, b, c"
    assert shown(str(number) for number in range(20)).endswith("18, 19")
    assert shown(str(number) for number in range(21)).endswith("19, … (1 more)")


# --- cycles ------------------------------------------------------------------------


def length_through(edges, start):
    """Return the length of a shortest cycle through a node, plainly."""
    distance = {start: 0}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for target in edges[node]:
            if target == start:
                return distance[node] + 1
            if target not in distance:
                distance[target] = distance[node] + 1
                queue.append(target)
    return None


@given(
    st.integers(1, 9).flatmap(
        lambda size: st.lists(
            st.lists(st.integers(0, size - 1), unique=True, max_size=3),
            min_size=size,
            max_size=size,
        )
    )
)
@settings(deadline=None)
def test_no_cycle_is_shorter_than_the_one_that_is_found(edges):
    lengths = [
        length
        for node in range(len(edges))
        if (length := length_through(edges, node)) is not None
    ]
    if not lengths:
        with pytest.raises(ValueError, match="no cycle"):
            find_cycle(edges)
        return
    found = find_cycle(edges)
    assert found.is_shortest
    assert_is_cycle(edges, found.nodes)
    assert len(found.nodes) == min(lengths)


def assert_is_cycle(edges, nodes):
    assert len(set(nodes)) == len(nodes) > 0
    for node, target in itertools.pairwise([*nodes, nodes[0]]):
        assert target in edges[node]


@given(st.integers(0, 2000), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_a_search_that_is_given_up_still_shows_a_cycle(effort, chance):
    edges = [chance.sample(range(60), 3) for _ in range(60)]
    found = find_cycle(edges, effort=effort)
    assert_is_cycle(edges, found.nodes)


def test_a_cycle_that_may_not_be_the_shortest_is_not_called_so():
    # Two layers of which each leads wholly to the other, and a short way aside.
    edges = [list(range(50, 100)) for _ in range(50)] + [[0] for _ in range(50)]
    assert find_cycle(edges, effort=3).is_shortest is False
    assert find_cycle(edges).is_shortest is True


# --- size --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["chain", "ring", "random", "shuffled"])
def test_the_largest_graphs_are_read_without_recursion(shape):
    size = 20_000
    chance = random.Random(1)  # noqa: S311 - the same graph each time
    steps = [
        make_step(
            f"s{number}",
            depends_on=[f"s{number - 1}"]
            if shape in {"chain", "ring"} and number
            else [
                f"s{one}"
                for one in sorted(chance.sample(range(number), min(5, number)))
            ],
        )
        for number in range(size)
    ]
    if shape == "ring":
        steps[0] = make_step("s0", depends_on=[f"s{size - 1}"])
        assert len(error_of(steps).names) == size
        return
    if shape == "shuffled":
        chance.shuffle(steps)
    graph = Graph.of_steps(steps)
    assert len(graph) == size
    assert all(one < step for step, up in enumerate(graph.parents) for one in up)
