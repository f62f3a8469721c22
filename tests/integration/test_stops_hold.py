"""A stop that was answered is followed by no start, whatever is done to Redis."""

from __future__ import annotations

import json
import shutil
import statistics
import textwrap
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import pytest

from horus_celery import admission, wiring
from horus_celery.journal import Journal
from horus_celery.lifecycle import Status
from horus_celery.settings import load_settings
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import Job

pytestmark = pytest.mark.integration

GRACE = 1.0  # seconds
DEAF = textwrap.dedent("""
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ready", flush=True)
    time.sleep(600)
""")


@pytest.fixture
def start(private_deployment):
    def do():
        return private_deployment.start_worker(
            "-Q", "python,system", "-c", "2", env={"HORUS_STOP_GRACE": str(int(GRACE))}
        )

    return do


@pytest.fixture
def journal(private_deployment):
    with closing(Journal(private_deployment.state.journal)) as journal:
        yield journal


@pytest.fixture
def witnessed(tmp_path):
    """A script that leaves a mark when it starts, and the mark."""
    mark = tmp_path / "started"
    return f"open({str(mark)!r}, 'a').write('started')", mark


@contextmanager
def supervisor_elsewhere(deployment):
    """Run a supervisor of the same deployment on a machine of its own."""
    home = deployment.folder / "elsewhere"
    state = deployment.state
    home.mkdir(mode=0o700)
    for file in (state.root_pub, state.trust_file):
        shutil.copy(file, home)
    # The supervisors of a deployment share what HeroDB's passwords are made of.
    (home / "secrets").mkdir(mode=0o700)
    shutil.copy(state.herodb_master_file, home / "secrets")
    settings = load_settings(env={**deployment.env, "HORUS_STATE_DIR": str(home)})
    supervisor = wiring.make_supervisor(settings)
    try:
        yield supervisor
    finally:
        supervisor.close()


def queue_by_hand(deployment, envelope):
    """Queue and ring a job, as whoever can write to Redis does, past every check."""
    text = json.dumps(envelope)
    signed = dsse.read(text, dsse.JOB)
    job = Job.from_wire(canonical.parse(signed.body))
    admitted = admission.Admitted(
        job=job, digest=signed.digest, envelope=text, signed_by=()
    )
    record = deployment.store.add(
        admission.summary(admitted),
        text,
        at=datetime.now(UTC),
        priority=4,
        not_before=None,
        queue="python",
    )
    wiring.make_dispatcher(deployment.settings).ring(job.id, "python", 4)
    return record


def submitted(supervisor, envelope):
    return supervisor.create_and_queue(envelope, priority=4, not_before=None)


def test_what_was_stopped_while_its_runner_was_away_does_not_start_after_a_flush(
    private_deployment, start, witnessed
):
    script, mark = witnessed
    envelope = private_deployment.envelope(script)
    record = submitted(private_deployment.supervisor, envelope)
    stopped = private_deployment.supervisor.stop(record.summary.id)
    assert stopped.status is Status.STOPPED
    private_deployment.redis.flushall()
    queue_by_hand(private_deployment, envelope)
    start()
    over = private_deployment.over(record)
    assert (over.status, over.reason) == (Status.REJECTED, "claim.stopped")
    assert not mark.exists()


def test_what_was_stopped_on_another_machine_does_not_start_after_a_flush(
    private_deployment, start, journal, witnessed
):
    script, mark = witnessed
    start()
    later = datetime(2100, 1, 1, tzinfo=UTC)
    envelope = private_deployment.envelope(script)
    with supervisor_elsewhere(private_deployment) as supervisor:
        record = supervisor.create_and_queue(envelope, priority=4, not_before=later)
        assert supervisor.stop(record.summary.id).status is Status.STOPPED
    private_deployment.until(lambda: journal.is_stopped(record.summary.digest))
    private_deployment.redis.flushall()
    queue_by_hand(private_deployment, envelope)
    over = private_deployment.over(record)
    assert (over.status, over.reason) == (Status.REJECTED, "claim.stopped")
    assert not mark.exists()


def test_a_record_that_is_put_back_is_refused_by_a_node_that_heard_nothing(
    private_deployment, start, journal, witnessed
):
    script, mark = witnessed
    with supervisor_elsewhere(private_deployment) as supervisor:
        record = submitted(supervisor, private_deployment.envelope(script))
        supervisor.stop(record.summary.id)
    redis, digest = private_deployment.redis, record.summary.digest
    keys = f"{private_deployment.namespace}:"
    # What the keepers read is gone, so that only the claim itself can find it.
    redis.delete(f"{keys}stops")
    redis.hset(f"{keys}job:{digest}", "status", "queued")
    redis.hdel(f"{keys}job:{digest}", "ended_at")
    start()
    wiring.make_dispatcher(private_deployment.settings).ring(
        record.summary.id, "python", 4
    )
    private_deployment.until(
        lambda: private_deployment.store.get(digest).status is Status.REJECTED
    )
    assert private_deployment.store.get(digest).reason == "claim.stopped"
    assert journal.is_stopped(digest)
    assert not mark.exists()


@pytest.mark.parametrize("how", ["stop", "delete"])
def test_the_envelope_of_a_stopped_job_starts_nothing_when_it_comes_again(
    private_deployment, start, witnessed, how
):
    script, mark = witnessed
    envelope = private_deployment.envelope(script)
    record = submitted(private_deployment.supervisor, envelope)
    getattr(private_deployment.supervisor, how)(record.summary.id)
    start()
    again = submitted(private_deployment.supervisor, envelope)
    assert (again.summary.id, again.status) == (record.summary.id, Status.STOPPED)
    # Whatever was to come of it has come by the time that another one is through.
    assert private_deployment.run("print(1)").status is Status.COMPLETED
    assert not mark.exists()


def test_a_queued_job_is_stopped_within_a_tenth_of_a_second(private_deployment):
    took = []
    for _ in range(9):
        record = private_deployment.submit("print(1)")
        began = time.monotonic()
        stopped = private_deployment.supervisor.stop(record.summary.id)
        took.append(time.monotonic() - began)
        assert stopped.status is Status.STOPPED
    # One of them may have met a disk that was busy with something else.
    assert statistics.median(took) < 0.1


@pytest.mark.parametrize("how", ["stop", "delete"])
def test_a_script_that_does_not_listen_is_gone_a_second_after_the_grace(
    private_deployment, start, how
):
    start()
    record = private_deployment.submit(DEAF)
    private_deployment.until_it_says(record, "ready")
    began = time.monotonic()
    getattr(private_deployment.supervisor, how)(record.summary.id)
    if how == "stop":
        assert private_deployment.over(record).status is Status.STOPPED
    assert GRACE - 0.1 < time.monotonic() - began < GRACE + 1
    private_deployment.until(lambda: not private_deployment.processes_below_workers())


@pytest.mark.parametrize("lie", ["running", "completed", "no record"])
def test_a_script_is_ended_whatever_its_record_says_when_it_is_stopped(
    private_deployment, start, lie
):
    start()
    record = private_deployment.submit(DEAF)
    private_deployment.until_it_says(record, "ready")
    key = f"{private_deployment.namespace}:job:{record.summary.digest}"
    if lie == "completed":
        private_deployment.redis.hset(key, "status", lie)
    private_deployment.supervisor.stop(record.summary.id)
    if lie == "running":
        private_deployment.redis.hset(key, "status", lie)
    if lie == "no record":
        private_deployment.redis.delete(key)
    private_deployment.until(lambda: not private_deployment.processes_below_workers())
