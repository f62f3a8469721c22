"""The coordinator: what it lets in, and that steps come one after the other."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from horus_celery.dag.progress import StepStatus, WorkflowStatus
from horus_celery.errors import (
    ConflictError,
    DamagedError,
    IdAmbiguous,
    IdTaken,
    MalformedError,
    NotCoveredError,
    NotFoundError,
    NotOverError,
    RefusedError,
    SignatureError,
    TimeError,
    UnavailableError,
    WorkflowError,
)
from horus_celery.lifecycle import Event, Status
from horus_celery.statements import dsse
from horus_celery.store.base import Filter
from horus_celery.store.memory_workflows import MemoryWorkflows
from horus_celery.store.workflows import WorkflowFilter
from horus_celery.workflows.conductor import Conductor
from horus_celery.workflows.supervisors import HomeSupervisor

SECOND = timedelta(seconds=1)


class WrittenWorkflows(MemoryWorkflows):
    """A store of workflows that others write to."""

    def put_job(self, workflow, index, **facts):
        step = self._entries[workflow].steps[index]
        step.job = replace(step.job, **facts)

    def put_outline(self, digest, **facts):
        entry = self._entries[digest]
        outline = replace(entry.record.outline, **facts)
        entry.record = replace(entry.record, outline=outline)


NOTHING = timedelta(0)


def submit(world, signed):
    return world.coordinator.submit(signed.manifest, signed.jobs)


def recorded(world):
    """Return how much of workflows and jobs is recorded."""
    workflows = world.workflows.list(WorkflowFilter(), limit=10)
    return len(workflows) + len(world.store.list(Filter(), limit=10))


# --- what is let in ------------------------------------------------------------


def test_a_workflow_is_let_in_and_rung_for(world):
    signed = world.workflow(a=[], b=["a"])

    record = submit(world, signed)

    assert (record.outline.id, record.outline.digest) == (signed.id, signed.digest)
    assert record.status is WorkflowStatus.RUNNING
    assert record.outline.signed_by == (world.caller.keyid,)
    assert world.doorbell.bells == [(signed.digest, None)]


def test_the_same_submission_again_is_the_same_workflow(world):
    signed = world.begin(a=[], b=["a"])

    again = submit(world, signed)
    world.hear()

    assert again.outline.id == signed.id
    assert len(world.workflows.list(WorkflowFilter(), limit=10)) == 1
    assert len(world.store.list(Filter(), limit=10)) == 1


def test_another_manifest_of_the_same_id_is_refused(world):
    signed = world.begin(a=[])
    other = world.workflow(a=[], b=[], jobs={"manifest": {"workflow_id": signed.id}})

    with pytest.raises(IdTaken, match="another workflow"):
        submit(world, other)


def test_other_jobs_for_the_same_manifest_are_refused(world):
    signed = world.begin(a=[])
    envelope = dsse.from_wire(signed.jobs["a"], dsse.JOB)
    said = json.loads(envelope.body)
    said["payload"] = "# another"
    other = dsse.sign(
        dsse.JOB,
        json.dumps(said, sort_keys=True, separators=(",", ":")).encode(),
        [world.caller],
    )

    with pytest.raises(ConflictError, match="another job"):
        world.coordinator.submit(signed.manifest, {"a": dsse.to_wire(other)})


REFUSED = {
    "a cycle": ({"a": ["c"], "b": ["a"], "c": ["b"]}, {}, "workflow.cycle", "-> a"),
    "an unknown step": ({"a": ["x"]}, {}, "workflow.unknown_step", "x"),
    "an unknown supervisor": (
        {"a": {"supervisor": "north"}},
        {},
        "workflow.unknown_supervisor",
        "north",
    ),
    "a job of no workflow": (
        {"a": []},
        {"a": {"workflow": None}},
        "workflow.job_mismatch",
        "a",
    ),
    "a job of another caller": (
        {"a": []},
        {"manifest": {"caller_id": "alice"}, "a": {"context_id": "lab"}},
        "workflow.job_mismatch",
        "context_id is lab, not billing",
    ),
    "a job without its needs": (
        {"a": [], "b": ["a"]},
        {"b": {"needs": ()}},
        "workflow.job_mismatch",
        "depends on a",
    ),
    "a job that needs another": (
        {"a": [], "b": ["a"]},
        {"b": {"needs": ("ab" * 32,)}},
        "workflow.job_mismatch",
        "depends on a",
    ),
    "a job that no grant covers": (
        {"a": [], "b": ["a"]},
        {"b": {"executor": "system"}},
        "auth.executor",
        "step b",
    ),
    "a manifest for another deployment": (
        {"a": []},
        {"manifest": {"aud": "villain"}},
        "bind.aud",
        "the workflow is for the deployment villain",
    ),
    "a manifest of an unknown caller": (
        {"a": []},
        {"manifest": {"caller_id": "mallory"}},
        "auth.context",
        "mallory",
    ),
}


@pytest.mark.parametrize(
    ("steps", "jobs", "reason", "text"), REFUSED.values(), ids=REFUSED
)
def test_what_is_refused_is_named_and_not_recorded(world, steps, jobs, reason, text):
    signed = world.workflow(jobs=jobs, **steps)

    with pytest.raises(RefusedError) as refusal:
        submit(world, signed)

    assert refusal.value.reason == reason
    assert text in refusal.value.detail
    assert recorded(world) == 0
    assert world.doorbell.bells == []


def test_a_missing_job_is_named_and_nothing_recorded(world):
    signed = world.workflow(a=[], b=["a"])
    del signed.jobs["b"]

    with pytest.raises(WorkflowError) as refusal:
        submit(world, signed)

    assert (refusal.value.reason, refusal.value.names) == (
        "workflow.missing_job",
        ("b",),
    )
    assert recorded(world) == 0


def test_a_job_for_a_step_that_there_is_not_is_refused(world):
    signed = world.workflow(a=[])
    extra = world.workflow(a=[], b=[])

    with pytest.raises(WorkflowError) as refusal:
        world.coordinator.submit(signed.manifest, {**signed.jobs, "b": extra.jobs["b"]})

    assert refusal.value.reason == "workflow.unknown_step"
    assert recorded(world) == 0


def test_jobs_that_changed_places_are_refused(world):
    signed = world.workflow(a=[], b=[])
    swapped = {"a": signed.jobs["b"], "b": signed.jobs["a"]}

    with pytest.raises(WorkflowError, match=r"its workflow\.step is b, not a"):
        world.coordinator.submit(signed.manifest, swapped)


def test_jobs_of_yesterdays_run_are_refused(world):
    yesterday = world.workflow(a=[])
    today = world.workflow(a=[])

    with pytest.raises(WorkflowError, match=r"workflow\.id") as refusal:
        world.coordinator.submit(today.manifest, yesterday.jobs)

    assert refusal.value.reason == "workflow.job_mismatch"


def test_a_manifest_that_was_changed_after_it_was_signed_is_refused(world):
    signed = world.workflow(a=[], b=["a"])
    envelope = dsse.from_wire(signed.manifest, dsse.WORKFLOW)
    body = envelope.body.replace(b'"depends_on":["a"]', b'"depends_on":[]')
    assert body != envelope.body
    changed = dsse.to_wire(dsse.Envelope(dsse.WORKFLOW, body, envelope.signatures))

    with pytest.raises(SignatureError):
        world.coordinator.submit(changed, signed.jobs)
    assert recorded(world) == 0


def test_a_manifest_that_a_runner_signed_is_refused(world):
    signed = world.workflow(a=[])
    body = dsse.from_wire(signed.manifest, dsse.WORKFLOW).body
    forged = dsse.to_wire(dsse.sign(dsse.WORKFLOW, body, [world.runner]))

    with pytest.raises(SignatureError):
        world.coordinator.submit(forged, signed.jobs)
    assert recorded(world) == 0


def test_a_job_is_no_manifest(world):
    with pytest.raises(MalformedError) as refusal:
        world.coordinator.submit(world.envelope(), {})

    assert refusal.value.reason == "env.type"


def test_an_expired_workflow_is_refused(world):
    signed = world.workflow(a=[])
    world.clock.at += timedelta(days=2)

    with pytest.raises(TimeError, match="the workflow expired"):
        submit(world, signed)


def test_a_job_may_need_jobs_of_earlier_runs_as_well(world):
    earlier = world.begin(a=[]).digests["a"]

    signed = world.workflow(x=[], y=["x"], jobs={"y": {"also_needs": (earlier,)}})

    assert submit(world, signed).status is WorkflowStatus.RUNNING


# --- workflows larger than one request -------------------------------------------


def test_a_workflow_is_filled_in_several_calls(world):
    signed = world.workflow(a=[], b=["a"], c=["b"])
    coordinator = world.coordinator

    record = coordinator.create(signed.manifest)
    assert record.status is WorkflowStatus.CREATED
    assert coordinator.add_jobs(signed.id, {"a": signed.jobs["a"]}) == 2
    with pytest.raises(WorkflowError) as refusal:
        coordinator.start(signed.id)
    assert refusal.value.reason == "workflow.missing_job"
    rest = {name: signed.jobs[name] for name in "bc"}
    assert coordinator.add_jobs(signed.id, rest) == 0
    assert coordinator.start(signed.id).status is WorkflowStatus.RUNNING
    assert coordinator.start(signed.id).status is WorkflowStatus.RUNNING
    world.hear()
    assert world.statuses(signed) == {"a": "queued", "b": "pending", "c": "pending"}


def test_jobs_come_behind_those_of_the_steps_before_them(world):
    signed = world.workflow(a=[], b=["a"])
    world.coordinator.create(signed.manifest)

    with pytest.raises(WorkflowError, match="depends on a, which has no job yet"):
        world.coordinator.add_jobs(signed.id, {"b": signed.jobs["b"]})

    assert world.workflows.get(signed.digest).missing == 2


def test_an_added_job_is_checked_like_a_submitted_one(world):
    signed = world.workflow(a=[], b=["a"], jobs={"b": {"needs": ()}})
    world.coordinator.create(signed.manifest)
    world.coordinator.add_jobs(signed.id, {"a": signed.jobs["a"]})

    with pytest.raises(WorkflowError) as refusal:
        world.coordinator.add_jobs(signed.id, {"b": signed.jobs["b"]})

    assert refusal.value.reason == "workflow.job_mismatch"
    assert world.workflows.get(signed.digest).missing == 1


# --- steps come one after the other ----------------------------------------------


def test_only_steps_that_wait_for_nothing_start_at_once(world):
    signed = world.begin(a=[], b=["a"], c=[])

    assert world.statuses(signed) == {"a": "queued", "c": "queued", "b": "pending"}
    digests = {one.summary.digest for one in world.store.list(Filter(), limit=10)}
    assert digests == {signed.digests["a"], signed.digests["c"]}


def test_an_end_starts_the_next_step(world):
    signed = world.begin(a=[], b=["a"])

    world.finish(signed, "a")
    assert world.statuses(signed) == {"a": "completed", "b": "queued"}
    world.finish(signed, "b")

    assert world.statuses(signed) == {"a": "completed", "b": "completed"}
    assert world.coordinator.status(signed.id).record.status is (
        WorkflowStatus.COMPLETED
    )


def test_nothing_waits_for_what_it_does_not_depend_on(world):
    signed = world.begin(a=[], b=[], c=["a"], d=["a", "b"])

    world.finish(signed, "a")

    assert world.statuses(signed)["c"] == "queued"
    assert world.statuses(signed)["d"] == "pending"


def test_a_failure_skips_what_follows_and_fails_the_workflow(world):
    signed = world.begin(a=[], b=["a"], c=[])

    world.finish(signed, "a", event=Event.FAILED, reason="exit_code", exit_code=1)
    assert world.statuses(signed)["b"] == "skipped"
    world.finish(signed, "c")

    overview = world.coordinator.status(signed.id)
    assert overview.record.status is WorkflowStatus.FAILED
    assert overview.reason == "step a: exit_code"


def test_a_failure_that_may_be_fails_no_workflow(world):
    signed = world.begin(
        a={"on_failure": "continue"}, b={"depends_on": ["a"], "when": "all_done"}
    )

    world.finish(signed, "a", event=Event.FAILED, reason="exit_code", exit_code=1)
    world.finish(signed, "b")

    overview = world.coordinator.status(signed.id)
    assert overview.record.status is WorkflowStatus.COMPLETED
    assert overview.reason is None


def test_an_end_without_a_receipt_is_not_believed(world):
    signed = world.begin(a=[], b=["a"])
    record = world.claim(world.store.get(signed.digests["a"]))
    world.settle(record, signed={"key": world.stranger})

    world.hear()

    # What cannot be proven counts as what is shown of it: as failed.
    assert world.statuses(signed) == {"a": "failed", "b": "skipped"}
    assert world.coordinator.status(signed.id).reason == "step a: receipt_mismatch"


def test_a_step_that_is_refused_when_it_starts_is_rejected(world):
    signed = world.begin(a=[], b=["a"], jobs={"b": {"expires_at": later(world)}})
    world.clock.at += timedelta(minutes=30)

    world.finish(signed, "a")

    assert world.statuses(signed) == {"a": "completed", "b": "rejected"}
    overview = world.coordinator.status(signed.id)
    assert overview.record.status is WorkflowStatus.FAILED
    assert overview.reason == "step b: time.expired"


def later(world):
    return world.clock.at + timedelta(minutes=20)


# --- bells say nothing -----------------------------------------------------------

BELLS = {
    "no workflow": lambda signed: ("0" * 64, None),
    "no workflow, a job": lambda signed: ("0" * 64, signed.digests["a"]),
    "a job that is not over": lambda signed: (signed.digest, signed.digests["a"]),
    "a job that did not start": lambda signed: (signed.digest, signed.digests["b"]),
    "no job": lambda signed: (signed.digest, "0" * 64),
    "the manifest itself": lambda signed: (signed.digest, signed.digest),
    "a workflow by a job": lambda signed: (signed.digests["a"], signed.digest),
}


@pytest.mark.parametrize("make", BELLS.values(), ids=BELLS)
def test_a_forged_bell_changes_nothing(world, make):
    signed = world.begin(a=[], b=["a"])
    before = world.workflows.get(signed.digest), world.statuses(signed)

    for _ in range(3):
        world.conductor.advance(*make(signed))

    assert (world.workflows.get(signed.digest), world.statuses(signed)) == before
    assert world.dispatcher.bells == [(job_id(signed, "a"), "python", 4)]


def job_id(signed, name):
    return json.loads(dsse.from_wire(signed.jobs[name], dsse.JOB).body)["id"]


def test_a_bell_that_comes_twice_starts_nothing_twice(world):
    signed = world.begin(a=[], b=["a"])
    world.finish(signed, "a")

    for _ in range(3):
        world.conductor.advance(signed.digest, signed.digests["a"])

    started = [job for job, *_ in world.dispatcher.bells]
    assert started == [job_id(signed, "a"), job_id(signed, "b")]


def test_without_any_bell_the_sweep_goes_on(world):
    signed = world.workflow(a=[], b=["a"], c=["b"])
    submit(world, signed)
    world.doorbell.bells.clear()

    for name in "abc":
        world.conductor.sweep()
        assert world.statuses(signed)[name] == "queued"
        world.settle(world.claim(world.store.get(signed.digests[name])))
        world.store.bells.clear()
        world.clock.at += 5 * SECOND
    world.conductor.sweep()

    assert world.workflows.get(signed.digest).status is WorkflowStatus.COMPLETED
    assert world.conductor.sweep() == 0


def test_a_step_that_was_taken_and_never_started_is_started_by_the_sweep(world):
    signed = world.workflow(a=[])
    submit(world, signed)
    now = world.clock.at
    taken = world.workflows.take(signed.digest, at=now, limit=1, until=now + 5 * SECOND)
    assert [one.digest for one in taken.steps] == [signed.digests["a"]]

    world.conductor.sweep()
    assert world.dispatcher.bells == []
    world.clock.at += 5 * SECOND
    world.conductor.sweep()

    assert [job for job, *_ in world.dispatcher.bells] == [job_id(signed, "a")]


def test_a_store_that_is_away_is_said_and_nothing_is_lost(world):
    signed = world.workflow(a=[])
    submit(world, signed)
    world.store.is_away = True
    with pytest.raises(UnavailableError):
        world.hear()
    world.store.is_away = False
    world.clock.at += 5 * SECOND

    world.conductor.sweep()

    assert world.statuses(signed) == {"a": "queued"}


def test_a_damaged_workflow_stops_no_other(world):
    first, second = world.workflow(a=[]), world.workflow(a=[])
    for one in (first, second):
        submit(world, one)
    world.workflows.damaged.add(first.digest)

    assert world.conductor.sweep() == 2

    assert world.statuses(second) == {"a": "queued"}


def test_what_ended_long_ago_is_forgotten_and_what_is_damaged_stops_no_other(world):
    keeping = Conductor(
        store=world.workflows,
        supervisor=HomeSupervisor(world.supervisor),
        doorbell=world.doorbell,
        clock=world.clock,
        keep=timedelta(days=1),
    )
    damaged, old = world.begin(a=[]), world.begin(a=[])
    for one in (damaged, old):
        world.finish(one, "a")
    world.clock.at += timedelta(hours=23)
    running = world.begin(a=[])
    world.workflows.damaged.add(damaged.digest)
    keeping.sweep()
    assert world.coordinator.get(old.id)
    world.clock.at += timedelta(hours=2)
    keeping.sweep()

    with pytest.raises(NotFoundError):
        world.coordinator.get(old.id)
    assert world.coordinator.get(running.id)
    assert world.coordinator.get(damaged.id)


# --- workflows are looked at -----------------------------------------------------


def test_a_step_is_shown_as_its_job_stands(world):
    signed = world.begin(a=[])
    world.claim(world.store.get(signed.digests["a"]))

    [step] = world.coordinator.status(signed.id).steps

    assert (step.status, step.started_at) == (StepStatus.RUNNING, world.clock.at)
    assert step.job_id == job_id(signed, "a")


def test_the_result_is_that_of_the_steps_that_nothing_depends_on(world):
    signed = world.begin(
        a=[], b=["a"], c=[], d={"depends_on": [], "on_failure": "continue"}
    )
    for name in "abc":
        world.finish(signed, name, result=f"result of {name}")
    world.finish(signed, "d", event=Event.FAILED, reason="exit_code", exit_code=1)

    ending = world.coordinator.result(signed.id, wait=NOTHING)

    assert ending.record.status is WorkflowStatus.COMPLETED
    assert ending.results == {
        "b": "result of b",
        "c": "result of c",
        "d": None,
    }


def test_the_result_of_another_job_is_not_shown_as_that_of_a_step(world):
    world.workflows.__class__ = WrittenWorkflows
    signed, other = world.begin(a=[], b=["a"]), world.begin(a=[])
    for name in "ab":
        world.finish(signed, name, result=f"result of {name}")
    world.finish(other, "a", result="of another run")

    for digest in (signed.digests["a"], other.digests["a"]):
        world.workflows.put_job(signed.digest, 1, digest=digest)
        ending = world.coordinator.result(signed.id, wait=NOTHING)
        assert ending.results == {"b": None}


@pytest.mark.parametrize("field", ["id", "context_id", "caller_id", "name"])
def test_a_workflow_is_not_shown_under_another_name(world, field):
    world.workflows.__class__ = WrittenWorkflows
    signed = world.begin(a=[])
    world.workflows.put_outline(signed.digest, **{field: "lab"})

    for look in (
        world.coordinator.status,
        world.coordinator.get,
        world.coordinator.explain,
        lambda digest: world.coordinator.jobs(digest, ["a"]),
    ):
        with pytest.raises(DamagedError, match="not what was signed"):
            look(signed.digest)
    world.coordinator.stop(signed.digest)


def test_a_result_is_not_waited_for_longer_than_asked(world):
    signed = world.begin(a=[])

    with pytest.raises(NotOverError, match="running still"):
        world.coordinator.result(signed.id, wait=NOTHING)


def test_the_manifest_is_shown_as_it_was_signed(world):
    signed = world.begin(a=[])

    record, envelope = world.coordinator.get(signed.id)

    assert record.outline.digest == signed.digest
    assert dsse.to_wire(envelope) == signed.manifest


def test_a_workflow_is_found_by_its_digest_too(world):
    signed = world.begin(a=[])

    assert world.coordinator.get(signed.digest)[0].outline.id == signed.id
    for unknown in ("0" * 64, "00000000-0000-4000-8000-000000000000", "x"):
        with pytest.raises(NotFoundError):
            world.coordinator.get(unknown)


def test_a_workflow_is_explained_as_a_plan(world):
    signed = world.begin(a=[], b=["a"], c=["a"], d=["b", "c"])

    plan = world.coordinator.explain(signed.id).to_wire()

    assert plan["edges"] == 4
    assert plan["chords"] == [{"step": "d", "size": 2, "header": ["b", "c"]}]


# --- within contexts -------------------------------------------------------------


def test_what_lies_in_other_contexts_does_not_exist(world):
    signed = world.begin(a=[])
    theirs = world.coordinator.within(frozenset({"lab"}))

    for ask in (
        theirs.get,
        theirs.status,
        theirs.stop,
        theirs.delete,
        theirs.start,
        theirs.explain,
    ):
        for name in (signed.id, signed.digest):
            with pytest.raises(NotFoundError):
                ask(name)
    assert theirs.list(WorkflowFilter(), limit=10) == ()
    with pytest.raises(NotCoveredError) as refusal:
        theirs.submit(*both(world.workflow(a=[])))
    assert refusal.value.reason == "auth.context"


def both(signed):
    return signed.manifest, signed.jobs


def test_within_its_context_all_is_as_ever(world):
    own = world.coordinator.within(frozenset({"billing"}))

    own.submit(*both(world.workflow(a=[])))

    [record] = own.list(WorkflowFilter(), limit=10)
    assert own.status(record.outline.id).record == record


def test_an_id_in_two_contexts_is_ambiguous(world):
    first = world.begin(a=[])
    other = world.workflow(
        a=[],
        jobs={
            "manifest": {"workflow_id": first.id, "context_id": "lab"},
            "a": {"context_id": "lab"},
        },
    )
    submit(world, other)

    with pytest.raises(IdAmbiguous, match="name the workflow by its digest"):
        world.coordinator.get(first.id)
    assert world.coordinator.get(other.digest)[0].outline.context_id == "lab"


def test_a_manifest_that_was_put_there_by_others_is_not_believed(world):
    signed = world.begin(a=[])
    other = world.workflow(a=[], b=[])
    text = json.dumps(other.manifest)
    world.workflows._entries[signed.digest].manifest = text  # noqa: SLF001 - be whoever writes to the store

    with pytest.raises(DamagedError, match="is not it"):
        world.coordinator.get(signed.id)


# --- workflows go ----------------------------------------------------------------


def test_a_stop_ends_what_runs_and_starts_nothing_else(world):
    signed = world.begin(a=[], b=[], c=["a"])
    world.claim(world.store.get(signed.digests["a"]))

    record = world.coordinator.stop(signed.id)

    assert record.status is WorkflowStatus.RUNNING
    assert world.store.get(signed.digests["a"]).status is Status.STOPPING
    assert world.store.get(signed.digests["b"]).status is Status.STOPPED
    running = world.store.get(signed.digests["a"])
    world.settle(running, event=Event.STOPPED, exit_code=None)
    world.hear()
    assert world.statuses(signed) == {"a": "stopped", "b": "stopped", "c": "skipped"}
    assert world.coordinator.stop(signed.id).status is WorkflowStatus.STOPPED
    assert len(world.store.list(Filter(), limit=10)) == 2


def test_a_step_that_was_taken_when_its_workflow_was_stopped_never_starts(world):
    signed = world.workflow(a=[])
    submit(world, signed)
    now = world.clock.at
    world.workflows.take(signed.digest, at=now, limit=1, until=now + 5 * SECOND)

    record = world.coordinator.stop(signed.id)

    assert record.status is WorkflowStatus.STOPPED
    assert world.dispatcher.bells == []
    assert world.statuses(signed) == {"a": "stopped"}


def test_a_workflow_that_was_only_created_stops_at_once(world):
    signed = world.workflow(a=[])
    world.coordinator.create(signed.manifest)

    assert world.coordinator.stop(signed.id).status is WorkflowStatus.STOPPED


def test_a_deleted_workflow_is_stopped_and_forgotten(world):
    signed = world.begin(a=[], b=["a"])

    world.coordinator.delete(signed.id)

    with pytest.raises(NotFoundError):
        world.coordinator.get(signed.id)
    assert world.store.get(signed.digests["a"]).status is Status.STOPPED
