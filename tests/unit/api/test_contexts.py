"""Outside one's contexts there is nothing: same code, same words, as many ways."""

import inspect
from collections import Counter
from datetime import timedelta

import pytest

from api.methods import METHODS
from horus_celery.errors import (
    IdAmbiguous,
    NotCoveredError,
    NotFoundError,
    NotOverError,
)
from horus_celery.lifecycle import Status
from horus_celery.statements.trust import Trust
from horus_celery.store.base import Filter
from horus_celery.store.memory import MemoryStore
from horus_celery.store.workflows import WorkflowFilter
from horus_celery.supervisor import Limits

ABSENT_ID = "00000000-0000-4000-8000-000000000000"
ABSENT_DIGEST = "0" * 64
LAB = frozenset({"lab"})
BILLING = frozenset({"billing"})
BY_JOB = [
    one.name
    for one in METHODS
    if "job_id" in inspect.signature(one.function).parameters
]
BY_WORKFLOW = [
    one.name
    for one in METHODS
    if one.name.startswith("workflow.")
    and "workflow_id" in inspect.signature(one.function).parameters
]


class CountingStore(MemoryStore):
    """Counts how often it is asked, by method."""

    def __init__(self, **options):
        super().__init__(**options)
        self.asked: Counter[str] = Counter()

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if callable(found) and not name.startswith("_"):
            self.asked[name] += 1
        return found


@pytest.fixture
def world(make_world):
    return make_world(store=CountingStore)


@pytest.fixture
def client(world, make_client):
    return make_client(world)


@pytest.fixture
def lab(world):
    """The secret of a user of another context than the jobs'."""
    return world.bound_secret("lab")


@pytest.fixture
def both(world):
    return world.bound_secret("lab", "billing")


@pytest.fixture
def workflow_ways(world, monkeypatch):
    """Count how often the store of workflows is asked, by method."""
    ways: Counter[str] = Counter()

    def counting(name, ask):
        def counted(*args, **options):
            ways[name] += 1
            return ask(*args, **options)

        return counted

    for name, ask in inspect.getmembers(world.workflows, inspect.ismethod):
        if not name.startswith("_"):
            monkeypatch.setattr(world.workflows, name, counting(name, ask))
    return ways


def asked(world, ask, *names, **params):
    """Return what a call answered, and what it asked the store for."""
    world.store.asked.clear()
    return ask(*names, **params), dict(world.store.asked)


def submit_everywhere(world):
    """Record one job in each status, all in `billing`, and return them."""
    created = world.supervisor.create(world.envelope(), priority=4, not_before=None)
    running = world.claim(world.submit())
    world.print(running, "hello")
    done = world.settle(world.claim(world.submit()), result="41")
    return [created, world.submit(), running, done]


class TestByJob:
    @pytest.mark.parametrize("name", BY_JOB)
    def test_a_foreign_job_is_answered_like_one_that_is_not_there(
        self, world, client, lab, name
    ):
        for record in submit_everywhere(world):
            for foreign, absent in (
                (record.summary.id, ABSENT_ID),
                (record.summary.digest, ABSENT_DIGEST),
            ):
                answer, ways = asked(
                    world, client.answer, name, secret=lab, job_id=foreign
                )
                other, other_ways = asked(
                    world, client.answer, name, secret=lab, job_id=absent
                )
                assert answer["error"]["code"] == -32004
                said = str(answer).replace(foreign, "ID")
                assert said == str(other).replace(absent, "ID")
                assert ways == other_ways
            assert world.store.get(record.summary.digest) == record

    @pytest.mark.parametrize("name", BY_JOB)
    def test_so_it_is_in_a_batch_and_as_a_notification(self, world, client, lab, name):
        records = submit_everywhere(world)
        calls = [
            {"jsonrpc": "2.0", "method": name, "params": [one.summary.id], "id": 1}
            for one in records
        ]
        answers = client.post(calls, secret=lab)
        assert {one["error"]["code"] for one in answers} == {-32004}
        for call in calls:
            del call["id"]
        assert client.post(calls, secret=lab) is None
        assert [world.store.get(one.summary.digest) for one in records] == records

    def test_a_retired_job_is_as_foreign_as_before(self, world):
        record = world.settle(world.claim(world.submit()), result="41")
        world.store.retire(record.summary.digest)
        for job_id in (record.summary.id, record.summary.digest):
            receipt = world.supervisor.within(BILLING).receipt(job_id)
            assert receipt == world.supervisor.receipt(job_id)
            with pytest.raises(NotFoundError, match=job_id):
                world.supervisor.within(LAB).receipt(job_id)

    def test_of_ids_in_several_contexts_only_the_own_one_is_there(self, world, client):
        here = world.submit()
        there = world.submit(context_id="lab", job_id=here.summary.id)
        job_id = here.summary.id
        with pytest.raises(IdAmbiguous):
            world.supervisor.status(job_id)
        with pytest.raises(IdAmbiguous):
            world.supervisor.within(LAB | BILLING).status(job_id)
        for contexts, record in ((BILLING, here), (LAB, there)):
            found = world.supervisor.within(contexts).get(job_id).record
            assert found.summary.digest == record.summary.digest

    def test_what_waits_for_a_foreign_job_does_not_wait(self, world):
        record = world.submit()
        bound = world.supervisor.within(LAB)
        for wait in (
            lambda: bound.result(record.summary.id, wait=timedelta(seconds=30)),
            lambda: bound.logs(
                record.summary.id, after=None, limit=1, wait=timedelta(seconds=30)
            ),
        ):
            with pytest.raises(NotFoundError):
                wait()


