"""What is signed of a workflow is what a runner lets run, in that order alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from horus_celery.authoring.drafts import (
    MAX_INPUT,
    EarlierJob,
    StepDraft,
    StepResult,
    WorkflowDraft,
)
from horus_celery.authoring.signing import sign
from horus_celery.errors import InputError, MalformedError, WorkflowError
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import MAX_NEEDS, Job
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.manifest import Manifest

HEX = "0" * 64


def draft(*steps, **facts):
    return WorkflowDraft(**{"name": "etl", "steps": steps} | facts)


def step(name, *parents, **facts):
    return StepDraft(**{"name": name, "payload": "", "depends_on": parents} | facts)


@pytest.fixture
def signed(deployment):
    def make(*steps, **facts):
        return sign(draft(*steps, **facts), deployment.signer, now=deployment.now)

    return make


def test_the_manifest_says_what_was_written(signed, deployment):
    submission = signed(
        step("a", supervisor="far"),
        step("b", "a", when="all_done", on_failure="continue"),
        max_parallel=3,
        lifetime=timedelta(hours=2),
    )
    manifest = Manifest.from_wire(canonical.parse(submission.envelope.body))
    assert manifest == submission.manifest
    assert (manifest.aud, manifest.caller_id) == ("hero", "alice")
    assert (manifest.context_id, manifest.name) == ("billing", "etl")
    assert (manifest.max_parallel, manifest.created_at) == (3, deployment.now)
    assert manifest.expires_at == deployment.now + timedelta(hours=2)
    a, b = manifest.steps
    assert (a.name, a.supervisor, a.when, a.on_failure) == (
        "a",
        "far",
        "all_success",
        "fail",
    )
    assert (b.depends_on, b.when, b.on_failure) == (("a",), "all_done", "continue")
    assert submission.envelope.kind == dsse.WORKFLOW
    assert submission.id == manifest.id


def test_a_job_says_what_its_step_says(signed):
    limits = {"memory_mb": 64}
    job = (
        signed(
            step(
                "a",
                payload="echo",
                executor="system",
                runner="r1",
                args=("x",),
                env_vars={"A": "1"},
                secrets=("token",),
                timeout=timedelta(seconds=5),
                limits=limits,
                net="herodb",
                attempts=3,
            )
        )
        .jobs["a"]
        .job
    )
    assert (job.payload, job.executor, job.runner) == ("echo", "system", "r1")
    assert (job.args, dict(job.env_vars), job.secrets) == (
        ("x",),
        {"A": "1"},
        ("token",),
    )
    assert (job.timeout, job.net, job.attempts) == (timedelta(seconds=5), "herodb", 3)
    assert (job.limits.memory_mb, job.limits.procs) == (64, 64)


def test_a_job_belongs_to_its_step_of_this_manifest_and_lives_as_long(signed):
    submission = signed(step("a"), step("b", "a"))
    for name, one in submission.jobs.items():
        assert one.job.workflow is not None
        assert one.job.workflow.id == submission.id
        assert one.job.workflow.step == name
        assert one.job.workflow.manifest == submission.digest
        assert one.job.expires_at == submission.manifest.expires_at
        assert Job.from_wire(canonical.parse(one.envelope.body)) == one.job


def test_a_step_needs_the_jobs_before_it_in_the_order_of_the_manifest(signed):
    submission = signed(step("d", "c", "a"), step("c"), step("a"))
    digests = {name: one.envelope.digest for name, one in submission.jobs.items()}
    assert submission.jobs["d"].job.needs == (digests["c"], digests["a"])


@pytest.mark.parametrize("when", ["all_done", "one_failed", "none_failed"])
def test_a_step_that_may_run_after_a_failure_needs_no_completion(signed, when):
    submission = signed(step("a"), step("b", "a", when=when, needs=(HEX,)))
    assert submission.jobs["b"].job.needs == (HEX,)
    assert submission.manifest.steps[1].depends_on == ("a",)


def test_jobs_of_earlier_runs_are_needed_behind_those_of_this_one(signed):
    submission = signed(step("a"), step("b", "a", needs=(HEX,)))
    digest = submission.jobs["a"].envelope.digest
    assert submission.jobs["b"].job.needs == (digest, HEX)


def test_a_step_depends_on_those_whose_results_it_takes(signed):
    inputs = {"X": StepResult(step="b"), "Y": StepResult(step="a", max_bytes=5)}
    submission = signed(step("a"), step("b"), step("c", "a", inputs=inputs))
    assert submission.manifest.steps[2].depends_on == ("a", "b")
    job = submission.jobs["c"].job
    assert job.inputs["X"].source == submission.jobs["b"].envelope.digest
    assert (job.inputs["X"].max_bytes, job.inputs["Y"].max_bytes) == (MAX_INPUT, 5)


def test_a_result_of_an_earlier_run_is_named_by_its_digest(signed):
    inputs = {"X": EarlierJob(digest=HEX, max_bytes=7)}
    job = signed(step("a", inputs=inputs)).jobs["a"].job
    assert (job.inputs["X"].source, job.inputs["X"].max_bytes) == (HEX, 7)
    assert job.needs == ()


def test_a_runner_takes_each_step_when_those_before_it_completed(signed, node):
    submission = signed(
        step("load", "clean", inputs={"ROWS": StepResult(step="clean")}),
        step("clean", inputs={"RAW": StepResult(step="extract")}),
        step("extract"),
    )
    seen = {}
    for name, one in submission.jobs.items():
        seen[name] = {each.name: each.data for each in node.start(one.envelope)}
        node.complete(one, f"result of {name}")
    assert seen == {
        "extract": {},
        "clean": {"RAW": b"result of extract"},
        "load": {"ROWS": b"result of clean"},
    }


def test_a_runner_takes_no_step_before_its_turn(signed, node):
    submission = signed(step("a"), step("b", "a"), step("c", "b"))
    node.complete(submission.jobs["a"], "")
    with pytest.raises(InputError) as refusal:
        node.start(submission.jobs["c"].envelope)
    assert refusal.value.reason == "input.missing"


def test_the_same_step_of_another_run_opens_no_way(signed, node):
    steps = (step("a"), step("b", "a"))
    node.complete(signed(*steps).jobs["a"], "yesterday")
    with pytest.raises(InputError) as refusal:
        node.start(signed(*steps).jobs["b"].envelope)
    assert refusal.value.reason == "input.missing"


def test_what_is_handed_in_holds_every_envelope(signed):
    submission = signed(step("a"), step("b", "a"))
    wire = submission.to_wire()
    assert dsse.from_wire(wire["manifest"], dsse.WORKFLOW) == submission.envelope
    assert {
        name: dsse.from_wire(one, dsse.JOB) for name, one in wire["jobs"].items()
    } == {name: one.envelope for name, one in submission.jobs.items()}


def test_whoever_waits_hears_of_every_signature(deployment):
    heard: list[int] = []
    steps = draft(step("a"), step("b"), step("c"))
    sign(steps, deployment.signer, now=deployment.now, on_signed=heard.append)
    assert heard == [1, 2, 3]


def test_every_key_of_the_signer_signs_all_of_it(deployment):
    second = KeyPair.from_seed(b"\7" * 32)
    signer = replace(deployment.signer, keys=[*deployment.signer.keys, second])
    submission = sign(draft(step("a")), signer, now=deployment.now)
    envelopes = [submission.envelope, submission.jobs["a"].envelope]
    assert [len(one.signatures) for one in envelopes] == [2, 2]


def test_what_is_wrong_with_a_job_names_its_step(signed):
    with pytest.raises(MalformedError, match="the step b: timeout: ") as refusal:
        signed(step("a"), step("b", timeout=timedelta(days=2)))
    assert refusal.value.reason == "schema.timeout"


def test_a_step_needs_no_more_than_a_job_can_name(signed):
    names = [f"s{number}" for number in range(MAX_NEEDS + 1)]
    roots = [step(name) for name in names]
    whatever = signed(*roots, step("end", *names, when="all_done"))
    assert whatever.jobs["end"].job.needs == ()
    all_but_one = signed(*roots, step("end", *names[1:]))
    assert len(all_but_one.jobs["end"].job.needs) == MAX_NEEDS
    with pytest.raises(MalformedError, match="the step end: it needs 1,025 jobs"):
        signed(*roots, step("end", *names))


def test_unknown_limits_name_their_step(signed):
    with pytest.raises(MalformedError, match="the step a: the field 'cpu' is unknown"):
        signed(step("a", limits={"cpu": 1}))


def test_steps_that_wait_for_each_other_are_not_signed(signed):
    with pytest.raises(WorkflowError) as refusal:
        signed(step("a", "b"), step("b", inputs={"X": StepResult(step="a")}))
    assert refusal.value.reason == "workflow.cycle"
