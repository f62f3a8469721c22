"""Everything that can be put into Redis goes past a worker that serves on."""

from __future__ import annotations

import json
import random
import time

import psutil
import pytest

from horus_celery.lifecycle import Status
from horus_celery.store.keys import STEPS, queue
from tests.hostile import (
    JOB_ID,
    MARK,
    body_of,
    honest,
    hostile_items,
    loud_items,
    mutations,
)

pytestmark = pytest.mark.integration

SEED = 20261129
#: Between two honest jobs, which come one a second in the programme.
BURST = 500
MEGABYTE = 1024 * 1024
#: What our own Redis takes as one value.
LARGEST = 16 * MEGABYTE


@pytest.fixture(scope="module")
def worker(deployment):
    worker = deployment.start_worker("-Q", "python", "-c", "1", "-l", "INFO")
    # What is loaded with the first job is no growth.
    assert deployment.run("print('warm')").status is Status.COMPLETED
    return worker


class Doors:
    """A worker, and how it was before somebody tried its doors."""

    def __init__(self, deployment, worker):
        self.deployment = deployment
        self.redis = deployment.redis
        self.worker = worker
        self._main = psutil.Process(worker.pid)
        self._pool = self._children()
        self._log = len(deployment.log_of(worker))
        self._memory = self._resident()
        self._keys = self._foreign_keys()

    def honest_job(self):
        """Have a job run; it is over within two seconds."""
        began = time.monotonic()
        record = self.deployment.run("print('served')")
        assert (record.status, record.result) == (Status.COMPLETED, "served\n")
        assert time.monotonic() - began < 2

    def said(self):
        """Return what it has logged since."""
        return self.deployment.log_of(self.worker)[self._log :]

    def drained(self, *names):
        self.deployment.until(lambda: not any(map(self.redis.llen, names)))

    def require_untouched(self, *left):
        """See that it is the same worker, and that nobody else was told anything."""
        self.honest_job()
        assert self.worker.poll() is None
        assert self._children() == self._pool
        assert self.deployment.beat_of(self.worker) is not None
        assert self._foreign_keys() - self._keys == set(left)
        log = self.said()
        assert MARK not in log
        assert "Traceback" not in log
        assert "\x1b" not in log
        assert "\\u001b" not in log
        assert self._resident() - self._memory < 20 * MEGABYTE

    def _children(self):
        return {child.pid for child in self._main.children()}

    def _resident(self):
        everybody = (self._main, *self._main.children())
        return sum(each.memory_info().rss for each in everybody)

    def _foreign_keys(self):
        ours = (b"_kombu.binding", self.deployment.namespace.encode())
        return {key for key in self.redis.keys("*") if not key.startswith(ours)}


@pytest.fixture
def doors(deployment, worker):
    return Doors(deployment, worker)


QUEUES = tuple(queue("python", step) for step in STEPS)


def test_ten_thousand_altered_bells_end_stall_and_mark_nothing(doors):
    chance = random.Random(SEED)  # noqa: S311 - it has to be the same each time
    items = [*hostile_items(), *loud_items(), *mutations(chance, 10_000)]
    for start in range(0, len(items), BURST):
        with doors.redis.pipeline() as pipe:
            for item in items[start : start + BURST]:
                pipe.lpush(chance.choice(QUEUES), item)
            pipe.execute()
        doors.honest_job()
    doors.drained(*QUEUES)
    assert doors.said().count("broker message dropped") < 30
    doors.require_untouched()


