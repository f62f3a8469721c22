"""What every store of workflows promises, and that it decides as the rules say."""

from __future__ import annotations

import hashlib
import random
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from horus_celery.dag.model import Graph
from horus_celery.dag.progress import Progress, StepStatus, WorkflowStatus
from horus_celery.dag.shapes import Strategy
from horus_celery.errors import (
    ConflictError,
    IdTaken,
    NotFoundError,
    WorkflowError,
)
from horus_celery.lifecycle import Status
from horus_celery.statements.manifest import make_step
from horus_celery.store.base import Histogram
from horus_celery.store.workflows import (
    GRACE,
    Outline,
    StepEnd,
    StepJob,
    WorkflowFilter,
)

SECOND = timedelta(seconds=1)
WHENS = ("all_success", "all_done", "one_failed", "none_failed")
ENDS = (Status.COMPLETED, Status.FAILED, Status.REJECTED, Status.STOPPED)


def make_graph(**depends):
    """Make a graph from the names of steps and of those that each depends on."""
    return Graph.of_steps(
        [make_step(name, depends_on=above) for name, above in depends.items()]
    )


def make_digest(*words):
    return hashlib.sha256("/".join(map(str, words)).encode()).hexdigest()


class Workflow:
    """One workflow in a store, driven as a coordinator drives it."""

    def __init__(self, store, clock, graph, **facts):
        self.store = store
        self.clock = clock
        self.graph = graph
        self.outline = Outline(
            **{
                "digest": make_digest(uuid.uuid4()),
                "id": str(uuid.uuid4()),
                "caller_id": "alice",
                "context_id": "billing",
                "name": "etl",
                "max_parallel": None,
                "expires_at": clock.at + timedelta(days=1),
                "signed_by": ("0" * 32,),
                **facts,
            }
        )
        self.digest = self.outline.digest

    def create(self):
        return self.store.create(
            self.outline, f'{{"of":"{self.digest}"}}', self.graph, at=self.clock.at
        )

    def job(self, index, salt=""):
        digest = make_digest(self.digest, index, salt)
        return StepJob(
            index=index,
            job_id=str(uuid.UUID(digest[:32])),
            digest=digest,
            envelope=f'{{"job":"{digest}"}}',
        )

    def begin(self, strategy=Strategy.REFERENCE):
        self.create()
        self.store.add_jobs(self.digest, [self.job(i) for i in range(len(self.graph))])
        self.store.start(self.digest, at=self.clock.at, strategy=strategy)
        return self

    def take_step(self, index):
        return self.store.take_step(
            self.digest, index, at=self.clock.at, until=self.clock.at + 5 * SECOND
        )

    def take(self, *, limit=1000, supervisor=None, until=5 * SECOND):
        return self.store.take(
            self.digest,
            at=self.clock.at,
            limit=limit,
            until=self.clock.at + until,
            supervisor=supervisor,
        )

    def take_all(self):
        """Return the steps that may start now, however many calls that takes."""
        found = []
        while True:
            taken = self.take()
            found += [one.index for one in taken.steps]
            if not taken.has_more:
                return found

    def end(self, index, status=Status.COMPLETED, **facts):
        end = StepEnd(
            status=StepStatus(status),
            **{
                "digest": self.job(index).digest,
                "ended_at": self.clock.at,
                **facts,
            },
        )
        return self.store.ended(self.digest, [end], at=self.clock.at)

    def finish(self, status=Status.COMPLETED):
        """End whatever may run until nothing may."""
        while steps := self.take_all():
            for index in steps:
                self.end(index, status)
        return self.store.get(self.digest)

    def statuses(self):
        return [step.status for step in self.store.steps(self.digest)]


@pytest.fixture
def make_workflow(workflows, clock):
    def make(graph=None, **facts):
        if graph is None:
            graph = make_graph(a=[], b=["a"])
        return Workflow(workflows, clock, graph, **facts)

    return make


def test_a_workflow_is_recorded_without_jobs(make_workflow):
    workflow = make_workflow()

    record = workflow.create()

    assert record.outline == workflow.outline
    assert record.status is WorkflowStatus.CREATED
    assert (record.steps, record.missing, record.left) == (2, 2, 2)
    assert record.created_at == workflow.clock.at
    assert (record.started_at, record.ended_at, record.stop_at) == (None, None, None)


