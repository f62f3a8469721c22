"""Something else stands where ours should stand: what else there is goes on."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from horus_celery.dispatch import RedisDispatcher
from horus_celery.errors import (
    ClaimError,
    DamagedError,
    HorusError,
    NotFoundError,
)
from horus_celery.lifecycle import TERMINAL, Event, Status
from horus_celery.record import LEASE, Change
from horus_celery.registry import RedisRegistry
from horus_celery.store.base import Chunk, Filter, Stream
from horus_celery.store.connection import connect
from horus_celery.store.keys import Keys
from horus_celery.store.redis import RedisStore
from horus_celery.store.redis_logs import RedisLogs
from horus_celery.sweep import GRACE, Sweep
from horus_celery.trustpost import RedisNoticeboard

pytestmark = pytest.mark.integration

UNKNOWN = "f" * 64
THEIRS = frozenset({"billing", "theirs"})
TEXTS = (b"\xffjunk", b"-1", b"9" * 400, b"{}")


class World:
    """Jobs of every status on one Redis, and a sweep."""

    def __init__(self, client, namespace, clock, make_summary) -> None:
        self.client = client
        self.clock = clock
        self.store = RedisStore(client, namespace)
        self.logs = RedisLogs(client, namespace)
        self.dispatcher = RedisDispatcher(client, clock)
        self.registry = RedisRegistry(client, namespace)
        self.sweep = self.make_sweep()
        self.namespace = namespace
        self._make_summary = make_summary

    def make_sweep(self):
        return Sweep(self.store, self.dispatcher, self.clock, keep=timedelta(days=7))

    def add(self, *, queue=True, not_before=None, rings=False, **facts):
        summary = self._make_summary(**facts)
        return self.store.add(
            summary,
            "{}",
            at=self.clock.at,
            priority=4,
            not_before=not_before,
            queue=(summary.executor if queue is True else queue) or None,
            rings=rings,
        )

    def apply(self, record, event, **facts):
        change = Change(event=event, at=self.clock.at, **facts)
        return self.store.apply(record.summary.digest, change)

    def claimed(self, **facts):
        return self.apply(self.add(**facts), Event.CLAIMED, attempt=1, ran_on="r")

    def stop(self, digest):
        expires_at = self.clock.at + timedelta(hours=1)
        return self.store.stop(digest, at=self.clock.at, expires_at=expires_at)

    def status(self, record):
        return self.store.get(record.summary.digest).status

    def key(self, rest):
        return f"{self.namespace}:{rest}"

    def every_key(self):
        ours = self.client.scan_iter(f"{self.namespace}:*")
        return sorted({*ours, *self.client.scan_iter("python*")})

    def settle(self, how_long=LEASE + GRACE):
        """Sweep for so long."""
        end = self.clock.at + how_long
        while self.clock.at < end:
            self.clock.advance(seconds=5)
            self.sweep.once()


class Peopled(World):
    """A job of each kind; two of them are what an honest sweep is about."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.abandoned = self.claimed(executor="system", context_id="theirs")
        self.lost = self.add(executor="system", context_id="theirs")
        self.others = [
            self.add(queue=False, runner="r", workflow_id="w"),
            self.add(),
            self.add(not_before=self.clock.at + timedelta(seconds=1)),
            self.claimed(attempts=3),
            self.apply(self.claimed(), Event.STOP_ASKED),
            self.apply(
                self.claimed(), Event.COMPLETED, exit_code=0, result="7", receipt="{}"
            ),
            self.add(runner="named", queue="python.at.named"),
        ]
        self.retired = self.apply(self.claimed(), Event.COMPLETED, receipt="{}")
        self.store.retire(self.retired.summary.digest)
        self.stop(self.retired.summary.digest)
        for record in self.others:
            summary = record.summary
            chunk = Chunk(at=self.clock.at, stream=Stream.STDOUT, data=b"line\n")
            self.logs.append(summary.digest, [chunk])
            self.dispatcher.ring(summary.id, record.queue or "python", record.priority)
        self.registry.keep("r", b"{}")
        self.registry.spend("n", at=self.clock.at, name="r", text=None)

    def about(self, key):
        """Return the records that calls may be about where a key is damaged.

        Of a job whose record it is: another one stands for all that are not.
        """
        own = [one for one in self.others if key.endswith(f":job:{_digest(one)}")]
        return [*own, self.others[1]] if ":job:" in key else self.others

    def calls(self, key):
        """Yield every call of every adapter, where a key is damaged."""
        at, store = self.clock.at, self.store
        chunk = Chunk(at=at, stream=Stream.STDERR, data=b"more\n")
        records = self.about(key)
        for record in records:
            summary = record.summary
            digest = summary.digest
            yield lambda d=digest: store.get(d)
            yield lambda d=digest: store.get(d, contexts=THEIRS)
            yield lambda s=summary: store.named(s.id)
            yield lambda s=summary: store.named(s.id, contexts=THEIRS)
            yield lambda d=digest: store.list(Filter(), limit=10, after=d)
            yield lambda d=digest: store.renew(d, attempt=1, lease_until=at + LEASE)
            yield lambda d=digest: store.rung(d, at=at, queue="python")
            yield lambda d=digest: self.logs.read(d, after=None, limit=10)
            yield lambda d=digest: self.logs.append(d, [chunk])
            yield lambda s=summary: store.add(
                s, "{}", at=at, priority=4, not_before=None, queue="python"
            )
            for event in (Event.CLAIMED, Event.REQUEUED, Event.STOP_ASKED):
                yield lambda r=record, e=event: self.apply(r, e, attempt=2)
            yield lambda d=digest: store.ahead(d, limit=10)
            yield lambda d=digest: store.ahead(d, limit=10, contexts=THEIRS)
        yield lambda: store.stops(after=None, limit=10)
        yield lambda: store.stops(after="7", limit=10)
        yield self.add
        yield store.counts
        yield lambda: store.counts(THEIRS)
        yield lambda: store.queue_lengths(["python", "python.at.named"])
        yield lambda: store.queue_lengths(["python"], contexts=THEIRS)
        yield lambda: store.standing(limit=10)
        yield lambda: store.standing(limit=10, contexts=THEIRS)
        yield lambda: store.running_on(["r", "named"])
        yield lambda: store.running_on(["r"], contexts=THEIRS)
        yield store.tally
        yield lambda: store.count_swept({"due": 1})
        yield lambda: store.finished(before=at + timedelta(days=1), limit=10)
        for name in (self.retired.summary.id, self.retired.summary.digest):
            yield lambda n=name: store.archived(n)
            yield lambda n=name: store.archived(n, contexts=THEIRS)
        for wanted in (
            Filter(),
            Filter(context_id="billing", caller_id="alice", executor="python"),
            Filter(runner="r", workflow_id="w"),
            Filter(contexts=THEIRS),
            *(Filter(status=status) for status in Status),
        ):
            yield lambda w=wanted: store.list(w, limit=10)
        for read in (store.abandoned, store.expired, store.due):
            yield lambda r=read: r(at=at + timedelta(days=1), limit=10)
        yield lambda: store.silent(before=at + timedelta(days=1), limit=10)
        yield lambda: self.dispatcher.ring("id", "python", 4)
        yield lambda: self.dispatcher.queue_lengths(["python"])
        for priority in range(10):
            yield lambda p=priority: self.dispatcher.front("python", p)
        yield lambda: self.registry.texts(["r"])
        yield lambda: self.registry.keep("r", b"{}")
        for nonce in ("n", "other"):
            yield lambda n=nonce: self.registry.spend(n, at=at, name="r", text=b"{}")
        yield lambda: self.registry.leave("r")
        for digest in map(_digest, records):
            yield lambda d=digest: self.stop(d)
            yield lambda d=digest: store.delete(d)
            yield lambda d=digest: store.retire(d)


