"""The API behind a proxy that is trusted, whichever family its socket is of."""

import pytest

pytestmark = pytest.mark.integration

#: Who is called by it, and who is told apart by it.
HERE, THERE = "203.0.113.1", "203.0.113.2"
#: Where one socket has both families, it shows a proxy of the fourth as `::ffff:…`.
BINDS = ["127.0.0.1", "::"]


@pytest.fixture(params=BINDS)
def server(serve, redis_url, request):
    return serve(
        redis_url,
        bind_address=request.param,
        insecure_http="true",
        trusted_proxies="127.0.0.1",
    )


def guess(server, caller):
    """Try a wrong secret as a proxy passes it on, and return the code."""
    call = {"jsonrpc": "2.0", "method": "jobs.list", "id": 1}
    headers = {"Authorization": "Bearer wrong", "X-Forwarded-For": caller}
    return server.http.post(server.url, json=call, headers=headers).json()["error"][
        "code"
    ]


def test_wrong_secrets_count_for_whom_the_proxy_saw(server):
    codes = [guess(server, HERE) for _ in range(11)]
    assert codes == [-32001] * 10 + [-32022]
    # What a caller has written himself stands before what the proxy saw.
    assert guess(server, f"{THERE}, {HERE}") == -32022
    assert guess(server, THERE) == -32001


def test_its_own_page_is_known_behind_a_proxy_that_speaks_tls(server):
    host, port = server.address
    headers = {"Origin": f"https://{host}:{port}"}
    assert server.http.get(server.url, headers=headers).status_code == 403
    headers["X-Forwarded-Proto"] = "https"
    page = server.http.get(server.url, headers=headers)
    assert page.status_code == 200
    assert f"https://{host}:{port}/" in page.text


@pytest.mark.parametrize("name", ["SCRIPT_NAME", "PATH_INFO"])
def test_no_header_says_which_path_is_meant(server, name):
    for path, status in (("healthz", 200), ("x/healthz", 404)):
        found = server.http.get(f"{server.url}{path}", headers={name: "/x"})
        assert found.status_code == status
