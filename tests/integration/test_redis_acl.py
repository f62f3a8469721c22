"""A Redis with the users that `horus redis-acl` prints: enough for all, and no more."""

from __future__ import annotations

import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from horus_celery.dag.progress import WorkflowStatus
from horus_celery.dag.shapes import Strategy
from horus_celery.errors import ConfigurationError, UnavailableError
from horus_celery.lifecycle import Event, Status
from horus_celery.record import Change
from horus_celery.redis_acl import User
from horus_celery.redis_server import find_server, require_usable
from horus_celery.store.base import Chunk, Filter, Stream
from horus_celery.store.connection import answering, connect
from horus_celery.store.keys import queue
from horus_celery.store.redis import RedisStore
from horus_celery.store.redis_logs import RedisLogs
from horus_celery.store.workflows import WorkflowFilter

pytestmark = pytest.mark.integration

TOP = Path(__file__).parents[2]
HORUS = (sys.executable, "-c", "from horus_celery.cli import main; main()")
EXECUTORS = ("python", "system")
PAGE = (TOP / "docs" / "redis.md").read_text()
#: The configuration of a server, as the page has it.
DOCUMENTED = (
    PAGE.partition("## What it has to keep")[2].split("```")[1].partition("\n")[2]
)
#: Who looks after the server, and is no part of Horus.
OPERATOR = "operator"
#: What redis-py does without, and what Flower asks of workers that listen to nobody.
NO_LOSS = re.compile(
    r".* command client\|setinfo"
    r"|flower key [-0-9a-f]+\.reply\.celery\.pidbox(\x06\x16[369])?"
)
#: A script that writes and reads, in the clear and encrypted.
HERODB = r"""
import os, socket
channel = socket.socket(socket.AF_UNIX)
channel.connect(os.environ["HERODB_URL"].removeprefix("unix://"))
said = ""
for words in ("SET k v", "GET k", "SETENC e v", "GETENC e"):
    words = words.split()
    parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    channel.sendall(f"*{len(words)}\r\n{parts}".encode())
    said += channel.recv(1000).decode()
print(said)
"""
SLOW = "import time; print(1, flush=True); time.sleep(60)"


class Guarded:
    """A server whose default user is off."""

    def __init__(self, folder):
        self._folder = folder
        self.passwords = {name: secrets.token_urlsafe(32) for name in (*User, OPERATOR)}
        self._users = folder / "users.acl"
        self._write("user default reset off\n")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        options = {
            # Flower knows no users on a unix socket.
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(folder),
            "save": "",
            "aclfile": str(self._users),
            "acllog-max-len": "1000",
        }
        words = [word for item in options.items() for word in (f"--{item[0]}", item[1])]
        configuration = folder / "server.conf"
        configuration.write_text(DOCUMENTED)
        self._process = subprocess.Popen(  # noqa: S603 - our own argv
            [str(find_server().path), str(configuration), *words],
            stdout=subprocess.DEVNULL,
        )
        step = 0.01
        patience = Retry(ConstantBackoff(step), int(10 / step))
        with self.client(retry=patience) as client:
            client.ping()
        #: The deployment's own, which is the supervisor's.
        self.url = self.url_of(User.SUPERVISOR)

    def let_in(self, lines):
        """Have the server read these users from its file, in place of those before."""
        self._write(lines)
        with self.client() as client:
            client.execute_command("ACL", "LOAD")
            client.execute_command("ACL", "LOG", "RESET")

    def _write(self, lines):
        operator = f"user {OPERATOR} on >{self.passwords[OPERATOR]} ~* &* +@all\n"
        self._users.write_text(f"{lines}{operator}")

    def url_of(self, user):
        password = quote(self.passwords[user], safe="")
        return f"redis://{user}:{password}@127.0.0.1:{self.port}"

    def client(self, *, user=OPERATOR, **options):
        return redis.Redis(
            port=self.port,
            username=user,
            password=self.passwords[user],
            protocol=2,
            driver_info=None,
            **options,
        )

    def refusals(self):
        """Return what was refused so far, but for what it is done without."""
        with self.client() as client:
            entries = client.acl_log()
        said = [
            " ".join(str(entry[name]) for name in ("username", "reason", "object"))
            for entry in entries
        ]
        return [one for one in said if not NO_LOSS.fullmatch(one)]

    def close(self):
        self._process.terminate()
        self._process.wait()