class TestByWorkflow:
    @pytest.mark.parametrize("name", BY_WORKFLOW)
    def test_a_foreign_workflow_is_answered_like_one_that_is_not_there(
        self, world, client, lab, workflow_ways, name
    ):
        begun, created = world.begin(a=[], b=["a"]), world.workflow(a=[])
        world.coordinator.create(created.manifest)
        params = {"jobs": begun.jobs} if name == "workflow.add_jobs" else {}
        before = world.workflows.list(WorkflowFilter(), limit=10)
        for signed in (begun, created):
            for foreign, absent in (
                (signed.id, ABSENT_ID),
                (signed.digest, ABSENT_DIGEST),
            ):
                answers, ways = [], []
                for workflow_id in (foreign, absent):
                    workflow_ways.clear()
                    answer = client.answer(
                        name, secret=lab, workflow_id=workflow_id, **params
                    )
                    answers.append(str(answer).replace(workflow_id, "ID"))
                    ways.append(dict(workflow_ways))
                assert answer["error"]["code"] == -32004
                assert answers[0] == answers[1]
                assert ways[0] == ways[1]
        assert world.workflows.list(WorkflowFilter(), limit=10) == before

    def test_lists_show_none_and_go_on_behind_none(self, world, client, lab):
        signed = world.begin(a=[])
        job = next(iter(signed.digests.values()))
        for method, wanted in (
            ("workflow.list", {}),
            ("workflow.list", {"context_id": "billing"}),
            ("workflow.list", {"caller_id": "alice"}),
            ("workflow.list", {"status": "running"}),
            ("jobs.list", {"workflow_id": signed.id}),
        ):
            assert client.call(method, **wanted) != []
            assert client.call(method, secret=lab, **wanted) == []
        for method, foreign, absent in (
            ("workflow.list", signed.id, ABSENT_ID),
            ("workflow.list", signed.digest, ABSENT_DIGEST),
            ("jobs.list", job, ABSENT_DIGEST),
        ):
            told, other = (
                client.answer(method, secret=lab, after=after)
                for after in (foreign, absent)
            )
            assert told["error"]["code"] == -32004
            assert str(told).replace(foreign, "ID") == str(other).replace(absent, "ID")

    def test_one_for_a_foreign_context_is_refused_like_one_without_grants(
        self, world, client, lab
    ):
        answers = []
        for context in ("billing", "nowhere"):
            changes = {"context_id": context}
            signed = world.workflow(jobs={"manifest": changes, "a": changes}, a=[])
            for method, params in (
                ("workflow.create", {}),
                ("workflow.submit", {"jobs": signed.jobs}),
            ):
                answer = client.answer(
                    method, secret=lab, manifest=signed.manifest, **params
                )
                assert answer["error"]["data"]["reason"] == "auth.context"
                answers.append(str(answer).replace(context, "CONTEXT"))
        assert len(set(answers)) == 1
        assert world.workflows.list(WorkflowFilter(), limit=10) == ()

    def test_of_ids_in_several_contexts_only_the_own_one_is_there(
        self, world, client, lab, both
    ):
        changes = {"context_id": "lab"}
        own = world.workflow(jobs={"manifest": changes, "a": changes}, a=[])
        world.coordinator.create(own.manifest)
        named = {"manifest": {"workflow_id": own.id}}
        foreign = world.workflow(jobs=named, a=[])
        world.coordinator.create(foreign.manifest)
        told = client.call("workflow.get", secret=lab, workflow_id=own.id)
        assert told["digest"] == own.digest
        error = client.error("workflow.get", secret=both, workflow_id=own.id)
        assert error["data"]["reason"] == "id_ambiguous"


