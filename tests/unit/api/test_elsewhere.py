"""Steps that go to another supervisor, over its real API, without a network."""

from __future__ import annotations

import json
from datetime import timedelta
from queue import Queue

import httpx
import pytest

from api import create_app
from horus_celery.client import Horus
from horus_celery.coordinator import Coordinator
from horus_celery.dag.progress import WorkflowStatus
from horus_celery.errors import (
    ConflictError,
    RefusedError,
    UnavailableError,
)
from horus_celery.lifecycle import Event, Status
from horus_celery.proof import MISMATCH
from horus_celery.statements.job import InputRef
from horus_celery.store.base import Filter
from horus_celery.workflows.conductor import Conductor
from horus_celery.workflows.courier import Courier
from horus_celery.workflows.elsewhere import RemoteSupervisor
from horus_celery.workflows.outposts import Watch
from horus_celery.workflows.supervisors import HomeSupervisor

SECOND = timedelta(seconds=1)
NORTH = {"supervisor": "north"}


class Network(httpx.BaseTransport):
    """Carries requests to an application, or nowhere."""

    def __init__(self, app):
        self._inner = httpx.WSGITransport(app=app)
        self.is_cut = False
        self.calls = 0

    def handle_request(self, request):
        self.calls += 1
        if self.is_cut:
            raise httpx.ConnectError("cut")
        return self._inner.handle_request(request)


class Country:
    """A deployment with a coordinator, and one in the north of the same trust."""

    def __init__(self, make_world, secrets):
        self.home, self.north = make_world(), make_world()
        for name in ("root", "caller", "runner", "trust", "clock"):
            setattr(self.north, name, getattr(self.home, name))
        north = self.north.supervisor
        vars(north).update(_trust=self.home.trust, _clock=self.home.clock)
        self.clock = self.home.clock
        self.network = Network(create_app(self.north.services))
        self.abroad = Horus(
            "http://localhost",
            secrets["user"][0],
            verify=False,
            transport=self.network,
        )
        self.remote = RemoteSupervisor("north", self.abroad, self.home.trust)
        self.woken: list[tuple[str, str]] = []
        usual = {"store": self.home.workflows, "doorbell": self.home.doorbell}
        at_home = HomeSupervisor(self.home.supervisor)
        self.courier = Courier(self.home.workflows, at_home, {"north": self.remote})
        usual["fetch"] = self.courier.fetch
        self.conductor = Conductor(
            supervisor=at_home,
            clock=self.clock,
            wake=lambda name, workflow: self.woken.append((name, workflow)),
            **usual,
        )
        self.watch = Watch(self.remote)
        self.outpost = Conductor(
            supervisor=self.remote,
            clock=self.clock,
            name="north",
            adopt=at_home.adopt,
            **usual,
        )
        self.home.conductor = self.conductor
        self.home.coordinator = Coordinator(
            home=self.home.supervisor,
            conductor=self.conductor,
            wakes=self.home.wakes,
            clock=self.clock,
            others={"north": self.remote},
            store=self.home.workflows,
            doorbell=self.home.doorbell,
        )

    def hear(self):
        """Answer every bell, and have the north woken by them."""
        while self.home.doorbell.bells or self.home.store.bells or self.woken:
            self.home.hear()
            woken, self.woken = self.woken, []
            for _, workflow in woken:
                self.outpost.advance(workflow)

    def begin(self, jobs=None, **steps):
        signed = self.home.workflow(jobs=jobs, **steps)
        self.home.coordinator.submit(signed.manifest, signed.jobs)
        self.hear()
        return signed

    def finish(self, workflow, name, **facts):
        """Be the runner in the north, and have its end noticed some time later."""
        record = self.north.store.get(workflow.digests[name])
        self.north.settle(self.north.claim(record), **facts)
        self.clock.at += 5 * SECOND
        self.outpost.look(workflow.digest)
        self.hear()

    def steps(self, signed):
        return self.home.statuses(signed)


@pytest.fixture
def country(make_world, secrets):
    return Country(make_world, secrets)


def _answering(country, **lies):
    """Return a supervisor that shows the newest job of the north otherwise."""
    (honest,) = country.abroad.list(limit=1)
    answer = json.dumps({"jsonrpc": "2.0", "result": {**honest, **lies}})
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=answer))
    client = Horus("http://localhost", "x", verify=False, transport=transport)
    return RemoteSupervisor("north", client, country.home.trust)


