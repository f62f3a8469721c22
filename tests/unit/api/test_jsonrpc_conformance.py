"""JSON-RPC 2.0 itself: the examples of its specification, and what lies beyond them."""

import json

import pytest

from tests.conformance import (
    HEADERS,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    REQUESTS,
    assert_answered,
    assert_answers,
    call,
    error,
    make_app,
    result,
)


@pytest.fixture(scope="module")
def client():
    return make_app().test_client()


@pytest.mark.parametrize(
    ("body", "expected"),
    [pytest.param(body, expected, id=name) for name, body, expected in REQUESTS],
)
def test_every_request_gets_the_answer_of_the_specification(client, body, expected):
    raw = body if isinstance(body, (str, bytes)) else json.dumps(body)
    got = client.post("/", data=raw, headers=HEADERS)
    assert_answered(got.status_code, got.content_type, got.data, expected)


@pytest.mark.parametrize("method", ["break_by_type", "break_by_value"])
def test_a_fault_of_a_method_tells_nothing(client, method):
    answer = client.post("/", json=call(method, id=1)).get_json()
    assert answer["error"] == {
        "code": INTERNAL_ERROR,
        "message": "Internal error",
        "data": {"reason": "internal", "detail": "Internal error", "retryable": False},
    }


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ([42, 23], result(19)),
        ({"subtrahend": 23, "minuend": 42}, result(19)),
        ([42], error(INVALID_PARAMS, 1)),
        ([42, 23, 1], error(INVALID_PARAMS, 1)),
        (["42", 23], error(INVALID_PARAMS, 1)),
        ({"minuend": 42, "subtrahend": 23, "z": 1}, error(INVALID_PARAMS, 1)),
    ],
)
def test_a_decorated_method_keeps_its_validation(client, params, expected):
    answer = client.post("/", json=call("subtract_decorated", params, id=1))
    assert_answers(answer.get_json(), expected)


def test_wrong_parameters_are_named_without_their_values(client):
    body = call("subtract", {"minuend": "hunter2", "subtrahend": 2}, id=1)
    detail = client.post("/", json=body).get_json()["error"]["data"]["detail"]
    assert detail.startswith("minuend: ")
    assert "hunter2" not in detail


@pytest.mark.parametrize("kind", ["text/plain", "application/json-rpc", ""])
def test_another_content_type_is_no_call(client, kind):
    raw = json.dumps(call("get_data", id=1))
    response = client.post("/", data=raw, content_type=kind)
    assert response.get_json()["error"]["code"] == INVALID_REQUEST


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_calls_are_posted(client, method):
    response = client.open("/", method=method, json=call("get_data", id=1))
    assert response.status_code == 405


def test_the_calls_of_a_batch_wait_no_longer_than_one(client):
    answers = client.post("/", json=[call("how_long", [300], id=1)] * 3).get_json()
    first, second, third = (one["result"] for one in answers)
    assert 300 >= first > second > third