def _digest(record):
    return record.summary.digest


@pytest.fixture
def client(redis_url):
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def world(client, namespace, clock, make_summary):
    return World(client, namespace, clock, make_summary)


# --- junk ------------------------------------------------------------------------

WRONG = {
    "string": lambda client, key: client.set(key, b"junk"),
    "list": lambda client, key: client.rpush(key, b"junk"),
    "set": lambda client, key: client.sadd(key, b"junk"),
    "hash": lambda client, key: client.hset(key, "junk", b"junk"),
    "zset": lambda client, key: client.zadd(key, {b"junk": 0}),
    "stream": lambda client, key: client.xadd(key, {b"junk": b"junk"}),
}


def wrong_types(world, key):
    """Yield what puts something of another type there, by name."""
    for kind, put in WRONG.items():
        if world.client.type(key).decode() != kind:
            yield kind, lambda c, put=put: (c.delete(key), put(c, key))


def wrong_contents(world, key):
    """Yield what puts something of the right type there, by name."""
    kind = world.client.type(key).decode()
    if kind == "hash":
        for field in world.client.hkeys(key):
            yield f"no {field!r}", lambda c, f=field: c.hdel(key, f)
            for text in TEXTS:
                yield (
                    f"{field!r}={text!r}",
                    lambda c, f=field, t=text: c.hset(key, f, t),
                )
    elif kind == "string":
        for text in TEXTS:
            yield str(text), lambda c, t=text: c.set(key, t)
    elif kind == "zset":
        yield "members", lambda c: c.zadd(key, {UNKNOWN: 0, b"\xff<>": "-inf", b"": 1})
        for score in ("-inf", "inf", 1.5, -1, 1e300):
            yield (
                f"scores of {score}",
                lambda c, s=score: c.zadd(key, dict.fromkeys(c.zrange(key, 0, -1), s)),
            )
    elif kind == "set":
        yield "members", lambda c: c.sadd(key, b"\xff", b"", b"3:", b"3:system:x")
    elif kind == "list":
        yield "a message", lambda c: (c.rpush(key, b"{}"), c.lpush(key, b"\xff"))
        yield "a line", lambda c: c.rpush(key, b"o9999999999999999999  x", b"o1 ")
    else:
        pytest.fail(f"{key} is a {kind}")


