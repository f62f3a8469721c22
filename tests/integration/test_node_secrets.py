"""Secrets of the node: the script that is granted one gets it, and nobody else."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import signal
import textwrap
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from horus_celery.bundle import with_grant
from horus_celery.errors import NotCoveredError
from horus_celery.lifecycle import Status
from horus_celery.statements import dsse
from horus_celery.statements.receipt import OutputDigest
from horus_celery.store.packing import unpack

pytestmark = pytest.mark.integration

#: What stands in the secrets of this run, and what nothing else says.
MARK = secrets.token_hex(16)
TOKEN = f"token {MARK}\n".encode()
OTHER = f"other {MARK}".encode()
#: Granted, as the other two, and on no node.
ABSENT = "absent"

#: Shows what it was given without saying it.
LOOK = textwrap.dedent("""
    import hashlib, json, os, pathlib
    folder = pathlib.Path(os.environ["HORUS_SECRETS"])
    print(json.dumps({
        "mode": oct(folder.stat().st_mode),
        "files": {
            file.name: [
                oct(file.stat().st_mode), hashlib.sha256(file.read_bytes()).hexdigest()
            ]
            for file in folder.iterdir()
        },
        "environment": dict(os.environ),
    }))
""")
#: The same for bash: the modes of both, and the sum of the value.
LOOK_IN_BASH = (
    'ls -A "$HORUS_SECRETS"; stat -c %a "$HORUS_SECRETS" "$HORUS_SECRETS/token";'
    ' sha256sum < "$HORUS_SECRETS/token"'
)
#: Says its secret in halves, and goes on only when the first one was read.
TELL = textwrap.dedent("""
    import os, sys
    value = open(os.environ["HORUS_SECRETS"] + "/token", "rb").read()
    os.write(1, b"it is " + value[:9])
    os.write(2, b"half\\n")
    open(sys.argv[1]).read()
    os.write(1, value[9:] + b"so\\n")
    os.write(2, value)
""")


@pytest.fixture(scope="module")
def files(deployment):
    """The files of the node's secrets."""
    folder = deployment.folder / "node-secrets"
    folder.mkdir(mode=0o700)
    for name, value in (("token", TOKEN), ("other", OTHER)):
        (folder / name).write_bytes(value)
        (folder / name).chmod(0o600)
    return folder


@pytest.fixture(scope="module", autouse=True)
def worker(deployment, files):
    kept = {name: {"file": str(files / name)} for name in ("token", "other")}
    names = [*kept, ABSENT]

    def granted(body):
        entry = {**body["grants"][0], "secrets": names}
        return with_grant(body, entry, keys=[deployment.key.public])

    deployment.state.reissue(granted, now=datetime.now(UTC))
    env = {"HORUS_NODE_SECRETS": json.dumps(kept)}
    return deployment.start_worker("-Q", "python,system", "-c", "2", env=env)


@pytest.fixture(autouse=True)
def nothing_is_left(deployment):
    yield
    deployment.until(lambda: not deployment.rooms())


