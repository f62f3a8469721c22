"""Jobs of a real runner reach HeroDB if they may, at every level of containment."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import pytest

from horus_celery import wiring
from horus_celery.errors import NotCoveredError
from horus_celery.herodb.layout import Layout
from horus_celery.lifecycle import Status

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[3] / "docs" / "herodb.md"
LEVELS = ("namespaces", "namespaces of a plain user", "bwrap", "landlock", "plain")
TALK = """
import json, os, socket, stat

def tell(*words):
    data = b"*%d\\r\\n" % len(words)
    for word in words:
        data += b"$%d\\r\\n%s\\r\\n" % (len(word.encode()), word.encode())
    channel.sendall(data)
    return channel.recv(65536).decode()

url = os.environ["HERODB_URL"]
path = url.removeprefix("unix://")
channel = socket.socket(socket.AF_UNIX)
channel.connect(path)
"""


@pytest.fixture(scope="module")
def runners(deployment_at):
    """A runner at each level, started when it is first asked for."""
    started = {}

    def at(level):
        if level not in started:
            deployment = deployment_at(level)
            deployment.start_worker("-Q", "python,system", before=deployment.before)
            started[level] = deployment
        return started[level]

    return at


@pytest.fixture(params=LEVELS)
def runner(request, runners):
    return runners(request.param)


def told(deployment, code, **facts):
    """Run a script that prints JSON, and return what it says."""
    facts = {"net": "herodb", **facts}
    record = deployment.run(TALK + textwrap.dedent(code), **facts)
    said = [line.text for line in deployment.lines(record)]
    assert record.status is Status.COMPLETED, (record.reason, said)
    return json.loads(record.result)


def test_a_job_that_may_reads_what_another_wrote(runner):
    told(runner, 'print(json.dumps(tell("SET", "greeting", "hello")))')
    said = told(
        runner,
        """
        print(json.dumps({
            "got": tell("GET", "greeting"), "keys": tell("KEYS", "*"),
            "sealed": tell("SETENC", "s", "x") + tell("GETENC", "s"),
            "flush": tell("FLUSHALL"), "mode": stat.S_IMODE(os.stat(path).st_mode),
            "words": [v for k, v in os.environ.items() if "redis" in (k + v).lower()],
        }))
        """,
    )
    assert said["got"] == "$5\r\nhello\r\n"
    assert "greeting" in said["keys"]
    assert said["sealed"] == "+OK\r\n$1\r\nx\r\n"
    assert said["flush"].startswith("-NOPERM")
    assert said["mode"] == 0o600
    assert said["words"] == []
    data = Layout(namespace=runner.namespace).data("default")
    assert runner.redis.get(f"{data}greeting") == b"hello"


@pytest.mark.parametrize("level", LEVELS)
def test_a_script_may_do_what_the_page_shows_where_it_sees_our_packages(
    deployment_at, level
):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    root = PAGE.parents[1]
    paths = f"{root / 'horus_celery'},{root / 'workers'}"
    deployment = deployment_at(level, HORUS_SANDBOX_PATHS=paths)
    deployment.start_worker("-Q", "python", before=deployment.before)
    code = example + 'print(db.call("GET", "invoice:1"))'
    record = deployment.run(code, net="herodb")
    said = [line.text for line in deployment.lines(record)]
    assert (record.status, said) == (Status.COMPLETED, ["b'paid'"])


def test_a_job_without_a_network_has_no_herodb(runner):
    said = runner.run(
        """
import json, os
place = os.path.dirname(os.environ["HORUS_INPUTS"])
print(json.dumps(["HERODB_URL" in os.environ, os.path.exists(place + "/herodb")]))
"""
    )
    assert json.loads(said.result) == [False, False]


def test_a_bash_script_has_the_address_as_well(runner):
    record = runner.run(
        'test -S "${HERODB_URL#unix://}" && printf yes', executor="system", net="herodb"
    )
    assert record.result == "yes"


def test_whatever_a_script_leaves_open_it_ends_with_its_job(runner):
    code = """
    import threading, time
    others = [socket.socket(socket.AF_UNIX) for _ in range(12)]
    for one in others:
        one.connect(path)
        one.sendall(b"*2\\r\\n$3\\r\\nGET")
    child = os.fork()
    if child == 0:
        os.setsid()
        while True:
            time.sleep(60)
    print(json.dumps(tell("PING")))
    """
    for _ in range(2):
        assert told(runner, code) == "+PONG\r\n"
    assert told(runner, 'print(json.dumps(tell("DBSIZE")[:1]))') == ":"


def test_a_place_that_is_apart_keeps_the_keys_of_encryption_to_itself(runners):
    deployment = runners("namespaces")
    folder = str(deployment.state.herodb_keys)
    code = f"""
    tell("AGE", "KEYGEN", "mail")
    print(json.dumps([os.path.exists({folder!r}), tell("AGE", "LIST")]))
    """
    assert told(deployment, code) == [False, "*1\r\n$4\r\nmail\r\n"]
    assert deployment.state.herodb_keys.joinpath("default", "age.mail").exists()


def test_the_context_of_a_job_has_the_quota_that_the_settings_say(deployment_at):
    chosen = {"HORUS_HERODB_QUOTA_MB": "5", "HORUS_HERODB_QUOTA_KEYS": "7"}
    deployment = deployment_at("plain", **chosen)
    deployment.submit("pass", net="herodb")
    (view,) = wiring.make_steward(deployment.settings).list()
    assert (view.context.max_bytes, view.context.max_keys) == (5 * 2**20, 7)


def test_a_job_is_admitted_or_not_whatever_herodb_says(deployment_at):
    deployment = deployment_at("plain", HORUS_HERODB_URL="unix:///nobody/is/here")
    record = deployment.submit("pass", net="herodb")
    assert record.status is Status.QUEUED
    with pytest.raises(NotCoveredError):
        deployment.submit("pass", net="host")


def test_a_script_is_told_when_herodb_is_not_there(deployment_at):
    deployment = deployment_at("plain", HORUS_HERODB_URL="unix:///nobody/is/here")
    deployment.start_worker("-Q", "python")
    said = told(deployment, 'print(json.dumps(tell("PING")))')
    assert said.startswith("-IOERR HeroDB is not there")