@pytest.fixture
def damaged_worlds(client, namespace, clock, make_summary):
    """Make the same world again and again, each time with another damage."""
    world = Peopled(client, namespace, clock, make_summary)
    start = clock.at
    kept = {
        key: (max(client.pttl(key), 0), client.dump(key)) for key in client.scan_iter()
    }

    def renew():
        clock.at = start
        world.sweep = world.make_sweep()
        with client.pipeline(transaction=False) as pipeline:
            pipeline.flushdb()
            for key, (ttl, dump) in kept.items():
                pipeline.restore(key, ttl, dump)
            pipeline.execute()

    def every(kinds):
        renew()
        for key in world.every_key():
            renew()
            for name, damage in list(kinds(world, key)):
                renew()
                damage(client)
                yield world, key.decode(), name

    return every


def needs_of(world, record, *, rings):
    """Return the keys without which nobody can do something about a job."""
    keys = {world.key(f"job:{record.summary.digest}")}
    if rings:
        keys |= {world.key("rows"), world.key("bells:3:system"), "system\x06\x163"}
    else:
        keys |= {world.key("leases"), world.key("by:status:failed")}
        keys.add(world.key(f"by:status:failed:{record.summary.context_id}"))
    return keys


def said(call):
    """Return the words of an error of ours; any other goes through."""
    try:
        call()
    except HorusError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kinds", [wrong_types, wrong_contents])
def test_whatever_stands_in_redis_only_errors_of_ours_are_raised(damaged_worlds, kinds):
    for world, key, _ in damaged_worlds(kinds):
        for call in world.calls(key):
            assert "junk" not in said(call)


