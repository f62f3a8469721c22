"""A real worker on a real server, against whoever can write to Redis."""

import json
import time
from datetime import UTC, datetime

import pytest
from celery import Celery
from kombu import pools

from horus_celery.lifecycle import Event, Status
from horus_celery.record import Change
from horus_celery.statements import dsse
from horus_celery.store.connection import broker
from horus_celery.store.runner_bell import TASK
from tests.hostile import MARK, honest, hostile_items, loud_items

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def worker(deployment):
    return deployment.start_worker("-Q", "python", "-c", "1", "-l", "INFO")


@pytest.fixture
def stranger(deployment):
    """Somebody with an application of plain Celery on the same Redis."""
    with Celery(
        "stranger",
        broker=broker(deployment.env["HORUS_REDIS_URL"]).url,
        set_as_current=False,
    ) as app:
        app.conf.task_create_missing_queues = True
        yield app
    # kombu keeps its connections open, and what is forked later waits for them.
    pools.reset()


@pytest.fixture(autouse=True)
def the_worker_serves_on(deployment, request):
    """Whatever a test did: the same process serves the next job at once."""
    yield
    if "worker" not in request.fixturenames:
        return
    worker = request.getfixturevalue("worker")
    record = deployment.run("print('served')")
    assert (record.status, record.result) == (Status.COMPLETED, "served\n")
    assert worker.poll() is None
    assert deployment.beat_of(worker) is not None


def test_hostile_messages_neither_end_nor_stall_nor_mark_the_worker(deployment, worker):
    items = list(hostile_items())
    assert len(items) >= 70
    before = len(deployment.log_of(worker))
    deployment.redis.lpush("python", *items)
    deployment.redis.lpush("python\x06\x163", *items[:10])
    deployment.until(lambda: deployment.redis.llen("python") == 0)
    log = deployment.log_of(worker)[before:]
    assert "broker message dropped" in log
    assert MARK not in log
    assert "Traceback" not in log
    assert "\x1b[31m" not in log
    assert log.count("dropped") < 20


def test_what_a_message_asks_for_besides_has_no_effect(deployment, worker):
    deployment.redis.lpush("python", *loud_items())
    deployment.until(lambda: deployment.redis.llen("python") == 0)
    assert deployment.run("print(1)").status is Status.COMPLETED
    strangers = {
        key
        for key in deployment.redis.keys("*")
        if not key.startswith((b"_kombu.binding", deployment.namespace.encode()))
    }
    assert strangers == set()


def test_plain_celery_may_ring(deployment, worker, stranger):
    record = deployment.supervisor.create(
        deployment.envelope("print('rung')"), priority=4, not_before=None
    )
    queued = Change(event=Event.QUEUED, at=datetime.now(UTC))
    deployment.store.apply(record.summary.digest, queued)  # no bell of ours
    started = time.monotonic()
    with stranger.connection_for_write() as connection:
        stranger.send_task(
            TASK,
            args=[record.summary.id],
            queue="python",
            priority=3,
            connection=connection,
        )
    assert deployment.over(record).result == "rung\n"
    assert time.monotonic() - started < 4


def test_nobody_receives_a_command(deployment, worker, stranger):
    assert stranger.control.inspect(timeout=0.5).ping() is None
    stranger.control.broadcast("shutdown")
    stranger.control.broadcast("pool_grow", arguments={"n": 5})
    with stranger.connection_for_write() as connection:
        channel = connection.default_channel
        deployment.redis.publish("/1.celery.pidbox", b"[]")
        assert channel is not None


def test_what_is_forged_as_unacknowledged_is_not_restored(deployment, worker):
    forged = json.dumps([honest(), "", "python"])
    deployment.redis.hset("unacked", "tag", forged)
    deployment.redis.zadd("unacked_index", {"tag": 1})
    deployment.run("print(1)")
    assert deployment.redis.hexists("unacked", "tag")
    deployment.redis.delete("unacked", "unacked_index")


def test_a_busy_worker_leaves_the_next_bell_to_others(deployment, worker, tmp_path):
    gate = tmp_path / "gate"
    busy = deployment.submit(
        f"import os; os.mkfifo({str(gate)!r}); print('busy', flush=True);"
        f" open({str(gate)!r}).read()"
    )
    deployment.until_it_says(busy, "busy")
    waiting = deployment.submit("print('now')")
    other = deployment.start_worker("-Q", "python", "-c1", "-n", "system_runner_1@%h")
    assert deployment.over(waiting).ran_on == "system_runner_1"
    assert deployment.status(busy) is Status.RUNNING
    deployment.end(other)
    again = deployment.submit("print('later')")
    assert deployment.redis.llen("python\x06\x163") == 1
    gate.write_text("")
    assert deployment.over(busy).status is Status.COMPLETED
    assert deployment.over(again).result == "later\n"


def test_a_record_with_altered_bytes_is_refused(deployment, worker):
    genuine = deployment.envelope("print('genuine')")
    body = dsse.from_wire(genuine, dsse.JOB).body.replace(b"genuine", b"forged!")
    forged = dsse.Envelope(dsse.JOB, body, dsse.from_wire(genuine, dsse.JOB).signatures)
    record = deployment.supervisor.create(genuine, priority=4, not_before=None)
    key = f"{deployment.namespace}:job:{record.summary.digest}"
    deployment.redis.hset(key, "envelope", dsse.to_json(forged))
    deployment.supervisor.start(record.summary.digest)
    digest = record.summary.digest
    deployment.until(lambda: deployment.store.get(digest).is_over)
    refused = deployment.store.get(digest)
    assert (refused.status, refused.reason) == (Status.REJECTED, "env.shape")
    assert deployment.supervisor.status(digest).reason == "receipt_mismatch"