class TestNewJobs:
    def test_for_a_foreign_context_it_is_refused_like_for_one_without_grants(
        self, world, client, lab
    ):
        without = {**world.trust_body(), "grants": []}
        foreign, nowhere = (
            world.envelope(context_id=name) for name in ("billing", "nowhere")
        )
        for name in ("jobs.create", "create_job", "job.run"):
            answer, ways = asked(world, client.answer, name, secret=lab, job=foreign)
            other, other_ways = asked(
                world, client.answer, name, secret=lab, job=nowhere
            )
            assert answer["error"]["code"] == -32012
            assert answer["error"]["data"]["reason"] == "auth.context"
            said = str(answer).replace("billing", "CONTEXT")
            assert said == str(other).replace("nowhere", "CONTEXT")
            assert ways == other_ways
        world.trust.trust = Trust.from_wire(without)
        bare = client.answer("create_job", job=foreign)
        assert bare["error"] == answer["error"]
        assert world.store.list(Filter(), limit=10) == ()

    def test_an_id_that_is_taken_there_is_free_here(self, world, client, lab):
        job_id = world.submit().summary.id
        envelope = world.envelope(context_id="lab", job_id=job_id)
        assert client.call("create_job", secret=lab, job=envelope) == job_id

    def test_the_same_envelope_again_is_foreign_all_the_same(self, world, client, lab):
        envelope = world.envelope()
        assert client.call("create_job", job=envelope)
        assert client.error("create_job", secret=lab, job=envelope)["code"] == -32012

    def test_in_ones_own_context_nothing_is_different(self, world, client, lab):
        envelope = world.envelope(context_id="lab")
        job_id = client.call("create_job", secret=lab, job=envelope)
        assert client.call("job.get", secret=lab, job_id=job_id)["id"] == job_id
        assert client.call("job.stop", secret=lab, job_id=job_id)["status"] == "stopped"
        assert client.call("job.delete", secret=lab, job_id=job_id) is True

    def test_the_bundle_of_a_bound_secret_follows_the_file(self, world):
        bound = world.supervisor.within(LAB)
        envelope = world.envelope(context_id="lab")
        body = world.trust_body()
        world.trust.trust = Trust.from_wire(body | {"grants": [], "version": 2})
        with pytest.raises(NotCoveredError):
            bound.create(envelope, priority=4, not_before=None)
        world.trust.trust = Trust.from_wire(body | {"version": 3})
        assert bound.create(envelope, priority=4, not_before=None)

    def test_many_sets_of_contexts_cost_no_memory_for_ever(self, world):
        for number in range(1000):
            bound = world.supervisor.within(frozenset({f"context-{number}"}))
            with pytest.raises(NotCoveredError):
                bound.create(world.envelope(), priority=4, not_before=None)
        assert len(vars(world.supervisor)["_narrowed"]) <= 256


class TestLists:
    def test_only_own_jobs_are_shown(self, world, client, lab, both):
        own = world.submit(context_id="lab")
        others = submit_everywhere(world)
        shown = client.call("jobs.list", secret=lab)
        assert [one["id"] for one in shown] == [own.summary.id]
        assert len(client.call("jobs.list", secret=both)) == 1 + len(others)

    @pytest.mark.parametrize(
        "wanted",
        [
            {"context_id": "billing"},
            {"caller_id": "alice"},
            {"executor": "python"},
            {"runner": "r1"},
            {"status": "queued"},
            {"status": "created"},
            {"context_id": "billing", "status": "queued"},
        ],
    )
    def test_no_filter_shows_a_foreign_job(self, world, client, lab, wanted):
        submit_everywhere(world)
        world.submit(runner="r1")
        assert client.call("jobs.list", **wanted) != []
        shown, ways = asked(world, client.call, "jobs.list", secret=lab, **wanted)
        assert shown == []
        other = wanted | ({"context_id": "nothing"} if "context_id" in wanted else {})
        empty, other_ways = asked(world, client.call, "jobs.list", secret=lab, **other)
        assert (empty, other_ways) == (shown, ways)

    def test_a_page_behind_a_foreign_job_is_behind_nothing(self, world, client, lab):
        world.submit(context_id="lab")
        record = world.submit()
        for foreign, absent in (
            (record.summary.id, ABSENT_ID),
            (record.summary.digest, ABSENT_DIGEST),
        ):
            for wanted in ({}, {"context_id": "billing"}, {"context_id": "lab"}):
                answers = [
                    client.answer("jobs.list", secret=lab, after=after, **wanted)
                    for after in (foreign, absent)
                ]
                assert answers[0]["error"]["code"] == -32004
                said = str(answers[0]).replace(foreign, "ID")
                assert said == str(answers[1]).replace(absent, "ID")

    def test_pages_skip_what_is_foreign(self, world, client, lab):
        own = []
        for _ in range(5):
            own.append(world.submit(context_id="lab").summary.id)
            submit_everywhere(world)
        shown, after = [], None
        for _ in range(5):
            (record,) = client.call("jobs.list", secret=lab, limit=1, after=after)
            after = record["id"]
            shown.append(after)
        assert shown == own[::-1]
        assert client.call("jobs.list", secret=lab, limit=1, after=after) == []


