"""The methods about runners, as a caller sees them."""

from __future__ import annotations

import itertools

import pytest

from api.codes import Code
from horus_celery.instants import to_ms
from horus_celery.registry import Phase
from horus_celery.statements import canonical, dsse
from horus_celery.statements.keys import KeyPair

_numbers = itertools.count()


@pytest.fixture
def register(world, client, secrets):
    """Register a runner as a test says, and return the whole answer."""

    def call(*, key=None, secret=secrets["register"][0], **changes):
        body = {
            "v": 1,
            "aud": "hero",
            "name": "r1",
            "executor": "python",
            "contexts": ["*"],
            "concurrency": 4,
            "nonce": str(next(_numbers)),
            "at": to_ms(world.clock.at),
            **changes,
        }
        signed = dsse.sign(dsse.RUNNER, canonical.encode(body), [key or world.runner])
        return client.answer(
            "register_runner", secret=secret, registration=dsse.to_wire(signed)
        )

    return call


def test_a_runner_registers_and_is_shown(world, client, register):
    answer = register()
    assert answer["result"] == {
        "name": "r1",
        "executor": "python",
        "contexts": ["*"],
        "concurrency": 4,
        "status": "starting",
        "last_seen": to_ms(world.clock.at),
        "queued": 0,
        "running": 0,
        "process_manager": None,
    }
    assert client.call("list_runners") == [answer["result"]]
    assert client.call("get_runner_status", name="r1") == answer["result"]
    assert client.call("get_supervisor_info")["runners"] == [answer["result"]]


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"concurrency": "4"}, Code.MALFORMED, "schema.concurrency"),
        ({"host": "here"}, Code.MALFORMED, "schema.fields"),
        ({"name": "r2"}, Code.NOT_COVERED, "bind.runner"),
        ({"aud": "other"}, Code.NOT_COVERED, "bind.aud"),
        ({"executor": "system"}, Code.NOT_COVERED, "bind.executor"),
        ({"at": 0}, Code.TIME, "time.expired"),
        ({"at": 10**13}, Code.TIME, "time.future"),
    ],
    ids=str,
)
def test_what_a_runner_may_not_say_is_refused_by_its_code(
    client, register, changes, code, reason
):
    error = register(**changes)["error"]
    assert (error["code"], error["data"]["reason"]) == (code, reason)
    assert client.call("list_runners") == []


@pytest.mark.parametrize("whose", ["caller", "stranger"])
def test_nobody_takes_over_the_name_of_a_runner(world, client, register, whose):
    world.beat()
    before = client.call("list_runners")
    error = register(key=vars(world)[whose])["error"]
    assert (error["code"], error["data"]["reason"]) == (Code.SIGNATURE, "sig.none")
    assert register(key=KeyPair.generate())["error"]["code"] == Code.SIGNATURE
    assert client.call("list_runners") == before


def test_the_same_registration_again_is_a_conflict(register):
    register(nonce="once")
    error = register(nonce="once")["error"]
    assert (error["code"], error["data"]["reason"]) == (Code.CONFLICT, "nonce_used")


@pytest.mark.parametrize("junk", [None, 1, "x", [], {}], ids=ascii)
def test_what_is_no_envelope_is_malformed(client, secrets, junk):
    answer = client.answer(
        "register_runner", secret=secrets["register"][0], registration=junk
    )
    assert answer["error"]["code"] == Code.MALFORMED


@pytest.mark.parametrize("scope", ["user", "admin"])
def test_only_a_register_secret_registers(register, secrets, scope):
    assert register(secret=secrets[scope][0])["error"]["code"] == Code.FORBIDDEN
    assert register(secret=None)["error"]["code"] == Code.UNAUTHENTICATED


def test_nobody_has_an_unknown_name(client, secrets):
    assert client.error("get_runner_status", name="r2")["code"] == Code.NOT_FOUND
    for method in ("start_runner", "stop_runner", "remove_runner", "get_runner_logs"):
        error = client.error(method, secret=secrets["admin"][0], name="r1")
        assert error["code"] == Code.NOT_FOUND


@pytest.mark.parametrize("method", ["start_runner", "stop_runner", "get_runner_logs"])
def test_a_runner_of_another_node_is_not_managed_here(world, client, secrets, method):
    world.beat()
    error = client.error(method, secret=secrets["admin"][0], name="r1")
    assert error["code"] == Code.CONFLICT
    assert "does not manage the runner r1" in error["data"]["detail"]


def test_a_runner_that_is_gone_is_removed_and_a_live_one_is_not(world, client, secrets):
    admin = secrets["admin"][0]
    world.beat()
    error = client.error("remove_runner", secret=admin, name="r1")
    assert error["code"] == Code.CONFLICT
    assert "stop it first" in error["data"]["detail"]
    world.beat(phase=Phase.STOPPED)
    removed = client.call("remove_runner", secret=admin, name="r1")
    assert removed["status"] == "stopped"
    assert client.call("list_runners") == []
