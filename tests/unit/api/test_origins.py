"""By which names, and from the pages of whom, the API may be called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.origins import Hosts, Origins

PAGE = "https://app.example"
POST = {"Access-Control-Request-Method": "POST"}


class TestHosts:
    @pytest.mark.parametrize(
        ("bind", "host", "known"),
        [
            ("127.0.0.1", "127.0.0.1:3030", True),
            ("127.0.0.1", "localhost", True),
            ("127.0.0.1", "LOCALHOST:1", True),
            ("127.0.0.1", "[::1]:3030", True),
            ("127.0.0.1", "[::1]", True),
            ("127.0.0.1", "[0:0:0:0:0:0:0:1]:3030", True),
            ("127.0.0.1", "localhost.:3030", True),
            ("127.0.0.1", "localhost..", False),
            ("127.0.0.1", ".", False),
            ("127.0.0.1", "evil.example.", False),
            ("127.0.0.1", "evil@localhost", False),
            ("127.0.0.1", "localhost,evil.example", False),
            ("127.0.0.1", "evil.example", False),
            ("127.0.0.1", "localhost.evil.example:80", False),
            ("127.0.0.1", "evil.example:localhost", False),
            ("127.0.0.1", "", False),
            ("127.0.0.1", None, False),
            ("10.0.0.1", "10.0.0.1:80", True),
            ("10.0.0.1", "10.0.0.2", False),
            ("::1", "[::1]:80", True),
            ("box.example", "Box.Example:80", True),
            ("0.0.0.0", "10.0.0.2:3030", True),  # noqa: S104 - nothing is bound here
            ("0.0.0.0", "[fd00::1]:3030", True),  # noqa: S104 - as above
            ("0.0.0.0", "evil.example", False),  # noqa: S104 - as above
            ("::", "10.0.0.2", True),
            ("::", "localhost", True),
            ("::", None, False),
        ],
    )
    def test_a_server_is_called_by_its_own_names(self, bind, host, known):
        assert Hosts.of(bind).has(host) is known

    @pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - as above
    def test_what_is_allowed_is_a_name_of_its_own(self, bind):
        hosts = Hosts.of(bind, ["API.example", "dot.example.", "FD00:0::2"])
        assert hosts.has("api.Example:443")
        assert hosts.has("api.example.")
        assert hosts.has("dot.example")
        assert hosts.has("[FD00::2]")
        assert not hosts.has("other.example")

    def test_another_host_is_refused_before_anything_is_read(self, client):
        response = client.http.post("/", json={}, headers={"Host": "evil.example"})
        assert response.status_code == 400
        assert "evil" not in response.get_data(as_text=True)

    @pytest.mark.parametrize(
        ("target", "status"),
        [
            ("http://localhost/", 200),
            ("HTTPS://LOCALHOST:3030/?a=b", 200),
            ("http://evil.example/", 400),
            ("http://evil.example?localhost/", 400),
            ("http://evil@localhost/", 400),
            ("http:///", 400),
        ],
    )
    def test_the_host_in_a_whole_url_is_the_one_that_counts(
        self, client, target, status
    ):
        for said in ("localhost", "other.example"):
            environ = {"RAW_URI": target, "HTTP_HOST": said}
            response = client.http.get("/", environ_overrides=environ)
            assert response.status_code == status
            assert "example" not in response.get_data(as_text=True)


@given(st.text())
def test_by_default_only_our_own_page_calls(origin):
    assert Origins().may_call(origin, scheme="http", host="localhost") is (
        origin == "http://localhost"
    )


@pytest.fixture
def open_client(world, make_client):
    """A server that pages of one origin may call."""
    return make_client(world, origins=Origins(allowed=frozenset({PAGE})))


def cors(response):
    names = {name.lower(): value for name, value in response.headers}
    assert len(names) == len(response.headers)
    return {
        name.removeprefix("access-control-"): value
        for name, value in names.items()
        if name.startswith("access-control-")
    }


def test_a_preflight_of_an_allowed_origin_is_answered(open_client):
    response = open_client.http.options("/", headers={"Origin": PAGE, **POST})
    assert response.status_code == 204
    assert response.headers["Vary"] == "Origin"
    assert cors(response) == {
        "allow-origin": PAGE,
        "allow-methods": "POST",
        "allow-headers": "authorization, content-type",
        "max-age": "600",
    }


@pytest.mark.parametrize("path", ["/", "/healthz", "/nowhere"])
def test_an_allowed_page_may_read_every_answer(open_client, path):
    response = open_client.http.get(path, headers={"Origin": PAGE})
    assert cors(response) == {"allow-origin": PAGE}
    assert response.headers["Vary"] == "Origin"


def test_an_allowed_page_calls_as_everybody_does(open_client, secrets):
    call = {"jsonrpc": "2.0", "method": "jobs.list", "id": 1}
    headers = {"Origin": PAGE, "Authorization": f"Bearer {secrets['user'][0]}"}
    response = open_client.http.post("/", json=call, headers=headers)
    assert response.get_json()["result"] == []
    assert cors(response) == {"allow-origin": PAGE}


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{PAGE}.evil", ""])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_another_page_changes_and_learns_nothing(
    open_client, world, secrets, origin, method
):
    call = {
        "jsonrpc": "2.0",
        "method": "create_job",
        "params": {"job": world.envelope()},
        "id": 1,
    }
    headers = {"Origin": origin, "Authorization": f"Bearer {secrets['user'][0]}"}
    response = open_client.http.open("/", method=method, json=call, headers=headers)
    assert response.status_code == 403
    assert cors(response) == {}
    assert world.dispatcher.bells == []


def test_our_own_page_is_no_other_origin(client):
    headers = {"Host": "localhost:3030", "Origin": "http://localhost:3030"}
    assert client.http.get("/", headers=headers).status_code == 200
    headers["Origin"] = "http://localhost:3031"
    assert client.http.get("/", headers=headers).status_code == 403


def test_programs_are_told_nothing_of_origins(open_client, client):
    assert cors(open_client.http.get("/healthz")) == {}
    assert "Vary" not in client.http.get("/healthz").headers
