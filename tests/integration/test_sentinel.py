"""A Redis behind sentinels: whoever is the master is served from, whatever dies."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path

import kombu.transport
import pytest
import redis
from celery import Celery
from kombu.transport import TRANSPORT_ALIASES
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from horus_celery import redis_server, screening
from horus_celery.errors import ConfigurationError, UnavailableError
from horus_celery.lifecycle import Status
from horus_celery.store.connection import (
    answering,
    broker,
    connect,
    connect_blocking,
)
from horus_celery.store.dialling import dial
from horus_celery.store.redis_wakes import RedisWakes

pytestmark = pytest.mark.integration

SERVICE = "main"
DEADLINE = 30.0  # seconds
#: How a server keeps its data.
DATA = 'save ""\nappendonly yes\nrepl-diskless-sync-delay 0\n'
#: When a sentinel takes a master for dead.
DOWN_AFTER = timedelta(milliseconds=500)
PATIENCE = Retry(ConstantBackoff(0.01), int(DEADLINE / 0.01))


class Node:
    """A server or a sentinel, on a port of its own."""

    def __init__(self, folder, *options, configuration="", port=None):
        self.port = port or free_port()
        self.place = f"127.0.0.1:{self.port}"
        self._folder = folder / str(self.port)
        self._folder.mkdir(exist_ok=True)
        self._options = options
        self._file = self._folder / "server.conf"
        common = f'port {self.port}\nbind 127.0.0.1\ndir "{self._folder}"\n'
        self._file.write_text(f"{common}{configuration}")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self):
        program = str(redis_server.find_server().path)
        self._process = subprocess.Popen(  # noqa: S603 - our own argv
            [program, str(self._file), *self._options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with self.client(retry=PATIENCE) as client:
            client.ping()

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self):
        """Let it hang: connections stand, answers fail to come."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def client(self, **options):
        return redis.Redis(port=self.port, protocol=2, **options)

    def says(self, *command):
        with self.client(decode_responses=True) as client:
            return client.execute_command(*command)


class Watched:
    """A master with a replica, and three sentinels that watch them."""

    def __init__(self):
        self._folder = Path(tempfile.mkdtemp(prefix="horus-"))
        self.nodes = []

    def start(self):
        self.master = self._start(configuration=DATA)
        where = f"replicaof 127.0.0.1 {self.master.port}\n"
        self.replica = self._start(configuration=f"{DATA}{where}")
        until(lambda: self.replica.says("ROLE")[3] == "connected")
        # They are told of each other, which they else hear after some seconds.
        ports = {free_port(): f"{number:040x}" for number in range(1, 4)}
        self.sentinels = [
            self.start_sentinel(self.master, port=port, known=ports) for port in ports
        ]
        until(self._is_settled)
        places = ",".join(sentinel.place for sentinel in self.sentinels)
        self.url = f"sentinel://{places}/{SERVICE}"

    def start_alone(self):
        """Start a master and a sentinel that makes no other."""
        self.master = self._start(configuration=DATA)
        sentinel = self.start_sentinel(self.master)
        self.url = f"sentinel://{sentinel.place}/{SERVICE}"

    def start_sentinel(self, watched, quorum=2, *, port=None, known=None):
        """Start one; `known` are the ids of all of them by their ports."""
        name = f"sentinel monitor {SERVICE} 127.0.0.1 {watched.port} {quorum}\n"
        after = int(DOWN_AFTER.total_seconds() * 1000)
        times = (
            f"sentinel down-after-milliseconds {SERVICE} {after}\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
        )
        others = ""
        for each, own in (known or {}).items():
            place = f"known-sentinel {SERVICE} 127.0.0.1 {each} {own}"
            others += f"sentinel {f'myid {own}' if each == port else place}\n"
        return self._start("--sentinel", configuration=name + times + others, port=port)

    def fail_over(self, *, by=Node.kill):
        """Have the master end, and wait until the sentinels name the next."""
        by(self.master)
        self.master, self.replica = self.replica, self.master
        until(lambda: self._known_to(self.sentinels[-1])["port"] == self.master.port)

    def close(self):
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self._folder)

    def _start(self, *options, **more):
        self.nodes.append(Node(self._folder, *options, **more))
        return self.nodes[-1]

    def _is_settled(self):
        known = [self._known_to(sentinel) for sentinel in self.sentinels]
        return all(
            (one["num-other-sentinels"], one["num-slaves"]) == (2, 1) for one in known
        )

    @staticmethod
    def _known_to(sentinel):
        with sentinel.client() as client:
            return client.sentinel_masters()[SERVICE]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def until(holds):
    deadline = time.monotonic() + DEADLINE
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < deadline
        pause.wait(0.02)