@pytest.mark.parametrize("kinds", [wrong_types, wrong_contents])
def test_whatever_stands_in_redis_a_sweep_serves_the_honest_jobs(damaged_worlds, kinds):
    for world, key, name in damaged_worlds(kinds):
        world.settle()
        buried, lost = world.abandoned, world.lost
        if key not in needs_of(world, buried, rings=False):
            assert world.status(buried) is Status.FAILED, (key, name)
        if key not in needs_of(world, lost, rings=True):
            front = world.dispatcher.front("system", 4)
            assert front is not None, (key, name)


# --- nothing is half done ----------------------------------------------------------


def snapshot(world, without):
    return {
        key: world.client.dump(key)
        for key in world.every_key()
        if key.decode() not in without
    }


@pytest.mark.parametrize(
    "key",
    [
        "every",
        "by:context_id:billing",
        "by:executor:python",
        "by:status:queued",
        "by:status:queued:billing",
        "bells:3:python",
        "rows",
        "expiring",
        "sequence",
    ],
)
def test_a_job_that_cannot_be_recorded_leaves_nothing(world, key):
    world.client.hset(world.key(key), "junk", "junk")
    before = snapshot(world, {world.key("rows"), world.key("sequence")})
    with pytest.raises(DamagedError, match=f'DEL "{world.key(key)}"'):
        world.add()
    assert snapshot(world, {world.key("rows"), world.key("sequence")}) == before
    world.client.delete(world.key(key))
    assert world.status(world.add()) is Status.QUEUED


@pytest.mark.parametrize(
    "key", ["by:status:running", "by:status:running:billing", "leases"]
)
def test_a_job_that_cannot_be_held_stays_queued(world, key):
    record = world.add()
    world.client.set(world.key(key), "junk")
    before = snapshot(world, set())
    for _ in range(2):
        with pytest.raises(DamagedError, match=key):
            world.apply(record, Event.CLAIMED, attempt=1)
        assert snapshot(world, set()) == before
    world.client.delete(world.key(key))
    assert world.apply(record, Event.CLAIMED, attempt=1).status is Status.RUNNING
    assert world.client.zcard(world.key("leases")) == 1


@pytest.mark.parametrize("score", ["inf", 1e300, 9e15])
def test_a_forged_stop_far_ahead_hides_no_other_from_who_follows_them(world, score):
    world.client.zadd(world.key("stops"), {UNKNOWN: score})
    place = world.store.stops(after=None, limit=9).next
    digest = world.add().summary.digest
    world.stop(digest)
    assert world.store.stops(after=place, limit=9).digests == (digest,)


@pytest.mark.parametrize("key", ["stopped", "stops"])
def test_a_stop_that_cannot_be_kept_is_not_made(world, key):
    record = world.add()
    world.client.set(world.key(key), "junk")
    before = snapshot(world, {world.key("stopped")})
    with pytest.raises(DamagedError, match=key):
        world.stop(record.summary.digest)
    assert snapshot(world, {world.key("stopped")}) == before


def test_nothing_is_claimed_while_nobody_can_tell_what_was_stopped(world):
    record = world.add()
    world.client.set(world.key("stopped"), "junk")
    with pytest.raises(DamagedError, match="stopped"):
        world.apply(record, Event.CLAIMED, attempt=1)
    assert world.status(record) is Status.QUEUED


def test_a_stopped_job_that_was_put_back_cannot_be_claimed(world):
    record = world.add()
    world.stop(record.summary.digest)
    key = world.key(f"job:{record.summary.digest}")
    world.client.hset(key, "status", "queued")
    with pytest.raises(ClaimError) as refusal:
        world.apply(record, Event.CLAIMED, attempt=1)
    assert refusal.value.reason == "claim.stopped"
    assert world.status(record) is Status.QUEUED


def test_a_stopping_job_that_was_put_back_is_stopping_again(world):
    record = world.claimed()
    world.stop(record.summary.digest)
    key = world.key(f"job:{record.summary.digest}")
    world.client.hset(key, "status", "running")
    lease = {"attempt": 1, "lease_until": world.clock.at + LEASE}
    assert world.store.renew(record.summary.digest, **lease) is Status.STOPPING
    assert world.status(record) is Status.STOPPING
    assert world.store.counts()[Status.RUNNING] == 0
    assert world.apply(record, Event.STOPPED, if_attempt=1).status is Status.STOPPED


