"""Who may call what: every method with every kind of secret, in every form of call."""

import itertools

import pytest

from api.access import OPENS, Scope, Secrets, host_is_known, hosts_for
from api.methods import METHODS
from horus_celery.errors import ConfigurationError

UNAUTHENTICATED = -32001
FORBIDDEN = -32003
METHOD_NOT_FOUND = -32601

NAMES = [name for one in METHODS for name in (one.name, *one.aliases)]
#: Methods of the protocol that are not here yet, of other servers, and of nobody.
ABSENT = [
    "workflow.submit",
    "register_runner",
    "start_runner",
    "add_secret",
    "trust.install",
    "rpc.describe",
    "JOB.STATUS",
    "job.status ",
    "__init__",
    "",
]


def code_of(answer):
    return answer.get("error", {}).get("code")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("secret", [None, "", "wrong", "user-secret-012345678"])
def test_without_a_right_secret_every_method_is_refused(client, name, secret):
    assert code_of(client.answer(name, secret=secret)) == UNAUTHENTICATED


@pytest.mark.parametrize("name", NAMES)
def test_the_register_scope_opens_none_of_these_methods(client, name, secrets):
    answer = client.answer(name, secret=secrets["register"][0])
    assert code_of(answer) == FORBIDDEN


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scope", ["user", "admin"])
def test_user_and_admin_open_all_of_these_methods(client, name, scope, secrets):
    for secret in secrets[scope]:
        answer = client.answer(name, secret=secret)
        assert code_of(answer) not in {UNAUTHENTICATED, FORBIDDEN, METHOD_NOT_FOUND}


@pytest.mark.parametrize("name", ABSENT)
@pytest.mark.parametrize("scope", ["user", "admin", "register", None])
def test_what_is_not_in_the_table_is_refused_for_everybody(
    client, name, scope, secrets
):
    secret = None if scope is None else secrets[scope][0]
    assert code_of(client.answer(name, secret=secret)) == METHOD_NOT_FOUND


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


class TestSecrets:
    SECRETS = Secrets({"admin": ["aaa"], "user": ["uuu", "vvv"], "register": ["rrr"]})

    @pytest.mark.parametrize(
        ("header", "scope"),
        [
            ("Bearer aaa", Scope.ADMIN),
            ("Bearer uuu", Scope.USER),
            ("bearer vvv", Scope.USER),
            ("BEARER   vvv ", Scope.USER),
            ("Bearer rrr", Scope.REGISTER),
            ("Bearer aaa uuu", Scope.NONE),
            ("Bearer aa", Scope.NONE),
            ("Bearer aaaa", Scope.NONE),
            ("Bearer AAA", Scope.NONE),
            ("Bearer ", Scope.NONE),
            ("Bearer", Scope.NONE),
            ("aaa", Scope.NONE),
            ("Basic aaa", Scope.NONE),
            ("Bearer \xff\xfe", Scope.NONE),
            ("", Scope.NONE),
            (None, Scope.NONE),
        ],
    )
    def test_a_header_opens_what_its_secret_opens(self, header, scope):
        assert self.SECRETS.scopes(header) == OPENS[scope]

    def test_every_secret_is_compared_whatever_matched(self, monkeypatch):
        compared = []

        def compare(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return one == other

        monkeypatch.setattr("hmac.compare_digest", compare)
        for header in ("Bearer aaa", "Bearer rrr", "Bearer zzz", None):
            compared.clear()
            self.SECRETS.scopes(header)
            assert len(compared) == 4

    def test_secrets_are_not_kept(self):
        assert "aaa" not in repr(vars(self.SECRETS))

    @pytest.mark.parametrize("secrets", [{"root": ["a"]}, {"none": ["a"]}])
    def test_a_scope_that_does_not_exist_is_refused(self, secrets):
        with pytest.raises(ConfigurationError):
            Secrets(secrets)

    def test_an_empty_secret_is_refused(self):
        with pytest.raises(ConfigurationError):
            Secrets({"user": [""]})


def test_admin_holds_user_and_nobody_else_holds_another():
    held = {
        (one, other)
        for one, other in itertools.permutations(Scope, 2)
        if other in OPENS[one] and other is not Scope.NONE
    }
    assert held == {(Scope.ADMIN, Scope.USER)}


class TestHosts:
    @pytest.mark.parametrize(
        ("bind", "host", "known"),
        [
            ("127.0.0.1", "127.0.0.1:3030", True),
            ("127.0.0.1", "localhost", True),
            ("127.0.0.1", "LOCALHOST:1", True),
            ("127.0.0.1", "[::1]:3030", True),
            ("127.0.0.1", "[::1]", True),
            ("127.0.0.1", "evil.example", False),
            ("127.0.0.1", "localhost.evil.example:80", False),
            ("127.0.0.1", "evil.example:localhost", False),
            ("127.0.0.1", "", False),
            ("127.0.0.1", None, False),
            ("10.0.0.1", "10.0.0.1:80", True),
            ("10.0.0.1", "10.0.0.2", False),
            ("::1", "[::1]:80", True),
            ("box.example", "Box.Example:80", True),
            ("0.0.0.0", "anything", True),  # noqa: S104 - nothing is bound here
            ("::", None, True),
        ],
    )
    def test_a_server_is_called_by_its_own_names(self, bind, host, known):
        assert host_is_known(host, hosts_for(bind)) is known

    def test_another_host_is_refused_before_anything_is_read(self, client):
        response = client.http.post("/", json={}, headers={"Host": "evil.example"})
        assert response.status_code == 400
        assert "evil" not in response.get_data(as_text=True)