@pytest.fixture
def private_redis():
    """Give the deployment of a test a Redis behind sentinels."""
    watched = Watched()
    try:
        watched.start()
        yield watched
    finally:
        watched.close()


@pytest.fixture
def lonely():
    """Start one server behind one sentinel."""
    watched = Watched()
    try:
        watched.start_alone()
        yield watched
    finally:
        watched.close()


@pytest.fixture
def silent():
    """Start listeners that take connections and never say a word."""
    with ExitStack() as stack:

        def start():
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            return f"127.0.0.1:{listener.getsockname()[1]}"

        yield start


def fault(url):
    """Return why a call failed, which has to be told in time."""
    with connect(url) as client:
        begun = time.monotonic()
        with pytest.raises(UnavailableError) as caught, answering():
            client.ping()
        assert time.monotonic() - begun < 2
        with pytest.raises(UnavailableError), answering():
            client.pipeline(transaction=False).get("a").execute()
    return caught.value.detail


@pytest.mark.parametrize("count", [1, 3, 9])
def test_sentinels_that_say_nothing_hold_nobody_up(silent, count):
    places = ",".join(silent() for _ in range(count))
    assert "no sentinel answers" in fault(f"sentinel://{places}/{SERVICE}")


def test_sentinels_that_are_not_there_are_told():
    url = f"sentinel://127.0.0.1:1,127.0.0.1:2/{SERVICE}"
    assert "no sentinel answers" in fault(url)
    with pytest.raises(ConfigurationError, match="no sentinel answers"):
        redis_server.require_usable(url, namespace="hero")


def test_a_listener_ends_in_time_although_nobody_answers(silent):
    url = f"sentinel://:password@{silent()}/{SERVICE}"
    wakes = RedisWakes(connect_blocking(url), "hero")
    with wakes.watch("0" * 64) as watch:
        # A lost connection wakes whoever waits.
        assert watch.wait(timedelta(seconds=5))
    begun = time.monotonic()
    wakes.close()
    assert time.monotonic() - begun < 2


def test_usual_mistakes_are_told(private_redis, silent):
    watched = private_redis
    places = watched.url.partition("://")[2].partition("/")[0]
    assert "know no service other" in fault(f"sentinel://{places}/other")
    wrong = f"sentinel://u:p@{places}/{SERVICE}"
    assert "the user or the password of redis_url" in fault(wrong)
    wrong = f"{watched.url}?sentinel_password=x"
    assert "sentinel_password" in fault(wrong)
    with pytest.raises(ConfigurationError, match="begins with sentinel://"):
        redis_server.require_usable(
            f"redis://{watched.sentinels[0].place}", namespace="hero"
        )
    # A dead one, a silent one: one that answers is enough.
    url = f"sentinel://127.0.0.1:1,{silent()},{places}/{SERVICE}"
    until(lambda: is_usable(url))


def is_usable(url):
    with suppress(ConfigurationError):  # a busy machine has not even time for one
        return redis_server.require_usable(url, namespace="hero")
    return False


def test_a_bare_connection_leads_to_the_master(private_redis):
    def ask():
        with dial(private_redis.url, within=timedelta(seconds=5)) as channel:
            channel.sendall(b"SET key value\r\n")
            return channel.recv(100)

    assert ask() == b"+OK\r\n"
    private_redis.fail_over()
    until(lambda: is_usable(private_redis.url))
    assert ask() == b"+OK\r\n"


def test_what_is_only_called_the_master_is_not_believed(private_redis):
    watched = private_redis
    # For a while a sentinel takes for the master whatever it was told.
    misled = watched.start_sentinel(watched.replica, quorum=3)
    assert "no connection" in fault(f"sentinel://{misled.place}/{SERVICE}")


def test_an_answer_that_comes_too_late_is_taken_for_no_other(lonely):
    with connect(lonely.url) as client:
        for key in ("one", "two"):
            client.set(key, key)
        lonely.master.pause()
        with pytest.raises(UnavailableError, match="in time"), answering():
            client.get("one")
        lonely.master.resume()
        answers = []

        def ask():
            with suppress(UnavailableError), answering():
                answers.append(client.get("two"))
            return answers

        until(ask)
        assert answers == [b"two"]


