"""What the API does about HeroDB, and what it says when that cannot be."""

from __future__ import annotations

import pytest

from horus_celery.herodb.contexts import Usage


@pytest.fixture
def admin(client, secrets):
    def call(method, **params):
        return client.call(f"herodb.{method}", secret=secrets["admin"][0], **params)

    return call


@pytest.fixture
def refused(client, secrets):
    def call(method, **params):
        error = client.error(f"herodb.{method}", secret=secrets["admin"][0], **params)
        return error["code"], error["data"]["detail"]

    return call


def test_a_context_is_made_shown_and_removed(admin, world):
    made = admin("create_context", context="billing")
    assert made["bytes"] is made["measured_at"] is None
    assert (made["max_bytes"], made["max_keys"]) == (2**30, 1_000_000)
    assert admin("list_contexts") == [made]
    world.estate.note({"billing": Usage(size=7, keys=2, at=world.clock.at)})
    shown = admin("set_quota", context="billing", max_bytes=6)
    assert (shown["bytes"], shown["keys"], shown["over_quota"]) == (7, 2, True)
    assert shown["measured_at"] == 1767225600000
    assert admin("set_quota", context="billing")["over_quota"] is False
    assert admin("delete_context", context="billing") is True
    assert admin("list_contexts") == []


def test_a_user_gets_what_he_needs_this_once(admin):
    admin("create_context", context="billing")
    made = admin("add_user", context="billing", name="eve", role="write")
    assert made["prefix"] == "hero:herodb:{billing}:d:"
    assert made["address"] == "redis://here:6379/0"
    assert len(made["password"]) == 43
    (listed,) = admin("list_users", context="billing")
    assert listed == {
        "name": "eve",
        "role": "write",
        "login": made["login"],
        "created_at": 1767225600000,
    }
    assert admin("remove_user", context="billing", name="eve") is True
    assert admin("list_users", context="billing") == []


@pytest.mark.parametrize("kind", ["secret", "age", "sign"])
def test_a_key_shows_its_public_halves_alone(admin, world, kind):
    made = admin("create_key", context="lab", name="k", kind=kind)
    turned = admin("rotate_key", context="lab", name="k", kind=kind)
    assert turned["ids"][1:] == made["ids"]
    assert turned["publics"][1:] == made["publics"]
    assert (made["publics"] == []) == (kind == "secret")
    assert admin("list_keys", context="lab") == [turned]
    (key,) = world.services.herodb.keyring.list("lab")
    for generation in key.generations:
        assert generation.private not in str(turned)
    assert admin("delete_key", context="lab", name="k", kind=kind) is True
    assert admin("list_keys", context="lab") == []


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("delete_context", {"context": "none"}, -32004),
        ("set_quota", {"context": "none"}, -32004),
        ("list_users", {"context": "none"}, -32004),
        ("remove_user", {"context": "billing", "name": "none"}, -32004),
        ("create_context", {"context": "billing"}, -32009),
        ("rotate_key", {"context": "billing", "name": "none"}, -32004),
        ("delete_key", {"context": "billing", "name": "none"}, -32004),
        ("create_context", {"context": "../x"}, -32602),
        ("create_key", {"context": "billing", "name": ".."}, -32602),
        ("create_key", {"context": "billing", "name": "k", "kind": "rsa"}, -32602),
        ("add_user", {"context": "billing", "name": "x", "role": "root"}, -32602),
        ("set_quota", {"context": "billing", "max_bytes": -1}, -32602),
        ("set_quota", {"context": "billing", "max_keys": 2**53}, -32602),
    ],
)
def test_what_cannot_be_is_refused(admin, refused, method, params, code):
    admin("create_context", context="billing")
    assert refused(method, **params)[0] == code
