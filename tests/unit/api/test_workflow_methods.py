"""The workflow methods as callers see them: parameters, answers, errors."""

from __future__ import annotations

import pytest

from horus_celery.instants import to_ms
from horus_celery.lifecycle import Event
from horus_celery.store.base import Filter
from horus_celery.store.workflows import WorkflowFilter

WORKFLOW = -32014
NOBODY = "00000000-0000-4000-8000-000000000000"


def submit(client, signed):
    return client.call("workflow.submit", manifest=signed.manifest, jobs=signed.jobs)


def test_a_workflow_runs_by_canvas_where_it_can(world, client):
    straight = world.workflow(a=[], b=["a"])
    crossed = world.workflow(a=[], b=[], c=["a"], d=["a", "b"])
    for signed, shown in ((straight, "canvas"), (crossed, "reference")):
        wire = {"manifest": signed.manifest, "jobs": signed.jobs}
        client.call("workflow.submit", **wire, strategy="canvas")
        told = client.call("workflow.status", workflow_id=signed.id)
        assert told["strategy"] == shown
    plan = client.call("workflow.explain", workflow_id=crossed.id)
    assert plan["canvas"] == "not_series_parallel"


def test_a_workflow_that_was_filled_in_pieces_runs_by_canvas_as_well(world, client):
    signed = world.workflow(a=[], b=["a"])
    client.call("workflow.create", manifest=signed.manifest)
    client.call("workflow.add_jobs", workflow_id=signed.id, jobs=signed.jobs)

    told = client.call("workflow.start", workflow_id=signed.id, strategy="canvas")

    assert told["strategy"] == "canvas"
    assert world.doorbell.steps == [(signed.digest, None)]


def test_there_is_no_third_way_to_run_a_workflow(world, client):
    signed = world.workflow(a=[])
    wire = {"manifest": signed.manifest, "jobs": signed.jobs}
    error = client.error("workflow.submit", **wire, strategy="fusion")
    assert error["code"] == -32602


def test_submit_returns_the_id_and_starts_the_workflow(world, client):
    signed = world.workflow(a=[], b=["a"])

    assert submit(client, signed) == signed.id
    assert submit(client, signed) == signed.id
    world.hear()

    told = client.call("workflow.status", workflow_id=signed.id)
    at = to_ms(world.clock.at)
    assert told == {
        "workflow_id": signed.id,
        "name": "etl",
        "status": "running",
        "reason": None,
        "steps": {
            "a": {
                "status": "queued",
                "reason": None,
                "job_id": told["steps"]["a"]["job_id"],
                "supervisor": None,
                "started_at": None,
                "ended_at": None,
            },
            "b": {
                "status": "pending",
                "reason": None,
                "job_id": told["steps"]["b"]["job_id"],
                "supervisor": None,
                "started_at": None,
                "ended_at": None,
            },
        },
        "strategy": "reference",
        "created_at": at,
        "started_at": at,
        "ended_at": None,
    }
    assert client.call("job.get", job_id=told["steps"]["a"]["job_id"])["workflow"] == {
        "id": signed.id,
        "step": "a",
        "manifest": signed.digest,
    }


REFUSED = {
    "workflow.cycle": ({"a": ["b"], "b": ["a"]}, {}, "a -> b -> a"),
    "workflow.unknown_step": ({"a": ["nobody"]}, {}, "nobody"),
    "workflow.job_mismatch": ({"a": [], "b": ["a"]}, {"b": {"needs": ()}}, "step b"),
    "workflow.unknown_supervisor": ({"a": {"supervisor": "north"}}, {}, "north"),
}


@pytest.mark.parametrize(
    ("reason", "steps", "jobs", "named"),
    [(reason, *case) for reason, case in REFUSED.items()],
    ids=REFUSED,
)
def test_a_refusal_names_what_is_wrong_and_records_nothing(
    world, client, reason, steps, jobs, named
):
    signed = world.workflow(jobs=jobs, **steps)

    error = client.error("workflow.submit", manifest=signed.manifest, jobs=signed.jobs)

    assert (error["code"], error["data"]["reason"]) == (WORKFLOW, reason)
    assert error["data"]["detail"].startswith(f"{reason}: ")
    assert named in error["data"]["detail"]
    assert error["data"]["retryable"] is False
    assert list(world.workflows.list(WorkflowFilter(), limit=1)) == []
    assert list(world.store.list(Filter(), limit=1)) == []