def test_a_step_goes_where_it_is_to_run_and_the_next_one_comes_home(country):
    signed = country.begin(a=NORTH, b=["a"])

    assert country.north.store.get(signed.digests["a"]).status is Status.QUEUED
    assert country.steps(signed) == {"a": "queued", "b": "pending"}
    country.finish(signed, "a")
    assert country.steps(signed) == {"a": "completed", "b": "queued"}
    assert country.home.store.get(signed.digests["b"]).status is Status.QUEUED
    country.home.finish(signed, "b")

    record = country.home.coordinator.get(signed.id)[0]
    assert record.status is WorkflowStatus.COMPLETED


def test_the_proof_of_a_step_elsewhere_comes_home(country):
    signed = country.begin(a=NORTH, b=NORTH)
    country.finish(signed, "a", result="from the north")
    country.finish(signed, "b", event=Event.FAILED, reason="exit_code", exit_code=3)

    wanted = Filter(workflow_id=signed.id)
    (shown,) = country.home.supervisor.list(wanted, limit=10)

    theirs = country.north.store.get(signed.digests["a"])
    assert shown.record.summary.digest == signed.digests["a"]
    assert shown.record.result == "from the north"
    assert (shown.record.ran_on, shown.record.attempt) == (theirs.ran_on, 1)
    assert shown.receipt is not None


def test_a_proof_that_cannot_be_kept_holds_nothing_up(country):
    signed = country.begin(a=NORTH, b=["a"])
    # Its id is another job's at home.
    taken = country.north.store.get(signed.digests["a"]).summary.id
    other = country.home.workflow(a=[], jobs={"a": {"job_id": taken}})
    country.home.coordinator.submit(other.manifest, other.jobs)
    country.hear()

    country.finish(signed, "a")

    assert country.steps(signed)["a"] == "completed"


def test_the_result_of_a_step_elsewhere_is_the_workflows(country):
    signed = country.begin(a=NORTH)
    country.finish(signed, "a", result="from the north")

    ending = country.home.coordinator.result(signed.id, wait=timedelta(0))

    assert ending.results == {"a": "from the north"}


def test_while_it_is_away_its_steps_stay_ready_and_the_status_says_so(country):
    country.network.is_cut = True
    signed = country.begin(a=NORTH, b=NORTH, c=[])

    overview = country.home.coordinator.status(signed.id)
    reasons = dict(
        zip(overview.graph.names, (one.reason for one in overview.steps), strict=True)
    )
    said = "the supervisor north does not answer"
    assert reasons == {"a": said, "b": said, "c": None}
    assert overview.reason == f"step a: {said}"
    assert country.steps(signed) == {"a": "pending", "b": "pending", "c": "queued"}

    country.network.is_cut = False
    country.clock.at += SECOND
    country.outpost.sweep()

    assert country.steps(signed)["a"] == "queued"
    assert country.north.store.get(signed.digests["b"]).status is Status.QUEUED


def test_it_is_asked_ever_more_seldom_while_it_is_away(country):
    country.network.is_cut = True
    country.begin(a=NORTH)
    began = country.clock.at
    tries = []
    for _ in range(200):
        before = country.network.calls
        country.outpost.sweep()
        if country.network.calls > before:
            tries.append((country.clock.at - began).total_seconds())
        country.clock.at += SECOND

    assert tries[:6] == [1, 3, 7, 15, 31, 63]
    assert tries[6:] == [123, 183]


def test_an_end_that_the_receipt_does_not_prove_is_not_believed(country):
    signed = country.begin(a=NORTH, b=["a"])

    country.finish(signed, "a", signed={"key": country.home.stranger})

    assert country.steps(signed) == {"a": "failed", "b": "skipped"}


@pytest.mark.parametrize(
    ("field", "lie"), [("result", "\ud800"), ("result", ["5"]), ("exit_code", {})]
)
def test_a_lie_of_whatever_form_is_not_believed(country, field, lie):
    signed = country.begin(a=NORTH)
    country.finish(signed, "a")
    digest = signed.digests["a"]
    liar = _answering(country, **{field: lie})

    shown = liar.find(digest, lambda: country.north.store.get(digest).envelope)

    assert country.steps(signed) == {"a": "completed"}
    assert shown.record.reason == MISMATCH


def test_a_job_that_it_refuses_is_rejected(country):
    signed = country.home.workflow(a=NORTH)
    country.home.coordinator.submit(signed.manifest, signed.jobs)
    body = country.home.trust_body()
    narrow = {**body, "grants": []}
    source = type(country.home.trust)(
        type(country.home.trust.trust).from_wire(narrow), country.home.root
    )
    vars(country.north.supervisor).update(_trust=source)

    country.hear()

    assert country.steps(signed) == {"a": "rejected"}
    assert country.home.coordinator.status(signed.id).reason == "step a: auth.context"