def test_its_manifest_is_kept_as_it_came(make_workflow, workflows):
    workflow = make_workflow()
    workflow.create()

    assert workflows.manifest(workflow.digest) == f'{{"of":"{workflow.digest}"}}'


def test_the_same_workflow_again_is_the_same_record(make_workflow, clock):
    workflow = make_workflow().begin()
    before = workflow.store.get(workflow.digest)
    clock.at += SECOND

    assert workflow.create() == before


def test_another_workflow_of_the_same_id_is_refused_in_its_context(
    make_workflow, workflows
):
    first = make_workflow()
    first.create()
    other = make_workflow(id=first.outline.id)

    with pytest.raises(IdTaken, match="another workflow"):
        other.create()
    with pytest.raises(NotFoundError):
        workflows.get(other.digest)
    elsewhere = make_workflow(id=first.outline.id, context_id="shop")
    assert elsewhere.create().outline.context_id == "shop"


def test_the_store_counts_the_steps_without_a_job(make_workflow, workflows):
    workflow = make_workflow()
    workflow.create()

    assert workflows.add_jobs(workflow.digest, []) == 2
    assert workflows.add_jobs(workflow.digest, [workflow.job(1)]) == 1
    assert workflows.add_jobs(workflow.digest, [workflow.job(1)]) == 1
    assert workflows.job(workflow.digest, 1) == workflow.job(1)
    with pytest.raises(NotFoundError):
        workflows.job(workflow.digest, 0)


def test_the_digests_of_jobs_are_known_one_by_one(make_workflow, workflows):
    workflow = make_workflow()
    workflow.create()
    workflows.add_jobs(workflow.digest, [workflow.job(0)])

    known = workflows.digests_of(workflow.digest, [1, 0])

    assert known == {0: workflow.job(0).digest}
    assert workflows.digests_of(workflow.digest, []) == {}
    with pytest.raises(NotFoundError):
        workflows.digests_of(make_digest("no"), [0])


def test_a_step_gets_no_second_job(make_workflow, workflows):
    workflow = make_workflow()
    workflow.create()
    workflows.add_jobs(workflow.digest, [workflow.job(0)])

    with pytest.raises(ConflictError, match="step 0"):
        workflows.add_jobs(workflow.digest, [workflow.job(1), workflow.job(0, "new")])

    assert workflows.get(workflow.digest).missing == 1


def test_what_there_is_not_gets_no_jobs_and_no_start(make_workflow, workflows, clock):
    workflow = make_workflow()

    with pytest.raises(NotFoundError):
        workflows.add_jobs(workflow.digest, [workflow.job(0)])
    with pytest.raises(NotFoundError):
        workflows.start(workflow.digest, at=clock.at)
    assert workflow.take().steps == ()
    assert workflow.end(0) is None


def test_a_workflow_without_all_of_its_jobs_does_not_start(make_workflow, workflows):
    workflow = make_workflow()
    workflow.create()
    workflows.add_jobs(workflow.digest, [workflow.job(0)])

    with pytest.raises(WorkflowError) as refusal:
        workflows.start(workflow.digest, at=workflow.clock.at)

    assert refusal.value.reason == "workflow.missing_job"
    assert workflow.take().steps == ()


def test_a_step_without_parents_is_handed_out_with_its_job(make_workflow):
    workflow = make_workflow().begin()

    taken = workflow.take()

    [step] = taken.steps
    job = workflow.job(0)
    assert (step.index, step.supervisor) == (0, None)
    assert (step.job_id, step.digest, step.envelope) == (
        job.job_id,
        job.digest,
        job.envelope,
    )
    assert not taken.has_more
    assert workflow.statuses() == [StepStatus.QUEUED, StepStatus.PENDING]


def test_a_step_is_handed_out_once(make_workflow, workflows, clock):
    workflow = make_workflow().begin()
    workflow.take()

    assert workflow.take().steps == ()
    workflows.start(workflow.digest, at=clock.at)
    assert workflow.take().steps == ()


