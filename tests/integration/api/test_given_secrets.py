"""The secrets of `horus.toml` and of the state directory count from the start."""

import httpx
import pytest

pytestmark = pytest.mark.integration

BOUND = "0123456789abcdef0123456789abcdef"
FREE = "fedcba9876543210fedcba9876543210"
CONFIGURATION = f"""\
user_secrets = [
  "{FREE}",
  {{ secret = "{BOUND}", contexts = ["lab"] }},
]
"""


def ask(server, secret, method, **params):
    call = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.post(server.url, json=call, headers=headers, timeout=20).json()


def test_they_are_installed_with_their_scopes_and_contexts(serve, redis_url, tmp_path):
    (tmp_path / "horus.toml").write_text(CONFIGURATION)
    server = serve(redis_url)
    state = server.state
    listed = ask(server, state.secret("admin"), "list_secrets")["result"]
    assert sorted((one["scope"], one["contexts"]) for one in listed) == [
        ("admin", ["*"]),
        ("register", ["*"]),
        ("user", ["*"]),
        ("user", ["*"]),
        ("user", ["lab"]),
    ]
    assert ask(server, FREE, "jobs.list")["result"] == []
    assert ask(server, BOUND, "jobs.list")["result"] == []
    registered = ask(server, state.secret("register"), "register_runner")
    assert registered["error"]["code"] == -32602
    assert ask(server, state.secret("user"), "jobs.list")["result"] == []
    assert FREE not in server.log.read_text()
    assert BOUND not in server.log.read_text()
