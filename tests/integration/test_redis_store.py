from __future__ import annotations

import secrets
import socket
import socketserver
import string
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from horus_celery.dispatch import RedisDispatcher
from horus_celery.errors import NotFoundError, UnavailableError
from horus_celery.lifecycle import Event, Status
from horus_celery.record import LEASE, Change
from horus_celery.registry import RedisRegistry
from horus_celery.statements import dsse
from horus_celery.statements.job import make_job
from horus_celery.statements.keys import KeyPair
from horus_celery.store.base import Chunk, Filter, Hears, Stream
from horus_celery.store.connection import connect, connect_blocking
from horus_celery.store.keys import Keys
from horus_celery.store.redis import RedisStore
from horus_celery.store.redis_logs import RedisLogs
from horus_celery.store.redis_wakes import RedisWakes
from horus_celery.sweep import Sweep

pytestmark = pytest.mark.integration

SOON = timedelta(seconds=10)
THEIRS = frozenset({"billing", "lab"})


class World:
    """Everything of ours that stands on one Redis."""

    def __init__(self, url, namespace, clock, make_summary) -> None:
        self.clock = clock
        self.client = connect(url)
        self.listening = connect_blocking(url)
        self.store = RedisStore(self.client, namespace)
        self.logs = RedisLogs(self.client, namespace)
        self.wakes = RedisWakes(self.listening, namespace)
        self.dispatcher = RedisDispatcher(self.client, clock)
        self.registry = RedisRegistry(self.client, namespace)
        self._make_summary = make_summary

    def add(self, envelope="{}"):
        return self.store.add(
            self._make_summary(),
            envelope,
            at=self.clock.at,
            priority=4,
            not_before=None,
            queue="python",
        )

    def chunk(self, data=b"line\n"):
        return Chunk(at=self.clock.at, stream=Stream.STDOUT, data=data)

    def every_call(self):
        """Return one call of every method, by name."""
        digest, at = "a" * 64, self.clock.at
        claim = Change(event=Event.CLAIMED, at=at, attempt=1)
        return {
            "add": self.add,
            "get": lambda: self.store.get(digest),
            "get theirs": lambda: self.store.get(digest, contexts=THEIRS),
            "named": lambda: self.store.named("id"),
            "apply": lambda: self.store.apply(digest, claim),
            "delete": lambda: self.store.delete(digest),
            "list": lambda: self.store.list(Filter(), limit=10),
            "list after": lambda: self.store.list(Filter(), limit=10, after=digest),
            "counts": self.store.counts,
            "counts of some": lambda: self.store.counts(THEIRS),
            "writable": self.store.require_writable,
            "queues": lambda: self.store.queue_lengths(["python"]),
            "queues of some": lambda: self.store.queue_lengths(
                ["python"], contexts=THEIRS
            ),
            "standing": lambda: self.store.standing(limit=10),
            "standing of some": lambda: self.store.standing(limit=10, contexts=THEIRS),
            "running": lambda: self.store.running_on(["r"]),
            "running of some": lambda: self.store.running_on(["r"], contexts=THEIRS),
            "tally": self.store.tally,
            "swept": lambda: self.store.count_swept({"due": 1}),
            "finished": lambda: self.store.finished(before=at, limit=10),
            "retire": lambda: self.store.retire(digest),
            "archived": lambda: self.store.archived("id"),
            "renew": lambda: self.store.renew(digest, attempt=1, lease_until=at),
            "abandoned": lambda: self.store.abandoned(at=at, limit=10),
            "expired": lambda: self.store.expired(at=at, limit=10),
            "due": lambda: self.store.due(at=at, limit=10),
            "rung": lambda: self.store.rung(digest, at=at, queue="python"),
            "silent": lambda: self.store.silent(before=at, limit=10),
            "append": lambda: self.logs.append(digest, [self.chunk()]),
            "read": lambda: self.logs.read(digest, after=None, limit=10),
            "ring": lambda: self.dispatcher.ring("id", "python", 4),
            "lengths": lambda: self.dispatcher.queue_lengths(["python"]),
            "front": lambda: self.dispatcher.front("python", 4),
            "keep": lambda: self.registry.keep("r", b"{}"),
            "texts": lambda: self.registry.texts(["r"]),
            "spend": lambda: self.registry.spend("n", at=at, name="r", text=b"{}"),
            "leave": lambda: self.registry.leave("r"),
        }

    def close(self):
        self.wakes.close()
        self.client.close()
        self.listening.close()


