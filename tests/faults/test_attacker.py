"""Who may write everything in Redis decides nothing of what is run."""

from __future__ import annotations

import signal
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from horus_celery.errors import HorusError
from horus_celery.lifecycle import Status
from horus_celery.store.keys import STEPS, Keys, queue
from horus_celery.store.runner_bell import message
from tests.faults.attacker import Attacker
from tests.faults.invariants import SAFETY, require
from tests.faults.witness import mark_of

pytestmark = pytest.mark.integration

SEED = 7
JOBS = 200
#: What he does at most before the next job is sent.
STRIKES = 20


def test_a_rewritten_redis_starts_nothing_that_was_not_signed(town, callers):
    attacker = Attacker(town.redis, town.namespace, seed=SEED, witness=callers.witness)
    # A runner looks for a newer bundle when it starts.
    attacker.hang_out_a_bundle()
    worker = town.start_worker("-Q", "python", "-c", "2")
    for number in range(JOBS):
        ran = len(callers.witness.runs())
        # He may well keep everybody from being served.
        with suppress(HorusError):
            callers.submit(seconds=0.01, attempts=1 + number % 3, priority=0)
        for _ in range(STRIKES):
            attacker.strike()
            if len(callers.witness.runs()) > ran:
                break
    assert worker.poll() is None
    town.end(worker)
    require(callers.look(), SAFETY)
    assert len({run.mark for run in callers.witness.runs()}) >= JOBS // 20
    # What he made came as far as the checks.
    log = town.log_of(worker)
    assert all(f'"reason":"{code}"' in log for code in ("sig.none", "env.shape"))
    assert min(attacker.done[way.__name__] for way in attacker.ways) >= STRIKES


def test_nothing_is_replayed_after_restarts_and_an_emptied_redis(town, server, callers):
    town.redis.flushall()
    worker = town.start_worker("-Q", "python", "-c", "2")
    sent = []
    for attempts in (1, 1, 1, 2):
        payload = callers.witness.payload()
        envelope = town.envelope(payload, attempts=attempts)
        record = town.supervisor.create_and_queue(envelope, priority=4, not_before=None)
        callers.note(payload, record.summary.digest, attempts=attempts)
        sent.append((envelope, record, mark_of(payload), attempts))
        town.over(record)
    before = {run.mark for run in callers.witness.runs()}
    assert before >= {mark for _, _, mark, _ in sent}
    keys = Keys.of(town.namespace)
    kept = {
        key: town.redis.dump(key)
        for key in town.redis.scan_iter(f"{town.namespace}:*")
        if key.startswith((keys.record.encode(), keys.named.encode()))
    }
    town.end(worker, signal.SIGKILL)
    server.kill()
    server.start()
    town.redis.flushall()
    for key, dumped in kept.items():
        town.redis.restore(key, 0, dumped)
        if key.startswith(keys.record.encode()):
            town.redis.hset(key, mapping={"status": "queued", "attempt": 0})
    for _, record, _, _ in sent:
        for _ in range(5):
            bell = message(record.summary.id, "python", 4, at=datetime.now(UTC))
            town.redis.lpush(queue("python", 4), bell)
    town.start_worker("-Q", "python", "-c", "2")
    town.until(lambda: not any(town.redis.llen(queue("python", s)) for s in STEPS))
    town.until(
        lambda: all(town.store.get(one.summary.digest).is_over for _, one, _, _ in sent)
    )
    require(callers.look(), SAFETY)
    # And once more, as its honest callers send them when Redis was emptied.
    town.redis.flushall()
    for envelope, record, _, _ in sent:
        again = town.supervisor.create_and_queue(envelope, priority=4, not_before=None)
        assert again.summary.id == record.summary.id
        over = town.over(again)
        assert (over.status, over.reason) == (Status.REJECTED, "claim.replay")
    require(callers.look(), SAFETY)
    counted = [run.mark for run in callers.witness.runs()]
    assert [counted.count(mark) for _, _, mark, _ in sent] == [1, 1, 1, 2]