def test_an_end_lets_the_next_step_start(make_workflow, clock):
    workflow = make_workflow().begin()
    workflow.take()
    clock.at += SECOND

    record = workflow.end(0, started_at=clock.at - SECOND)

    assert (record.status, record.left) == (WorkflowStatus.RUNNING, 1)
    assert [one.index for one in workflow.take().steps] == [1]
    [first, _] = workflow.store.steps(workflow.digest)
    assert (first.started_at, first.ended_at) == (clock.at - SECOND, clock.at)


def test_an_end_counts_once(make_workflow):
    workflow = make_workflow(make_graph(a=[], b=[], c=["a", "b"])).begin()
    workflow.take()

    workflow.end(0)
    workflow.end(0)
    workflow.end(0, Status.FAILED)

    assert workflow.take().steps == ()
    assert workflow.statuses()[0] is StepStatus.COMPLETED


def test_the_end_of_another_job_is_not_the_steps(make_workflow):
    workflow = make_workflow().begin()
    workflow.take()

    workflow.end(0, digest=workflow.job(1).digest)
    workflow.end(0, digest=make_digest("forged"))

    assert workflow.take().steps == ()
    assert workflow.statuses()[0] is StepStatus.QUEUED


def test_a_step_that_was_not_handed_out_does_not_end(make_workflow):
    workflow = make_workflow().begin()

    workflow.end(0)
    workflow.end(1)

    assert workflow.statuses() == [StepStatus.PENDING] * 2


def test_why_a_step_failed_is_kept(make_workflow):
    workflow = make_workflow().begin()
    workflow.take()

    record = workflow.end(0, Status.FAILED, reason="exit_code")

    assert workflow.store.steps(workflow.digest)[0].reason == "exit_code"
    assert workflow.statuses()[1] is StepStatus.SKIPPED
    assert record.status is WorkflowStatus.FAILED


def test_a_workflow_is_over_with_its_last_step(make_workflow, wakes, clock):
    workflow = make_workflow().begin()
    with wakes.watch(workflow.digest) as watch:
        while watch.wait(timedelta(milliseconds=50)):
            pass  # what a listener that has just begun is told
        workflow.take()
        workflow.end(0)
        workflow.take()
        record = workflow.end(1)

        assert watch.wait(2 * SECOND)
    assert record.status is WorkflowStatus.COMPLETED
    assert (record.left, record.ended_at) == (0, clock.at)
    assert record == workflow.store.get(workflow.digest)
    assert record.is_over


def make_random_graph(dice, *, supervisors=(None,)):
    size = dice.randint(1, 14)
    return Graph.of_steps(
        [
            make_step(
                f"s{index}",
                depends_on=[f"s{one}" for one in range(index) if dice.random() < 0.3],
                when=dice.choice(WHENS),
                on_failure=dice.choice(["fail", "continue"]),
                supervisor=dice.choice(supervisors),
            )
            for index in range(size)
        ]
    )


@pytest.mark.parametrize("seed", range(60))
def test_it_decides_as_the_rules_say(make_workflow, seed):
    dice = random.Random(seed)  # noqa: S311 - a test wants the same each time
    graph = make_random_graph(dice)
    workflow = make_workflow(graph).begin()
    rules = Progress(graph)
    expected = set(rules.begin().ready)
    running: list[int] = []

    while True:
        taken = workflow.take_all()
        assert set(taken) == expected
        running += taken
        for index in taken:
            rules.moved(index, Status.QUEUED)
        assert workflow.statuses() == list(rules.statuses)
        if not running:
            break
        index = running.pop(dice.randrange(len(running)))
        status = dice.choice(ENDS)
        record = workflow.end(index, status)
        expected = set(rules.moved(index, status).ready)
        assert record.status is rules.status

    assert rules.is_over
    assert workflow.store.get(workflow.digest).status is rules.status