def test_a_stop_reaches_it(country):
    signed = country.begin(a=NORTH, b=["a"])

    country.home.coordinator.stop(signed.id)
    country.outpost.look(signed.digest)

    assert country.north.store.get(signed.digests["a"]).status is Status.STOPPED
    assert country.steps(signed) == {"a": "stopped", "b": "skipped"}


def test_a_step_that_was_taken_and_never_started_is_started_later(country):
    signed = country.home.workflow(a=NORTH)
    country.home.coordinator.submit(signed.manifest, signed.jobs)
    now = country.clock.at
    country.home.workflows.take(
        signed.digest, at=now, limit=1, until=now + SECOND, supervisor="north"
    )
    country.clock.at += SECOND

    country.outpost.sweep()

    assert country.north.store.get(signed.digests["a"]).status is Status.QUEUED


def reads(name):
    """Say what a job says that is given the result of a step as data."""

    def make(digests):
        ref = {"from": digests[name], "max_bytes": 100}
        return {"inputs": {"rows": InputRef.from_wire(ref)}}

    return make


def test_receipt_and_result_travel_to_where_they_are_needed(country):
    signed = country.begin(
        jobs={"b": reads("a"), "c": reads("b")},
        a=[],
        b={**NORTH, "depends_on": ["a"]},
        c=["b"],
    )
    a, b, c = (signed.digests[name] for name in "abc")

    country.home.finish(signed, "a", result="1, 2, 3")
    country.hear()
    there = country.north.supervisor.get(a)
    assert (there.record.status, there.record.result) == (Status.COMPLETED, "1, 2, 3")
    assert there.receipt is not None
    assert there.is_believed
    country.finish(signed, "b", result="6")

    here = country.home.supervisor.get(b)
    assert (here.record.status, here.record.result) == (Status.COMPLETED, "6")
    assert country.home.store.get(c).status is Status.QUEUED
    # Nothing of it runs there, and nothing is rung for it.
    assert [job for job, *_ in country.north.dispatcher.bells] == [
        country.north.store.get(b).summary.id
    ]


def test_what_earlier_runs_brought_about_travels_as_well(country):
    before = country.begin(a=[], b=NORTH)
    country.home.finish(before, "a", result="1, 2, 3")
    country.finish(before, "b", event=Event.FAILED, reason="exit_code", exit_code=3)
    a = before.digests["a"]

    again = country.begin(
        jobs={"b": {**reads("a")(before.digests), "also_needs": [a]}}, b=NORTH
    )

    there = country.north.supervisor.get(a)
    assert (there.record.status, there.record.result) == (Status.COMPLETED, "1, 2, 3")
    assert there.is_believed
    country.finish(again, "b", result="6")
    assert country.steps(again) == {"b": "completed"}


def test_a_step_at_home_builds_on_an_earlier_run_elsewhere(country):
    before = country.begin(a=NORTH, b=[])
    country.finish(before, "a", result="1, 2, 3")

    again = country.begin(jobs={"b": reads("a")(before.digests)}, b=[], c=NORTH)

    assert country.steps(again) == {"b": "queued", "c": "queued"}
    here = country.home.supervisor.get(before.digests["a"])
    assert (here.record.status, here.record.result) == (Status.COMPLETED, "1, 2, 3")


@pytest.mark.parametrize(("context", "brought"), [("billing", 1), ("lab", 0)])
def test_of_earlier_runs_that_travels_which_is_of_the_same_context(
    country, context, brought
):
    theirs = {name: {"context_id": context} for name in ("manifest", "a")}
    before = country.begin(jobs=theirs, a=[])
    country.home.finish(before, "a", result="1, 2, 3")
    signed = country.home.workflow(
        jobs={"b": {"also_needs": [before.digests["a"]]}}, b=NORTH
    )
    country.home.coordinator.submit(signed.manifest, signed.jobs)
    now = country.clock.at
    taken = country.home.workflows.take(
        signed.digest, at=now, limit=1, until=now, supervisor="north"
    )

    [step] = taken.steps
    assert len(country.courier.fetch(signed.digest, step)) == brought


def test_a_step_waits_for_what_cannot_be_fetched_now(country):
    signed = country.begin(
        jobs={"b": reads("a")}, a=NORTH, b={"depends_on": ["a"], "when": "all_done"}
    )
    record = country.north.store.get(signed.digests["a"])
    country.north.settle(country.north.claim(record), result="1")
    country.clock.at += 5 * SECOND
    country.outpost.look(signed.digest)
    country.network.is_cut = True

    country.hear()

    assert country.steps(signed) == {"a": "completed", "b": "pending"}
    reason = country.home.coordinator.status(signed.id).reason
    assert reason == "step b: the supervisor north does not answer"
    country.network.is_cut = False
    country.clock.at += SECOND
    country.conductor.sweep()
    assert country.steps(signed)["b"] == "queued"
    assert country.home.supervisor.get(signed.digests["a"]).record.result == "1"