@pytest.fixture(scope="module")
def redis_server():
    """Give the deployment of this module a server with users."""
    folder = Path(tempfile.mkdtemp(prefix="horus-"))
    server = Guarded(folder)
    yield server
    server.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def guarded(redis_server, deployment):
    """Let in whom the command prints, and nobody else."""
    words = ["--executors", ",".join(EXECUTORS), "--database", "1"]
    for user in User:
        path = deployment.folder / f"{user}.password"
        path.write_text(f"{redis_server.passwords[user]}\n")
        words += ["--password", f"{user}={path}"]
    told = subprocess.run(  # noqa: S603 - our own command
        [*HORUS, "redis-acl", *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=TOP,
        env=deployment.env,
    )
    redis_server.let_in(told.stdout)
    return redis_server


def test_the_server_keeps_what_the_page_has_it_keep(guarded):
    with guarded.client() as client:
        told = client.config_get()
    for name in ("appendonly", "maxmemory-policy", "lazyfree-lazy-user-del"):
        assert f"\n{name} {told[name]}\n" in DOCUMENTED


def test_all_is_served_and_nobody_is_refused_anything(
    guarded, deployment, api_of, flower_of
):
    runner, flower = (f"{guarded.url_of(u)}?db=1" for u in (User.RUNNER, User.FLOWER))
    pages = flower_of(deployment, HORUS_REDIS_URL=flower)
    herodb = {"HORUS_HERODB_URL": f"{guarded.url_of(User.HERODB)}?db=1"}
    api = api_of(deployment, **herodb)
    # Rung while nobody is there, and then lost: the sweep rings again.
    lost = deployment.submit("print('found')")
    with guarded.client(db=1) as client:
        assert client.delete("python", queue("python", 4)) == 1
    # A runner needs the place alone.
    place = f"redis://127.0.0.1:{guarded.port}/1"
    env = {"HORUS_REDIS_URL": runner, "HORUS_HERODB_URL": place}
    worker = deployment.start_worker("-Q", "python", "-c", "2", env=env)
    env = {"HORUS_REDIS_URL": f"{guarded.url_of(User.COORDINATOR)}?db=1", **herodb}
    coordinator = deployment.start_coordinator(env=env)

    assert api.run("print('run')") == {"success": "run\n"}
    kept = api.run(HERODB, net="herodb")
    assert kept == {"success": "+OK\r\n$1\r\nv\r\n+OK\r\n$1\r\nv\r\n\n"}
    api.ask("herodb.set_quota", as_="admin", context="default", max_keys=10)
    assert api.ask("herodb.list_contexts", as_="admin")[0]["max_keys"] == 10
    given = {"context": "default", "name": "eve"}
    api.ask("herodb.add_user", as_="admin", role="write", **given)
    assert api.ask("herodb.list_users", as_="admin", context="default")
    api.ask("herodb.remove_user", as_="admin", **given)
    api.ask("herodb.delete_context", as_="admin", context="default")
    job = api.ask("create_job", job=api.envelope(SLOW))
    deployment.until(lambda: api.ask("job.logs", job_id=job)["lines"])
    api.ask("job.stop", job_id=job)
    deployment.until(lambda: api.ask("job.status", job_id=job)["status"] == "stopped")
    soon = int((datetime.now(UTC) + timedelta(seconds=1)).timestamp() * 1000)
    later = api.ask("create_job", job=api.envelope("print(1)"), not_before=soon)
    created = api.ask("jobs.create", job=api.envelope("print('kept')"))
    assert api.ask("job.why", job_id=created)["status"] == "created"
    api.ask("job.start", job_id=created)
    assert api.ask("job.result", job_id=created, wait=20) == {"success": "kept\n"}
    assert api.ask("job.receipt", job_id=created)
    for wanted in ({}, {"status": "completed"}, {"runner": "nobody"}):
        api.ask("jobs.list", **wanted)
    assert api.ask("job.delete", job_id=created) is True
    assert api.ask("job.result", job_id=later, wait=20) == {"success": "1\n"}
    assert deployment.over(lost).result == "found\n"

    by_canvas = deployment.sign(a=[], b=["a"], c=["a"], d=["b", "c"])
    deployment.coordinator.submit(
        by_canvas.manifest, by_canvas.jobs, strategy=Strategy.CANVAS
    )
    ending = deployment.ending_of(by_canvas)
    assert ending.record.strategy is Strategy.CANVAS
    signed = deployment.submit_workflow(a=[], b=["a"])
    assert deployment.ending_of(signed).record.status is WorkflowStatus.COMPLETED
    deployment.coordinator.list(WorkflowFilter(caller_id="default"), limit=10)
    deployment.coordinator.delete(signed.id)

    names = [one["name"] for one in api.ask("list_runners")]
    assert "python_runner_1" in names
    assert api.ask("get_supervisor_info")["namespace"] == deployment.namespace
    made = api.ask("add_secret", as_="admin", scope="user")
    assert api.ask("list_secrets", as_="admin")
    assert api.ask("remove_secret", as_="admin", id=made["id"]) is True
    envelope = api.ask("trust.get")
    api.call("trust.install", as_="admin", trust=envelope)
    for page in ("metrics", "readyz"):
        assert api.http.get(f"{api.url}/{page}").status_code == HTTPStatus.OK
    pages.shows("python", 0)
    events = f"{pages.url}/metrics"
    deployment.until(lambda: "task-succeeded" in pages.http.get(events).text)

    deployment.end(worker)
    deployment.end(coordinator)
    assert guarded.refusals() == []


@pytest.mark.parametrize("user", sorted({*User} - {User.FLOWER, User.HERODB}))
def test_each_may_do_all_that_it_does_to_records(
    guarded, deployment, make_summary, user
):
    at = datetime.now(UTC)
    namespace = deployment.namespace
    with (
        connect(guarded.url_of(User.SUPERVISOR)) as supervisors,
        connect(guarded.url_of(user)) as users,
    ):
        summary = make_summary(expires_at=at + timedelta(hours=1), runner="nobody")
        digest, contexts = summary.digest, frozenset({summary.context_id})
        RedisStore(supervisors, namespace).add(
            summary, "{}", at=at, priority=4, not_before=at, queue="python.at.nobody"
        )
        stopped = secrets.token_hex(32)
        RedisStore(supervisors, namespace).stop(stopped, at=at, expires_at=at)
        store, logs = RedisStore(users, namespace), RedisLogs(users, namespace)
        assert stopped in store.stops(after=None, limit=10).digests
        assert store.due(at=at, limit=10)
        store.rung(digest, at=at, queue="python.at.nobody")
        assert store.silent(before=at + timedelta(seconds=1), limit=10)
        assert store.get(digest, contexts=contexts).summary.id == summary.id
        assert store.named(summary.id, contexts=contexts)
        assert store.queue_lengths(["python.at.nobody"])
        assert store.queue_lengths(["python.at.nobody"], contexts=contexts)
        assert store.standing(limit=1)
        assert store.standing(limit=1, contexts=contexts)
        claimed = Change(event=Event.CLAIMED, at=at, attempt=1, ran_on=user)
        store.apply(digest, claimed)
        logs.append(digest, [Chunk(at=at, stream=Stream.STDOUT, data=b"1\n")])
        assert logs.read(digest, after=None, limit=10)
        assert store.running_on([user]) == {user: 1}
        store.renew(digest, attempt=1, lease_until=at)
        assert store.abandoned(at=at + timedelta(minutes=1), limit=10)
        assert store.expired(at=at, limit=10) == ()
        over = Change(event=Event.FAILED, at=at, if_attempt=1, reason="exit")
        store.apply(digest, over)
        assert store.list(Filter(contexts=contexts), limit=10)
        assert store.counts(contexts)[Status.FAILED]
        store.count_swept({"rung": 1})
        assert store.tally().ended
        assert store.finished(before=at + timedelta(seconds=1), limit=10) == (digest,)
        store.retire(digest)
        store.archived(summary.id)
    assert guarded.refusals() == []


def test_the_supervisor_s_user_can_be_used(guarded, deployment):
    assert require_usable(guarded.url, namespace=deployment.namespace)
    with pytest.raises(ConfigurationError, match="may not do this"):
        require_usable(guarded.url, namespace="other")
    with guarded.client() as client:
        client.execute_command("ACL", "LOG", "RESET")


def test_nobody_gets_in_without_a_password(guarded):
    for login in ("", "runner:wrong@"):
        with (
            connect(f"redis://{login}127.0.0.1:{guarded.port}") as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()
    with guarded.client() as client:
        client.execute_command("ACL", "LOG", "RESET")


#: Asked of everybody; NS stands for the namespace.
FORBIDDEN = """
    FLUSHALL|FLUSHDB|KEYS *|SCAN 0|RANDOMKEY|CONFIG GET *|CONFIG SET dir /
    SCRIPT FLUSH|SCRIPT KILL|FUNCTION FLUSH|FUNCTION LIST|DEBUG SLEEP 0|SHUTDOWN
    MODULE LIST|ACL LIST|ACL SETUSER x|ACL WHOAMI|CLIENT LIST|CLIENT KILL 1:1|MONITOR
    INFO|SAVE|BGREWRITEAOF|REPLICAOF no one|SYNC|SWAPDB 0 1|MIGRATE a 1 k 0 1|MOVE k 1
    GET k|SET k v|DEL k|LPUSH k v|RENAME NS:secrets k|COPY NS:secrets k|DUMP NS:secrets
    EXPIRE NS:every 1|PEXPIRE NS:secrets 1|SORT NS:secrets|OBJECT ENCODING NS:secrets
    HGETALL other:secrets|GETRANGE NS2:trust 0 1|LPUSH python2 v|LPUSH python_x3 v
    LPUSH pythonx v|LPUSH systems.at.x v|PUBLISH other:wakes v|SUBSCRIBE other:wakes
    SPUBLISH NS:wakes v|PSUBSCRIBE *|HSET unacked a b|ZADD unacked_index 1 a
"""
MORE = {
    User.SUPERVISOR: """
        BRPOP python 1|RPOP python|LTRIM python 0 0|SADD _kombu.binding.celeryev a
        PUBLISH /1.celeryev/task.x v|PSUBSCRIBE NS:*
    """,
    User.RUNNER: """
        HGETALL NS:secrets|HSET NS:secrets a b|DEL NS:secrets|TYPE NS:secrets
        EVAL x 1 NS:secrets|SET NS:trust v|DEL NS:trust|LPUSH NS:trust v
        INCR NS:sequence|DEL NS:sequence|SET NS:nonce:a 1|DEL NS:nonce:a
        HSET NS:workflow:a b c|ZADD NS:workflow_due 1 a|DEL NS:workflows
        BRPOP coordinator 1|LRANGE coordinator 0 1
        PSUBSCRIBE /1.celeryev/*|PUBLISH /1.celery.pidbox v
    """,
    User.COORDINATOR: """
        BRPOP python 1|RPOP python|HGETALL NS:secrets|BRPOP NS:secrets 1|SET NS:trust v
        PUBLISH /1.celery.pidbox v|HSET NS2:workflow:a b c
    """,
    User.PLATFORM: """
        BRPOP NS:secrets 1|LTRIM python 0 0|PUBLISH /0.celery.pidbox v|PSUBSCRIBE NS:*
    """,
    User.HERODB: """
        HGETALL NS:secrets|HSET NS:job:a b c|EVAL x 1 NS:trust|UNLINK NS:trust
        MEMORY USAGE NS:trust|GET NS:herodb:{a}:k|ACL GETUSER x|ACL SAVE
    """,
    User.FLOWER: """
        HGETALL NS:secrets|GETRANGE NS:trust 0 1|HMGET NS:job:a status|HGETALL NS:tally
        SUBSCRIBE NS:wakes|PUBLISH NS:wakes v|LPUSH python v|BRPOP python 1|DEL python
        LRANGE python 0 1|LINDEX python 0|EVAL x 0|PSUBSCRIBE /0.celeryev/*|PSUBSCRIBE *
    """,
}
#: What shows that the question is asked rightly.
ALLOWED = {
    User.SUPERVISOR: "HGETALL NS:secrets|SET NS:trust v|LPUSH python.at.a v|PING",
    User.RUNNER: "GETRANGE NS:trust 0 1|BRPOP python python.ctx.a 1|HSET NS:job:a b c",
    User.COORDINATOR: "LPUSH python v|BRPOP coordinator 1|HSET NS:workflow:a b c|PING",
    User.PLATFORM: "HGETALL NS:secrets|BRPOP python 1|PSUBSCRIBE /1.celeryev/*|PING",
    User.FLOWER: "LLEN python|LLEN python.at.a|PSUBSCRIBE /1.celeryev/*",
    User.HERODB: "ACL SETUSER x|HGETALL NS:herodb:contexts|UNLINK NS:herodb:{a}:k",
}


@pytest.mark.parametrize("user", list(User))
def test_what_a_user_need_not_do_it_may_not_do(guarded, deployment, user):
    def answers(text):
        words = text.replace("NS", deployment.namespace).replace("\n", "|").split("|")
        with guarded.client(decode_responses=True) as client:
            for command in filter(None, map(str.strip, words)):
                yield (
                    command,
                    client.execute_command("ACL", "DRYRUN", user, *command.split()),
                )

    assert [asked for asked, said in answers(ALLOWED[user]) if said != "OK"] == []
    forbidden = [*answers(FORBIDDEN), *answers(MORE[user])]
    # It sees the names of all keys, for it measures and removes.
    may = {"SCAN 0", "ACL SETUSER x"} if user is User.HERODB else set()
    assert {asked for asked, said in forbidden if said == "OK"} == may


def test_a_script_may_no_more_than_who_calls_it(guarded, deployment):
    namespace = deployment.namespace
    with guarded.client(db=1) as client:
        client.hset(f"{namespace}:secrets", "id", "sealed")
    with connect(f"{guarded.url_of(User.RUNNER)}?db=1") as client:
        for script in (
            f"return redis.call('HGETALL', '{namespace}:secrets')",
            f"return redis.call('SET', '{namespace}:trust', 'x')",
            "return redis.call('KEYS', '*')",
            "return redis.call('PUBLISH', 'other:wakes', 'x')",
        ):
            with pytest.raises(redis.ResponseError, match="ACL failure"):
                client.eval(script, 0)
            with pytest.raises(UnavailableError, match="may not do"), answering():
                client.eval(script, 0)
    with guarded.client() as client:
        client.execute_command("ACL", "LOG", "RESET")
        client.hdel(f"{namespace}:secrets", "id")