WRONG = {
    "string": lambda redis, key: redis.set(key, MARK),
    "list": lambda redis, key: redis.rpush(key, MARK, b"\xff", json.dumps(honest())),
    "hash": lambda redis, key: redis.hset(key, "tag", json.dumps([honest(), "", "q"])),
    "set": lambda redis, key: redis.sadd(key, MARK, b"\xff", b"a\x06\x16b\x06\x16evil"),
    "zset": lambda redis, key: redis.zadd(key, {"tag": 1, MARK: 2}),
    "stream": lambda redis, key: redis.xadd(key, {MARK: MARK}),
}
KEYS_OF_CELERY = (
    *("unacked", "unacked_index", "unacked_mutex"),
    *("_kombu.binding.celeryev", "_kombu.binding.celery", "_kombu.binding."),
    *("_kombu.binding.celery.pidbox", "_kombu.binding.reply.celery.pidbox"),
    *("celery", "celeryev", "celery.pidbox", f"celery-task-meta-{JOB_ID}"),
)


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_forged_among_celerys_own_keys_is_no_matter(doors, kind):
    for key in KEYS_OF_CELERY:
        doors.redis.delete(key)
        WRONG[kind](doors.redis, key)
    try:
        doors.honest_job()
        left = {key.encode() for key in KEYS_OF_CELERY if "binding" not in key}
        doors.require_untouched(*left)
    finally:
        doors.redis.delete(*KEYS_OF_CELERY)


def test_nobody_hears_what_is_said_on_the_channels(doors):
    commands = ("shutdown", "pool_grow", "rate_limit", "cancel_consumer", "conf")
    calls = [{"method": name, "arguments": {"n": 20}} for name in commands]
    for said in (b"[]", b"", *(json.dumps(each).encode() for each in calls)):
        item = json.dumps({**honest(), "body": body_of(json.loads(said or b"0"))})
        for text in (said, item):
            for channel in ("/1.celery.pidbox", "/1.celeryev", "/1.celeryev/worker.#"):
                doors.redis.publish(channel, text)
            doors.redis.publish(f"{doors.deployment.namespace}:wakes", text)
    doors.require_untouched()


def cut_all(redis):
    """Have everybody connect anew."""
    redis.client_kill_filter(_type="normal", skipme=True)
    redis.client_kill_filter(_type="pubsub", skipme=True)


@pytest.mark.parametrize("kind", WRONG)
def test_a_worker_that_has_to_connect_anew_among_forged_keys_serves(doors, kind):
    for key in KEYS_OF_CELERY:
        doors.redis.delete(key)
        WRONG[kind](doors.redis, key)
    try:
        cut_all(doors.redis)
        assert doors.deployment.run("print(1)").status is Status.COMPLETED
        doors.deployment.until(lambda: doors.deployment.beat_of(doors.worker))
        left = {key.encode() for key in KEYS_OF_CELERY if "binding" not in key}
        doors.require_untouched(*left)
    finally:
        doors.redis.delete(*KEYS_OF_CELERY)


@pytest.mark.parametrize(("kind", "priority"), [("string", 0), ("stream", 4)])
def test_a_queue_that_is_none_keeps_no_other_from_being_served(doors, kind, priority):
    key = queue("python", priority)
    WRONG[kind](doors.redis, key)
    try:
        doors.deployment.until(lambda: "runner degraded" in doors.said())
        named = doors.deployment.submit("print('named')", runner="python_runner_1")
        assert doors.deployment.over(named).result == "named\n"
        kept = doors.deployment.submit("print('kept')", priority=priority)
    finally:
        doors.redis.delete(key)
    assert doors.deployment.over(kept).result == "kept\n"
    assert "no longer degraded" in doors.said()
    doors.require_untouched()


def test_a_runner_all_of_whose_queues_are_none_waits_until_they_are_some(doors):
    names = [
        queue(name, step)
        for name in ("python", "python.at.python_runner_1")
        for step in STEPS
    ]
    doors.redis.mset(dict.fromkeys(names, MARK))
    try:
        doors.deployment.until(lambda: doors.said().count("degraded") == len(names))
        assert doors.deployment.beat_of(doors.worker)
    finally:
        doors.redis.delete(*names)
    doors.deployment.until(lambda: "no longer degraded" in doors.said())
    doors.require_untouched()


def test_an_item_of_the_largest_size_is_dropped_and_leaves_no_trace(doors):
    item = b"x" * LARGEST
    for _ in range(3):
        doors.redis.lpush("python", item)
    doors.drained("python")
    doors.require_untouched()
