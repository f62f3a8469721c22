"""What failed runs again with what follows it, fed by what completed before."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from horus_celery.authoring.drafts import (
    EarlierJob,
    StepDraft,
    StepResult,
    WorkflowDraft,
)
from horus_celery.authoring.rerun import read_back, rerun
from horus_celery.authoring.signing import sign
from horus_celery.dag.progress import ENDS, Decision, End, StepStatus, follows, run
from horus_celery.errors import (
    ConfigurationError,
    InputError,
    SignatureError,
    WorkflowError,
)
from horus_celery.lifecycle import Status
from horus_celery.statements import dsse
from horus_celery.statements.job import usual_net
from horus_celery.statements.keys import KeyPair
from tests.coordinator import NOW, make_signer

HEX = "0" * 64
WHENS = ["all_success", "all_done", "one_failed", "none_failed"]


def step(name, *parents, **facts):
    return StepDraft(**{"name": name, "payload": "", "depends_on": parents} | facts)


def signed(*steps, **facts):
    draft = WorkflowDraft(**{"name": "etl", "steps": steps} | facts)
    return sign(draft, make_signer(), now=NOW)


def ends(submission, **told):
    """Return how a workflow ended whose jobs ended as told, else completed."""
    graph = submission.graph
    result = run(graph, lambda step: Status(told.get(graph.names[step], "completed")))
    return dict(zip(graph.names, result.statuses, strict=True))


ETL = (
    step("extract"),
    step("clean", inputs={"ROWS": StepResult(step="extract", max_bytes=99)}),
    step("count", "extract"),
    step("load", inputs={"R": StepResult(step="clean"), "N": StepResult(step="count")}),
)


def test_what_failed_and_what_follows_runs_again_and_nothing_else():
    submission = signed(*ETL)
    again = rerun(submission, ends(submission, clean="failed"))
    assert again.again == {"clean": "failed", "load": "skipped"}
    assert again.kept == {"extract": "completed", "count": "completed"}


def test_what_completed_is_named_by_its_job():
    submission = signed(*ETL)
    digests = {name: one.envelope.digest for name, one in submission.jobs.items()}
    clean, load = rerun(submission, ends(submission, clean="failed")).draft.steps
    assert clean.parents == ()
    assert clean.needs == (digests["extract"],)
    assert clean.inputs == {"ROWS": EarlierJob(digest=digests["extract"], max_bytes=99)}
    assert load.parents == ("clean",)
    assert load.needs == (digests["count"],)
    assert load.inputs == {
        "R": StepResult(step="clean"),
        "N": EarlierJob(digest=digests["count"]),
    }


def test_a_rerun_is_taken_by_runners_that_have_the_first_run(node):
    first = signed(*ETL)
    for name in ("extract", "count"):
        node.complete(first.jobs[name], f"first {name}")
    draft = rerun(first, ends(first, clean="failed")).draft
    second = sign(draft, make_signer(), now=NOW)
    (rows,) = node.start(second.jobs["clean"].envelope)
    assert (rows.name, rows.data) == ("ROWS", b"first extract")
    with pytest.raises(InputError):
        node.start(second.jobs["load"].envelope)
    node.complete(second.jobs["clean"], "second clean")
    given_ = {one.name: one.data for one in node.start(second.jobs["load"].envelope)}
    assert given_ == {"R": b"second clean", "N": b"first count"}


def test_a_step_keeps_all_that_it_said():
    full = step(
        "b",
        "a",
        payload="x",
        executor="system",
        when="none_failed",
        on_failure="continue",
        supervisor="far",
        runner="r1",
        args=("1",),
        env_vars={"A": "1"},
        secrets=("token",),
        inputs={"X": StepResult(step="a"), "OLD": EarlierJob(digest=HEX)},
        needs=(HEX,),
        timeout=timedelta(seconds=5),
        limits={"memory_mb": 16, "cpu_s": 1, "procs": 1, "output_kb": 1},
        net="herodb",
        attempts=3,
    )
    submission = signed(step("a"), full, max_parallel=2, lifetime=timedelta(hours=3))
    draft = rerun(submission, ends(submission, a="failed")).draft
    assert draft.steps[1] == full
    assert (draft.name, draft.max_parallel) == ("etl", 2)
    assert draft.lifetime == timedelta(hours=3)


def test_a_step_that_was_mended_runs_again_as_it_is_written_now():
    submission = signed(*ETL)
    digests = {name: one.envelope.digest for name, one in submission.jobs.items()}
    mended = [
        replace(ETL[0], payload="changed, and kept as it ran"),
        replace(ETL[1], payload="mended", needs=(HEX,)),
        ETL[2],
        replace(ETL[3], payload="as well", when="all_done"),
    ]
    edited = WorkflowDraft(name="other", steps=tuple(mended))
    again = rerun(submission, ends(submission, clean="failed"), edited=edited)
    clean, load = again.draft.steps
    assert (clean.payload, clean.parents) == ("mended", ())
    assert clean.needs == (digests["extract"], HEX)
    assert clean.inputs == {"ROWS": EarlierJob(digest=digests["extract"], max_bytes=99)}
    assert (load.payload, load.parents, load.needs) == ("as well", ("clean",), ())
    assert load.inputs == {
        "R": StepResult(step="clean"),
        "N": EarlierJob(digest=digests["count"]),
    }
    assert list(again.kept) == ["extract", "count"]


def test_what_is_written_as_before_runs_again_as_before():
    submission = signed(*ETL)
    ended = ends(submission, clean="failed")
    edited = rerun(submission, ended, edited=WorkflowDraft(name="etl", steps=ETL)).draft
    for new, old in zip(
        edited.steps, rerun(submission, ended).draft.steps, strict=True
    ):
        # What a draft leaves open, its job says.
        told = replace(new, limits={}, net=usual_net(new.executor))
        assert told == replace(old, limits={})


def test_a_step_that_has_to_run_again_must_still_be_there():
    submission = signed(*ETL)
    edited = WorkflowDraft(name="etl", steps=ETL[:-1])
    with pytest.raises(ConfigurationError, match="the step load has to run again"):
        rerun(submission, ends(submission, clean="failed"), edited=edited)


def test_a_step_cannot_wait_for_what_never_runs():
    submission = signed(step("a"), step("alarm", "a", when="one_failed"), step("b"))
    edited = WorkflowDraft(
        name="x", steps=(step("a"), step("alarm", "a"), step("b", "alarm"))
    )
    with pytest.raises(ConfigurationError, match="b now depends on alarm, which has"):
        rerun(submission, ends(submission, b="failed"), edited=edited)


def test_an_alarm_that_rang_does_not_ring_again():
    submission = signed(step("a"), step("alarm", "a", when="one_failed"))
    again = rerun(submission, ends(submission, a="failed"))
    assert again.again == {"a": "failed"}
    assert again.kept == {"alarm": "completed"}


def test_an_alarm_that_had_no_reason_stays_silent():
    submission = signed(
        step("a"),
        step("alarm", "a", when="one_failed"),
        step("b"),
        step("end", "alarm", "b"),
    )
    again = rerun(submission, ends(submission, b="failed"))
    # The end waits for an alarm that was skipped: it would be skipped once more.
    assert again.again == {"b": "failed"}


def test_an_alarm_behind_what_failed_may_ring_for_the_second_run():
    submission = signed(
        step("a"), step("b", "a"), step("alarm", "b", when="one_failed")
    )
    again = rerun(submission, ends(submission, a="failed"))
    assert list(again.again) == ["a", "b", "alarm"]


def test_what_a_stop_kept_from_running_runs_again():
    submission = signed(step("a"), step("b", "a"), step("c", "b"), step("x"))
    ended = {
        "a": StepStatus.COMPLETED,
        "b": StepStatus.STOPPED,
        "c": StepStatus.SKIPPED,
        "x": StepStatus.SKIPPED,
    }
    assert list(rerun(submission, ended).again) == ["b", "c", "x"]


def test_what_completed_as_a_whole_has_nothing_to_run_again():
    submission = signed(*ETL)
    with pytest.raises(ConfigurationError, match="nothing to run again"):
        rerun(submission, ends(submission))


@st.composite
def workflows(draw):
    size = draw(st.integers(1, 8))
    steps = [
        step(
            f"s{number}",
            *(
                f"s{one}"
                for one in sorted(draw(st.sets(st.integers(0, number - 1))))
                if number
            ),
            when=draw(st.sampled_from(WHENS)),
        )
        if number
        else step("s0")
        for number in range(size)
    ]
    outcomes = draw(
        st.lists(st.sampled_from(["completed", "failed"]), min_size=size, max_size=size)
    )
    return signed(*steps), {f"s{n}": one for n, one in enumerate(outcomes)}


@given(workflows())
@settings(deadline=None)
def test_nothing_that_completed_runs_again_and_all_that_failed_does(case):
    submission, told = case
    ended = ends(submission, **told)
    failed = {name for name, one in ended.items() if ENDS[one] is End.FAILED}
    if not failed:
        with pytest.raises(ConfigurationError):
            rerun(submission, ended)
        return
    again = rerun(submission, ended)
    assert failed <= again.again.keys()
    completed = {name for name, one in ended.items() if one == "completed"}
    assert not completed & again.again.keys()
    assert again.again.keys() | again.kept.keys() == ended.keys()
    # What it needs of the first run has completed there.
    digests = {one.envelope.digest: n for n, one in submission.jobs.items()}
    for one in again.draft.steps:
        assert {digests[digest] for digest in one.needs} <= completed
    # With what the second run gives in their places, the rules of the first hold.
    second = sign(again.draft, make_signer(), now=NOW)
    merged = {**again.kept, **ends(second)}
    graph = submission.graph
    known = {step: merged[name] for step, name in enumerate(graph.names)}
    for name, decision in zip(graph.names, follows(graph, known), strict=True):
        if name in again.again:
            assert (merged[name] == "skipped") is (decision is Decision.SKIP)


# --- what was kept -----------------------------------------------------------------


def kept(submission):
    wire = submission.to_wire()
    return wire["manifest"], wire["jobs"]


def read(kept, keys):
    manifest, jobs = kept
    return read_back(manifest, jobs, keys)


KEYS = {key.keyid: key.public for key in make_signer().keys}
FOREIGN = KeyPair.from_seed(b"\7" * 32)


def test_what_was_signed_is_read_back():
    submission = signed(*ETL)
    assert read(kept(submission), KEYS) == submission


def test_what_another_key_signed_is_not_signed_again():
    keys = {FOREIGN.keyid: FOREIGN.public}
    with pytest.raises(SignatureError, match="the manifest was signed by no key"):
        read(kept(signed(*ETL)), keys)


def test_a_job_that_somebody_slipped_in_is_not_signed_again():
    submission = signed(*ETL)
    manifest, jobs = kept(submission)
    job = submission.jobs["load"].job.model_copy(update={"payload": "evil"})
    forged = dsse.sign(dsse.JOB, job.body(), [FOREIGN])
    with pytest.raises(
        SignatureError, match="the job of step load was signed by no key"
    ):
        read_back(manifest, {**jobs, "load": dsse.to_wire(forged)}, KEYS)


@pytest.mark.parametrize("name", ["clean", "load"])
def test_a_job_of_another_step_or_run_is_not_signed_again(name):
    manifest, jobs = kept(signed(*ETL))
    others = kept(signed(*ETL))[1] if name == "load" else jobs
    with pytest.raises(WorkflowError) as refusal:
        read_back(manifest, {**jobs, "load": others[name]}, KEYS)
    assert refusal.value.reason == "workflow.job_mismatch"


def test_a_job_that_is_not_there_is_named():
    manifest, jobs = kept(signed(*ETL))
    del jobs["count"]
    with pytest.raises(WorkflowError, match="the job of step count is not there"):
        read_back(manifest, jobs, KEYS)