@pytest.mark.parametrize("key", ["due", "expiring", "bells:3:python", "leases"])
def test_what_a_job_only_leaves_does_not_hold_it(world, key):
    record = world.claimed() if key == "leases" else world.add()
    world.client.set(world.key(key), "junk")
    world.apply(record, Event.STOP_ASKED)
    if key == "leases":
        world.apply(record, Event.STOPPED)
    assert world.status(record) in TERMINAL


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("key", ["held:r", "ended", "tally"])
def test_what_is_only_counted_or_cleared_by_it_stops_no_job(world, key, kind):
    WRONG[kind](world.client, world.key(key))
    record = world.claimed()
    assert world.store.renew(
        record.summary.digest, attempt=1, lease_until=world.clock.at + LEASE
    )
    assert world.apply(record, Event.COMPLETED).status is Status.COMPLETED
    world.client.delete(world.key(key))
    record = world.claimed()
    assert world.store.running_on(["r"]) == {"r": 1}
    world.apply(record, Event.COMPLETED)
    assert world.store.running_on(["r"]) == {"r": 0}
    assert world.store.tally().ended


def test_a_created_job_that_cannot_be_queued_stays_created(world):
    record = world.add(queue=False)
    world.client.set(world.key("bells:3:python"), "junk")
    with pytest.raises(DamagedError, match="bells:3:python"):
        world.apply(record, Event.QUEUED)
    assert world.status(record) is Status.CREATED
    assert world.store.expired(at=world.clock.at + timedelta(days=1), limit=9)


def test_new_records_go_on_behind_the_old_ones_when_their_number_is_lost(world):
    old = [world.add() for _ in range(3)]
    world.client.delete(world.key("sequence"))
    new = [world.add() for _ in range(2)]
    assert world.store.list(Filter(), limit=9) == tuple(reversed(old + new))


# --- a sweep -----------------------------------------------------------------------


def test_a_hundred_unknown_digests_hide_no_abandoned_job(world):
    record = world.claimed()
    for name in ("leases", "expiring", "due", "bells:3:python"):
        world.client.zadd(
            world.key(name), {f"{number:064x}": -number for number in range(150)}
        )
    world.settle()
    assert world.status(record) is Status.FAILED
    for name in ("leases", "expiring", "due", "bells:3:python"):
        assert world.client.zcard(world.key(name)) == 0


def test_a_hundred_damaged_records_hide_no_other(world):
    for _ in range(120):
        digest = world.claimed().summary.digest
        world.client.hset(world.key(f"job:{digest}"), "summary", "junk")
    world.clock.advance(seconds=1)
    record = world.claimed()
    world.settle()
    assert world.status(record) is Status.FAILED


def test_a_hundred_records_that_only_look_sound_hide_no_other(world):
    for _ in range(120):
        digest = world.claimed().summary.digest
        world.client.hset(world.key(f"job:{digest}"), "envelope", b"\xff")
    world.clock.advance(seconds=1)
    record = world.claimed()
    with capture_logs() as logs:
        world.settle()
    assert world.status(record) is Status.FAILED
    assert [line["step"] for line in logs if "step" in line] == ["bury one"]


def test_a_hundred_damaged_records_hide_no_other_of_a_list(world):
    record = world.add()
    for _ in range(120):
        digest = world.add().summary.digest
        world.client.hset(world.key(f"job:{digest}"), "summary", "junk")
    assert world.store.list(Filter(), limit=5) == (record,)


@pytest.mark.parametrize("field", ["status", "context_id", "executor"])
def test_an_index_forgets_what_has_no_record_once_it_was_read(world, field):
    records = [world.add() for _ in range(3)]
    values = {
        "status": Status.QUEUED,
        "context_id": records[0].summary.context_id,
        "executor": records[0].summary.executor,
    }
    index = world.key(f"by:{field}:{values[field]}")
    before = world.client.zrange(index, 0, -1)
    for page in range(5):
        junk = {f"{at:064x}": at + 0.5 for at in range(2000 * page, 2000 * page + 2000)}
        world.client.zadd(index, junk)
    found = world.store.list(Filter(**{field: values[field]}), limit=100)
    assert {*records} <= {*found}
    assert world.client.zrange(index, 0, -1) == before