@pytest.mark.parametrize("seed", range(20))
def test_it_stops_as_the_rules_say(make_workflow, seed):
    dice = random.Random(seed)  # noqa: S311 - a test wants the same each time
    graph = make_random_graph(dice)
    workflow = make_workflow(graph).begin()
    rules = Progress(graph)
    rules.begin()
    running = workflow.take_all()
    for index in running:
        rules.moved(index, Status.QUEUED)
    for _ in range(dice.randint(0, 2)):
        if running:
            index = running.pop()
            workflow.end(index)
            rules.moved(index, Status.COMPLETED)
    rules.stop()
    workflow.store.stop(workflow.digest, at=workflow.clock.at)

    assert workflow.take_all() == []
    for index in running:
        workflow.end(index, Status.STOPPED)
        rules.moved(index, Status.STOPPED)

    record = workflow.store.get(workflow.digest)
    assert record.status is rules.status
    assert workflow.statuses() == list(rules.statuses)
    assert workflow.take_all() == []


def test_steps_are_handed_out_in_order_and_no_more_than_asked_for(make_workflow):
    names: dict[str, list[str]] = {f"s{index}": [] for index in range(12)}
    workflow = make_workflow(make_graph(**names)).begin()

    first, second = workflow.take(limit=8), workflow.take(limit=8)

    assert [one.index for one in first.steps] == list(range(8))
    assert first.has_more
    assert [one.index for one in second.steps] == list(range(8, 12))
    assert not second.has_more


def test_no_more_steps_run_at_a_time_than_the_manifest_allows(make_workflow):
    names: dict[str, list[str]] = {f"s{index}": [] for index in range(5)}
    workflow = make_workflow(make_graph(**names), max_parallel=2).begin()

    first = workflow.take()
    assert [one.index for one in first.steps] == [0, 1]
    assert not first.has_more
    assert workflow.take().steps == ()
    workflow.end(1)
    assert [one.index for one in workflow.take().steps] == [2]
    workflow.end(0)
    workflow.end(2)
    assert workflow.finish().status is WorkflowStatus.COMPLETED


def test_a_failure_reaches_further_than_one_call(make_workflow):
    # More edges than one script follows, so that nobody waits for it.
    names = {"a": [], **{f"s{i}": ["a"] for i in range(9000)}}
    graph = Graph.of_steps(
        [
            *(make_step(name, depends_on=above) for name, above in names.items()),
            make_step("z", depends_on=list(names)[-1000:], when="all_done"),
        ]
    )
    workflow = make_workflow(graph).begin()
    workflow.take()

    record = workflow.end(0, Status.FAILED)
    last = workflow.take_all()

    assert last == [9001]
    assert record.status is WorkflowStatus.RUNNING
    assert workflow.store.get(workflow.digest).left == 1
    assert workflow.end(9001).status is WorkflowStatus.FAILED


def test_more_roots_than_one_call_reaches_all_start(make_workflow):
    names: dict[str, list[str]] = {f"s{index}": [] for index in range(6000)}
    workflow = make_workflow(make_graph(**names)).begin()

    assert sorted(workflow.take_all()) == list(range(6000))


def test_a_step_that_was_given_back_is_handed_out_later(make_workflow, clock):
    workflow = make_workflow().begin()
    [step] = workflow.take().steps

    workflow.store.postpone(
        workflow.digest,
        step.index,
        until=clock.at + 2 * SECOND,
        note="supervisor b is away",
        at=clock.at,
    )

    assert workflow.take().steps == ()
    shown = workflow.store.steps(workflow.digest)[0]
    assert (shown.status, shown.reason) == (
        StepStatus.PENDING,
        "supervisor b is away",
    )
    workflow.end(0)
    assert workflow.statuses()[0] is StepStatus.PENDING
    clock.at += 2 * SECOND
    assert [one.index for one in workflow.take().steps] == [0]
    assert workflow.store.steps(workflow.digest)[0].reason is None
    workflow.end(0)
    assert [one.index for one in workflow.take().steps] == [1]


def test_giving_back_what_is_over_changes_nothing(make_workflow, clock):
    workflow = make_workflow().begin()
    workflow.take()
    workflow.end(0)

    workflow.store.postpone(
        workflow.digest, 0, until=clock.at, note="late", at=clock.at
    )

    assert workflow.statuses()[0] is StepStatus.COMPLETED
    assert [one.index for one in workflow.take().steps] == [1]