@pytest.fixture
def gate(tmp_path):
    """A pipe that lets a script go on when something is written to it."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def receipt_of(record):
    return json.loads(dsse.read(record.receipt, dsse.RECEIPT).body)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# --- who gets it -------------------------------------------------------------------


def test_a_python_script_finds_the_secrets_that_it_names_and_no_others(deployment):
    record = deployment.run(LOOK, secrets=["token"])
    seen = json.loads(record.result)
    assert seen["files"] == {"token": ["0o100400", sha256(TOKEN)]}
    assert seen["mode"] == "0o40500"
    assert MARK not in str(seen["environment"])


def test_a_shell_script_finds_the_secrets_that_it_names_and_no_others(deployment):
    record = deployment.run(LOOK_IN_BASH, executor="system", secrets=["token"])
    assert record.result.split() == ["token", "500", "400", sha256(TOKEN), "-"]


def test_a_script_that_names_none_finds_none(deployment):
    script = "import os; print(os.environ.get('HORUS_SECRETS'))"
    assert deployment.run(script).result == "None\n"


def test_a_secret_that_is_not_granted_is_refused(deployment):
    with pytest.raises(NotCoveredError) as refused:
        deployment.submit(LOOK, secrets=["token", "root"])
    assert refused.value.reason == "auth.secrets"


def test_a_secret_that_is_not_on_this_node_is_refused_and_named(deployment, worker):
    record = deployment.run(LOOK, secrets=["token", ABSENT])
    assert (record.status, record.reason) == (Status.REJECTED, "auth.secrets")
    assert receipt_of(record)["reason"] == "auth.secrets"
    assert f"there is no secret {ABSENT} here" in deployment.log_of(worker)


def test_a_file_that_is_replaced_counts_from_the_next_job_on(deployment, files):
    newer = files / "newer"
    newer.write_bytes(b"rotated " + OTHER)
    newer.chmod(0o600)
    newer.replace(files / "other")
    record = deployment.run(LOOK, secrets=["other"])
    (_, seen) = json.loads(record.result)["files"]["other"]
    assert seen == sha256(b"rotated " + OTHER)


def test_a_file_that_cannot_be_used_any_more_is_refused(deployment, files, worker):
    (files / "other").chmod(0o644)
    record = deployment.run(LOOK, secrets=["other"])
    (files / "other").chmod(0o600)
    assert (record.status, record.reason) == (Status.REJECTED, "auth.secrets")
    assert f"which others may use: chmod 600 {files}/other" in deployment.log_of(worker)
    assert deployment.run(LOOK, secrets=["other"]).status is Status.COMPLETED


# --- who sees it -------------------------------------------------------------------


def test_a_value_that_is_said_in_halves_is_masked_wherever_it_is_kept(deployment, gate):
    record = deployment.submit(TELL, args=[str(gate)], secrets=["token"])
    deployment.until_it_says(record, "half")
    gate.write_text("")
    over = deployment.over(record)
    said, told = b"it is ***\nso\n", b"half\n***\n"
    assert over.result == said.decode()
    assert {(line.stream.value, line.text) for line in deployment.lines(record)} == {
        *(("stdout", "it is ***"), ("stdout", "so")),
        *(("stderr", "half"), ("stderr", "***")),
    }
    receipt = receipt_of(over)
    assert receipt["stdout"] == dict(OutputDigest.of(said))
    assert receipt["stderr"] == dict(OutputDigest.of(told))
    assert receipt["result"] == {"sha256": sha256(said), "bytes": len(said)}


@pytest.mark.parametrize("executor", ["python", "system"])
def test_a_result_file_is_masked(deployment, executor):
    script = {
        "python": "import os, shutil; e = os.environ; "
        "shutil.copy(e['HORUS_SECRETS'] + '/token', e['HORUS_RESULT'])",
        "system": 'cat "$HORUS_SECRETS/token" > "$HORUS_RESULT"',
    }
    record = deployment.run(script[executor], executor=executor, secrets=["token"])
    assert record.result == "***\n"
    assert receipt_of(record)["result"]["sha256"] == sha256(b"***\n")


def test_what_a_script_says_when_it_is_stopped_is_masked(deployment, gate):
    record = deployment.submit(TELL, args=[str(gate)], secrets=["token"])
    deployment.until_it_says(record, "half")
    deployment.supervisor.stop(record.summary.id)
    over = deployment.over(record)
    assert over.status is Status.STOPPED
    assert over.result == "it is ***"


def test_nothing_that_is_kept_or_seen_from_outside_has_the_value(
    deployment, redis_server, gate
):
    control = secrets.token_hex(16)
    script = f"{TELL}\nprint({control!r})"
    record = deployment.submit(script, args=[str(gate)], secrets=["token"])
    deployment.until_it_says(record, "half")
    held = [room / "secrets" / "token" for room in deployment.rooms()]
    assert [file.read_bytes() for file in held] == [TOKEN]
    running = list(seen_of_processes(deployment))
    is_told = any(b"HORUS_STATE_DIR=" in seen for seen in running)
    assert is_told is (os.geteuid() == 0), "root alone sees the environment"
    while_it_runs = [*running, *kept_in_redis(redis_server), *kept_on_disk(deployment)]
    gate.write_text("")
    deployment.over(record)
    afterwards = [*kept_in_redis(redis_server), *kept_on_disk(deployment)]
    # What is looked through would show it: the payload and the output are found.
    for seen in (while_it_runs, kept_in_redis(redis_server), kept_on_disk(deployment)):
        assert any(control.encode() in one for one in seen)
    for form in (MARK.encode(), base64.b64encode(TOKEN)):
        assert not any(form in one for one in (*while_it_runs, *afterwards))
    assert not any(file.exists() for file in held)


def test_a_job_that_loses_its_pool_child_leaves_no_secret_behind(deployment, gate):
    record = deployment.submit(TELL, args=[str(gate)], secrets=["token"])
    deployment.until_it_says(record, "half")
    (room,) = deployment.rooms()
    os.kill(int(room.name.partition("-")[0]), signal.SIGKILL)
    deployment.until(lambda: not room.exists())


def seen_of_processes(deployment):
    """Yield command lines and environments of all that belongs to the workers."""
    for worker in deployment.workers:
        root = psutil.Process(worker.pid)
        for process in (root, *root.children(recursive=True)):
            for name in ("cmdline", "environ"):
                # A process of the pool lets nobody but root look.
                with suppress(OSError):
                    yield Path(f"/proc/{process.pid}/{name}").read_bytes()


def kept_in_redis(redis_server):
    """Yield everything that stands in the Redis of the deployment, unpacked."""
    with redis_server.client(db=1) as client:
        for key in client.scan_iter(count=1000):
            yield key
            match client.type(key):
                case b"string":
                    found = [client.get(key)]
                case b"hash":
                    found = [
                        part for pair in client.hgetall(key).items() for part in pair
                    ]
                case b"list":
                    found = client.lrange(key, 0, -1)
                case b"set":
                    found = client.smembers(key)
                case b"zset":
                    found = client.zrange(key, 0, -1)
                case other:
                    raise AssertionError(other)
            for part in found:
                yield part
                with suppress(Exception):
                    yield unpack(part).encode()


def kept_on_disk(deployment):
    """Yield every file of the deployment, but for those that hold secrets."""
    for path in deployment.folder.rglob("*"):
        is_secret = "node-secrets" in path.parts or path.parent.name == "secrets"
        if path.is_file() and not is_secret:
            yield path.read_bytes()