class TestInfo:
    def test_only_own_jobs_are_counted(self, world, client, lab, both):
        world.submit(context_id="lab")
        submit_everywhere(world)
        counts = client.call("get_supervisor_info", secret=lab)["counts"]
        assert counts.pop("queued") == 1
        assert set(counts.values()) == {0}
        counts = client.call("get_supervisor_info", secret=both)["counts"]
        assert sum(counts.values()) == 5

    def test_queues_of_foreign_contexts_and_runners_are_not_there(
        self, world, client, lab
    ):
        runner = {"key": world.runner.keyid, "executors": ["python"]}
        entries = [{**runner, "name": "r1", "contexts": ["billing", "lab"]}]
        body = world.trust_body() | {"runners": entries}
        world.trust.trust = Trust.from_wire(body)
        every = client.call("get_supervisor_info")["queues"]
        assert set(every) == {
            "python.at.r1",
            "python.ctx.billing",
            "python.ctx.lab",
        }
        own = client.call("get_supervisor_info", secret=lab)["queues"]
        assert set(own) == {"python.at.r1", "python.ctx.lab"}
        entries[0]["contexts"] = ["billing"]
        world.trust.trust = Trust.from_wire(body)
        assert client.call("get_supervisor_info", secret=lab)["queues"] == {}

    def test_in_a_shared_queue_only_own_jobs_are_counted(self, world, client, lab):
        world.submit(context_id="lab")
        submit_everywhere(world)
        shared = {"python": 2}
        assert client.call("get_supervisor_info")["queues"].items() >= shared.items()
        own = client.call("get_supervisor_info", secret=lab)["queues"]
        assert own["python"] == 1

    def test_of_queues_that_nobody_serves_those_of_own_jobs_are_shown(
        self, world, client, lab
    ):
        for context in ("lab", "billing"):
            world.submit(context_id=context, runner=f"of.{context}")
        every = client.call("get_supervisor_info")["queues"]
        assert (
            every.items() >= {"python.at.of.lab": 1, "python.at.of.billing": 1}.items()
        )
        own = client.call("get_supervisor_info", secret=lab)["queues"]
        assert own["python.at.of.lab"] == 1
        assert "python.at.of.billing" not in own

    def test_the_queue_before_a_job_has_only_own_ones(self, world, client, lab, both):
        world.beat()
        submit_everywhere(world)
        world.clock.at += timedelta(seconds=1)
        job_id = world.submit(context_id="lab").summary.id
        for secret, ahead in ((lab, "0 jobs wait"), (both, "1 job waits")):
            why = client.call("job.why", secret=secret, job_id=job_id)
            assert ahead in why["detail"]


class TestWithin:
    def test_bound_to_no_contexts_it_is_itself(self, world):
        assert world.supervisor.within(None) is world.supervisor

    def test_waiters_are_counted_together(self, make_world):
        world = make_world(Limits(max_waiters=1))
        bound = world.supervisor.within(BILLING)
        record = world.submit()
        with (
            vars(world.supervisor)["_waiters"],
            pytest.raises(NotOverError, match="wait already"),
        ):
            bound.result(record.summary.id, wait=timedelta(seconds=1))

    def test_closing_the_one_closes_all(self, world):
        bound = world.supervisor.within(BILLING)
        record = world.submit()
        world.supervisor.close()
        with pytest.raises(NotOverError):
            bound.result(record.summary.id, wait=timedelta(seconds=30))
        assert bound.status(record.summary.id).status is Status.QUEUED