def test_each_supervisor_is_handed_its_own_steps(make_workflow):
    graph = Graph.of_steps(
        [
            make_step("a"),
            make_step("b", supervisor="north"),
            make_step("c", supervisor="south", depends_on=["b"]),
        ]
    )
    workflow = make_workflow(graph).begin()

    home = workflow.take()
    assert [one.index for one in home.steps] == [0]
    assert home.waiting == {"north"}
    assert not home.has_more
    [step] = workflow.take(supervisor="north").steps
    assert (step.index, step.supervisor) == (1, "north")
    workflow.end(1)
    assert workflow.take(supervisor="north").waiting == {"south"}
    assert workflow.take(supervisor="west").steps == ()
    assert workflow.take(supervisor="south").steps[0].index == 2


def test_what_was_handed_out_is_looked_at_when_its_time_is_over(make_workflow, clock):
    workflow = make_workflow().begin()
    workflow.take(until=5 * SECOND)

    def look(supervisor=None):
        found = workflow.store.look(
            workflow.digest,
            at=clock.at,
            again_at=clock.at + 3 * SECOND,
            limit=10,
            supervisor=supervisor,
        )
        return [(one.index, one.digest, one.envelope) for one in found]

    assert look() == []
    clock.at += 5 * SECOND
    assert look("north") == []
    assert look() == [(0, workflow.job(0).digest, "")]
    assert look() == []
    clock.at += 3 * SECOND
    assert len(look()) == 1
    workflow.end(0)
    clock.at += 9 * SECOND
    assert look() == []


def test_a_workflow_is_overdue_when_something_is_to_be_done(make_workflow, clock):
    workflow = make_workflow()

    def overdue():
        return list(workflow.store.overdue(at=clock.at, limit=10))

    workflow.create()
    assert overdue() == []
    workflow.begin()
    assert overdue() == [workflow.digest]
    workflow.take(until=5 * SECOND)
    assert overdue() == []
    clock.at += 5 * SECOND
    assert overdue() == [workflow.digest]
    workflow.end(0)
    assert overdue() == [workflow.digest]
    workflow.finish()
    assert overdue() == []


def test_one_that_is_full_is_overdue_only_by_what_runs(make_workflow, clock):
    workflow = make_workflow(make_graph(a=[], b=[]), max_parallel=1).begin()
    workflow.take(until=5 * SECOND)

    assert list(workflow.store.overdue(at=clock.at, limit=10)) == []


def test_ends_are_noted_before_steps_are_handed_out(make_workflow, clock):
    workflow = make_workflow(make_graph(a=[], b=["a"]), max_parallel=1).begin()
    workflow.take()
    end = StepEnd(
        digest=workflow.job(0).digest,
        status=StepStatus.COMPLETED,
        ended_at=clock.at,
    )

    for expected in ([1], []):
        taken = workflow.store.take(
            workflow.digest,
            at=clock.at,
            limit=5,
            until=clock.at + SECOND,
            ends=[end],
        )
        assert [one.index for one in taken.steps] == expected


def test_a_stopped_workflow_waits_for_what_runs(make_workflow, clock):
    workflow = make_workflow(make_graph(a=[], b=[], c=["a"]), max_parallel=1).begin()
    workflow.take()
    clock.at += SECOND

    record = workflow.store.stop(workflow.digest, at=clock.at)
    again = workflow.store.stop(workflow.digest, at=clock.at + SECOND)

    assert (record.status, record.stop_at) == (WorkflowStatus.RUNNING, clock.at)
    assert again == record
    found = workflow.store.look(
        workflow.digest, at=clock.at, again_at=clock.at + SECOND, limit=10
    )
    assert [one.index for one in found] == [0]
    ended = workflow.end(0, Status.STOPPED)
    assert (ended.status, ended.left) == (WorkflowStatus.STOPPED, 0)
    assert workflow.statuses() == [
        StepStatus.STOPPED,
        StepStatus.SKIPPED,
        StepStatus.SKIPPED,
    ]


@pytest.mark.parametrize("begin", [Workflow.create, Workflow.begin])
def test_one_in_which_nothing_runs_stops_at_once(make_workflow, begin, clock):
    workflow = make_workflow()
    begin(workflow)

    record = workflow.store.stop(workflow.digest, at=clock.at)

    assert record.status is WorkflowStatus.STOPPED
    assert record.ended_at == clock.at
    assert workflow.take().steps == ()
    assert workflow.store.start(workflow.digest, at=clock.at) == record


