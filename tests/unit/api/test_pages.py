"""What a browser and a probe are shown."""

import pytest


def test_the_probe_is_answered_without_a_secret(client):
    response = client.http.get("/healthz")
    assert (response.status_code, response.get_json()) == (200, {"status": "ok"})


def test_the_page_names_the_api_and_flower(world, make_client):
    client = make_client(world, flower_url="http://127.0.0.1:5555/")
    response = client.http.get("/")
    page = response.get_data(as_text=True)
    assert response.mimetype == "text/html"
    assert "http://127.0.0.1:5555/" in page
    assert "rpc.discover" in page
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


def test_without_flower_the_page_names_none(client):
    assert "Flower" not in client.http.get("/").get_data(as_text=True)


def test_markup_in_an_address_is_text(world, make_client):
    client = make_client(world, flower_url='"><script>alert(1)</script>')
    assert "<script" not in client.http.get("/").get_data(as_text=True)


@pytest.mark.parametrize("path", ["/browse", "/api", "/healthz/x", "/static/x"])
def test_there_is_nothing_else(client, path):
    response = client.http.get(path)
    assert (response.status_code, response.mimetype) == (404, "text/plain")


def test_a_wrong_verb_names_the_right_ones(client):
    response = client.http.put("/")
    assert response.status_code == 405
    assert "POST" in response.headers["Allow"]


def test_no_answer_allows_another_origin(client):
    for method in ("GET", "OPTIONS"):
        headers = {"Origin": "http://evil.example"}
        response = client.http.open("/", method=method, headers=headers)
        names = [name.lower() for name, _ in response.headers]
        assert not any(name.startswith("access-control") for name in names)