@pytest.fixture
def world_at(namespace, clock, make_summary):
    worlds = []

    def make(url):
        worlds.append(World(url, namespace, clock, make_summary))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(redis_url, world_at):
    return world_at(redis_url)


def outcome(call):
    """Return how a call ended and how long it took."""
    start = time.monotonic()
    try:
        call()
    except UnavailableError:
        ended = "unavailable"
    except NotFoundError:
        ended = "answered"
    else:
        ended = "answered"
    return ended, time.monotonic() - start


def outcomes(world):
    calls = world.every_call()
    with ThreadPoolExecutor(len(calls)) as callers:
        return dict(zip(calls, callers.map(outcome, calls.values()), strict=True))


def who(found, wanted):
    return {name for name, (ended, _) in found.items() if ended == wanted}


# --- a Redis that is away --------------------------------------------------------


@pytest.mark.parametrize("is_connected", [True, False])
def test_every_call_ends_in_two_seconds_while_redis_hangs(
    private_redis, world_at, is_connected
):
    world = world_at(private_redis.url)
    every = set(world.every_call())
    if is_connected:
        assert who(outcomes(world), "answered") == every
    private_redis.pause()
    hung = outcomes(world)
    private_redis.resume()
    assert who(hung, "unavailable") == every
    assert max(seconds for _, seconds in hung.values()) < 2
    assert who(outcomes(world), "answered") == every


def test_every_call_ends_at_once_while_redis_is_down(private_redis, world_at):
    world = world_at(private_redis.url)
    every = set(world.every_call())
    assert who(outcomes(world), "answered") == every
    private_redis.kill()
    down = outcomes(world)
    assert who(down, "unavailable") == every
    assert max(seconds for _, seconds in down.values()) < 2
    private_redis.start()
    assert who(outcomes(world), "answered") == every


def test_a_restart_of_redis_between_two_calls_is_not_noticed(private_redis, world_at):
    world = world_at(private_redis.url)
    record = world.add()
    private_redis.stop()
    private_redis.start()
    claim = Change(event=Event.CLAIMED, at=world.clock.at, attempt=1)
    # The server has lost its scripts, the client's connection is stale.
    assert world.store.apply(record.summary.digest, claim).status is Status.RUNNING
    assert world.store.counts()[Status.RUNNING] == 1


def test_a_redis_that_is_full_is_unavailable_and_nothing_is_half_done(world):
    world.store.counts()
    before = world.client.config_get("maxmemory")["maxmemory"]
    world.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(UnavailableError, match="memory"):
            world.add()
    finally:
        world.client.config_set("maxmemory", before)
    assert sum(world.store.counts().values()) == 0
    assert world.store.list(Filter(), limit=10) == ()


# --- an answer that is lost ------------------------------------------------------


class LossyProxy:
    """Passes everything on, but loses the answer that a test tells it to lose."""

    def __init__(self, target: Path) -> None:
        self.url = f"unix://{target}.lossy"
        self.has_lost = threading.Event()
        self._target = str(target)
        self._losing = threading.Event()
        self._server = socketserver.ThreadingUnixStreamServer(
            f"{target}.lossy", self._handler()
        )
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()

    def lose_next_answer(self) -> None:
        """Let the next command reach the server, and nobody hear of it."""
        self.has_lost.clear()
        self._losing.set()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[socketserver.BaseRequestHandler]:
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.socket(socket.AF_UNIX) as server:
                    server.connect(proxy._target)
                    proxy._pass_on(self.request, server)

        return Handler

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        """Carry commands and answers in turns, as one connection of redis-py does."""
        threading.Thread(target=_carry, args=(client, server), daemon=True).start()
        while answer := server.recv(65536):
            if self._losing.is_set():
                self._losing.clear()
                self.has_lost.set()
                client.shutdown(socket.SHUT_RDWR)
                return
            client.sendall(answer)


def _carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side has gone