def test_a_cycle_shows_twenty_names_at_most(world, client):
    size = 30
    steps = {f"s{index:02}": [f"s{(index + 1) % size:02}"] for index in range(size)}
    signed = world.workflow(**steps)

    error = client.error("workflow.submit", manifest=signed.manifest, jobs=signed.jobs)

    detail = error["data"]["detail"]
    assert sum(name in detail for name in steps) == 20
    assert error["data"]["reason"] == "workflow.cycle"


def test_a_missing_job_is_named(world, client):
    signed = world.workflow(a=[], b=["a"])
    error = client.error("workflow.submit", manifest=signed.manifest, jobs={})

    assert (error["code"], error["data"]["reason"]) == (
        WORKFLOW,
        "workflow.missing_job",
    )
    assert "a, b" in error["data"]["detail"]


def test_another_manifest_of_the_same_id_is_a_conflict(world, client):
    signed = world.workflow(a=[])
    submit(client, signed)
    other = world.workflow(b=[], jobs={"manifest": {"workflow_id": signed.id}})

    error = client.error("workflow.submit", manifest=other.manifest, jobs=other.jobs)

    assert (error["code"], error["data"]["reason"]) == (-32009, "id_taken")


def test_a_refused_job_is_told_with_its_own_code_and_its_step(world, client):
    signed = world.workflow(a=[], jobs={"a": {"net": "host"}})

    error = client.error("workflow.submit", manifest=signed.manifest, jobs=signed.jobs)

    assert (error["code"], error["data"]["reason"]) == (-32012, "auth.net")
    assert "the job of step a" in error["data"]["detail"]


def test_a_workflow_is_created_filled_and_started(world, client):
    signed = world.workflow(a=[], b=["a"])

    assert client.call("workflow.create", manifest=signed.manifest) == signed.id
    early = client.error("workflow.start", workflow_id=signed.id)
    assert (early["code"], early["data"]["reason"]) == (
        WORKFLOW,
        "workflow.missing_job",
    )
    for missing, name in ((1, "a"), (0, "b")):
        jobs = {name: signed.jobs[name]}
        told = client.call("workflow.add_jobs", workflow_id=signed.id, jobs=jobs)
        assert told == missing
    assert client.call("workflow.start", workflow_id=signed.id)["status"] == "running"


def test_the_result_is_that_of_the_last_steps(world, client):
    signed = world.begin(a=[], b=["a"], c={"depends_on": [], "on_failure": "continue"})
    not_yet = client.error("workflow.result", workflow_id=signed.id, wait=0)
    assert (not_yet["code"], not_yet["data"]["retryable"]) == (-32021, True)

    world.finish(signed, "a", result="1")
    world.finish(signed, "b", result="2")
    world.finish(signed, "c", event=Event.FAILED, reason="exit_code", exit_code=1)

    assert client.call("get_workflow_result", workflow_id=signed.id, wait=0) == {
        "status": "completed",
        "results": {"b": "2", "c": None},
    }


def test_a_failed_workflow_says_which_step_failed_and_why(world, client):
    signed = world.begin(a=[], b=["a"])
    world.finish(signed, "a", event=Event.FAILED, reason="timeout", exit_code=None)

    told = client.call("get_workflow_status", workflow_id=signed.id)

    assert (told["status"], told["reason"]) == ("failed", "step a: timeout")
    assert told["steps"]["a"]["reason"] == "timeout"
    assert told["steps"]["b"]["status"] == "skipped"


def test_a_workflow_that_failed_as_a_job_was_stopped_names_its_step(world, client):
    signed = world.begin(a=[], b=["a"])
    begun = client.call("workflow.status", workflow_id=signed.id)

    client.call("job.stop", job_id=begun["steps"]["a"]["job_id"])
    world.hear()

    told = client.call("workflow.status", workflow_id=signed.id)
    assert told["steps"]["a"]["status"] == "stopped"
    assert (told["status"], told["reason"]) == ("failed", "step a: stopped")


def test_a_workflow_that_was_stopped_names_no_step(world, client):
    signed = world.begin(a=[], b=["a"])

    client.call("workflow.stop", workflow_id=signed.id)
    world.hear()

    told = client.call("workflow.status", workflow_id=signed.id)
    assert told["steps"]["a"]["status"] == "stopped"
    assert (told["status"], told["reason"]) == ("stopped", None)


def test_a_workflow_is_shown_with_its_manifest(world, client):
    signed = world.begin(a=[], b=["a"])

    told = client.call("workflow.get", workflow_id=signed.digest)

    assert told["manifest"] == signed.manifest
    assert (told["id"], told["digest"]) == (signed.id, signed.digest)
    assert (told["steps"], told["missing"], told["left"]) == (2, 0, 2)
    assert told["signed_by"] == [world.caller.keyid]
    assert told["jobs"] == {}