def test_an_id_leads_to_no_other_job(world):
    record, other = world.add(), world.add()
    ids = world.key(f"id:{record.summary.id}")
    world.client.hset(ids, record.summary.context_id, other.summary.digest)
    assert world.store.named(record.summary.id) == ()
    assert world.store.named(other.summary.id) == (other,)


def test_an_index_shows_no_job_to_those_of_another_context(world):
    own = world.add(context_id="lab")
    foreign = world.add(context_id="billing")
    for index in ("context_id:lab", "status:queued:lab"):
        world.client.zadd(world.key(f"by:{index}"), {_digest(foreign): 10**6})
    theirs = frozenset({"lab"})
    for wanted in (
        Filter(contexts=theirs),
        Filter(context_id="lab"),
        Filter(contexts=theirs, status=Status.QUEUED),
    ):
        assert world.store.list(wanted, limit=1) == (own,)


def test_a_queue_that_is_none_hides_no_bell_of_another(world):
    later = world.clock.at + timedelta(seconds=1)
    for _ in range(120):
        world.add(not_before=later)
    world.client.set("python\x06\x163", "junk")
    world.clock.advance(seconds=1)
    world.add(executor="due", not_before=world.clock.at)
    world.add(executor="lost")
    world.settle()
    assert world.dispatcher.queue_lengths(["due", "lost"]) == {"due": 1, "lost": 1}
    world.client.delete("python\x06\x163")
    world.settle()
    assert world.dispatcher.queue_lengths(["python"]) == {"python": 120}


def test_a_job_whose_queue_is_none_is_recorded_and_rung_for_later(world):
    world.client.set("python\x06\x163", "junk")
    with capture_logs() as said:
        record = world.add(rings=True)
    assert world.status(record) is Status.QUEUED
    (line,) = said
    assert (line["event"], line["job_id"]) == ("bell put off", record.summary.id)
    assert '"python\\x06\\x163"' in line["detail"]
    world.client.delete("python\x06\x163")
    world.clock.advance(seconds=60)
    world.settle()
    assert world.dispatcher.queue_lengths(["python"]) == {"python": 1}


@pytest.mark.parametrize("kind", ["list", "hash"])
def test_a_board_that_is_none_takes_the_next_bundle(world, kind):
    key = Keys.of(world.namespace).trust
    if kind == "list":
        world.client.rpush(key, "junk")
    else:
        world.client.hset(key, "junk", "junk")
    board = RedisNoticeboard(world.client, world.namespace)
    board.replace(None, "not what was read")
    found = board.read()
    assert found is not None
    board.replace(found, "next")
    assert board.read() == b"next"


def test_what_is_rung_and_cannot_be_noted_is_not_rung_every_second(world):
    later = world.clock.at + timedelta(seconds=1)
    world.add(not_before=later)
    world.client.set(world.key("bells:3:python"), "junk")
    world.settle(timedelta(minutes=1))
    assert world.dispatcher.queue_lengths(["python"]) == {"python": 0}
    world.client.delete(world.key("bells:3:python"))
    world.settle()
    assert world.dispatcher.queue_lengths(["python"]) == {"python": 1}


@pytest.mark.parametrize("name", ["leases", "due", "expiring", "rows"])
def test_a_key_that_holds_something_else_is_named_once(world, name):
    world.settle()
    world.client.set(world.key(name), "junk")
    with capture_logs() as logs:
        world.settle(timedelta(minutes=1))
    (line,) = (line for line in logs if line["event"] == "sweep broke")
    assert world.key(name) in line["detail"]
    world.client.delete(world.key(name))
    world.settle()
    world.client.set(world.key(name), "junk")
    with capture_logs() as logs:
        world.settle()
    assert len(logs) == 1