@pytest.fixture
def lossy(redis_server, redis_url):
    """A way to the shared server on which answers may get lost."""
    proxy = LossyProxy(redis_server.socket)
    yield proxy
    proxy.close()
    Path(proxy.url.removeprefix("unix://")).unlink(missing_ok=True)


@pytest.fixture
def lossy_world(lossy, world_at):
    world = world_at(lossy.url)
    world.store.counts()
    return world


def test_a_job_whose_recording_was_not_answered_is_recorded_once(lossy, lossy_world):
    world = lossy_world
    world.add()
    lossy.lose_next_answer()
    record = world.add()
    assert lossy.has_lost.is_set()
    assert record.status is Status.QUEUED
    assert world.store.list(Filter(), limit=10)[0] == record
    assert world.store.counts()[Status.QUEUED] == 2


def test_a_change_whose_answer_was_lost_is_made_once(lossy, lossy_world):
    world = lossy_world
    digest = world.add().summary.digest
    claim = Change(
        event=Event.CLAIMED,
        at=world.clock.at,
        attempt=1,
        ran_on="python_1",
        lease_until=world.clock.at + LEASE,
    )
    done = Change(event=Event.COMPLETED, at=world.clock.at, result="7", if_attempt=1)
    for change, status in [(claim, Status.RUNNING), (done, Status.COMPLETED)]:
        lossy.lose_next_answer()
        record = world.store.apply(digest, change)
        assert lossy.has_lost.is_set()
        assert (record.status, record.attempt) == (status, 1)
    assert world.store.abandoned(at=world.clock.advance(hours=1), limit=10) == ()


def test_lines_whose_answer_was_lost_are_kept_once(lossy, lossy_world):
    world = lossy_world
    world.logs.append("a" * 64, [world.chunk(b"one\n")])
    lossy.lose_next_answer()
    world.logs.append("a" * 64, [world.chunk(b"two\n"), world.chunk(b"three\n")])
    assert lossy.has_lost.is_set()
    lines = world.logs.read("a" * 64, after=None, limit=10)
    assert [line.text for line in lines] == ["one", "two", "three"]


def test_lines_are_kept_once_even_if_their_writer_sends_them_again(
    private_redis, world_at
):
    world = world_at(private_redis.url)
    world.logs.append("a" * 64, [world.chunk(b"first\n")])
    chunks = [world.chunk(b"y\n") for _ in range(450)]
    private_redis.pause()
    with pytest.raises(UnavailableError):
        # The server takes them when it goes on, but then nobody listens any more.
        world.logs.append("a" * 64, chunks)
    private_redis.resume()
    world.logs.append("a" * 64, [*chunks, world.chunk(b"last\n")])
    lines = world.logs.read("a" * 64, after=None, limit=1000)
    assert [line.text for line in lines] == ["first", *["y"] * 450, "last"]


def test_a_deletion_whose_answer_was_lost_is_done(lossy, lossy_world):
    world = lossy_world
    digest = world.add().summary.digest
    world.store.apply(digest, Change(event=Event.STOP_ASKED, at=world.clock.at))
    lossy.lose_next_answer()
    world.store.delete(digest)
    assert lossy.has_lost.is_set()
    with pytest.raises(NotFoundError):
        world.store.get(digest)


# --- wakes -----------------------------------------------------------------------


def test_waiters_are_woken_when_the_connection_is_lost_and_after_it_is_back(
    private_redis, world_at
):
    world = world_at(private_redis.url)
    digest = world.add().summary.digest
    with world.wakes.watch(digest) as watch:
        assert watch.wait(SOON)  # listening begins
        private_redis.stop()
        assert watch.wait(SOON)  # who knows what was missed
        private_redis.start()
        claim = Change(event=Event.CLAIMED, at=world.clock.at, attempt=1)
        world.store.apply(digest, claim)
        assert watch.wait(SOON)
        assert world.store.get(digest).status is Status.RUNNING


def test_a_watch_that_is_opened_while_redis_is_down_is_woken_when_it_is_back(
    private_redis, world_at
):
    world = world_at(private_redis.url)
    digest = world.add().summary.digest
    private_redis.stop()
    with world.wakes.watch(digest) as watch:
        private_redis.start()
        assert watch.wait(SOON)


