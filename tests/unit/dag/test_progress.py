import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from horus_celery.dag.model import Graph
from horus_celery.dag.progress import (
    ENDS,
    RULES,
    Change,
    Decision,
    End,
    Progress,
    StepStatus,
    WorkflowStatus,
    decide,
    follows,
    run,
)
from horus_celery.lifecycle import TERMINAL, Status
from horus_celery.statements.manifest import make_step

WHENS = ["all_success", "all_done", "one_failed", "none_failed"]
OVER = sorted(TERMINAL)
N_GRAPH = "a b c:a d:a,b"


def outcomes(graph, **ends):
    """Return how steps end: as said by their names, else completed."""
    return lambda step: Status(ends.get(graph.names[step], "completed"))


def status_of(progress):
    return progress.status


def statuses(graph, result):
    return dict(zip(graph.names, map(str, result.statuses), strict=True))


# --- the table ---------------------------------------------------------------------


def test_a_step_has_the_statuses_of_a_job_and_two_more():
    assert {str(one) for one in StepStatus} == {*Status, "pending", "skipped"}


def test_every_way_to_end_is_one_of_three():
    assert {str(status) for status in ENDS} == {*TERMINAL, "skipped"}
    assert set(ENDS.values()) == set(End)


def test_every_rule_of_the_schema_is_in_the_table():
    assert set(RULES) == set(WHENS)


def meant(when, ends):
    """Say in the words of the field what a rule makes of these ends; None is open."""
    over = None not in ends
    known = set(ends) - {None}
    if when == "all_success":
        if known - {End.COMPLETED}:
            return Decision.SKIP
        return Decision.START if over else None
    if when == "all_done":
        return Decision.START if over else None
    if when == "one_failed":
        if End.FAILED in known:
            return Decision.START
        return Decision.SKIP if over else None
    if End.FAILED in known:
        return Decision.SKIP
    return Decision.START if over else None


@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize("parents", [1, 2, 3])
def test_a_rule_decides_as_soon_as_it_can_and_as_it_says(when, parents):
    for ends in itertools.product(End, repeat=parents):
        decision = None
        for position, end in enumerate(ends):
            seen = [*ends[: position + 1], *[None] * (parents - position - 1)]
            if decision is None:
                decision = decide(when, end, left=parents - position - 1)
            assert decision == meant(when, seen), seen


# --- one step ----------------------------------------------------------------------


def test_steps_without_parents_start_whatever_their_rule_says(graph_of):
    graph = graph_of(
        "a b c d", **{n: {"when": w} for n, w in zip("abcd", WHENS, strict=True)}
    )
    assert Progress(graph).begin() == Change(ready=(0, 1, 2, 3))


def test_a_workflow_begins_once(graph_of):
    progress = Progress(graph_of("a"))
    assert status_of(progress) is WorkflowStatus.CREATED
    progress.begin()
    assert status_of(progress) is WorkflowStatus.RUNNING
    assert progress.begin() == Change()


def test_an_end_counts_once_whatever_is_said_later(graph_of):
    progress = Progress(graph_of("a b c:a,b"))
    progress.begin()
    assert progress.moved(0, Status.COMPLETED) == Change()
    for status in Status:
        assert progress.moved(0, status) == Change()
    assert progress.statuses[0] is StepStatus.COMPLETED
    assert progress.moved(1, Status.COMPLETED) == Change(ready=(2,))


def test_a_step_that_was_not_ready_cannot_move(graph_of):
    progress = Progress(graph_of("a b:a"))
    with pytest.raises(ValueError, match="the step a was not ready"):
        progress.moved(0, Status.QUEUED)
    progress.begin()
    with pytest.raises(ValueError, match="the step b was not ready"):
        progress.moved(1, Status.COMPLETED)


def test_a_step_is_where_its_job_is(graph_of):
    progress = Progress(graph_of("a"))
    progress.begin()
    seen = []
    for status in ["created", "queued", "running", "stopping", "completed"]:
        progress.moved(0, Status(status))
        seen.append(str(progress.statuses[0]))
    assert seen == ["created", "queued", "running", "stopping", "completed"]


# --- small workflows ---------------------------------------------------------------


def test_no_step_waits_for_what_it_does_not_depend_on(graph_of):
    graph = graph_of(N_GRAPH)
    a, b, c, d = (graph.index[name] for name in "abcd")
    progress = Progress(graph)
    assert progress.begin().ready == (a, b)
    # c runs as soon as a is done, however long b takes …
    assert progress.moved(a, Status.COMPLETED).ready == (c,)
    assert progress.moved(c, Status.COMPLETED).ready == ()
    assert progress.moved(b, Status.COMPLETED).ready == (d,)
    # … and d as soon as a and b are, however long c takes.
    other = Progress(graph)
    other.begin()
    assert other.moved(b, Status.COMPLETED).ready == ()
    assert other.moved(a, Status.COMPLETED).ready == (c, d)


