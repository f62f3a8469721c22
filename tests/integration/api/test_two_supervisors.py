"""Two supervisors of one deployment: what one is told, the other knows."""

import httpx
import pytest

from horus_celery.statements import dsse

pytestmark = pytest.mark.integration


def ask(server, method, secret, **params):
    """Call a method with a secret and return the answer."""
    call = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.post(server.url, json=call, headers=headers, timeout=20).json()


@pytest.fixture
def servers(serve, redis_url):
    return serve(redis_url), serve(redis_url)


def test_a_secret_that_one_adds_the_other_knows_at_once(servers):
    here, there = servers
    admin = here.state.secret("admin")
    for _ in range(5):
        added = ask(here, "add_secret", admin, scope="user", contexts=["lab"])["result"]
        assert ask(there, "jobs.list", added["secret"]) == {
            "jsonrpc": "2.0",
            "result": [],
            "id": 1,
        }
    # A body that a stranger could not send.
    answer = ask(there, "job.status", added["secret"], job_id="x" * 100_000)
    assert answer["error"]["code"] == -32602
    assert ask(there, "remove_secret", admin, id=added["id"])["result"] is True
    assert ask(there, "jobs.list", added["secret"])["error"]["code"] == -32001
    shown = {one["id"] for one in ask(here, "list_secrets", admin)["result"]}
    assert added["id"] not in shown


def test_a_bundle_that_one_installs_the_other_goes_by(servers):
    here, there = servers
    trust = here.state.trust()
    newer = here.state.reissue(lambda body: {**body, "grants": []}, now=trust.issued_at)
    envelope = ask(here, "trust.get", here.state.secret("user"))["result"]
    assert dsse.from_wire(envelope, dsse.TRUST).body == newer.body()
    assert ask(there, "trust.get", there.state.secret("user"))["result"] == envelope
    again = ask(there, "trust.install", there.state.secret("admin"), trust=envelope)
    assert (again["error"]["code"], again["error"]["data"]["reason"]) == (
        -32009,
        "trust_version",
    )


def test_what_is_logged_holds_no_secret(servers):
    here, _ = servers
    admin = here.state.secret("admin")
    added = ask(here, "add_secret", admin, scope="admin")["result"]
    ask(here, "jobs.list", "wrong-secret-of-somebody")
    ask(here, "remove_secret", added["secret"], id=added["id"])
    logged = here.log.read_text()
    for secret in (admin, added["secret"], "wrong-secret-of-somebody"):
        assert secret not in logged
    assert added["id"] in logged