def test_many_threads_may_ask_at_once_while_one_sentinel_after_another_dies(
    private_redis,
):
    watched = private_redis
    faults = []

    def ask(client):
        try:
            for _ in range(20):
                with answering():
                    client.ping()
                client.connection_pool.disconnect(inuse_connections=False)
        except UnavailableError as error:
            faults.append(error.detail)

    with connect(watched.url) as client:
        threads = [threading.Thread(target=ask, args=(client,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        watched.sentinels[0].kill()
        watched.sentinels[1].kill()
        for thread in threads:
            thread.join()
        assert len(client.connection_pool.sentinel_manager.sentinels) == 3
    assert faults == []


def test_jobs_run_on_when_the_master_dies_and_nothing_is_started_again(
    private_deployment, private_redis, api_of
):
    deployment, watched = private_deployment, private_redis
    worker = deployment.start_worker("-Q", "python", "-c", "1")
    api = api_of(deployment)
    assert api.run("print('before')") == {"success": "before\n"}

    watched.fail_over()

    until(lambda: attempt(api) == {"success": "after\n"})
    record = deployment.run("print('and here')")
    assert (record.status, record.result) == (Status.COMPLETED, "and here\n")
    assert worker.poll() is None
    assert deployment.beat_of(worker) is not None


def test_jobs_run_on_when_the_master_hangs(private_deployment, private_redis, api_of):
    deployment, watched = private_deployment, private_redis
    worker = deployment.start_worker("-Q", "python", "-c", "1")
    api = api_of(deployment)
    assert api.run("print('before')") == {"success": "before\n"}
    watched.sentinels[0].kill()
    watched.fail_over(by=Node.pause)
    until(lambda: attempt(api) == {"success": "after\n"})
    assert worker.poll() is None


def attempt(api):
    """Ask for a job; while there is no master, the answer is to come again."""
    answer = api.call("job.run", job=api.envelope("print('after')"), wait=20)
    assert "result" in answer or answer["error"]["data"]["retryable"], answer
    return answer.get("result")


def test_who_waits_is_woken_by_the_failover_and_then_by_the_new_master(private_redis):
    watched = private_redis
    digest = "0" * 64
    wakes = RedisWakes(connect_blocking(watched.url), "hero")
    with wakes.watch(digest) as watch:
        assert watch.wait(timedelta(seconds=5)), "by the subscription"
        watched.fail_over()
        assert watch.wait(timedelta(seconds=10)), "by the lost connection"
        with connect(watched.url) as client:
            until(lambda: told(client, digest))
        assert watch.wait(timedelta(seconds=5)), "by the new master"
    wakes.close()


def told(client, digest):
    """Publish a change; true once somebody heard it."""
    with suppress(UnavailableError), answering():
        return client.publish("hero:wakes", digest)
    return False


def test_flower_shows_its_queues(private_deployment, flower_of, private_redis):
    private_redis.sentinels[1].kill()
    private_deployment.submit("print()")
    flower = flower_of(private_deployment)
    flower.shows("python", 1)


@pytest.fixture
def kombu_afresh(monkeypatch):
    """Let kombu look its transports up again, and leave it as it was."""
    for scheme in ("redis", "rediss", "sentinel"):
        monkeypatch.setitem(TRANSPORT_ALIASES, scheme, TRANSPORT_ALIASES[scheme])
    return lambda: monkeypatch.setattr(kombu.transport, "_transport_cache", {})


def test_the_screen_stands_before_it(private_redis, kombu_afresh):
    told = broker(private_redis.url)
    with Celery(broker=told.url, set_as_current=False) as app:
        app.conf.broker_transport_options = {**told.options, "ack_emulation": False}
        for set_up, is_screen in (
            (lambda: None, False),
            (screening.be_prompt, False),
            (screening.install, True),
        ):
            kombu_afresh()
            set_up()
            assert screening.is_installed(app) == is_screen
        with app.connection_for_read() as connection:
            channel = connection.default_channel
            assert isinstance(channel.client, screening.ScreeningClient)
            assert not channel.do_restore
            channel.client.lpush("python", b"5")
            assert channel.client.rpop("python") is None
            assert channel.client.llen("python") == 0
