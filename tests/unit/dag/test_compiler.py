import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from horus_celery.dag.compiler import Chord, Group, compile_plan, critical_path
from horus_celery.dag.model import Graph
from horus_celery.statements.manifest import make_step


def plan_of(graph):
    """Return the plan of a graph with the names of the steps."""
    return compile_plan(graph).to_wire()


def test_steps_in_a_row_are_one_chain(graph_of):
    plan = plan_of(graph_of("a b:a c:b d:c"))
    assert plan["chains"] == [["a", "b", "c", "d"]]
    assert (plan["groups"], plan["chords"]) == ([], [])
    assert plan["critical_path"] == ["a", "b", "c", "d"]
    assert (plan["depth"], plan["width"]) == (4, 1)


def test_a_fan_out_is_a_group_and_its_join_a_chord(graph_of):
    plan = plan_of(graph_of("a b:a c:a d:a e:b,c,d"))
    assert plan["chains"] == []
    assert plan["groups"] == [{"after": "a", "members": ["b", "c", "d"]}]
    assert plan["chords"] == [{"step": "e", "size": 3, "header": ["b", "c", "d"]}]
    assert (plan["steps"], plan["edges"], plan["messages"]) == (5, 6, 10)
    assert (plan["depth"], plan["width"]) == (3, 3)


def test_several_roots_are_a_group_that_the_start_lets_go(graph_of):
    plan = plan_of(graph_of("a b c:a,b"))
    assert plan["groups"] == [{"after": None, "members": ["a", "b"]}]


def test_a_ladder_of_diamonds_has_a_group_and_a_chord_for_each(graph_of):
    rungs = 5
    text = "s0 " + " ".join(
        f"l{n}:s{n} r{n}:s{n} s{n + 1}:l{n},r{n}" for n in range(rungs)
    )
    plan = plan_of(graph_of(text))
    assert [one["after"] for one in plan["groups"]] == [f"s{n}" for n in range(rungs)]
    assert [one["step"] for one in plan["chords"]] == [
        f"s{n + 1}" for n in range(rungs)
    ]
    assert plan["chains"] == []
    assert plan["depth"] == 2 * rungs + 1


def test_the_n_graph_is_a_group_and_a_chord_that_share_a_step(graph_of):
    plan = plan_of(graph_of("a b c:a d:a,b"))
    assert plan["chains"] == []
    assert plan["groups"] == [
        {"after": None, "members": ["a", "b"]},
        {"after": "a", "members": ["c", "d"]},
    ]
    assert plan["chords"] == [{"step": "d", "size": 2, "header": ["a", "b"]}]


def test_chains_lie_between_what_forks_and_what_joins(graph_of):
    plan = plan_of(graph_of("a b:a c:b d:b e:c f:d g:e,f h:g"))
    assert plan["chains"] == [["a", "b"], ["c", "e"], ["d", "f"], ["g", "h"]]


def test_the_way_that_takes_longest_need_not_have_the_most_steps(graph_of):
    graph = graph_of("a b:a c:b d")
    assert critical_path(graph, [1, 1, 1, 1]) == (0, 1, 2)
    assert critical_path(graph, [1, 1, 1, 9]) == (3,)


def test_of_ways_that_take_as_long_the_first_is_shown(graph_of):
    graph = graph_of("a b c:a,b d:b,a")
    names = [graph.names[step] for step in critical_path(graph, [1] * 4)]
    assert names == ["a", "c"]


@st.composite
def graphs(draw):
    size = draw(st.integers(1, 10))
    return Graph.of_steps(
        [
            make_step(
                f"s{number}",
                depends_on=[
                    f"s{one}"
                    for one in sorted(
                        draw(st.sets(st.integers(0, number - 1), max_size=3))
                    )
                ]
                if number
                else [],
            )
            for number in range(size)
        ]
    )


def ways(graph, step):
    """Yield every way that ends at a step."""
    if not graph.parents[step]:
        yield (step,)
    for one in graph.parents[step]:
        for way in ways(graph, one):
            yield (*way, step)


def links(graph):
    """Return the edges along which nothing else goes in or out."""
    return {
        (one, step)
        for step, above in enumerate(graph.parents)
        for one in above
        if len(above) == 1 and len(graph.children[one]) == 1
    }


@given(graphs())
@settings(deadline=None)
def test_chains_hold_every_edge_without_a_fork_or_join_once(graph):
    chains = compile_plan(graph).chains
    pairs = [pair for chain in chains for pair in itertools.pairwise(chain)]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == links(graph)
    steps = [step for chain in chains for step in chain]
    assert len(steps) == len(set(steps)), "two chains that could have been one"


@given(graphs())
@settings(deadline=None)
def test_groups_and_chords_are_all_forks_and_joins(graph):
    plan = compile_plan(graph)
    roots = tuple(step for step, above in enumerate(graph.parents) if not above)
    forks = [Group(after=None, members=roots)] if len(roots) > 1 else []
    forks += [
        Group(after=step, members=below)
        for step, below in enumerate(graph.children)
        if len(below) > 1
    ]
    assert list(plan.groups) == forks
    assert list(plan.chords) == [
        Chord(header=above, body=step)
        for step, above in enumerate(graph.parents)
        if len(above) > 1
    ]


@given(graphs(), st.data())
@settings(deadline=None)
def test_no_way_is_heavier_than_the_critical_path(graph, data):
    weights = data.draw(
        st.lists(st.integers(0, 5), min_size=len(graph), max_size=len(graph))
    )
    path = critical_path(graph, weights)
    heaviest = max(
        sum(weights[one] for one in way)
        for step in range(len(graph))
        for way in ways(graph, step)
    )
    assert sum(weights[step] for step in path) == heaviest
    assert path in set(ways(graph, path[-1]))


@given(graphs())
@settings(deadline=None)
def test_the_depth_of_a_step_is_that_of_the_longest_way_to_it(graph):
    plan = compile_plan(graph)
    depths = [max(map(len, ways(graph, step))) for step in range(len(graph))]
    assert plan.levels == tuple(
        depths.count(depth) for depth in range(1, max(depths) + 1)
    )
    assert plan.depth == len(plan.critical_path) == max(depths)
    assert plan.width == max(plan.levels)


@pytest.mark.parametrize("size", [1, 20_000])
def test_a_long_chain_is_planned_without_recursion(size):
    steps = [make_step("s0")]
    steps += [make_step(f"s{n}", depends_on=[f"s{n - 1}"]) for n in range(1, size)]
    plan = compile_plan(Graph.of_steps(steps))
    assert plan.critical_path == tuple(range(size))
    assert plan.chains == ((tuple(range(size)),) if size > 1 else ())
