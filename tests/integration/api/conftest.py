"""The API in a gunicorn of its own, in the clear or through TLS."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import trustme

from horus_celery.crew import runners_of
from horus_celery.statedir import StateDirectory
from horus_celery.statements import dsse
from horus_celery.statements.job import make_job
from horus_celery.statements.keys import read_key_file

TOP = Path(__file__).parents[3]
DEADLINE = 15.0  # seconds
MODULES = ["-c", "python:api.server", "api.wsgi:app"]
GUNICORN = [sys.executable, "-m", "gunicorn", *MODULES]


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A certificate and its key on disk, and how a client believes it."""

    cert: Path
    key: Path
    context: ssl.SSLContext


class Authority:
    """Signs certificates for this machine."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def context(self) -> ssl.SSLContext:
        """Return a new context that believes it."""
        return ssl.create_default_context(cafile=str(self.file))

    def issue(self, folder: Path, *names: str) -> Issued:
        """Write a new certificate and its key into a folder; names are further ones."""
        leaf = self._ca.issue_cert("localhost", "127.0.0.1", *names)
        cert, key = folder / "cert.pem", folder / "key.pem"
        cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(key))
        return Issued(cert=cert, key=key, context=self.context())


class Server:
    """A server of our own in a process of its own."""

    def __init__(
        self,
        folder: Path,
        redis_url: str,
        namespace: str,
        issued: Issued | None,
        *flags: str,
        **settings: str,
    ) -> None:
        self.namespace = namespace
        self.state = StateDirectory(folder / "state")
        self.state.initialise(
            namespace=namespace, runners=runners_of(["python"]), now=datetime.now(UTC)
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = ("127.0.0.1", port)
        self.context = None if issued is None else issued.context
        self.url = f"{'http' if issued is None else 'https'}://127.0.0.1:{port}/"
        self.log = folder / f"log{port}"
        options = {
            "HORUS_STATE_DIR": str(self.state.path),
            "HORUS_PORT": str(port),
            "HORUS_REDIS_URL": redis_url,
            "HORUS_NAMESPACE": namespace,
            "PYTHONPATH": str(TOP),
            **{f"HORUS_{name.upper()}": value for name, value in settings.items()},
        }
        if issued is not None:
            options |= {
                "HORUS_TLS_CERT": str(issued.cert),
                "HORUS_TLS_KEY": str(issued.key),
            }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command line
                [*GUNICORN, *flags],
                env={"PATH": os.environ["PATH"], **options},
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        self.http = httpx.Client(
            headers={"Authorization": f"Bearer {self.state.secret('user')}"},
            limits=httpx.Limits(max_connections=None),
            timeout=DEADLINE,
            verify=self.context or True,
        )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE
        pause = threading.Event()
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if self.http.get(f"{self.url}healthz").is_success:
                    return
            except httpx.TransportError:
                pause.wait(0.05)
        raise AssertionError(self.log.read_text())

    def post(self, method: str, **params):
        call = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
        return self.http.post(self.url, json=call).json()

    def submit(self, payload: str = "print(1)") -> str:
        job = make_job(
            aud=self.namespace,
            caller_id="default",
            context_id="default",
            executor="python",
            payload=payload,
            now=datetime.now(UTC),
        )
        key = read_key_file(self.state.key_file("default"))
        envelope = dsse.sign(dsse.JOB, job.body(), [key])
        return self.post("create_job", job=dsse.to_wire(envelope))["result"]

    def connect(self, *, receive_buffer: int | None = None) -> socket.socket:
        """Connect, and say nothing at all."""
        connection = socket.socket()
        connection.settimeout(DEADLINE)
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.connect(self.address)
        return connection

    def secure(self, connection: socket.socket) -> socket.socket:
        """Shake hands, if the server speaks TLS."""
        if self.context is None:
            return connection
        return self.context.wrap_socket(connection, server_hostname=self.address[0])

    def say(self, data: bytes = b"") -> socket.socket:
        """Connect, send that much, and leave it at that."""
        connection = self.secure(self.connect())
        connection.sendall(data)
        return connection

    def ask(self, data: bytes) -> bytes:
        """Return all that is answered until the server closes the connection."""
        with self.say(data) as connection:
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def end(self, number: int = signal.SIGTERM) -> float:
        """End it and return how many seconds that took."""
        begun = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(DEADLINE)
        return time.monotonic() - begun

    def close(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def issued():
    """The certificate of the servers of a test; by default, none."""
    return


@pytest.fixture
def serve(tmp_path, namespace, issued):
    servers = []

    def start(redis_url: str, *flags: str, **settings: str) -> Server:
        server = Server(tmp_path, redis_url, namespace, issued, *flags, **settings)
        servers.append(server)
        server.wait_until_ready()
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def fail_to_start(tmp_path):
    """Return the one line with which the API refuses to start."""

    def start(**options: str) -> str:
        process = subprocess.run(  # noqa: S603 - our own command line
            GUNICORN,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(TOP), **options},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert process.returncode == 1
        (line,) = process.stderr.splitlines()
        assert line.startswith("the API cannot start: ")
        return line

    return start


@pytest.fixture
def is_open():
    """Say whether the server has left a connection open, without waiting."""

    def look(connection: socket.socket) -> bool:
        connection.settimeout(0)
        try:
            return connection.recv(65536) != b""
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        finally:
            connection.settimeout(DEADLINE)

    return look