def test_of_the_n_graph_each_failure_skips_just_what_depends_on_it(graph_of):
    graph = graph_of(N_GRAPH)
    assert statuses(graph, run(graph, outcomes(graph, b="failed"))) == {
        "a": "completed",
        "b": "failed",
        "c": "completed",
        "d": "skipped",
    }


def test_what_is_skipped_skips_what_needs_it_and_so_on(graph_of):
    graph = graph_of("a b:a c:b d:c e:d,x x")
    result = run(graph, outcomes(graph, a="failed"))
    assert statuses(graph, result) == {
        "a": "failed",
        "b": "skipped",
        "c": "skipped",
        "d": "skipped",
        "e": "skipped",
        "x": "completed",
    }
    assert result.status is WorkflowStatus.FAILED


def test_an_alarm_rings_while_others_still_run(graph_of):
    graph = graph_of("a b alarm:a,b", alarm={"when": "one_failed"})
    progress = Progress(graph)
    progress.begin()
    assert progress.moved(0, Status.FAILED).ready == (2,)
    assert progress.moved(2, Status.COMPLETED) == Change()
    assert progress.moved(1, Status.FAILED) == Change()
    assert progress.is_over


def test_an_alarm_that_nothing_rings_is_skipped(graph_of):
    graph = graph_of("a b alarm:a,b", alarm={"when": "one_failed"})
    result = run(graph, outcomes(graph))
    assert statuses(graph, result)["alarm"] == "skipped"
    assert result.status is WorkflowStatus.COMPLETED


def test_none_failed_runs_behind_what_was_skipped(graph_of):
    rules = {"only": {"when": "one_failed"}, "end": {"when": "none_failed"}}
    graph = graph_of("a only:a b:a end:only,b", **rules)
    assert statuses(graph, run(graph, outcomes(graph)))["end"] == "completed"
    failed = run(graph, outcomes(graph, b="failed"))
    assert statuses(graph, failed)["end"] == "skipped"


@pytest.mark.parametrize("status", OVER)
def test_all_done_runs_however_its_parents_ended(graph_of, status):
    graph = graph_of("a b:a end:b", end={"when": "all_done"})
    result = run(graph, outcomes(graph, a=status))
    assert statuses(graph, result)["end"] == "completed"


@pytest.mark.parametrize("status", ["failed", "rejected", "stopped"])
def test_a_step_that_did_not_complete_fails_its_workflow(graph_of, status):
    graph = graph_of("a b")
    assert run(graph, outcomes(graph, a=status)).status is WorkflowStatus.FAILED
    graph = graph_of("a b", a={"on_failure": "continue"})
    assert run(graph, outcomes(graph, a=status)).status is WorkflowStatus.COMPLETED


def test_a_workflow_is_not_over_before_its_independent_branches_are(graph_of):
    progress = Progress(graph_of("a b c:b"))
    progress.begin()
    progress.moved(0, Status.FAILED)
    assert status_of(progress) is WorkflowStatus.RUNNING
    progress.moved(1, Status.COMPLETED)
    assert status_of(progress) is WorkflowStatus.RUNNING
    progress.moved(2, Status.COMPLETED)
    assert status_of(progress) is WorkflowStatus.FAILED


# --- stops -------------------------------------------------------------------------


def test_a_stop_skips_what_was_not_started_and_waits_for_what_was(graph_of):
    progress = Progress(graph_of("a b c:a d:c"))
    progress.begin()
    progress.moved(0, Status.RUNNING)
    assert progress.stop() == Change(skipped=(1, 2, 3))
    assert status_of(progress) is WorkflowStatus.RUNNING
    assert progress.moved(0, Status.STOPPED) == Change()
    assert status_of(progress) is WorkflowStatus.STOPPED
    assert progress.stop() == Change()


def test_what_was_ready_when_the_stop_came_does_not_start(graph_of):
    progress = Progress(graph_of("a"))
    progress.begin()
    progress.stop()
    assert progress.moved(0, Status.RUNNING) == Change()
    assert progress.statuses == (StepStatus.SKIPPED,)


def test_a_workflow_that_never_began_can_be_stopped(graph_of):
    progress = Progress(graph_of("a b:a"))
    assert progress.stop() == Change(skipped=(0, 1))
    assert status_of(progress) is WorkflowStatus.STOPPED


def test_a_workflow_that_is_over_stays_as_it_ended(graph_of):
    progress = Progress(graph_of("a"))
    progress.begin()
    progress.moved(0, Status.COMPLETED)
    assert progress.stop() == Change()
    assert status_of(progress) is WorkflowStatus.COMPLETED


