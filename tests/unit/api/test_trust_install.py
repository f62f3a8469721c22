"""`trust.install` over HTTP: what the root signed, for this deployment, and newer."""

import pytest

from horus_celery.statements import dsse
from horus_celery.statements.trust import Trust


@pytest.fixture
def sealed(world):
    """Sign a trust bundle; a test names how it differs."""

    def seal(*keys, **changes):
        body = world.trust_body() | {"version": 2} | changes
        trust = Trust.from_wire(body)
        return dsse.to_wire(dsse.sign(dsse.TRUST, trust.body(), keys or [world.root]))

    return seal


@pytest.fixture
def install(client, secrets):
    return lambda trust: client.answer(
        "trust.install", secret=secrets["admin"][0], trust=trust
    )


def test_a_newer_bundle_counts_at_once_and_its_version_is_told(
    world, client, install, sealed
):
    assert client.call("create_job", job=world.envelope())
    assert install(sealed(grants=[]))["result"] == 2
    assert client.error("create_job", job=world.envelope())["code"] == -32012
    assert client.call("trust.get") == sealed(grants=[])
    assert (
        world.board.text
        == dsse.to_json(dsse.from_wire(sealed(grants=[]), dsse.TRUST)).encode()
    )


def test_one_that_the_root_did_not_sign_is_refused(world, install, sealed):
    for keys in ([world.stranger], [world.caller, world.runner]):
        error = install(sealed(*keys))["error"]
        assert (error["code"], error["data"]["reason"]) == (-32011, "sig.none")
    assert world.trust.trust.version == 1


def test_one_for_another_deployment_is_refused(world, install, sealed):
    error = install(sealed(aud="acme"))["error"]
    assert (error["code"], error["data"]["reason"]) == (-32012, "bind.aud")
    assert world.trust.trust.version == 1


@pytest.mark.parametrize("version", [0, 1])
def test_one_that_is_not_newer_is_refused(world, install, sealed, version):
    error = install(sealed(version=version))["error"]
    assert (error["code"], error["data"]["reason"]) == (-32009, "trust_version")


@pytest.mark.parametrize(
    "trust",
    [None, 1, "x", [], {}, {"payloadType": "x", "payload": "", "signatures": []}],
)
def test_what_is_no_bundle_is_malformed(world, install, trust):
    error = install(trust)["error"]
    assert error["code"] == -32010
    assert error["data"]["reason"].startswith("env.")


def test_a_signed_job_is_no_bundle(world, install):
    assert install(world.envelope())["error"]["code"] == -32010


def test_an_admin_secret_does_not_sign(world, client, secrets):
    """Who has every secret, and no key, still gets no job in."""
    envelope = world.envelope(key=world.stranger)
    answer = client.answer("create_job", secret=secrets["admin"][0], job=envelope)
    assert answer["error"]["code"] == -32011