def test_one_connection_serves_all_watches(world):
    with world.wakes.watch("a") as first:
        assert first.wait(SOON)
        count = len(world.client.client_list(_type="pubsub"))
        watches = [world.wakes.watch(str(number)) for number in range(20)]
        for watch in watches:
            watch.__enter__()
        assert len(world.client.client_list(_type="pubsub")) == count == 1
        for watch in watches:
            watch.__exit__(None, None, None)


def test_who_runs_a_job_is_told_nothing_of_all_the_others(world, namespace):
    channels = Keys.of(namespace)
    told = (channels.wakes, channels.changes, channels.recalls)

    def listeners():
        return [count for _, count in world.client.pubsub_numsub(*told)]

    with world.wakes.watch("a", hears=Hears.RECALL) as watch:
        assert watch.wait(SOON)  # listening begins
        assert listeners() == [0, 0, 1]
        with world.wakes.watch("b", hears=Hears.END) as another:
            assert another.wait(SOON)
            assert listeners() == [1, 0, 1]


# --- what else stands in Redis ---------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [("summary", "{"), ("status", "great"), ("created_at", "soon"), ("priority", "x")],
)
def test_a_damaged_record_is_named_and_hides_no_other(world, namespace, field, value):
    record, damaged = world.add(), world.add()
    digest = damaged.summary.digest
    world.client.hset(f"{namespace}:job:{digest}", field, value)
    with pytest.raises(UnavailableError, match=digest):
        world.store.get(digest)
    assert world.store.list(Filter(), limit=10) == (record,)
    assert world.store.named(damaged.summary.id) == ()


def test_a_message_that_somebody_else_wrote_has_no_time(world):
    for raw in (
        b"not json",
        b"[]",
        b'{"headers": []}',
        b'{"headers": {"rung_at": {}}}',
    ):
        world.client.lpush("python", raw)
        assert world.dispatcher.front("python", 0).rung_at is None
        world.client.delete("python")


def test_what_redis_answers_to_a_list_is_no_longer_than_what_is_wanted(
    world, redis_server
):
    def sent():
        with redis_server.client() as client:
            return client.info("stats")["total_net_output_bytes"]

    for _ in range(8):
        world.add(envelope=secrets.token_hex(2**19))
    before = sent()
    assert len(world.store.list(Filter(), limit=1000, max_text=2**21)) == 2
    # Packed they are half as long.
    assert sent() - before < 5 * 2**19


def test_namespaces_do_not_see_each_other(redis_url, world, namespace):
    record = world.add()
    other = RedisStore(world.client, f"{namespace}-other")
    assert other.list(Filter(), limit=10) == ()
    assert sum(other.counts().values()) == 0
    with pytest.raises(NotFoundError):
        other.get(record.summary.digest)


def test_a_deleted_record_leaves_no_key_behind(world, namespace):
    digest = world.add().summary.digest
    world.logs.append(digest, [world.chunk()])
    world.store.apply(digest, Change(event=Event.STOP_ASKED, at=world.clock.at))
    world.store.delete(digest)
    world.store.silent(before=world.clock.at, limit=1)
    left = set(world.client.scan_iter(f"{namespace}:*"))
    assert left == {f"{namespace}:{name}".encode() for name in ("sequence", "tally")}


def test_a_long_log_is_capped(world, namespace, monkeypatch):
    monkeypatch.setattr("horus_celery.store.redis_logs._LOG_CAP", 1000)
    world.logs.append("a" * 64, [world.chunk(b"%d\n" % n) for n in range(5000)])
    lines = world.logs.read("a" * 64, after=None, limit=10_000)
    assert [line.text for line in lines] == [str(number) for number in range(1000)]


def commands_of(world, call):
    """Return how many commands a call gives, scripts counting as one."""
    stats = world.client.info("commandstats")
    with suppress(NotFoundError):
        call()
    after = world.client.info("commandstats")
    given = {
        name: after[name]["calls"] - stats.get(name, {"calls": 0})["calls"]
        for name in after
    }
    return {name: count for name, count in given.items() if count}