# --- every graph -------------------------------------------------------------------


@st.composite
def graphs(draw, max_size=10):
    """Graphs with any rules."""
    size = draw(st.integers(1, max_size))
    return Graph.of_steps(
        [
            make_step(
                f"s{number}",
                depends_on=[
                    f"s{one}"
                    for one in sorted(draw(st.sets(st.integers(0, number - 1))))
                ]
                if number
                else [],
                when=draw(st.sampled_from(WHENS)),
                on_failure=draw(st.sampled_from(["fail", "continue"])),
            )
            for number in range(size)
        ]
    )


def expected(graph, ends):
    """Return where each step ends, by its rule and the ends of its parents alone."""
    found: list[StepStatus] = []
    for step, above in enumerate(graph.parents):
        known = [ENDS[found[one]] for one in above]
        starts = not above or meant(graph.when[step], known) is Decision.START
        found.append(StepStatus(ends[step]) if starts else StepStatus.SKIPPED)
    return tuple(found)


@given(graphs(), st.data())
@settings(deadline=None)
def test_every_step_ends_once_as_its_rule_says_in_whatever_order(graph, data):
    ends = data.draw(
        st.lists(st.sampled_from(OVER), min_size=len(graph), max_size=len(graph))
    )
    slots = data.draw(st.none() | st.integers(1, 3))
    result = run(
        graph,
        lambda step: ends[step],
        slots=slots,
        choose=lambda running: data.draw(st.integers(0, len(running) - 1)),
    )
    assert result.statuses == expected(graph, ends)
    ran = [step for step, status in enumerate(result.statuses) if status != "skipped"]
    assert sorted(result.started) == ran
    assert sorted(result.events) == sorted(
        (step, is_start) for step in ran for is_start in (True, False)
    )
    at = {event: moment for moment, event in enumerate(result.events)}
    for step in ran:
        ran_before = set(graph.parents[step]) & set(ran)
        over = {one for one in ran_before if at[one, False] < at[step, True]}
        if graph.when[step] == "one_failed" and graph.parents[step]:
            assert any(ENDS[result.statuses[one]] is End.FAILED for one in over)
        else:
            assert over == ran_before
    failed = any(
        ENDS[status] is End.FAILED and graph.on_failure[step] == "fail"
        for step, status in enumerate(result.statuses)
    )
    assert result.status == ("failed" if failed else "completed")


@given(graphs(), st.data())
@settings(deadline=None)
def test_what_must_run_follows_from_how_the_others_ended(graph, data):
    ends = data.draw(
        st.lists(st.sampled_from(OVER), min_size=len(graph), max_size=len(graph))
    )
    statuses = run(graph, lambda step: ends[step]).statuses
    known = dict(enumerate(statuses))
    must = [
        Decision.SKIP if status is StepStatus.SKIPPED else Decision.START
        for status in statuses
    ]
    assert follows(graph, known) == must
    # Nobody need say that a step was skipped.
    ran = {step: one for step, one in known.items() if one is not StepStatus.SKIPPED}
    assert follows(graph, ran) == must


@given(graphs(), st.data())
@settings(deadline=None)
def test_nothing_runs_beside_more_than_may(graph, data):
    slots = data.draw(st.integers(1, 3))
    result = run(graph, lambda step: Status.COMPLETED, slots=slots)
    running = list(
        itertools.accumulate(1 if is_start else -1 for _, is_start in result.events)
    )
    assert max(running) <= slots


@given(graphs(), st.data())
@settings(deadline=None)
def test_a_stop_at_any_moment_ends_every_step(graph, data):
    progress = Progress(graph)
    waiting = list(progress.begin().ready)
    running: list[int] = []
    for _ in range(data.draw(st.integers(0, len(graph)))):
        if waiting and data.draw(st.booleans()):
            running.append(waiting.pop())
            progress.moved(running[-1], Status.RUNNING)
        elif running:
            waiting.extend(progress.moved(running.pop(), Status.COMPLETED).ready)
    was_over = progress.is_over
    skipped = set(progress.stop().skipped)
    assert not skipped & set(running)
    for step in running:
        assert progress.moved(step, Status.STOPPED) == Change()
    assert progress.is_over
    assert set(progress.statuses) <= set(ENDS)
    assert (progress.status == "stopped") is not was_over


def test_a_skip_goes_through_a_long_chain_without_recursion(graph_of):
    size = 20_000
    chain = [make_step("s0")]
    chain += [make_step(f"s{n}", depends_on=[f"s{n - 1}"]) for n in range(1, size)]
    progress = Progress(Graph.of_steps(chain))
    progress.begin()
    assert progress.moved(0, Status.FAILED).skipped == tuple(range(1, size))
    assert progress.is_over
