"""Who calls, and whether he may; the table of all methods is in test_scope_table."""

import itertools
from datetime import timedelta

import pytest

from api.access import OPENS, Gatekeeper, Identity, Scope, authorise, secret_of
from horus_celery.errors import (
    ForbiddenError,
    TooManyError,
    UnauthenticatedError,
    UnavailableError,
)

UNAUTHENTICATED = -32001
FORBIDDEN = -32003
UNAVAILABLE = -32020
TOO_MANY = -32022
METHOD_NOT_FOUND = -32601
WRONG = "nobody-has-this-secret"
#: Methods of other servers, and of nobody.
ABSENT = [
    "workflow.run",
    "rpc.describe",
    "JOB.STATUS",
    "job.status ",
    "__init__",
    "",
]


def code_of(answer):
    return answer.get("error", {}).get("code")


@pytest.mark.parametrize("name", ABSENT)
@pytest.mark.parametrize("scope", ["user", "admin", "register", None])
def test_what_is_not_in_the_table_is_refused_for_everybody(
    client, name, scope, secrets
):
    secret = None if scope is None else secrets[scope][0]
    assert code_of(client.answer(name, secret=secret)) == METHOD_NOT_FOUND


@pytest.mark.parametrize("secret", ["", "wrong", "user-secret-012345678"])
def test_nothing_but_the_whole_secret_opens_anything(client, secret):
    assert code_of(client.answer("jobs.list", secret=secret)) == UNAUTHENTICATED


def test_every_secret_of_a_scope_opens_it(client, secrets):
    for secret in (*secrets["user"], *secrets["admin"]):
        assert client.answer("jobs.list", secret=secret)["result"] == []


def test_discovery_needs_no_secret_and_suffers_a_wrong_one(client, secrets):
    for secret in (None, "wrong", secrets["register"][0], secrets["user"][0]):
        assert "result" in client.answer("rpc.discover", secret=secret)


def test_a_batch_is_authorised_call_by_call(client, secrets):
    calls = [
        {"jsonrpc": "2.0", "method": name, "id": name}
        for name in ("rpc.discover", "jobs.list", "nobody")
    ]
    without = client.post(calls, secret=None)
    assert [code_of(one) for one in without] == [
        None,
        UNAUTHENTICATED,
        METHOD_NOT_FOUND,
    ]
    as_register = client.post(calls, secret=secrets["register"][0])
    assert [code_of(one) for one in as_register] == [None, FORBIDDEN, METHOD_NOT_FOUND]


@pytest.mark.parametrize("in_batch", [True, False])
def test_a_notification_does_what_a_call_may(world, client, in_batch):
    call = {
        "jsonrpc": "2.0",
        "method": "create_job",
        "params": {"job": world.envelope()},
    }
    body = [call] if in_batch else call
    for secret in (None, "wrong"):
        assert client.post(body, secret=secret) is None
        assert world.dispatcher.bells == []
    assert client.post(body) is None
    assert len(world.dispatcher.bells) == 1


def test_admin_holds_user_and_nobody_else_holds_another():
    held = {
        (one, other)
        for one, other in itertools.permutations(Scope, 2)
        if other in OPENS[one] and other is not Scope.NONE
    }
    assert held == {(Scope.ADMIN, Scope.USER)}


@pytest.mark.parametrize(
    ("header", "secret"),
    [
        ("Bearer aaa", "aaa"),
        ("bearer vvv", "vvv"),
        ("BEARER   vvv ", "vvv"),
        ("Bearer aaa uuu", "aaa uuu"),
        ("Bearer \xff\xfe", "\xff\xfe"),
        ("Bearer ", None),
        ("Bearer", None),
        ("aaa", None),
        ("Basic aaa", None),
        ("", None),
        (None, None),
    ],
)
def test_a_header_holds_a_secret_or_none(header, secret):
    assert secret_of(header) == secret


@pytest.mark.parametrize(
    ("identity", "error"),
    [
        (Identity(), UnauthenticatedError),
        (Identity(scope=Scope.REGISTER), ForbiddenError),
        (Identity(refusal=TooManyError("later")), TooManyError),
        (Identity(refusal=UnavailableError("later")), UnavailableError),
    ],
)
def test_who_is_refused_is_told_why(identity, error):
    with pytest.raises(error):
        authorise("jobs.list", Scope.USER, identity)
    authorise("rpc.discover", Scope.NONE, identity)


