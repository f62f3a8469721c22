"""The methods about the API's secrets, as an administrator sees them."""

import pytest
from structlog.testing import capture_logs

from api.methods.secrets import MAX_CONTEXTS
from api.site import Called

STRONG = "Tz9rQm4WvK1sX8bNc0LpYd"


@pytest.fixture
def answered(client, secrets):
    """Call a method with the admin secret and return its answer."""

    def call(method, params):
        body = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
        return client.post(body, secret=secrets["admin"][0])

    return call


@pytest.fixture
def admin(answered):
    """Call a method with the admin secret and return its result."""
    return lambda method, **params: answered(method, params)["result"]


@pytest.fixture
def refused(answered):
    """Call a method with the admin secret and return its error."""
    return lambda method, **params: answered(method, params)["error"]


def test_an_added_one_is_shown_once_and_works_at_once(admin, client):
    added = admin("add_secret", scope="user", contexts=["lab", "billing"])
    assert set(added) == {"id", "scope", "contexts", "secret"}
    assert (added["scope"], added["contexts"]) == ("user", ["billing", "lab"])
    assert len(added["secret"]) == 43
    assert client.call("jobs.list", secret=added["secret"]) == []
    listed = admin("list_secrets")
    shown = {key: added[key] for key in ("id", "scope", "contexts")}
    assert shown in listed
    assert added["secret"] not in str(listed)


def test_it_opens_every_context_unless_told_otherwise(admin):
    for scope in ("admin", "user", "register"):
        assert admin("add_secret", scope=scope)["contexts"] == ["*"]
    assert admin("add_secret", scope="user", contexts=["*", "lab"])["contexts"] == ["*"]


def test_one_that_is_bound_to_as_many_contexts_as_may_be_works(admin, client, refused):
    names = [f"{number:0128d}" for number in range(MAX_CONTEXTS)]
    added = admin("add_secret", scope="user", contexts=names)
    assert client.call("jobs.list", secret=added["secret"]) == []
    assert added["id"] in str(admin("list_secrets"))
    assert admin("remove_secret", id=added["id"]) is True
    for more in ([*names, "one-more"], [*names[1:], "1" * 129]):
        assert refused("add_secret", scope="user", contexts=more)["code"] == -32602


def test_a_given_one_is_taken_as_it_is(admin, client):
    assert admin("add_secret", scope="user", secret=STRONG)["secret"] == STRONG
    assert client.call("jobs.list", secret=STRONG) == []


def test_a_removed_one_opens_nothing_any_more(admin, client):
    added = admin("add_secret", scope="user")
    assert admin("remove_secret", id=added["id"]) is True
    assert client.error("jobs.list", secret=added["secret"])["code"] == -32001
    assert added["id"] not in str(admin("list_secrets"))


def test_the_list_is_by_scope_and_holds_no_secret(admin, secrets):
    listed = admin("list_secrets")
    assert [one["scope"] for one in listed] == ["admin", "user", "user", "register"]
    assert all(set(one) == {"id", "scope", "contexts"} for one in listed)
    for secret in sum(secrets.values(), ()):
        assert secret not in str(listed)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"scope": "root"}, -32602),
        ({"scope": "none"}, -32602),
        ({}, -32602),
        ({"scope": "user", "contexts": []}, -32602),
        ({"scope": "user", "contexts": ["a b"]}, -32602),
        ({"scope": "user", "contexts": [""]}, -32602),
        ({"scope": "user", "contexts": ["a"] * 1001}, -32602),
        ({"scope": "user", "contexts": "lab"}, -32602),
        ({"scope": "admin", "contexts": ["lab"]}, -32602),
        ({"scope": "register", "contexts": ["lab"]}, -32602),
        ({"scope": "user", "id": "sec_0"}, -32602),
    ],
)
def test_what_cannot_be_added_is_refused(refused, admin, params, code):
    before = admin("list_secrets")
    error = refused("add_secret", **params)
    assert error["code"] == code
    assert ": " in error["data"]["detail"]
    assert admin("list_secrets") == before


@pytest.mark.parametrize(
    "secret",
    [
        "x",
        "hunter2-hunter2",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "Tz9rQm4WvK1sX8bNc0Lp Yd",
        "Tz9rQm4WvK1sX8bNc0Lp\tYd",
        "Tz9rQm4WvK1sX8bNc0LpYdé",
        "Tz9rQm4WvK1sX8bNc0LpYd" * 30,
        5,
        ["Tz9rQm4WvK1sX8bNc0LpYd"],
    ],
)
def test_a_weak_one_is_refused_and_not_repeated(refused, secret):
    with capture_logs() as logs:
        error = refused("add_secret", scope="user", secret=secret)
    assert error["code"] == -32602
    word = secret if isinstance(secret, str) else str(secret).strip("[]'")
    if len(word) > 1 and word != "5":
        assert word not in str(error)
        assert word not in str(logs)


def test_the_same_one_again_is_a_conflict(admin, refused, secrets):
    admin("add_secret", scope="user", secret=STRONG)
    for scope, again in (
        ("user", STRONG),
        ("admin", STRONG),
        ("register", secrets["user"][0]),
    ):
        error = refused("add_secret", scope=scope, secret=again)
        assert (error["code"], error["data"]["reason"]) == (-32009, "secret_taken")
        assert again not in str(error)


@pytest.mark.parametrize(
    "unknown", ["sec_0000000000000000", "", "sec_", "x" * 64, "\x1b[31m"]
)
def test_an_unknown_one_is_not_found(refused, unknown):
    assert refused("remove_secret", id=unknown)["code"] == -32004


def test_the_last_admin_secret_stays(admin, refused):
    (last,) = [one for one in admin("list_secrets") if one["scope"] == "admin"]
    error = refused("remove_secret", id=last["id"])
    assert (error["code"], error["data"]["reason"]) == (-32009, "last_admin_secret")
    added = admin("add_secret", scope="admin")
    assert admin("remove_secret", id=last["id"]) is True
    assert added["id"]


def test_an_admin_who_removes_his_own_secret_is_out(admin, client, secrets):
    added = admin("add_secret", scope="admin")
    own = [one for one in admin("list_secrets") if one["scope"] == "admin"]
    (other,) = [one["id"] for one in own if one["id"] != added["id"]]
    assert admin("remove_secret", id=other) is True
    assert client.error("list_secrets", secret=secrets["admin"][0])["code"] == -32001
    assert client.call("list_secrets", secret=added["secret"])


def test_without_the_shelf_nothing_is_changed_and_that_is_said(world, refused, client):
    assert client.call("jobs.list") == []
    world.shelf.is_away = True
    for method, params in (
        ("add_secret", {"scope": "user"}),
        ("remove_secret", {"id": "sec_0000000000000000"}),
        ("list_secrets", {}),
    ):
        assert refused(method, **params)["code"] == -32020


def test_parameters_by_position_are_the_same(answered):
    added = answered("add_secret", ["user", ["lab"], STRONG])["result"]
    assert (added["contexts"], added["secret"]) == (["lab"], STRONG)


def test_nothing_that_is_logged_or_observed_holds_a_secret(world, make_client, secrets):
    called: list[Called] = []
    client = make_client(world, observe=called.append)
    with capture_logs() as logs:
        added = client.call("add_secret", secret=secrets["admin"][0], scope="user")
        client.call("jobs.list", secret=added["secret"])
        client.call("remove_secret", secret=secrets["admin"][0], id=added["id"])
        client.answer("jobs.list", secret=added["secret"])
    assert added["secret"] not in repr([logs, called])
    assert called[1].secret_id == added["id"]
    assert called[3].secret_id is None