def test_a_step_given_back_while_its_workflow_stops_never_starts(make_workflow, clock):
    workflow = make_workflow().begin()
    workflow.take()
    workflow.store.stop(workflow.digest, at=clock.at)

    workflow.store.postpone(
        workflow.digest, 0, until=clock.at, note="away", at=clock.at
    )

    assert workflow.take().steps == ()
    assert workflow.store.get(workflow.digest).status is WorkflowStatus.STOPPED
    assert workflow.statuses() == [StepStatus.SKIPPED] * 2


def test_stopping_one_that_is_over_changes_nothing(make_workflow, clock):
    workflow = make_workflow().begin()
    record = workflow.finish()

    assert workflow.store.stop(workflow.digest, at=clock.at + SECOND) == record
    with pytest.raises(NotFoundError):
        workflow.store.stop(make_digest("no"), at=clock.at)


def test_only_what_is_over_is_forgotten(make_workflow, clock):
    workflow = make_workflow().begin()
    with pytest.raises(ConflictError, match="running still"):
        workflow.store.delete(workflow.digest)

    workflow.finish()
    workflow.store.delete(workflow.digest)
    workflow.store.delete(workflow.digest)

    store = workflow.store
    for read in (store.get, store.manifest, store.steps):
        with pytest.raises(NotFoundError):
            read(workflow.digest)
    assert list(store.named(workflow.outline.id)) == []
    assert list(store.list(WorkflowFilter(), limit=10)) == []
    assert list(store.finished(before=clock.at + SECOND, limit=10)) == []


def test_workflows_are_found_by_their_id_within_contexts(make_workflow, workflows):
    first = make_workflow()
    second = make_workflow(id=first.outline.id, context_id="shop")
    first.create()
    second.clock.at += SECOND
    second.create()

    def found(contexts=None):
        records = workflows.named(first.outline.id, contexts=contexts)
        return [one.outline.digest for one in records]

    assert found() == [first.digest, second.digest]
    assert found(frozenset({"shop", "more"})) == [second.digest]
    assert found(frozenset()) == []


def test_lists_show_the_newest_first_page_by_page(make_workflow, workflows):
    mine = [make_workflow() for _ in range(5)]
    for one in mine:
        one.create()
    newest_first = [one.digest for one in reversed(mine)]

    def listed(after=None, **wanted):
        records = workflows.list(WorkflowFilter(**wanted), limit=2, after=after)
        return [one.outline.digest for one in records]

    assert listed() == newest_first[:2]
    assert listed(newest_first[1]) == newest_first[2:4]
    assert listed(newest_first[4]) == []
    with pytest.raises(NotFoundError):
        listed(make_digest("no"))


def test_lists_agree_with_every_filter(make_workflow, workflows):
    a = make_workflow()
    b = make_workflow(context_id="shop")
    c = make_workflow(caller_id="bob")
    for one in (a, b, c):
        one.create()
    c.begin()

    def listed(**wanted):
        records = workflows.list(WorkflowFilter(**wanted), limit=10)
        return [one.outline.digest for one in records]

    assert listed() == [c.digest, b.digest, a.digest]
    assert listed(context_id="billing") == [c.digest, a.digest]
    assert listed(caller_id="alice", context_id="billing") == [a.digest]
    assert listed(status=WorkflowStatus.RUNNING) == [c.digest]
    assert listed(contexts=frozenset({"shop", "billing"})) == listed()
    assert listed(contexts=frozenset({"shop"})) == [b.digest]
    assert listed(contexts=frozenset({"shop"}), context_id="billing") == []
    assert listed(contexts=frozenset()) == []


def test_what_ended_long_ago_is_found(make_workflow, clock):
    first, second = make_workflow().begin(), make_workflow().begin()
    first.finish()
    clock.at += SECOND
    second.finish()

    def finished(before):
        return list(first.store.finished(before=before, limit=10))

    assert finished(clock.at) == [first.digest]
    assert finished(clock.at + SECOND) == [first.digest, second.digest]