def test_nobody_is_called_who_is_not_configured(country):
    with pytest.raises(RefusedError) as refusal:
        country.begin(a={"supervisor": "south"})
    assert refusal.value.reason == "workflow.unknown_supervisor"
    assert country.network.calls == 0


def test_a_wait_ends_with_the_job_or_with_the_time(country):
    signed = country.begin(a=NORTH)
    digest = signed.digests["a"]

    assert country.remote.wait(digest, timedelta(0)) is False
    record = country.north.claim(country.north.store.get(digest))
    country.north.settle(record, event=Event.FAILED, reason="exit_code", exit_code=1)
    assert country.remote.wait(digest, timedelta(0)) is True
    # Deleted there: whoever looks finds out.
    country.north.store.delete(digest)
    assert country.remote.wait(digest, timedelta(0)) is True
    assert country.remote.find(digest, lambda: "") is None
    country.remote.stop(digest)


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        (-32012, RefusedError),
        (-32009, ConflictError),
        (-32001, UnavailableError),
        (-32020, UnavailableError),
        (-32603, UnavailableError),
    ],
)
def test_what_it_answers_says_what_to_do(country, code, raised):
    error = {
        "code": code,
        "message": "no",
        "data": {"reason": "why", "detail": "because", "retryable": False},
    }
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, json={"jsonrpc": "2.0", "error": error})
    )
    client = Horus("http://localhost", "x", verify=False, transport=transport)
    remote = RemoteSupervisor("north", client, country.home.trust)

    with pytest.raises(raised):
        remote.start("{}", ())


@pytest.mark.parametrize("told", [{}, {"receipt": None, "status": "asleep"}, []])
def test_what_is_no_record_is_not_read_as_one(country, told):
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, json={"jsonrpc": "2.0", "result": told})
    )
    client = Horus("http://localhost", "x", verify=False, transport=transport)
    remote = RemoteSupervisor("north", client, country.home.trust)

    with pytest.raises(UnavailableError, match="north is none: check its url"):
        remote.find("0" * 64, lambda: "{}")


def test_a_number_without_an_end_is_not_read_as_one(country):
    country.begin(a=NORTH)
    with pytest.raises(UnavailableError, match="north is none: check its url"):
        _answering(country, attempt=float("inf")).find("0" * 64, lambda: "{}")


def test_what_is_watched_is_told_when_it_is_over(country):
    signed = country.begin(a=NORTH)
    now = country.clock.at
    [step] = country.home.workflows.look(
        signed.digest,
        at=now + 5 * SECOND,
        again_at=now + 9 * SECOND,
        limit=5,
        supervisor="north",
    )
    told: Queue[tuple[str, str]] = Queue()
    country.watch.tell = lambda workflow, one: told.put((workflow, one.digest))
    record = country.north.claim(country.north.store.get(step.digest))

    country.watch.add(signed.digest, step)
    country.watch.add(signed.digest, step)
    assert country.watch.has(step)
    country.north.settle(record)

    assert told.get(timeout=5) == (signed.digest, step.digest)
    assert told.empty()


def test_a_step_that_runs_elsewhere_is_shown_as_running(country):
    signed = country.begin(a=NORTH)
    assert country.steps(signed) == {"a": "queued"}
    country.north.claim(country.north.store.get(signed.digests["a"]))
    began = country.clock.at
    country.clock.at += 5 * SECOND

    country.outpost.look(signed.digest)

    assert country.steps(signed) == {"a": "running"}
    [step] = country.home.coordinator.status(signed.id).steps
    assert step.started_at == began


def test_who_waits_for_a_step_elsewhere_hears_that_it_runs(country):
    watch = Watch(country.remote, wait=timedelta(milliseconds=20))
    signed = country.begin(a=NORTH)
    now = country.clock.at
    [step] = country.home.workflows.look(
        signed.digest,
        at=now + 5 * SECOND,
        again_at=now + 9 * SECOND,
        limit=5,
        supervisor="north",
    )
    heard: Queue[bool] = Queue()

    def tell_start(workflow, one):
        runs = country.outpost.note_start(workflow, one)
        heard.put(runs)
        return runs

    watch.tell_start = tell_start
    watch.add(signed.digest, step)
    assert heard.get(timeout=5) is False
    record = country.north.claim(country.north.store.get(step.digest))
    while not heard.get(timeout=5):
        pass

    assert country.steps(signed) == {"a": "running"}
    country.north.settle(record)
    watch.close()
