"""SAL's functions for services, by a stand-in that speaks zinit's protocol."""

from __future__ import annotations

import json
import socketserver
import tempfile
import threading

import pytest

from workers.sal import zinit as zinit_module

from .conftest import make_script


class Zinit:
    """Services as zinit has them, in memory; a stopped one ends after some looks."""

    def __init__(self):
        self.files = {"web": {"exec": "serve"}}
        self.services = {"web": {"pid": 7, "target": "Up"}}
        #: How often a service is still seen after it was stopped.
        self.lingers = 0
        #: Sent instead of an answer.
        self.raw: bytes | None = None
        self.asked: list[tuple[str, list[object]]] = []

    def handle(self, line):
        if self.raw is not None:
            return self.raw
        question = json.loads(line)
        method, params = question["method"], question["params"]
        self.asked.append((method, params))
        answer = {"jsonrpc": "2.0", "id": question["id"]}
        try:
            answer["result"] = getattr(self, method)(*params)
        except KeyError:
            answer["error"] = {"code": -32000, "message": "service name unknown"}
        except ValueError as error:
            answer["error"] = {"code": error.args[0], "message": "message of zinit"}
        return json.dumps(answer).encode() + b"\n"

    def service_list(self):
        return {name: self._state(one) for name, one in self.services.items()}

    def service_status(self, name):
        one = self.services[name]
        if one["target"] == "Down" and one["pid"]:
            self.lingers -= 1
            if self.lingers < 0:
                one["pid"] = 0
        return {"name": name, "state": self._state(one), "after": {}, **one}

    def service_start(self, name):
        if self.services[name]["pid"]:
            raise ValueError(-32011)
        self.services[name] = {"pid": 8, "target": "Up"}

    def service_stop(self, name):
        self.services[name]["target"] = "Down"

    def service_kill(self, name, signal):
        if self.services[name]["pid"] == 0:
            raise ValueError(-32003)
        if signal not in {"SIGTERM", "SIGHUP"}:
            raise ValueError(-32004)

    def service_monitor(self, name):
        if name in self.services:
            raise ValueError(-32001)
        self.services[name] = {"pid": 9, "target": self.files[name] and "Up"}

    def service_forget(self, name):
        if self.services[name]["target"] == "Up":
            raise ValueError(-32002)
        del self.services[name]

    def service_create(self, name, content):
        if "." in name:
            raise ValueError(-32602)
        if name in self.files:
            raise ValueError(-32007)
        self.files[name] = content
        return "created"

    def service_delete(self, name):
        del self.files[name]
        return "deleted"

    def service_get(self, name):
        return self.files[name]

    def stream_currentLogs(self, name=None):  # noqa: N802 - zinit's name
        if name is not None:
            return [f"[+] {name}: {bool(self.services[name])}"]
        return ["[+] web: hello", "[-] db: oh"]

    def _state(self, one):
        return "Running" if one["pid"] else "Success"


@pytest.fixture
def zinit():
    """The stand-in, on a socket; its path is `zinit.path`."""
    daemon = Zinit()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            if line := self.rfile.readline():
                self.wfile.write(daemon.handle(line))

    with tempfile.TemporaryDirectory(prefix="hz-") as folder:
        daemon.path = f"{folder}/zinit.sock"  # type: ignore[attr-defined]
        server = socketserver.ThreadingUnixStreamServer(daemon.path, Handler)  # type: ignore[attr-defined]
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        thread.start()
        yield daemon
        server.shutdown()
        thread.join()
        server.server_close()


def test_services_are_listed_and_looked_at(script, zinit):
    assert script("zinit_list", zinit.path) == {"web": "Running"}
    status = script("zinit_status", zinit.path, "web")
    assert (status["pid"], status["target"]) == (7, "Up")


def test_a_service_lives_from_creation_to_deletion(script, zinit):
    at, content = (
        zinit.path,
        {"exec": "redis-server", "after": ["web"], "oneshot": True},
    )
    assert script("zinit_create_service", at, "db", content) is None
    assert script("zinit_get_service", at, "db") == content
    assert script("zinit_monitor", at, "db") is None
    assert script("zinit_kill", at, "db") is None
    assert script("zinit_kill", at, "db", "SIGHUP") is None
    assert script("zinit_stop", at, "db") is None
    assert script("zinit_status", at, "db")["pid"] == 0
    assert script("zinit_start", at, "db") is None
    script("zinit_stop", at, "db")
    assert script("zinit_forget", at, "db") is None
    assert script("zinit_delete_service", at, "db") is None
    assert "db" not in zinit.files