def test_a_bell_of_a_job_that_is_not_queued_is_forgotten(world):
    record = world.claimed()
    digest = record.summary.digest
    for name in ("bells:3:python", "bells:6:system", "due"):
        world.client.zadd(world.key(name), {digest: 0})
    world.client.sadd(world.key("rows"), "3:python", "6:system")
    world.sweep.once()
    assert world.dispatcher.queue_lengths(["python", "system"]) == {
        "python": 0,
        "system": 0,
    }
    for name in ("bells:3:python", "bells:6:system", "due", "rows"):
        assert not world.client.exists(world.key(name))


def test_a_held_job_whose_lease_was_lost_is_buried_when_its_runner_is_dead(world):
    dead, alive = world.claimed(), world.claimed()
    world.client.delete(world.key("leases"))
    for _ in range(10):
        world.settle(timedelta(seconds=5))
        until = world.clock.at + LEASE
        world.store.renew(alive.summary.digest, attempt=1, lease_until=until)
    assert world.status(dead) is Status.FAILED
    assert world.status(alive) is Status.RUNNING


# --- what runs, what ended, what was counted -----------------------------------------


def test_a_runner_holds_no_more_than_records_say(world):
    world.claimed()
    others = [world.add(), world.apply(world.claimed(), Event.COMPLETED)]
    digests = [UNKNOWN, "junk", *(each.summary.digest for each in others)]
    for runner in ("r", "another"):
        world.client.zadd(world.key(f"held:{runner}"), dict.fromkeys(digests, 0))
    assert world.store.running_on(["r", "another"]) == {"r": 1, "another": 0}


def test_a_job_whose_runner_was_forgotten_is_counted_when_it_renews(world):
    digest = world.claimed().summary.digest
    world.client.delete(world.key("held:r"))
    assert world.store.running_on(["r"]) == {"r": 0}
    world.store.renew(digest, attempt=1, lease_until=world.clock.at + LEASE)
    assert world.store.running_on(["r"]) == {"r": 1}


def test_a_job_that_ended_lately_is_not_retired_whatever_stands_in_redis(world):
    record = world.apply(world.claimed(), Event.COMPLETED)
    waiting = world.add(expires_at=world.clock.at + timedelta(days=9))
    digests = [each.summary.digest for each in (record, waiting)]
    world.client.zadd(world.key("ended"), dict.fromkeys([*digests, UNKNOWN], "-inf"))
    world.settle(timedelta(seconds=30))
    assert world.status(record) is Status.COMPLETED
    assert world.client.zrange(world.key("ended"), 0, -1) == [digests[0].encode()]
    world.clock.advance(days=7)
    world.sweep.once()
    with pytest.raises(NotFoundError):
        world.status(record)
    assert world.status(waiting) is Status.QUEUED


def test_jobs_whose_end_was_lost_are_retired_all_the_same(world):
    records = [world.apply(world.claimed(), Event.COMPLETED) for _ in range(700)]
    records.append(world.apply(world.add(), Event.STOP_ASKED))
    world.client.delete(world.key("ended"))
    world.clock.advance(days=7, seconds=1)
    for _ in range(3):
        world.sweep.once()
    assert set(world.store.counts().values()) == {0}
    assert world.store.tally().swept["retired"] == len(records)


def test_names_of_callers_do_not_fill_the_memory(world):
    fields = {f"ended|x{number}|stopped|": 1 for number in range(10_000)}
    world.client.hset(world.key("tally"), mapping=fields)
    for number in range(5):
        world.apply(world.claimed(executor=f"new-{number}"), Event.FAILED, reason="x|y")
    world.apply(world.add(executor="x1"), Event.STOP_ASKED)
    tally = world.store.tally()
    assert tally.ended["", "failed", ""] == 5
    assert tally.ended["x1", "stopped", ""] == 2
    assert tally.waited.keys() == tally.ran.keys() == {""}
    assert world.client.hlen(world.key("tally")) == 10_000 + 5