class TestWrongSecrets:
    """At most ten a minute from one address; a right one always passes."""

    def test_the_eleventh_in_a_minute_is_one_too_many(self, world):
        keeper = Gatekeeper(world.book, now=world.monotonic)
        for _ in range(10):
            assert keeper.identify("Bearer wrong", "10.0.0.1").refusal is None
        barred = keeper.identify("Bearer wrong", "10.0.0.1")
        assert isinstance(barred.refusal, TooManyError)
        assert barred.scope is Scope.NONE
        assert "10.0.0.1" not in barred.refusal.detail
        world.clock.at += timedelta(seconds=60)
        assert keeper.identify("Bearer wrong", "10.0.0.1").refusal is None

    def test_other_addresses_are_not_barred_with_it(self, world):
        keeper = Gatekeeper(world.book, now=world.monotonic)
        for _ in range(11):
            keeper.identify("Bearer wrong", "10.0.0.1")
        assert keeper.identify("Bearer wrong", "10.0.0.2").refusal is None

    def test_a_right_secret_passes_all_the_same(self, world, secrets):
        keeper = Gatekeeper(world.book, now=world.monotonic)
        for _ in range(30):
            keeper.identify("Bearer wrong", "10.0.0.1")
        right = keeper.identify(f"Bearer {secrets['user'][0]}", "10.0.0.1")
        assert right.scope is Scope.USER
        assert right.secret_id is not None

    def test_no_secret_is_no_wrong_one(self, world):
        keeper = Gatekeeper(world.book, now=world.monotonic)
        for _ in range(30):
            assert keeper.identify(None, "10.0.0.1").refusal is None
        assert keeper.identify("Bearer wrong", "10.0.0.1").refusal is None

    def test_over_http_it_is_told_apart_from_a_wrong_secret(self, client, secrets):
        codes = [code_of(client.answer("jobs.list", secret=WRONG)) for _ in range(12)]
        assert codes == [UNAUTHENTICATED] * 10 + [TOO_MANY] * 2
        answer = client.answer("jobs.list", secret=WRONG)
        assert answer["error"]["data"]["retryable"] is False
        assert "result" in client.answer("rpc.discover", secret=WRONG)
        assert code_of(client.answer("jobs.list", secret=None)) == UNAUTHENTICATED
        assert client.answer("jobs.list", secret=secrets["user"][0])["result"] == []

    def test_a_batch_is_one_guess(self, client):
        calls = [{"jsonrpc": "2.0", "method": "jobs.list", "id": n} for n in range(50)]
        answers = client.post(calls, secret=WRONG)
        assert {code_of(one) for one in answers} == {UNAUTHENTICATED}
        assert code_of(client.answer("jobs.list", secret=WRONG)) == UNAUTHENTICATED


class TestRate:
    def test_a_secret_has_its_calls_and_twice_as_many_at_once(self, world, secrets):
        keeper = Gatekeeper(world.book, rate_limit=5, now=world.monotonic)
        one, other = (
            keeper.identify(f"Bearer {secret}", "10.0.0.1")
            for secret in secrets["user"]
        )
        for _ in range(10):
            keeper.charge(one)
        with pytest.raises(TooManyError):
            keeper.charge(one)
        keeper.charge(other)
        world.clock.at += timedelta(seconds=1)
        for _ in range(5):
            keeper.charge(one)
        with pytest.raises(TooManyError):
            keeper.charge(one)

    def test_each_call_of_a_batch_counts(self, world, make_client):
        limited = make_client(world, rate_limit=5)
        calls = [{"jsonrpc": "2.0", "method": "jobs.list", "id": n} for n in range(12)]
        codes = [code_of(answer) for answer in limited.post(calls)]
        assert codes == [None] * 10 + [TOO_MANY] * 2

    def test_a_notification_over_the_rate_is_not_served(self, world, make_client):
        limited = make_client(world, rate_limit=1)
        call = {
            "jsonrpc": "2.0",
            "method": "create_job",
            "params": {"job": world.envelope()},
        }
        idle = {"jsonrpc": "2.0", "method": "jobs.list"}
        assert limited.post([idle, idle, call]) is None
        assert world.dispatcher.bells == []

    def test_strangers_have_no_rate_to_use_up(self, world):
        keeper = Gatekeeper(world.book, rate_limit=1, now=world.monotonic)
        for _ in range(10):
            keeper.charge(Identity())


def test_while_the_secrets_cannot_be_read_nobody_is_let_in_or_sent_away(world, client):
    world.shelf.is_away = True
    assert code_of(client.answer("jobs.list")) == UNAVAILABLE
    assert code_of(client.answer("jobs.list", secret=WRONG)) == UNAVAILABLE
    assert code_of(client.answer("jobs.list", secret=None)) == UNAUTHENTICATED
    world.shelf.is_away = False
    world.clock.at += timedelta(seconds=1)
    assert client.call("jobs.list") == []
    world.shelf.is_away = True
    world.clock.at += timedelta(hours=1)
    assert client.call("jobs.list") == []
