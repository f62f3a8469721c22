"""Workflows on real workers, and a coordinator that would bend them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from horus_celery.dag.progress import WorkflowStatus
from horus_celery.lifecycle import Status
from horus_celery.statements import dsse
from horus_celery.statements.job import InputRef
from horus_celery.store import bell
from horus_celery.store.keys import Keys
from horus_celery.store.packing import pack
from horus_celery.store.runner_bell import message
from tests.hostile import hostile_items

pytestmark = pytest.mark.integration

READ = """
import os, pathlib
print(pathlib.Path(os.environ["HORUS_INPUTS"], "rows").read_text(), end="")
"""


@pytest.fixture(scope="module")
def runner(deployment):
    return deployment.start_worker("-Q", "python", "-c", "2", "-l", "INFO")


@pytest.fixture(scope="module")
def coordinator(deployment, runner):
    return deployment.start_coordinator("-l", "INFO")


def reads_a(digests):
    """Say what a job says that is given the result of a as data."""
    source = {"from": digests["a"], "max_bytes": 100}
    return {"payload": READ, "inputs": {"rows": InputRef.from_wire(source)}}


def said(name):
    return {"payload": f"print({name!r})"}


# --- they run --------------------------------------------------------------------


def test_steps_run_in_order_and_the_last_results_are_returned(deployment, coordinator):
    jobs = {name: said(name) for name in "abcd"}
    signed = deployment.submit_workflow(a=[], b=["a"], c=["a"], d=["b", "c"], jobs=jobs)

    ending = deployment.ending_of(signed)

    assert ending.record.status is WorkflowStatus.COMPLETED
    assert ending.results == {"d": "d\n"}
    records = [deployment.store.get(signed.digests[name]) for name in "abcd"]
    assert all(record.status is Status.COMPLETED for record in records)
    a, b, c, d = records
    assert max(b.ended_at, c.ended_at) <= d.started_at
    assert a.ended_at <= min(b.started_at, c.started_at)


def test_the_result_of_a_step_is_the_input_of_another(deployment, coordinator):
    jobs = {"a": said("1, 2, 3"), "b": reads_a}
    signed = deployment.submit_workflow(a=[], b=["a"], jobs=jobs)

    assert deployment.ending_of(signed).results == {"b": "1, 2, 3\n"}


def test_a_failed_step_skips_what_follows(deployment, coordinator):
    jobs = {"a": {"payload": "raise SystemExit(3)"}}
    signed = deployment.submit_workflow(
        a=[], b=["a"], c={"depends_on": ["a"], "when": "all_done"}, jobs=jobs
    )

    ending = deployment.ending_of(signed)

    assert ending.record.status is WorkflowStatus.FAILED
    assert deployment.steps_of(signed) == {
        "a": "failed",
        "b": "skipped",
        "c": "completed",
    }


def test_a_step_that_fails_is_started_again_within_its_attempts(
    deployment, coordinator, tmp_path
):
    flag = tmp_path / "flag"
    payload = f"""
import pathlib
flag = pathlib.Path({str(flag)!r})
if not flag.exists():
    flag.touch()
    raise SystemExit("the first time it fails")
