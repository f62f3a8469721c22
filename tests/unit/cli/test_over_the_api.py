"""`horus secret`, `runners`, `trust install`, `herodb`: what they ask, and show."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from horus_celery.statedir import StateDirectory

SECRET = "an0ther-secret-that-nobody-guesses"  # noqa: S105 - opens nothing
RUNNER = {
    "name": "osis_1",
    "executor": "osis",
    "contexts": ["a", "b"],
    "concurrency": 4,
    "status": "running",
    "last_seen": 1_760_000_000_000,
    "queued": 3,
    "running": 2,
    "process_manager": "simple",
}
UNHEARD = {**RUNNER, "name": "x", "last_seen": None, "process_manager": None}
MADE = {"id": "sec_0123456789abcdef", "scope": "user", "contexts": ["A"]}


class Supervisor:
    """Answers what it was given, and remembers what it was asked with."""

    def __init__(self):
        self.answers = {}
        self.calls = []
        self.secrets = []
        supervisor = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = json.dumps(supervisor.answer(self, json.loads(body))).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request, call):
        self.calls.append((call["method"], call["params"]))
        self.secrets.append(request.headers["Authorization"].removeprefix("Bearer "))
        answer = self.answers[call["method"]]
        kind = "error" if isinstance(answer, dict) and "code" in answer else "result"
        return {"jsonrpc": "2.0", "id": call["id"], kind: answer}


@pytest.fixture
def supervisor(monkeypatch):
    supervisor = Supervisor()
    thread = threading.Thread(target=supervisor.server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("HORUS_URL", supervisor.url)
    yield supervisor
    supervisor.server.shutdown()
    supervisor.server.server_close()
    thread.join()


@pytest.fixture
def state(horus, state_dir):
    horus("init")
    return StateDirectory(state_dir)


# --- secrets -----------------------------------------------------------------------


@pytest.mark.usefixtures("state")
def test_a_new_secret_stands_alone_on_standard_output(horus, supervisor):
    supervisor.answers["add_secret"] = {**MADE, "secret": SECRET}
    told = horus("secret", "add", "--scope", "user", "--context", "A")
    assert told.code == 0
    assert told.out == f"{SECRET}\n"
    assert SECRET not in told.err
    assert "sec_0123456789abcdef" in told.err
    assert supervisor.calls == [("add_secret", {"scope": "user", "contexts": ["A"]})]


@pytest.mark.usefixtures("state")
def test_a_new_secret_is_for_every_context_unless_some_are_named(horus, supervisor):
    supervisor.answers["add_secret"] = {**MADE, "secret": SECRET}
    told = horus("secret", "add", "--scope", "admin", "--json")
    assert json.loads(told.out) == {**MADE, "secret": SECRET}
    assert not told.err
    assert supervisor.calls == [("add_secret", {"scope": "admin", "contexts": ["*"]})]


@pytest.mark.usefixtures("state")
def test_there_are_three_scopes(horus, supervisor):
    assert horus("secret", "add", "--scope", "none").code == 2
    assert horus("secret", "add").code == 2
    assert not supervisor.calls


@pytest.mark.usefixtures("state")
def test_a_secret_is_removed_by_its_id(horus, supervisor):
    supervisor.answers["remove_secret"] = True
    told = horus("secret", "remove", MADE["id"])
    assert (told.code, told.out) == (0, "")
    assert supervisor.calls == [("remove_secret", {"id": MADE["id"]})]
    assert horus("secret", "remove", MADE["id"], "--json").out == "true\n"


@pytest.mark.usefixtures("state")
def test_secrets_are_listed_by_id(horus, supervisor):
    supervisor.answers["list_secrets"] = [MADE]
    assert horus("secret", "list").out == (
        f"id\tscope\tcontexts\n{MADE['id']}\tuser\tA\n"
    )
    assert json.loads(horus("secret", "list", "--json").out) == [MADE]


# --- runners -----------------------------------------------------------------------


@pytest.mark.usefixtures("state")
def test_runners_are_listed_with_how_they_do(horus, supervisor):
    supervisor.answers["list_runners"] = [RUNNER, UNHEARD]
    head, first, second = horus("runners", "list").out.splitlines()
    assert head.split("\t")[:3] == ["name", "status", "executor"]
    assert first.split("\t") == [
        *("osis_1", "running", "osis", "a,b", "2/4", "3"),
        "2025-10-09 08:53:20 UTC",
    ]
    assert second.endswith("\t")
    assert json.loads(horus("runners", "list", "--json").out) == [RUNNER, UNHEARD]


@pytest.mark.parametrize(
    ("command", "method"),
    [
        ("status", "get_runner_status"),
        ("start", "start_runner"),
        ("stop", "stop_runner"),
        ("remove", "remove_runner"),
    ],
)
@pytest.mark.usefixtures("state")
def test_a_runner_is_named_and_shown(horus, supervisor, command, method):
    supervisor.answers[method] = RUNNER
    told = horus("runners", command, "osis_1")
    assert told.code == 0
    assert "managed by   simple" in told.out
    assert json.loads(horus("runners", command, "osis_1", "--json").out) == RUNNER
    assert supervisor.calls == [(method, {"name": "osis_1"})] * 2


@pytest.mark.usefixtures("state")
def test_the_log_of_a_runner_is_shown_line_by_line(horus, supervisor):
    supervisor.answers["get_runner_logs"] = ["one\ttwo", "\x1b[31mred"]
    told = horus("runners", "logs", "osis_1", "--lines", "2")
    assert told.out == "one\ttwo\n[31mred\n"
    assert supervisor.calls == [("get_runner_logs", {"name": "osis_1", "lines": 2})]
    told = horus("runners", "logs", "osis_1", "--json")
    assert json.loads(told.out) == ["one\ttwo", "\x1b[31mred"]


# --- trust -------------------------------------------------------------------------


def test_a_trust_bundle_is_given_to_a_supervisor(horus, supervisor, state):
    supervisor.answers["trust.install"] = 7
    told = horus("trust", "install", state.trust_file)
    assert (told.code, told.out) == (0, "")
    assert "version 7" in told.err
    envelope = json.loads(state.trust_file.read_text())
    assert supervisor.calls == [("trust.install", {"trust": envelope})]
    assert horus("trust", "install", state.trust_file, "--json").out == "7\n"


@pytest.mark.usefixtures("state")
def test_what_is_no_trust_bundle_is_given_to_nobody(horus, supervisor, tmp_path):
    (tmp_path / "file").write_text("{}")
    assert horus("trust", "install", "file").code == 3
    told = horus("trust", "install", "nothing")
    assert (told.code, told.err) == (
        1,
        "horus: cannot read nothing: No such file or directory\n",
    )
    assert not supervisor.calls


# --- who asks ----------------------------------------------------------------------


def test_who_changes_something_is_the_admin_and_who_looks_a_user(
    horus, supervisor, state
):
    supervisor.answers = {
        name: [] for name in ("list_runners", "list_secrets", "get_runner_logs")
    }
    horus("runners", "list")
    horus("runners", "logs", "x")
    horus("secret", "list")
    admin = state.secret("admin")
    assert supervisor.secrets == [state.secret("user"), admin, admin]


@pytest.mark.usefixtures("state")
def test_a_secret_of_the_settings_comes_before_that_on_disk(
    horus, supervisor, monkeypatch
):
    supervisor.answers = {"list_runners": [], "list_secrets": []}
    monkeypatch.setenv("HORUS_ADMIN_SECRETS", f"{SECRET}1")
    bound = [{"secret": f"{SECRET}2", "contexts": ["a"]}, f"{SECRET}3"]
    monkeypatch.setenv("HORUS_USER_SECRETS", json.dumps(bound))
    horus("secret", "list")
    horus("runners", "list")
    monkeypatch.setenv("HORUS_SECRET", f"{SECRET}4")
    horus("secret", "list")
    assert supervisor.secrets == [f"{SECRET}1", f"{SECRET}3", f"{SECRET}4"]


def test_a_secret_that_is_bound_elsewhere_does_not_hide_the_one_on_disk(
    horus, supervisor, state, monkeypatch
):
    supervisor.answers = {"list_runners": []}
    bound = [{"secret": f"{SECRET}2", "contexts": ["a"]}]
    monkeypatch.setenv("HORUS_USER_SECRETS", json.dumps(bound))
    on_disk = state.secret("user")
    horus("runners", "list")
    state.secret_file("user").unlink()
    horus("runners", "list")
    assert supervisor.secrets == [on_disk, f"{SECRET}2"]


def test_without_a_state_directory_a_secret_is_enough(horus, supervisor, monkeypatch):
    supervisor.answers = {"list_secrets": []}
    told = horus("secret", "list")
    assert told.code == 1
    assert "is missing" in told.err
    monkeypatch.setenv("HORUS_SECRET", SECRET)
    assert horus("secret", "list").code == 0


@pytest.mark.usefixtures("state")
def test_why_a_supervisor_refuses_is_told(horus, supervisor):
    data = {"reason": "forbidden", "detail": "not you", "retryable": False}
    supervisor.answers["list_secrets"] = {
        "code": -32003,
        "message": "Forbidden",
        "data": data,
    }
    told = horus("secret", "list")
    assert (told.code, told.out, told.err) == (1, "", "horus: not you\n")


# --- jobs --------------------------------------------------------------------------

WHY = [
    ("queued", "runner", "no live runner", "queued: no live runner"),
    ("stopped", "stopped", "stopped", "stopped"),
    ("failed", "exit_code", "failed: exit_code 3", "failed: exit_code 3"),
]


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(("status", "gate", "detail", "said"), WHY)
def test_what_holds_a_job_or_ended_it_is_said_once(
    horus, supervisor, status, gate, detail, said
):
    holdup = {"status": status, "gate": gate, "since": None, "detail": detail}
    supervisor.answers["job.why"] = holdup
    told = horus("job", "why", MADE["id"])
    assert told.out == f"{said}\n"
    assert told.err == ("see: horus runners list\n" if gate == "runner" else "")
    assert json.loads(horus("job", "why", MADE["id"], "--json").out) == holdup


# --- herodb --------------------------------------------------------------------------

CONTEXT = {
    "context": "billing",
    "max_bytes": 100,
    "max_keys": None,
    "bytes": 120,
    "keys": 2,
    "measured_at": 1_760_000_000_000,
    "over_quota": True,
    "users": 1,
}
EVE = {"name": "eve", "role": "read", "login": "hero:herodb:{billing}:eve"}
LET_IN = {**EVE, "password": SECRET, "address": "redis://here:6379/0", "prefix": "p:"}
KEY = {"name": "mail", "kind": "age", "ids": ["mail:2", "mail:1"], "publics": ["age1x"]}
#: What is asked by which words, what is answered, and what is then shown.
HERODB = [
    ("contexts", "list_contexts", {}, [CONTEXT], "billing"),
    (
        "quota billing --max-bytes 5 --max-keys none",
        "set_quota",
        {"context": "billing", "max_bytes": 5, "max_keys": None},
        CONTEXT,
        "is set",
    ),
    ("users billing", "list_users", {"context": "billing"}, [EVE], "eve"),
    (
        "let-in billing eve --role read",
        "add_user",
        {"context": "billing", "name": "eve", "role": "read"},
        LET_IN,
        SECRET,
    ),
    (
        "let-out billing eve",
        "remove_user",
        {"context": "billing", "name": "eve"},
        True,
        "no longer",
    ),
    ("keys billing", "list_keys", {"context": "billing"}, [KEY], "age1x"),
    (
        "make-key billing mail --kind age",
        "create_key",
        {"context": "billing", "name": "mail", "kind": "age"},
        KEY,
        "age1x",
    ),
    (
        "rotate-key billing mail",
        "rotate_key",
        {"context": "billing", "name": "mail", "kind": "secret"},
        {**KEY, "publics": []},
        "mail:2",
    ),
]


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(("words", "method", "params", "answer", "shown"), HERODB)
def test_herodb_is_asked_and_its_answer_shown(
    horus, supervisor, words, method, params, answer, shown
):
    supervisor.answers[f"herodb.{method}"] = answer
    told = horus("herodb", *words.split())
    assert told.code == 0
    assert shown in told.out + told.err
    assert json.loads(horus("herodb", *words.split(), "--json").out) == answer
    assert supervisor.calls == [(f"herodb.{method}", params)] * 2


@pytest.mark.parametrize(
    "words", ["", "--max-bytes 5", "--max-keys none --max-bytes much"]
)
@pytest.mark.usefixtures("state")
def test_no_limit_is_taken_away_by_half_a_command(horus, supervisor, words):
    assert horus("herodb", "quota", "billing", *words.split()).code == 2
    assert supervisor.calls == []


@pytest.mark.usefixtures("state")
def test_a_password_stands_alone_on_standard_output(horus, supervisor):
    supervisor.answers["herodb.add_user"] = LET_IN
    told = horus("herodb", "let-in", "billing", "eve", "--role", "read")
    assert told.out == f"{SECRET}\n"
    assert SECRET not in told.err
    assert "hero:herodb:{billing}:eve" in told.err


@pytest.mark.usefixtures("state")
def test_who_holds_too_much_is_named(horus, supervisor):
    supervisor.answers["herodb.list_contexts"] = [CONTEXT]
    assert "billing holds more than it may" in horus("herodb", "contexts").err


# --- lies --------------------------------------------------------------------------


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    ("words", "method"),
    [
        ("job stop x", "job.stop"),
        ("job why x", "job.why"),
        ("workflow stop x", "workflow.stop"),
    ],
)
def test_what_a_supervisor_says_does_not_command_the_terminal(
    horus, supervisor, words, method
):
    lie = "\x1b[2K\rcompleted\x1b[8m"
    fields = ("job_id", "workflow_id", "status", "gate", "detail")
    supervisor.answers[method] = dict.fromkeys(fields, lie)
    told = horus(*words.split())
    assert told.code == 0
    assert "completed" in told.out
    assert told.out.removesuffix("\n").isprintable()
