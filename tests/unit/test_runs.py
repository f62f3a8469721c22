"""A client follows a workflow to its end, and believes only what follows from proof."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from horus_celery import runs
from horus_celery.authoring.drafts import StepDraft, WorkflowDraft
from horus_celery.authoring.signing import sign
from horus_celery.client import Horus, RpcError
from horus_celery.dag.shapes import Strategy
from horus_celery.errors import ReceiptError, UnavailableError
from horus_celery.lifecycle import Status
from horus_celery.runs import WorkflowRun, run_workflow
from tests.coordinator import ALICE, NOW, ROOT, FakeCoordinator, Refusal


def step(name, *parents, **facts):
    return StepDraft(**{"name": name, "payload": "", "depends_on": parents} | facts)


NO_TIME = timedelta(0)
FLOW = (
    step("a"),
    step("b", "a", on_failure="continue"),
    step("c", "a"),
    step("alarm", "b", "c", when="one_failed"),
    step("end", "c"),
)


@pytest.fixture
def coordinator():
    return FakeCoordinator()


@pytest.fixture
def client(coordinator, clock):
    clock.at = NOW
    with Horus(
        "http://localhost",
        "secret",
        key=ALICE,
        root=ROOT.public,
        context="billing",
        caller="alice",
        clock=clock,
        transport=coordinator.transport(),
    ) as client:
        yield client


@pytest.fixture
def start(client):
    def start(*steps, **facts):
        draft = WorkflowDraft(name="x", steps=steps or FLOW, **facts)
        submission = sign(draft, client.signer(), now=client.now())
        run = WorkflowRun(
            client, submission, pause=NO_TIME, patience=NO_TIME, retry=NO_TIME
        )
        run.submit()
        return run

    return start


def statuses(view):
    return {name: one.status.value for name, one in view.steps.items()}


# --- following ---------------------------------------------------------------------


def test_a_workflow_is_handed_in_and_followed_to_its_end(start, coordinator):
    coordinator.results = {"end": "42\n"}
    run = start()
    looks: list[dict[str, str]] = []
    view = run.follow(lambda seen: looks.append(statuses(seen)))
    assert view.status == "completed"
    assert [look["a"] for look in looks[:3]] == ["pending", "running", "completed"]
    assert looks[-1] == {
        "a": "completed",
        "b": "completed",
        "c": "completed",
        "alarm": "skipped",
        "end": "completed",
    }
    outcome = run.prove(view)
    assert outcome.results == {"end": "42\n"}
    assert all(one.is_verified for one in outcome.steps.values())
    assert coordinator.methods[0] == "workflow.submit"


def test_a_workflow_that_failed_is_proven_as_well(start, coordinator):
    coordinator.ends = {"c": Status.FAILED}
    run = start()
    view = run.follow(lambda _: None)
    assert view.status == "failed"
    assert statuses(view) == {
        "a": "completed",
        "b": "completed",
        "c": "failed",
        "alarm": "completed",
        "end": "skipped",
    }
    outcome = run.prove(view)
    assert outcome.steps["c"].exit_code == 1
    assert outcome.results == {"alarm": ""}


def test_what_may_fail_fails_no_workflow(start, coordinator):
    coordinator.ends = {"b": Status.FAILED}
    run = start()
    view = run.follow(lambda _: None)
    assert (view.status, statuses(view)["alarm"]) == ("completed", "completed")
    assert run.prove(view).view is view


def test_a_stopped_workflow_is_proven_as_far_as_it_went(start):
    run = start()
    run.look()
    run.stop()
    view = run.follow(lambda _: None)
    assert view.status == "stopped"
    assert statuses(view)["end"] == "skipped"
    assert set(run.prove(view).steps) == {"a"}


def test_a_supervisor_that_comes_back_is_followed_on(client, coordinator):
    away = iter([True, False, True])

    def be_away(answer):
        if next(away, False):
            raise Refusal(-32020, "unavailable")
        return answer

    coordinator.lies["workflow.status"] = be_away
    draft = WorkflowDraft(name="x", steps=FLOW)
    submission = sign(draft, client.signer(), now=client.now())
    run = WorkflowRun(client, submission, pause=NO_TIME, retry=NO_TIME)
    run.submit()
    told: list[str] = []
    view = run.follow(lambda _: None, on_away=told.append)
    assert view.status == "completed"
    assert told[:2] == [
        "waiting: the supervisor cannot tell now: unavailable; asked again for 60 s",
        "the supervisor answers again",
    ]


def test_a_supervisor_that_stays_away_is_given_up(start, coordinator):
    def be_away(_):
        raise Refusal(-32020, "unavailable")

    run = start()
    coordinator.lies["workflow.status"] = be_away
    with pytest.raises(UnavailableError, match="has been away for 0 s"):
        run.follow(lambda _: None)


@pytest.mark.parametrize("method", ["workflow.status", "workflow.result"])
def test_a_workflow_that_is_gone_is_not_waited_for(coordinator, start, method):
    def be_gone(_=None, **__):
        raise Refusal(-32004, "not_found")

    run = start()
    setattr(coordinator, "on_" + method.replace(".", "_"), be_gone)
    with pytest.raises(RpcError) as refusal:
        run.follow(lambda _: None)
    assert refusal.value.reason == "not_found"


def test_a_workflow_is_run_by_one_call(client, coordinator):
    coordinator.results = {"end": "42\n"}
    looks: list[str] = []
    outcome = run_workflow(
        client,
        WorkflowDraft(name="x", steps=FLOW),
        on_look=lambda view: looks.append(view.status),
        strategy=Strategy.CANVAS,
    )
    assert coordinator.strategy == "canvas"
    assert outcome.results == {"end": "42\n"}
    assert looks[-1] == outcome.view.status == "completed"


# --- handing in --------------------------------------------------------------------


def test_what_is_too_large_for_one_call_goes_in_pieces(client, coordinator):
    scripts = [step(f"s{number}", payload="x" * 300_000) for number in range(12)]
    chain = [
        step(one.name, *([f"s{n - 1}"] if n else []), payload=one.payload)
        for n, one in enumerate(scripts)
    ]
    draft = WorkflowDraft(name="x", steps=tuple(chain))
    run = WorkflowRun(client, sign(draft, client.signer(), now=NOW))
    heard: list[int] = []
    run.submit(heard.append)
    assert coordinator.methods[0] == "workflow.create"
    assert coordinator.methods[-1] == "workflow.start"
    assert heard == [2, 4, 6, 8, 10, 12]
    sizes = [len(json.dumps(call)) for call in coordinator.calls[1:-1]]
    assert max(sizes) < runs.PIECE * 1.1
    # Those of the steps before it come before a step, or with it.
    assert list(coordinator.jobs) == [f"s{number}" for number in range(12)]


def test_a_supervisor_that_takes_less_is_given_pieces(start, coordinator):
    def refuse(_):
        raise Refusal(-32023, "too_large")

    coordinator.lies["workflow.submit"] = refuse
    start()
    assert coordinator.methods == [
        "workflow.submit",
        "workflow.create",
        "workflow.add_jobs",
        "workflow.start",
    ]


def test_a_refusal_is_told(start, coordinator):
    def refuse(_):
        raise Refusal(-32012, "auth.key")

    coordinator.lies["workflow.submit"] = refuse
    with pytest.raises(RpcError) as refusal:
        start()
    assert refusal.value.reason == "auth.key"
    assert coordinator.methods == ["workflow.submit"]


# --- lies --------------------------------------------------------------------------


@pytest.fixture
def told(start, coordinator):
    """Return what a lie of the coordinator leads to."""

    def told(*, ends=None, **lies):
        coordinator.ends = ends or {}
        run = start()
        view = run.follow(lambda _: None)
        coordinator.lies = lies
        with pytest.raises(ReceiptError) as refusal:
            run.prove(run.look() if "workflow.status" in lies else view)
        return str(refusal.value)

    return told


def showing(name, **facts):
    """Return the lie that a step stands otherwise."""

    def lie(answer):
        steps = answer["steps"]
        return {**answer, "steps": {**steps, name: {**steps[name], **facts}}}

    return lie


def of_record(position, **facts):
    def lie(records):
        return [
            {**one, **facts} if place == position else one
            for place, one in enumerate(records)
        ]

    return lie


def test_a_failure_cannot_be_shown_as_a_success(told):
    lies = {"workflow.status": showing("c", status="completed", reason=None)}
    said = told(ends={"c": Status.FAILED}, **lies)
    assert said == "step c is shown as completed, and its job was failed"


def test_a_success_cannot_be_shown_as_a_failure(told):
    lies = {"workflow.status": showing("c", status="failed")}
    assert "step c is shown as failed" in told(**lies)


def test_a_step_cannot_be_kept_from_running(told):
    lies = {"workflow.status": showing("end", status="skipped")}
    assert "step end is shown as skipped" in told(**lies)


def test_a_step_that_never_ran_cannot_be_said_to_have_completed(told):
    lies = {"workflow.status": showing("alarm", status="completed")}
    assert "there is no record of its job" in told(**lies)


def test_a_skip_that_nothing_explains_is_not_believed(told, coordinator):
    def forget(records):
        return [one for one in records if one["digest"] != coordinator.job("b")[1]]

    lies = {"workflow.status": showing("b", status="skipped"), "jobs.list": forget}
    said = told(**lies)
    assert (
        said == "step b is shown as skipped, and after what came before it must start"
    )


def test_a_failed_workflow_cannot_be_shown_as_completed(told):
    def lie(answer):
        return {**answer, "status": "completed"}

    said = told(ends={"c": Status.FAILED}, **{"workflow.status": lie})
    assert said.endswith("is shown as completed, but a step of it failed")


def test_a_workflow_cannot_be_shown_with_other_steps(told):
    def lie(answer):
        return {**answer, "steps": {"a": answer["steps"]["a"]}}

    assert "other steps than were signed" in told(**{"workflow.status": lie})


def test_a_result_that_no_runner_signed_is_not_believed(told):
    said = told(**{"jobs.list": of_record(0, result="more")})
    assert said.startswith("step a: ")
    assert "result" in said


def test_a_record_without_a_receipt_proves_nothing(told):
    assert "without a receipt" in told(**{"jobs.list": of_record(1, receipt=None)})


def test_a_record_that_was_not_asked_for_changes_nothing(start, coordinator):
    run = start()
    view = run.follow(lambda _: None)
    stranger = {"digest": "0" * 64}
    coordinator.lies["jobs.list"] = lambda page: page and [stranger, *page]
    assert set(run.prove(view).steps) == {"a", "b", "c", "end"}