def test_a_foreign_record_costs_no_more_ways_to_redis_than_none(world):
    foreign = world.add()
    mine = frozenset({"lab"})
    unknown = "f" * 64
    ways = []
    for digest, job_id in [
        (foreign.summary.digest, foreign.summary.id),
        (unknown, "11111111-2222-3333-4444-555555555555"),
    ]:
        for call in (
            lambda d=digest: world.store.get(d, contexts=mine),
            lambda i=job_id: world.store.named(i, contexts=mine),
            lambda d=digest: world.store.list(Filter(contexts=mine), limit=9, after=d),
            lambda i=job_id: world.store.archived(i, contexts=mine),
        ):
            commands_of(world, call)  # the server has the script now
            ways.append(commands_of(world, call).get("cmdstat_evalsha"))
    assert ways == [1] * 8


@pytest.mark.parametrize("is_bound", [False, True])
def test_a_place_in_a_queue_is_told_without_reading_the_jobs_before_it(
    world, make_summary, is_bound
):
    for _ in range(300):
        envelope = secrets.token_hex(20_000)
        latest = world.store.add(
            make_summary(),
            envelope,
            at=world.clock.advance(milliseconds=1),
            priority=4,
            not_before=None,
            queue="python",
        )
    contexts = frozenset({latest.summary.context_id}) if is_bound else None
    sent = world.client.info("stats")["total_net_output_bytes"]
    ahead = world.store.ahead(latest.summary.digest, limit=1000, contexts=contexts)
    assert (ahead.count, ahead.is_all) == (299, True)
    sent = world.client.info("stats")["total_net_output_bytes"] - sent
    assert sent < 20_000


def test_of_many_queues_fewer_silent_bells_are_read_but_some_of_each(
    world, make_summary
):
    queues = [f"python.at.r{number}" for number in range(120)]
    for queue in queues * 20:
        world.store.add(
            make_summary(),
            "{}",
            at=world.clock.at,
            priority=4,
            not_before=None,
            queue=queue,
        )
    later = world.clock.advance(seconds=10)
    silent = world.store.silent(before=later, limit=100)
    assert {bell.queue for bell in silent} == set(queues)
    assert len(silent) <= 1000 + len(queues)


def test_any_number_of_contexts_may_be_seen(world):
    record = world.add()
    digest, job_id = record.summary.digest, record.summary.id
    many = {f"c{number}" for number in range(9000)}
    seen = frozenset({*many, record.summary.context_id})
    assert world.store.get(digest, contexts=seen) == record
    assert world.store.named(job_id, contexts=seen) == (record,)
    assert world.store.list(Filter(contexts=seen), limit=9) == (record,)
    assert world.store.ahead(digest, limit=9, contexts=seen).is_all
    assert world.store.archived(job_id, contexts=seen) == ()
    unseen = frozenset(many)
    assert world.store.named(job_id, contexts=unseen) == ()
    with pytest.raises(NotFoundError):
        world.store.get(digest, contexts=unseen)


def fill(world, make_summary, count, **facts):
    for number in range(count):
        each = {name: value(number) for name, value in facts.items()}
        yield world.store.add(
            make_summary(**each),
            "{}",
            at=world.clock.at,
            priority=4,
            not_before=None,
            queue=None,
        )


