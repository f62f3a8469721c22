"""A workflow that is written in Python is the one that its file would be."""

from __future__ import annotations

from datetime import timedelta

import pytest

from horus_celery.authoring import EarlierJob, StepResult, Workflow
from horus_celery.errors import ConfigurationError, MalformedError, WorkflowError


def test_steps_stand_behind_those_that_they_name():
    with Workflow("etl", max_parallel=2, lifetime=timedelta(hours=1)) as etl:
        rows = etl.step("extract", run="print(1)")
        clean = etl.step("clean", run="x", after=[rows], inputs={"ROWS": rows})
        etl.step("load", run="y", after=["clean"], inputs={"N": clean.at_most(5)})
    draft = etl.draft()
    assert (draft.name, draft.max_parallel) == ("etl", 2)
    assert draft.lifetime == timedelta(hours=1)
    assert [(one.name, one.parents) for one in draft.steps] == [
        ("extract", ()),
        ("clean", ("extract",)),
        ("load", ("clean",)),
    ]
    assert draft.steps[1].inputs == {"ROWS": StepResult(step="extract")}
    assert draft.steps[2].inputs == {"N": StepResult(step="clean", max_bytes=5)}


def test_a_step_may_take_the_result_of_a_job_that_is_over():
    earlier = EarlierJob(digest="0" * 64)
    flow = Workflow("x")
    flow.step("a", run="", inputs={"X": earlier, "Y": "b"}, needs=["1" * 64])
    (step,) = flow.draft().steps
    assert step.inputs == {"X": earlier, "Y": StepResult(step="b")}
    assert (step.parents, step.needs) == (("b",), ("1" * 64,))


def test_what_a_step_does_not_say_its_workflow_says():
    flow = Workflow(
        "x",
        executor="system",
        timeout=timedelta(seconds=5),
        env={"A": "1", "B": "1"},
        attempts=3,
        supervisor="far",
    )
    flow.step("a", run="")
    flow.step(
        "b",
        run="",
        executor="python",
        timeout=timedelta(seconds=7),
        env={"B": "2"},
        attempts=1,
        supervisor="near",
    )
    a, b = flow.draft().steps
    assert (a.executor, a.timeout, a.attempts) == ("system", timedelta(seconds=5), 3)
    assert (a.env_vars, a.supervisor) == ({"A": "1", "B": "1"}, "far")
    assert (b.executor, b.timeout, b.attempts) == ("python", timedelta(seconds=7), 1)
    assert (b.env_vars, b.supervisor) == ({"A": "1", "B": "2"}, "near")


@pytest.mark.parametrize(
    ("name", "executor"),
    [
        ("a.py", "python"),
        ("a.sh", "system"),
        ("a.bash", "system"),
        ("a.txt", "osis"),
        ("a.rhai", "osis"),
    ],
)
def test_a_file_says_what_runs_it(tmp_path, name, executor):
    (tmp_path / name).write_text("échø")
    flow = Workflow("x", executor="osis")
    flow.step("a", file=tmp_path / name)
    (step,) = flow.draft().steps
    assert (step.payload, step.executor) == ("échø", executor)


def test_a_script_is_python_if_nobody_says_otherwise():
    flow = Workflow("x")
    flow.step("a", run="")
    assert flow.draft().steps[0].executor == "python"


def test_a_script_in_rhai_is_python_for_nobody(tmp_path):
    (tmp_path / "a.rhai").write_text("1 + 1")
    with pytest.raises(ConfigurationError, match="may be for osis or sal"):
        Workflow("x").step("a", file=tmp_path / "a.rhai")


@pytest.mark.parametrize("script", [{}, {"run": "", "file": "a.py"}])
def test_a_step_needs_one_script(script):
    with pytest.raises(ConfigurationError, match="the step a needs one script"):
        Workflow("x").step("a", **script)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"cannot read the script .*/no\.py"):
        Workflow("x").step("a", file=tmp_path / "no.py")
    (tmp_path / "bad.py").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"bad\.py is not UTF-8 text"):
        Workflow("x").step("a", file=tmp_path / "bad.py")


def test_a_name_is_taken_once():
    flow = Workflow("x")
    flow.step("a", run="")
    with pytest.raises(ConfigurationError, match="has a step a already"):
        flow.step("a", run="")


def test_a_block_ends_only_if_its_steps_can_be_run():
    with pytest.raises(WorkflowError) as refusal, Workflow("x") as flow:
        flow.step("a", run="", after=["b"])
    assert refusal.value.reason == "workflow.unknown_step"


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("a", {"when": "never"}, "the step a: when: "),
        ("a", {"on_failure": "stop"}, "the step a: on_failure: "),
        ("a b", {}, "the step a b: name: must be a name"),
    ],
)
def test_what_the_manifest_cannot_say_is_told_with_its_step(name, given, said):
    flow = Workflow("x")
    flow.step("first", run="")
    flow.step(name, run="", **given)
    with pytest.raises(MalformedError) as refusal:
        flow.plan()
    assert refusal.value.detail.startswith(said)


def test_a_block_without_a_step_is_no_workflow():
    with (
        pytest.raises(MalformedError, match="the workflow x has no step"),
        Workflow("x"),
    ):
        pass


def test_an_error_in_a_block_is_not_hidden_by_what_it_left_undone():
    flow = Workflow("x")
    flow.step("a", run="", after=["b"])
    with pytest.raises(LookupError), flow:
        raise LookupError


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"timeout": 30}, "timeout must be a timedelta, such as timedelta(seconds=30)"),
        ({"after": "extract"}, 'after must be a list, such as ["…"]'),
        ({"after": None}, "after must be a list"),
        ({"after": [1]}, "after must name a step: by its name, or by what step()"),
        ({"args": "--all"}, "args must be a list"),
        ({"needs": "0" * 64}, "needs must be a list"),
        ({"secrets": b"key"}, "secrets must be a list"),
        ({"inputs": ["extract"]}, 'inputs must be a dictionary, such as {"NAME": …}'),
        ({"inputs": {"ROWS": 1}}, "inputs.ROWS must name a step"),
        ({"env": "A=1"}, "env must be a dictionary"),
        ({"limits": 512}, "limits must be a dictionary"),
    ],
)
def test_what_a_step_is_given_is_of_the_kind_that_it_must_be(given, said):
    with pytest.raises(ConfigurationError) as refusal:
        Workflow("x").step("a", run="", **given)
    assert refusal.value.detail.startswith(f"the step a: {said}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lifetime": 3600}, "lifetime must be a timedelta"),
        ({"timeout": "30"}, "timeout must be a timedelta"),
        ({"env": ["A"]}, "env must be a dictionary"),
    ],
)
def test_what_a_workflow_is_given_is_of_the_kind_that_it_must_be(given, said):
    with pytest.raises(ConfigurationError) as refusal:
        Workflow("x", **given)
    assert refusal.value.detail.startswith(f"the workflow x: {said}")


def test_a_workflow_shows_its_plan_and_is_signed(deployment):
    with Workflow("x") as flow:
        a = flow.step("a", run="")
        flow.step("b", run="", after=[a])
    assert flow.plan().critical_path == (0, 1)
    submission = flow.sign(deployment.signer, now=deployment.now)
    assert list(submission.jobs) == ["a", "b"]