def test_times_are_kept_in_whole_milliseconds(make_workflow, clock):
    clock.at = replace_microseconds(clock.at)
    workflow = make_workflow(expires_at=clock.at)

    record = workflow.create()

    assert record == workflow.store.get(workflow.digest)
    assert record.created_at.microsecond % 1000 == 0
    assert replace(record.outline, expires_at=clock.at) == workflow.outline


def replace_microseconds(at):
    return at.replace(microsecond=1234)


# --- where steps run -------------------------------------------------------------


def test_a_step_that_was_handed_out_runs_once_that_is_told(make_workflow):
    workflow = make_workflow().begin()
    store, digest, at = workflow.store, workflow.digest, workflow.clock.at
    workflow.take_all()

    store.began(digest, workflow.job(0).digest, at=at)
    store.began(digest, workflow.job(0).digest, at=at + SECOND)
    store.began(digest, workflow.job(1).digest, at=at)
    store.began(make_digest("none"), workflow.job(0).digest, at=at)

    assert workflow.statuses() == ["running", "pending"]
    assert store.step(digest, 0).started_at == at
    workflow.end(0)
    store.began(digest, workflow.job(0).digest, at=at)
    assert workflow.statuses() == ["completed", "pending"]


def test_a_step_that_was_given_back_does_not_run(make_workflow):
    workflow = make_workflow().begin()
    store, digest, at = workflow.store, workflow.digest, workflow.clock.at
    workflow.take_all()
    store.began(digest, workflow.job(0).digest, at=at)

    store.postpone(digest, 0, until=at, note="away", at=at)

    assert store.step(digest, 0).started_at is None
    workflow.take_all()
    assert workflow.statuses() == ["queued", "pending"]


# --- what is counted -------------------------------------------------------------


def test_before_anything_happens_nothing_is_counted(workflows):
    tally = workflows.tally()
    assert tally.started == sum(tally.ended.values()) == sum(tally.steps.values()) == 0
    assert tally.noticed == Histogram.of([])


def test_starts_and_ends_are_counted_once(make_workflow):
    graph = make_graph(a=[], b=["a"], c=["b"], d=[])
    workflow = make_workflow(graph).begin()
    store, clock = workflow.store, workflow.clock
    store.start(workflow.digest, at=clock.at)
    workflow.take_all()
    began = clock.at
    clock.at += timedelta(milliseconds=30)
    for _ in range(2):
        workflow.end(0, Status.FAILED, ended_at=began)
    workflow.end(3, ended_at=clock.at + SECOND)
    make_workflow().create()
    stopped = make_workflow(make_graph(a=[], b=["a"])).begin()
    store.stop(stopped.digest, at=clock.at)

    tally = store.tally()

    assert tally.started == 2
    assert {one: number for one, number in tally.ended.items() if number} == {
        WorkflowStatus.FAILED: 1,
        WorkflowStatus.STOPPED: 1,
    }
    assert {one: number for one, number in tally.steps.items() if number} == {
        StepStatus.FAILED: 1,
        StepStatus.COMPLETED: 1,
        StepStatus.SKIPPED: 4,
    }
    # By clocks that differ an end may lie in the future.
    times = [timedelta(milliseconds=30), timedelta(0)]
    assert tally.noticed == Histogram.of(times)


# --- by canvas -------------------------------------------------------------------


def test_a_workflow_says_how_it_runs(make_workflow):
    by_reference = make_workflow()
    assert by_reference.create().strategy is Strategy.REFERENCE
    by_canvas = make_workflow().begin(Strategy.CANVAS)
    assert by_canvas.store.get(by_canvas.digest).strategy is Strategy.CANVAS

    by_canvas.store.start(by_canvas.digest, at=by_canvas.clock.at)

    assert by_canvas.store.get(by_canvas.digest).strategy is Strategy.CANVAS


def test_by_canvas_each_step_is_taken_for_itself_and_once(make_workflow):
    workflow = make_workflow(make_graph(a=[], b=[], c=["a"])).begin(Strategy.CANVAS)

    assert workflow.take_step(2) is None
    handed = workflow.take_step(0)

    assert handed == replace(
        handed, index=0, digest=workflow.job(0).digest, is_shared=False
    )
    assert handed.envelope == workflow.job(0).envelope
    assert workflow.take_step(0) is None
    assert workflow.statuses() == ["queued", "pending", "pending"]


