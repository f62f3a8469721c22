"""SAL's functions for Mycelium, by a stand-in for its daemon's HTTP API."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs, urlsplit

import pytest

KEY = "ab" * 32


def b64(text):
    return base64.b64encode(text.encode()).decode()


def message(text, topic="t/1+"):
    return json.dumps(
        {
            "id": "0" * 16,
            "srcIp": "400::1",
            "srcPk": KEY,
            "dstIp": "400::2",
            "dstPk": KEY,
            "topic": b64(topic),
            "payload": b64(text),
        }
    ).encode()


LISTS = [
    ("mycelium_list_peers", "admin/peers"),
    ("mycelium_list_selected_routes", "admin/routes/selected"),
    ("mycelium_list_fallback_routes", "admin/routes/fallback"),
]


@pytest.mark.parametrize(("name", "path"), LISTS)
def test_what_the_node_knows_is_listed(script, web, name, path):
    web.answer("GET", f"/api/v1/{path}", (200, b'[{"a": 1}]'))
    assert script(name, web.url) == [{"a": 1}]
    web.answer("GET", f"/api/v1/{path}", (200, b"{}"))
    assert "something else than a list" in script.refusal(name, web.url)


def test_the_node_tells_about_itself(script, web):
    web.answer("GET", "/api/v1/admin", (200, b'{"nodeSubnet": "400::/64"}'))
    assert script("mycelium_get_node_info", f"{web.url}/") == {"nodeSubnet": "400::/64"}
    web.answer("GET", "/api/v1/admin", (200, b"nonsense"))
    said = script.refusal("mycelium_get_node_info", web.url)
    assert "answers 200 with what is no JSON" in said


def test_peers_come_and_go(script, web):
    peer = "tcp://192.0.2.1:9651"
    web.answer("POST", "/api/v1/admin/peers", (204, b""), (409, b""))
    path = "/api/v1/admin/peers/tcp%3A%2F%2F192.0.2.1%3A9651"
    web.answer("DELETE", path, (204, b""), (404, b""))
    assert script("mycelium_add_peer", web.url, peer) is None
    assert "it is there already" in script.refusal("mycelium_add_peer", web.url, peer)
    assert script("mycelium_remove_peer", web.url, peer) is None
    assert "no such thing" in script.refusal("mycelium_remove_peer", web.url, peer)
    assert json.loads(web.asked[0][2]) == {"endpoint": peer}


@pytest.mark.parametrize(
    ("destination", "dst"), [("400::01", {"ip": "400::1"}), (KEY.upper(), {"pk": KEY})]
)
def test_a_message_is_sent(script, web, destination, dst):
    web.answer("POST", "/api/v1/messages", (201, b'{"id": "1"}'))
    sent = script("mycelium_send_message", web.url, destination, "t", "hé")
    assert sent == {"id": "1"}
    ((_, path, body),) = web.asked
    assert path == "/api/v1/messages"
    assert json.loads(body) == {"dst": dst, "topic": b64("t"), "payload": b64("hé")}


def test_a_reply_is_waited_for_where_one_is_wanted(script, web):
    web.answer(
        "POST", "/api/v1/messages", (200, message("answer")), (408, b'{"id": "1"}')
    )
    sent = ("mycelium_send_message", web.url, "400::1", "", "question", 3)
    assert script(*sent)["payload"] == "answer"
    assert script(*sent) == {"id": "1"}
    assert web.asked[0][1] == "/api/v1/messages?reply_timeout=3"
    assert "topic" not in json.loads(web.asked[0][2])


@pytest.mark.parametrize(
    ("destination", "topic", "why"),
    [
        ("192.0.2.1", "t", "neither an address of the overlay nor a key"),
        ("example.org", "t", "neither an address of the overlay nor a key"),
        ("400::1", "t" * 256, "a topic has at most 255 bytes"),
    ],
)
def test_what_cannot_be_sent_is_not(script, web, destination, topic, why):
    said = script.refusal("mycelium_send_message", web.url, destination, topic, "m")
    assert why in said
    assert web.asked == []


def test_the_messages_of_a_topic_are_taken(script, web):
    web.answer(
        "GET", "/api/v1/messages", (200, message("é")), (200, message("b")), (204, b"")
    )
    first, second = script("mycelium_receive_messages", web.url, "t/1+")
    assert first["payload"] == "é"
    assert first["payload_base64"] == b64("é")
    assert (second["topic"], second["srcPk"]) == ("t/1+", KEY)
    asked = parse_qs(urlsplit(web.asked[0][1]).query)
    assert asked == {"peek": ["false"], "timeout": ["0"], "topic": [b64("t/1+")]}


def test_the_first_message_is_waited_for_without_blocking_the_daemon(script, web):
    web.answer(
        "GET", "/api/v1/messages", *[(204, b"")] * 2, (200, message("a")), (204, b"")
    )
    (found,) = script("mycelium_receive_messages", web.url, "", 30)
    assert found["payload"] == "a"
    assert {
        parse_qs(urlsplit(path).query)["timeout"][0] for _, path, _ in web.asked
    } == {"0"}


def test_an_empty_inbox_is_an_empty_array(script, web):
    web.answer("GET", "/api/v1/messages", (204, b""))
    assert script("mycelium_receive_messages", web.url, "t") == []
    assert script("mycelium_receive_messages", web.url, "t", 0.01) == []


@pytest.mark.parametrize("body", [b"[1]", b'{"payload": "%"}', b'{"payload": "a"}'])
def test_a_message_that_nobody_can_read_is_an_error(script, web, body):
    web.answer("GET", "/api/v1/messages", (200, body))
    said = script.refusal("mycelium_receive_messages", web.url, "")
    assert "Mycelium answers with" in said


def test_a_daemon_that_is_not_there_is_told(script, closed_port):
    url = f"http://127.0.0.1:{closed_port}"
    said = script.refusal("mycelium_get_node_info", url)
    assert f"{url}/api/v1/admin cannot be reached" in said


def test_an_answer_without_end_is_cut(script, web):
    web.answer("GET", "/api/v1/admin", (200, b" " * (16 * 2**20 + 1)))
    said = script.refusal("mycelium_get_node_info", web.url)
    assert "answers with more than" in said


def test_what_the_daemon_does_not_understand_is_told(script, web):
    web.answer("POST", "/api/v1/messages", (400, b""))
    web.answer("GET", "/api/v1/admin", (500, b""))
    sent = ("mycelium_send_message", web.url, "400::1", "t", "m")
    assert "something it does not understand" in script.refusal(*sent)
    assert "status 500" in script.refusal("mycelium_get_node_info", web.url)