@pytest.mark.parametrize("count", [1, 2, 40])
def test_a_list_of_many_contexts_is_what_it_should_be(world, make_summary, count):
    records = list(
        fill(
            world,
            make_summary,
            3000,
            context_id=lambda number: f"c{number % 97 if number % 3 else number % 5}",
            executor=lambda number: "rare" if number % 50 == 0 else "python",
        )
    )
    contexts = frozenset(f"c{number}" for number in range(count))
    mine = [each for each in records if each.summary.context_id in contexts][::-1]
    assert list(world.store.list(Filter(contexts=contexts), limit=5000)) == mine
    rare = Filter(contexts=contexts, executor="rare")
    wanted = [each for each in mine if each.summary.executor == "rare"]
    assert list(world.store.list(rare, limit=5000)) == wanted
    middle = mine[len(mine) // 2].summary.digest
    page = world.store.list(Filter(contexts=contexts), limit=100, after=middle)
    assert list(page) == mine[len(mine) // 2 + 1 :][:100]
    assert world.store.counts(contexts)[Status.CREATED] == len(mine)


def test_old_records_are_retired_without_a_scan(world, namespace):
    sweep = Sweep(
        world.store, world.dispatcher, world.clock, keep=timedelta(seconds=60)
    )
    for _ in range(300):
        digest = world.add().summary.digest
        world.store.apply(digest, Change(event=Event.STOP_ASKED, at=world.clock.at))
    world.clock.advance(seconds=61)
    commands = commands_of(world, sweep.once)
    assert sum(world.store.counts().values()) == 0
    assert not {"cmdstat_scan", "cmdstat_keys", "cmdstat_sort"} & commands.keys()
    left = set(world.client.scan_iter(f"{namespace}:*"))
    assert left == {f"{namespace}:{name}".encode() for name in ("sequence", "tally")}


def test_a_finished_job_takes_little_memory(world, namespace, make_summary):
    count, key = 200, KeyPair.generate()
    random = Random(7)  # noqa: S311 - a payload that cannot be compressed well
    for _ in range(count):
        payload = "".join(random.choices(string.printable, k=1024))
        job = make_job(
            aud="hero",
            caller_id="alice",
            context_id="billing",
            executor="python",
            payload=payload,
            now=world.clock.at,
        )
        envelope = dsse.sign(dsse.JOB, job.body(), [key])
        receipt = dsse.sign(dsse.RECEIPT, random.randbytes(700), [key])
        summary = make_summary(id=job.id, digest=envelope.digest)
        text = dsse.to_json(envelope)
        facts = {"at": world.clock.at, "priority": 4, "not_before": None}
        world.store.add(summary, text, queue="python", **facts)
        claim = Change(event=Event.CLAIMED, at=world.clock.at, attempt=1, ran_on="r")
        world.store.apply(envelope.digest, claim)
        world.logs.append(envelope.digest, [world.chunk()])
        end = Change(
            event=Event.COMPLETED,
            at=world.clock.at,
            result="line\n",
            receipt=dsse.to_json(receipt),
            exit_code=0,
        )
        record = world.store.apply(envelope.digest, end)
        assert (record.envelope, record.receipt) == (text, dsse.to_json(receipt))
    keys = list(world.client.scan_iter(f"{namespace}:*"))
    used = sum(world.client.memory_usage(key, samples=0) for key in keys)
    assert used / count < 6 * 1024


def test_one_that_takes_no_changes_says_so_though_it_can_be_read(
    private_redis, world_at
):
    world = world_at(private_redis.url)
    world.store.require_writable()
    assert world.client.keys() == []
    world.client.config_set("maxmemory", 1)
    with pytest.raises(UnavailableError, match="out of memory"):
        world.store.require_writable()
    world.store.counts()
    world.client.config_set("maxmemory", 0)
    world.client.replicaof("127.0.0.1", "1")
    with pytest.raises(UnavailableError, match="read-only"):
        world.store.require_writable()
    world.store.counts()


def test_a_list_finds_a_rare_record_among_many(world, make_summary):
    rare = None
    for number in range(5000):
        record = world.store.add(
            make_summary(
                caller_id="rare" if number == 7 else f"caller-{number % 2}",
                executor="python" if number % 2 else "system",
            ),
            "{}",
            at=world.clock.at,
            priority=4,
            not_before=None,
            queue=None,
        )
        rare = record if number == 7 else rare
    wanted = Filter(caller_id="rare", executor="python", context_id="billing")
    assert world.store.list(wanted, limit=100) == (rare,)
    # Every caller with an even number has the other executor: nothing agrees, however
    # long it is looked for.
    nothing = Filter(caller_id="caller-0", executor="python")
    assert world.store.list(nothing, limit=100) == ()


def test_who_watches_nothing_soon_listens_no_more(world, namespace):
    wakes = RedisWakes(world.listening, namespace, idle=timedelta(0))

    def listeners():
        return [each.name for each in threading.enumerate()].count("horus-wakes")

    before = listeners()
    for _ in range(2):
        with wakes.watch("a") as watch:
            assert watch.wait(timedelta(seconds=5)), "woken when it listens"
            assert listeners() == before + 1
        ended_by = time.monotonic() + 5
        while listeners() != before:
            assert time.monotonic() < ended_by
            time.sleep(0.01)
    wakes.close()