print("the second time not")
"""
    jobs = {"a": {"payload": payload, "attempts": 2}}
    signed = deployment.submit_workflow(a=[], jobs=jobs)

    ending = deployment.ending_of(signed)

    assert ending.record.status is WorkflowStatus.COMPLETED
    assert ending.results == {"a": "the second time not\n"}
    record = deployment.store.get(signed.digests["a"])
    assert record.attempt == 2


def test_a_stopped_workflow_ends_what_runs(deployment, coordinator):
    jobs = {"a": {"payload": "import time; print(1, flush=True); time.sleep(60)"}}
    signed = deployment.submit_workflow(a=[], b=["a"], jobs=jobs)
    deployment.until(lambda: deployment.steps_of(signed)["a"] == "running")

    deployment.coordinator.stop(signed.id)

    ending = deployment.ending_of(signed)
    assert ending.record.status is WorkflowStatus.STOPPED
    assert deployment.steps_of(signed) == {"a": "stopped", "b": "skipped"}


def test_a_hundred_steps_run_at_once(deployment, coordinator):
    middle = {f"m{number}": ["a"] for number in range(100)}
    signed = deployment.submit_workflow(a=[], **middle, z=list(middle))

    ending = deployment.ending_of(signed, wait=timedelta(seconds=40))

    assert ending.record.status is WorkflowStatus.COMPLETED


def test_without_a_worker_of_its_queue_the_api_moves_workflows_on(
    make_deployment, api_of
):
    alone = make_deployment()
    alone.start_worker("-Q", "python", "-c", "1")
    api = api_of(alone)
    signed = alone.sign(a=[], b=["a"])

    api.ask("workflow.submit", manifest=signed.manifest, jobs=signed.jobs)

    told = api.ask("workflow.result", workflow_id=signed.id, wait=20)
    assert told == {"status": "completed", "results": {"b": ""}}


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"HORUS_STATE_DIR": "/nowhere"}, "/nowhere/root.pub cannot be read"),
        ({"CELERY_BROKER_URL": "memory://"}, "unset CELERY_BROKER_URL"),
    ],
)
def test_a_coordinator_that_cannot_serve_says_why_in_one_line(deployment, env, said):
    worker = deployment.start_coordinator(env=env)

    assert worker.wait(20) != 0
    log = deployment.log_of(worker)
    assert said in log
    assert "Traceback" not in log


# --- forged bells ----------------------------------------------------------------


def test_hostile_messages_neither_end_nor_stall_the_coordinator(
    deployment, coordinator
):
    waiting = deployment.sign(a=[], b=["a"])
    deployment.coordinator.create(waiting.manifest)
    forged = [
        *hostile_items(),
        message("0b5e8d6e-6f3c-4c8f-9a53-6a7f0f6f2f11", "x", 4, at=datetime.now(UTC)),
        *(
            bell.message(one, two)
            for one in digests(waiting)
            for two in digests(waiting)
        ),
        bell.message("0" * 64),
        bell.message(waiting.digest).replace(b"horus.advance", b"celery.chord_unlock"),
        bell.message(waiting.digest).replace(b'\\"chord\\": null', b'\\"chord\\": {}'),
        bell.message(waiting.digest).replace(b"[[", b"[[1, "),
    ]
    before = deployment.workflow_of(waiting)
    deployment.redis.lpush(bell.QUEUE, *forged)
    for step in (3, 6, 9):
        deployment.redis.lpush(f"{bell.QUEUE}\x06\x16{step}", *forged[:5])
    deployment.until(lambda: deployment.redis.llen(bell.QUEUE) == 0)

    signed = deployment.submit_workflow(a=[])

    assert deployment.ending_of(signed).record.status is WorkflowStatus.COMPLETED
    assert coordinator.poll() is None
    assert deployment.workflow_of(waiting) == before
    assert "Traceback" not in deployment.log_of(coordinator)


def digests(signed):
    return [signed.digest, *signed.digests.values(), "0" * 64]


# --- an evil coordinator ---------------------------------------------------------
# It has every right in the store and at the supervisor, and no key.


def refused(deployment, envelope):
    """Have a job recorded and queued by whoever likes to, and return its reason."""
    record = deployment.supervisor.create_and_queue(
        envelope, priority=4, not_before=None
    )
    over = deployment.over(record)
    assert over.status is Status.REJECTED
    return over.reason


def test_a_step_does_not_start_before_what_it_needs(deployment, runner):
    signed = deployment.sign(a=[], b=["a"])

    assert refused(deployment, signed.jobs["b"]) == "input.missing"


def test_a_step_does_not_start_on_a_failed_one(deployment, runner):
    signed = deployment.sign(
        a=[], b=["a"], jobs={"a": {"payload": "raise SystemExit(1)"}}
    )
    record = deployment.supervisor.create_and_queue(
        signed.jobs["a"], priority=4, not_before=None
    )
    assert deployment.over(record).status is Status.FAILED

    assert refused(deployment, signed.jobs["b"]) == "input.receipt"


def test_a_step_does_not_take_the_result_of_another_run(deployment, runner):
    first, second = (
        deployment.sign(a=[], b=["a"], jobs={"a": said(name)}) for name in ("1", "2")
    )
    for signed in (first, second):
        record = deployment.supervisor.create_and_queue(
            signed.jobs["a"], priority=4, not_before=None
        )
        assert deployment.over(record).status is Status.COMPLETED
    keys = Keys.of(deployment.namespace)
    mine, other = (keys.record + one.digests["a"] for one in (second, first))

    # The receipt and the result of yesterday's run in the place of today's.
    kept = deployment.redis.hgetall(mine)
    theirs = deployment.redis.hgetall(other)
    deployment.redis.hset(mine, mapping={b"receipt": theirs[b"receipt"]})
    assert refused(deployment, second.jobs["b"]) == "input.receipt"
    deployment.redis.hset(mine, mapping=kept)


def test_a_step_does_not_take_another_result_as_its_input(deployment, runner):
    jobs = {"a": said("true"), "b": reads_a}
    signed = deployment.sign(a=[], b=["a"], jobs=jobs)
    record = deployment.supervisor.create_and_queue(
        signed.jobs["a"], priority=4, not_before=None
    )
    deployment.over(record)
    key = Keys.of(deployment.namespace).record + signed.digests["a"]
    deployment.redis.hset(key, "result", pack("forged"))

    assert refused(deployment, signed.jobs["b"]) == "input.hash"


def test_a_step_of_yesterday_does_not_start_again(deployment, runner):
    signed = deployment.sign(a=[])
    record = deployment.supervisor.create_and_queue(
        signed.jobs["a"], priority=4, not_before=None
    )
    assert deployment.over(record).status is Status.COMPLETED
    key = Keys.of(deployment.namespace).record + signed.digests["a"]
    for field in ("receipt", "result", "ended_at", "exit_code", "tokens"):
        deployment.redis.hdel(key, field)
    deployment.redis.hset(key, "status", "queued")
    deployment.redis.lpush(
        "python", message(record.summary.id, "python", 4, at=datetime.now(UTC))
    )

    over = deployment.over(record)

    assert (over.status, over.reason) == (Status.REJECTED, "claim.replay")


@pytest.mark.parametrize(
    "change",
    [
        {"needs": []},
        {"payload": "print('evil')"},
        {"workflow": None},
        {"expires_at": 253402300799999},
    ],
    ids=["an edge is dropped", "the script", "the run", "the time"],
)
def test_a_changed_job_is_nobodys(deployment, runner, change):
    signed = deployment.sign(a=[], b=["a"])
    envelope = dsse.from_wire(signed.jobs["b"], dsse.JOB)
    body = json.dumps(
        {**json.loads(envelope.body), **change}, sort_keys=True, separators=(",", ":")
    ).encode()
    changed = dsse.Envelope(dsse.JOB, body, envelope.signatures)

    assert deployment.plant(changed) == "sig.none"


def test_a_step_that_was_added_is_nobodys(deployment, runner):
    signed = deployment.sign(a=[])
    envelope = dsse.from_wire(signed.jobs["a"], dsse.JOB)
    body = envelope.body.replace(b'"step":"a"', b'"step":"z"')
    assert body != envelope.body

    added = dsse.Envelope(dsse.JOB, body, envelope.signatures)

    assert deployment.plant(added) == "sig.none"
