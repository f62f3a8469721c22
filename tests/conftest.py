"""What every test folder shares: a real server for Redis, and clean places in it."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from horus_celery.record import Summary
from horus_celery.redis_server import find_server

_DEADLINE = 10.0  # seconds


class FrozenClock:
    """Tells the time that a test gives it."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def advance(self, **how_long: float) -> datetime:
        """Let time pass, as in `advance(seconds=5)`, and return the new present."""
        self.at += timedelta(**how_long)
        return self.at


class RedisServer:
    """A server of our own on a unix socket, which a test may also stop and kill."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = folder / "s"
        self.url = f"unix://{self.socket}"

    def start(self) -> None:
        """Start it and wait for its first answer."""
        self._process = subprocess.Popen(  # noqa: S603 - our own argv
            [str(find_server().path), *self._options()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        step = 0.01
        patience = Retry(ConstantBackoff(step), int(_DEADLINE / step))
        with self.client(retry=patience) as client:
            client.ping()

    def stop(self) -> None:
        """End it in order; what it holds is kept for the next start."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang: connections stand, answers fail to come."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def client(self, **options) -> redis.Redis:
        """Return a client for looking into it."""
        return redis.Redis(unix_socket_path=str(self.socket), **options)

    def _options(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes",
            "enable-debug-command": "local",
            # One for each deployment of a module.
            "databases": "64",
        }
        return [
            word for name, value in settings.items() for word in (f"--{name}", value)
        ]

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._signal(number)
            self._signal(signal.SIGCONT)
        self._process.wait(_DEADLINE)
        self._process = None


def _make_server():
    # The path of a unix socket has room for about a hundred bytes, and the folder that
    # pytest would give us may be longer.
    folder = Path(tempfile.mkdtemp(prefix="horus-"))
    server = RedisServer(folder)
    server.start()
    return server, folder


@pytest.fixture(scope="session")
def redis_server():
    """One server for the whole run; a test uses its own `namespace` in it."""
    server, folder = _make_server()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def private_redis():
    """A server for one test, which may stop, kill and pause it."""
    server, folder = _make_server()
    yield server
    server.kill()
    shutil.rmtree(folder)


@pytest.fixture
def redis_url(redis_server):
    """The address of the shared server, in which no queue has a message."""
    with redis_server.client() as client:
        client.flushdb()
    return redis_server.url


@pytest.fixture
def namespace():
    """A namespace that no other test uses."""
    return f"test-{os.getpid()}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def clock():
    """A clock that stands still unless the test moves it."""
    return FrozenClock()


@pytest.fixture
def make_summary(clock):
    """Make the summary of a job that nobody has seen; a test names what it is about."""

    def make(**facts: Any) -> Summary:
        job_id = facts.setdefault("id", str(uuid.uuid4()))
        facts.setdefault("digest", hashlib.sha256(os.urandom(16)).hexdigest())
        usual: dict[str, Any] = {
            "id": job_id,
            "caller_id": "alice",
            "context_id": "billing",
            "executor": "python",
            "runner": None,
            "attempts": 1,
            "expires_at": clock.at + timedelta(hours=1),
            "workflow_id": None,
            "signed_by": ("0" * 32,),
        }
        return Summary(**{**usual, **facts})

    return make