def test_a_workflow_is_shown_with_the_jobs_of_the_steps_that_are_named(world, client):
    signed = world.begin(a=[], b=["a"], c=["a"])

    told = client.call("workflow.get", workflow_id=signed.id, steps=["c", "a"])

    assert told["jobs"] == {name: signed.jobs[name] for name in ("a", "c")}
    error = client.error("workflow.get", workflow_id=signed.id, steps=["a", "x"])
    assert error["code"] == -32004
    assert error["data"]["detail"].endswith("has no steps x")


def test_a_job_that_was_not_added_yet_is_not_shown(world, client):
    signed = world.workflow(a=[], b=["a"])
    client.call("workflow.create", manifest=signed.manifest)
    jobs = {"a": signed.jobs["a"]}
    client.call("workflow.add_jobs", workflow_id=signed.id, jobs=jobs)
    told = client.call("workflow.get", workflow_id=signed.id, steps=["a", "b"])
    assert told["jobs"] == jobs


def test_of_large_jobs_one_call_shows_some(world, client):
    names = [f"s{number}" for number in range(7)]
    large = {name: {"payload": "x" * 700_000} for name in names}
    signed = world.workflow(jobs=large, **{name: [] for name in names})
    client.call("workflow.create", manifest=signed.manifest)
    for name, job in signed.jobs.items():
        client.call("workflow.add_jobs", workflow_id=signed.id, jobs={name: job})
    told = client.call("workflow.get", workflow_id=signed.id, steps=names)
    assert list(told["jobs"]) == names[: len(told["jobs"])]
    assert 1 < len(told["jobs"]) < len(names)


def test_lists_go_on_page_by_page_and_agree_with_filters(world, client):
    signed = [world.begin(a=[]) for _ in range(3)]
    world.finish(signed[0], "a")
    newest_first = [one.id for one in reversed(signed)]

    def listed(**params):
        return [one["id"] for one in client.call("workflow.list", **params)]

    assert listed() == newest_first
    assert listed(limit=2) == newest_first[:2]
    assert listed(limit=2, after=newest_first[1]) == newest_first[2:]
    assert listed(status="completed") == [signed[0].id]
    assert listed(context_id="lab") == []
    assert listed(caller_id="alice", status="running") == newest_first[:2]
    error = client.error("workflow.list", after=NOBODY)
    assert error["code"] == -32004


def test_a_plan_is_shown_and_drawn(world, client):
    signed = world.begin(a=[], b=["a"], c=["a"], d=["b", "c"])

    plan = client.call("workflow.explain", workflow_id=signed.id)

    assert plan["chords"] == [{"step": "d", "size": 2, "header": ["b", "c"]}]
    assert plan["groups"] == [{"after": "a", "members": ["b", "c"]}]
    assert (plan["edges"], plan["messages"], plan["depth"]) == (4, 8, 3)
    assert plan["dot"].startswith("digraph")
    assert plan["mermaid"].startswith("flowchart")
    assert plan["canvas"] is None


def test_a_plan_says_why_it_is_no_canvas(world, client):
    signed = world.begin(a=[], b=[], c=["a"], d=["a", "b"])
    plan = client.call("workflow.explain", workflow_id=signed.id)
    assert plan["canvas"] == "not_series_parallel"


def test_a_stopped_workflow_starts_nothing_and_a_deleted_one_is_gone(world, client):
    signed = world.begin(a=[], b=["a"])

    told = client.call("workflow.stop", workflow_id=signed.id)
    world.hear()

    assert told["status"] == "stopped"
    assert {name: one["status"] for name, one in told["steps"].items()} == {
        "a": "stopped",
        "b": "skipped",
    }
    assert client.call("workflow.delete", workflow_id=signed.id) is True
    gone = client.error("workflow.status", workflow_id=signed.id)
    assert gone["code"] == -32004


@pytest.mark.parametrize("method", ["workflow.status", "workflow.get", "workflow.stop"])
def test_what_there_is_not_is_not_found(client, method):
    assert client.error(method, workflow_id=NOBODY)["code"] == -32004


def test_jobs_of_a_workflow_are_listed_by_its_id(world, client):
    signed = world.begin(a=[], b=["a"])

    listed = client.call("jobs.list", workflow_id=signed.id)

    assert [one["digest"] for one in listed] == [signed.digests["a"]]