def test_a_tally_that_somebody_flooded_begins_anew_with_the_next_number(world):
    fields = {f"ended|x{number}|stopped|": 1 for number in range(20_001)}
    world.client.hset(world.key("tally"), mapping=fields)
    world.apply(world.claimed(executor="mine"), Event.FAILED, reason="exit_code")
    tally = world.store.tally()
    assert tally.ended == {("mine", "failed", "exit_code"): 1}
    assert tally.ran.keys() == {"mine"}


@pytest.mark.parametrize("reason", ["a|b", "a b", "|", "ü", "x" * 500, "\0\n"])
def test_no_reason_is_read_as_something_else(world, reason):
    world.apply(world.claimed(), Event.FAILED, reason=reason)
    ((executor, status, told),) = world.store.tally().ended
    assert (executor, status) == ("python", "failed")
    assert len(told) <= 64
    assert "|" not in told


def test_numbers_that_are_none_are_not_told(world):
    world.apply(world.add(), Event.STOP_ASKED)
    junk = {
        "ended|python|great|": 1,
        "ended|python|failed": 1,
        "ended|py thon|failed|": 1,
        "swept|due": 1,
        "swept||due|": 1,
        "ended|python|failed|x": "many",
        "ended|python|failed|y": "-1",
        "ended|python|failed|z": "9" * 40,
        "": 1,
        b"\xff": 1,
    }
    world.client.hset(world.key("tally"), mapping=junk)
    tally = world.store.tally()
    assert tally.ended == {("python", "stopped", ""): 1}
    assert tally.swept == {}


def test_a_damaged_receipt_of_a_retired_job_is_not_shown(world):
    record = world.apply(world.claimed(), Event.COMPLETED, receipt="{}")
    digest = record.summary.digest
    world.store.retire(digest)
    world.client.hset(world.key(f"receipt:{digest}"), "1", b"\x01junk")
    assert world.store.archived(digest) == ()
    world.client.hset(world.key(f"receipts:{record.summary.id}"), "junk", "junk")
    assert world.store.archived(record.summary.id) == ()


def test_a_log_of_another_kind_keeps_no_job_from_ending(world):
    running = world.claimed()
    world.client.set(world.key(f"log:{running.summary.digest}"), b"no list")
    line = Chunk(at=world.clock.at, stream=Stream.STDOUT, data=b"last\n")
    change = Change(event=Event.COMPLETED, at=world.clock.at)
    world.store.note(running.summary.digest, change, [line])
    assert world.status(running) is Status.COMPLETED


def test_a_log_with_foreign_entries_shows_every_line(world):
    digest = world.add().summary.digest
    chunk = Chunk(at=world.clock.at, stream=Stream.STDOUT, data=b"line\n")
    for _ in range(5):
        world.client.rpush(world.key(f"log:{digest}"), b"a", b"o1 ", b"x1  line\n")
        world.logs.append(digest, [chunk])
    first = world.logs.read(digest, after=None, limit=3)
    rest = world.logs.read(digest, after=first[-1].cursor, limit=3)
    assert [len(first), len(rest)] == [3, 2]


def test_what_a_runner_says_and_nobody_can_keep_uses_no_nonce_up(world):
    def spend():
        return world.registry.spend("n", at=world.clock.at, name="r", text=b"{}")

    world.client.set(world.key("runners"), b"junk")
    with pytest.raises(HorusError):
        spend()
    assert world.every_key() == [world.key("runners").encode()]
    world.client.delete(world.key("runners"))
    assert spend()
    assert world.registry.texts(["r"]) == {"r": b"{}"}
    assert not spend()


def test_a_record_that_somebody_removed_is_gone(world):
    record = world.add()
    world.client.delete(world.key(f"job:{record.summary.digest}"))
    with pytest.raises(NotFoundError):
        world.store.get(record.summary.digest)
    with suppress(NotFoundError):
        world.store.list(Filter(), limit=9)
    assert world.store.named(record.summary.id) == ()
    world.settle(timedelta(hours=1, seconds=5))
    assert world.client.zcard(world.key("expiring")) == 0
