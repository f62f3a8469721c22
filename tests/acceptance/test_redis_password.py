"""The password of a Redis is told to nobody who does not need it."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.acceptance
PASSWORD = "hidden-password-of-redis"  # noqa: S105 - opens a server of this test


def test_the_password_of_a_redis_stands_on_no_command_line_and_in_no_file(
    up, horus, state_dir, processes_of, private_redis, eventually
):
    with private_redis.client() as client:
        client.config_set("requirepass", PASSWORD)
    url = private_redis.url.replace("unix://", f"unix://:{PASSWORD}@")
    env = {"HORUS_REDIS_URL": url}
    deployment = up("--port", "0", "--executors", "python", env=env)
    told = horus(state_dir, "run", "-c", "print(1)")
    assert told.stdout == "1\n"
    commands = b" ".join(processes_of(deployment.process.pid).left(within=0)).decode()
    private_redis.stop()
    log = state_dir / "logs" / "python.log"
    before = log.stat().st_size
    eventually(lambda: log.stat().st_size > before)
    during = horus(state_dir, "run", "-c", "print(1)")
    assert during.returncode == 1
    doctor = horus(state_dir, "doctor", env_more=env)
    assert doctor.returncode == 1
    deployment.end()
    files = [path for path in state_dir.rglob("*") if path.is_file()]
    assert {"python.log", "flower.log", "supervisord.conf"} <= {f.name for f in files}
    written = b"".join(path.read_bytes() for path in files).decode("utf-8", "replace")
    said = "".join(deployment.said)
    for each in (told, during, doctor):
        said += each.stdout + each.stderr
    for text in (commands, written, said):
        assert PASSWORD not in text
