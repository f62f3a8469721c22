"""A script's use of SAL, without a script."""

from __future__ import annotations

import http.server
import os
import socket
import stat
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from workers import sal
from workers.sal import Net, Power, Session


@dataclass
class Script:
    """Calls functions as a script does, and keeps what would be in its log."""

    session: Session
    log: list[tuple[bytes, bool]] = field(default_factory=list)

    def __call__(self, name: str, *args: object) -> Any:
        return sal.call(self.session, name, args)

    def refusal(self, name: str, *args: object) -> str:
        """Call a function that must fail, and return what it says."""
        with pytest.raises(sal.SalError) as caught:
            self(name, *args)
        return str(caught.value)

    def printed(self, *, errors: bool = False) -> bytes:
        return b"".join(data for data, is_error in self.log if is_error is errors)


def make_script(**facts: Any) -> Script:
    log: list[tuple[bytes, bool]] = []

    def write(data: bytes, is_error: bool) -> None:  # noqa: FBT001 - a Writer
        log.append((data, is_error))

    return Script(Session(**{"write": write, **facts}), log)


@pytest.fixture
def confined():
    """A script that may reach nothing."""
    return make_script()


@pytest.fixture
def script():
    """A script whose job and whose runner allow everything."""
    return make_script(net=Net.HOST, allowed=frozenset(Power))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory of the script, for it alone."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(tmp_path))
    return place


@dataclass
class StandIn:
    """A program that stands in for another, and remembers how it was called."""

    calls_file: Any

    @property
    def calls(self) -> list[list[str]]:
        """Return the words of each call, in order."""
        text = self.calls_file.read_text() if self.calls_file.exists() else ""
        return [line.split("\0")[:-1] for line in text.split("\n")[:-1]]


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put a program of Python before all others; `words` are its arguments."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")

    def make(name: str, source: str = "") -> StandIn:
        calls = tmp_path / f"{name}.calls"
        program = place / name
        program.write_text(
            f"#!{sys.executable} -I\n"
            "import os, sys\n"
            "words = sys.argv[1:]\n"
            f"with open({str(calls)!r}, 'a') as file:\n"
            "    file.write(''.join(word + '\\0' for word in words) + '\\n')\n" + source
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return StandIn(calls)

    return make


@dataclass
class WebServer:
    """A web server of the test's own: answers by method and path."""

    url: str = ""
    answers: dict[tuple[str, str], Any] = field(default_factory=dict)
    #: What was asked: method, path with query, body.
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def answer(self, method: str, path: str, *replies: tuple[int, bytes]) -> None:
        """Answer with each of these in turn, and with the last one from then on."""
        self.answers[method, path] = list(replies)

    def reply(self, method: str, target: str) -> tuple[int, bytes]:
        path = target.partition("?")[0]
        replies = self.answers.get((method, target)) or self.answers.get((method, path))
        if not replies:
            return 404, b""
        return replies.pop(0) if len(replies) > 1 else replies[0]


@pytest.fixture
def web():
    """A web server on this machine."""
    known = WebServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            size = int(self.headers.get("Content-Length") or 0)
            known.asked.append((self.command, self.path, self.rfile.read(size)))
            status, body = known.reply(self.command, self.path)
            self.send_response(status)
            if status in {301, 302}:
                self.send_header("Location", body.decode())
                body = b""
            if status != 204:
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if status != 204:
                self.wfile.write(body)

        do_POST = do_DELETE = do_GET  # noqa: N815 - as http.server has it

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}
    )
    thread.start()
    yield known
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def closed_port():
    """A port of this machine on which nobody listens, held so that nobody will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