def test_by_reference_no_step_is_taken_for_itself(make_workflow):
    workflow = make_workflow().begin()
    assert workflow.take_step(0) is None
    assert workflow.store.mark(workflow.digest, "m", 0) == 0
    assert workflow.take_all() == [0]


def test_no_step_is_taken_of_what_there_is_not(make_workflow):
    workflow = make_workflow().begin(Strategy.CANVAS)
    assert workflow.take_step(2) is None
    assert make_workflow().take_step(0) is None


def test_ends_say_where_canvas_goes_on(make_workflow):
    graph = make_graph(a=[], b=[], c=["a"])
    for strategy, done in ((Strategy.CANVAS, (0,)), (Strategy.REFERENCE, ())):
        workflow = make_workflow(graph).begin(strategy)
        workflow.take_all()
        workflow.take_step(0)
        workflow.take_step(1)
        ends = [
            StepEnd(
                digest=workflow.job(index).digest,
                status=status,
                ended_at=workflow.clock.at,
            )
            for index, status in ((0, StepStatus.COMPLETED), (1, StepStatus.FAILED))
        ]

        def take(workflow=workflow, ends=ends):
            at = workflow.clock.at
            return workflow.store.take(
                workflow.digest, at=at, limit=10, until=at + SECOND, ends=ends
            )

        assert tuple(take().done) == done
        assert tuple(take().done) == ()


def test_what_no_message_brought_goes_by_reference_after_a_while(make_workflow):
    workflow = make_workflow(make_graph(a=[], b=["a"], c=["b"])).begin(Strategy.CANVAS)
    store, digest, clock = workflow.store, workflow.digest, workflow.clock
    workflow.take_step(0)
    workflow.end(0)
    assert workflow.take_all() == []
    clock.at += GRACE - timedelta(milliseconds=1)
    assert digest not in store.overdue(at=clock.at - 5 * SECOND, limit=10)
    assert workflow.take_all() == []
    assert store.get(digest).strategy is Strategy.CANVAS

    clock.at += timedelta(milliseconds=1)
    assert digest in store.overdue(at=clock.at, limit=10)
    assert workflow.take_all() == [1]

    assert store.get(digest).strategy is Strategy.REFERENCE
    assert store.mark(digest, "m", 0) == 0
    workflow.end(1)
    assert workflow.take_all() == [2]


def test_a_step_is_marked_once_and_marks_are_counted(make_workflow):
    workflow = make_workflow().begin(Strategy.CANVAS)

    def mark(name, member):
        return workflow.store.mark(workflow.digest, name, member)

    assert [mark("m", 1), mark("m", 0), mark("n", 0)] == [1, 2, 1]
    assert [mark("m", 1), mark("m", 0), mark("n", 0)] == [0, 0, 0]
    assert workflow.store.mark(make_digest("none"), "m", 0) == 0


def test_a_workflow_that_is_over_has_no_marks(make_workflow):
    workflow = make_workflow(make_graph(a=[])).begin(Strategy.CANVAS)
    workflow.store.mark(workflow.digest, "m", 0)
    workflow.take_step(0)
    assert workflow.end(0).is_over

    assert workflow.store.mark(workflow.digest, "m", 1) == 0
    workflow.store.delete(workflow.digest)
    with pytest.raises(NotFoundError):
        workflow.store.get(workflow.digest)


def test_one_step_is_shown_as_in_the_list_of_all(make_workflow):
    workflow = make_workflow(make_graph(a=[], b=["a"])).begin()
    workflow.take_all()
    workflow.end(0, Status.FAILED, reason="exit_code")

    steps = workflow.store.steps(workflow.digest)

    found = [workflow.store.step(workflow.digest, index) for index in range(2)]
    assert found == list(steps)
    for digest, index in ((workflow.digest, 2), (make_digest("none"), 0)):
        with pytest.raises(NotFoundError):
            workflow.store.step(digest, index)