def test_a_restart_waits_until_the_service_has_ended(script, zinit):
    zinit.lingers = 2
    assert script("zinit_restart", zinit.path, "web") is None
    assert [method for method, _ in zinit.asked] == [
        "service_stop",
        *["service_status"] * 3,
        "service_start",
    ]
    assert zinit.services["web"] == {"pid": 8, "target": "Up"}


def test_lines_are_of_one_service_or_of_all(script, zinit):
    assert script("zinit_logs", zinit.path, "web") == ["[+] web: True"]
    assert script("zinit_logs_all", zinit.path) == ["[+] web: hello", "[-] db: oh"]


CONTENT = {"exec": "true"}
REFUSED = [
    ("zinit_status", ["nope"], "there is no such service"),
    ("zinit_start", ["nope"], "there is no such service"),
    ("zinit_start", ["web"], "message of zinit"),
    ("zinit_stop", ["nope"], "there is no such service"),
    ("zinit_restart", ["nope"], "there is no such service"),
    ("zinit_monitor", ["web"], "it is monitored already"),
    ("zinit_forget", ["web"], "it is up: stop it first"),
    ("zinit_kill", ["web", "SIGNO"], "there is no such signal"),
    ("zinit_create_service", ["web", CONTENT], "there is a service of this name"),
    ("zinit_create_service", ["a.b", CONTENT], "the name must not contain '/'"),
    ("zinit_delete_service", ["nope"], "there is no such service"),
    ("zinit_get_service", ["nope"], "there is no such service"),
    ("zinit_logs", ["nope"], "there is no such service"),
]


@pytest.mark.parametrize(("name", "args", "why"), REFUSED)
def test_what_zinit_refuses_is_told_in_words(script, zinit, name, args, why):
    said = script.refusal(name, zinit.path, *args)
    assert said.startswith(f"{name}: zinit refuses {args[0]}: {why}")


@pytest.mark.parametrize(
    "content", [{}, {"exec": ""}, {"exec": 1}, {"exec": "true", "x": object()}, "true"]
)
def test_a_service_has_a_command_line_and_data(script, zinit, content):
    assert "content " in script.refusal(
        "zinit_create_service", zinit.path, "db", content
    )
    assert zinit.asked == []


@pytest.mark.parametrize("name", ["zinit_list", "zinit_logs_all"])
@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "is no zinit that is known"),
        (b"nonsense\n", "is no zinit that is known"),
        (b"[]\n", "is no zinit that is known"),
        (b'{"state": "ok", "body": {}}\n', "too old"),
        (b'{"result": 1}\n', "something else than"),
    ],
)
def test_what_is_no_zinit_is_told_apart(script, zinit, name, raw, why):
    zinit.raw = raw
    assert why in script.refusal(name, zinit.path)


def test_a_zinit_that_is_not_there_is_told(script, tmp_path):
    said = script.refusal("zinit_list", f"{tmp_path}/none")
    assert f"zinit cannot be reached at {tmp_path}/none: No such file" in said


def test_a_path_too_long_for_a_socket_is_told(script):
    assert "cannot be reached" in script.refusal("zinit_list", "/" + "x" * 200)


def names():
    return [one.name for one in zinit_module.MODULE.functions]


@pytest.mark.parametrize("name", names())
def test_services_are_off_unless_the_runner_allows_them(zinit, name):
    args: list[object] = [zinit.path]
    if name not in {"zinit_list", "zinit_logs_all"}:
        args.append("web")
    if name == "zinit_create_service":
        args.append(CONTENT)
    said = make_script().refusal(name, *args)
    assert 'sal_allow = ["services"]' in said
    assert zinit.asked == []


def test_the_socket_is_a_path(script):
    assert "socket_path must be a string" in script.refusal("zinit_list", 1)
