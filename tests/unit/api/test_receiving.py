"""What the site reads of a body, and what it makes of one that cannot be read."""

import io
import time

import pytest
from gunicorn.http.errors import (  # type: ignore[import-untyped]  # ships no types
    InvalidChunkSize,
    NoMoreData,
)
from structlog.testing import capture_logs

from api.site import MAX_OPEN_ANSWERS, MAX_OPEN_BYTES

JSON = {"content_type": "application/json"}


class Broken(io.BytesIO):
    """A body whose reading fails."""

    def __init__(self, error):
        super().__init__(b"x")
        self.error = error

    def read(self, size=-1):
        raise self.error

    def readinto(self, buffer):
        raise self.error


def post(client, stream, **options):
    return client.http.post(
        "/",
        input_stream=stream,
        environ_overrides={"wsgi.input_terminated": True},
        headers={"Transfer-Encoding": "chunked", **options},
        **JSON,
    ).get_json()


@pytest.mark.parametrize(
    "error", [InvalidChunkSize(b"secret"), NoMoreData(b"secret"), OSError("secret")]
)
def test_a_body_that_cannot_be_read_is_a_parse_error_and_one_line(client, error):
    with capture_logs() as said:
        answer = post(client, Broken(error))
    assert answer["error"]["code"] == -32700
    assert len(said) <= 1
    assert "secret" not in f"{answer}{said}"


@pytest.mark.parametrize("authorization", ["", "Bearer of-nobody"])
def test_little_is_read_of_a_body_without_a_valid_secret(client, authorization):
    stream = io.BytesIO(b" " * 1_000_000)
    answer = post(client, stream, Authorization=authorization)
    assert answer["error"]["code"] == -32023
    assert "secret" in answer["error"]["data"]["detail"]
    assert stream.tell() <= MAX_OPEN_BYTES + 1


@pytest.mark.parametrize("scope", ["user", "admin", "register"])
def test_with_a_secret_the_whole_body_is_read(client, secrets, scope):
    stream = io.BytesIO(b" " * 1_000_000)
    answer = post(client, stream, Authorization=f"Bearer {secrets[scope][0]}")
    assert answer["error"]["code"] == -32700
    assert stream.tell() == 1_000_000


def test_a_dense_body_is_refused_before_it_is_read(client, secrets):
    junk = b'{"jsonrpc":"2.0","method":"rpc.discover","id":1,"junk":[%b0]}'
    stream = io.BytesIO(junk % (b"{}," * 1_000_000))
    answer = post(client, stream, Authorization=f"Bearer {secrets['user'][0]}")
    assert answer["error"]["code"] == -32023
    assert "values" in answer["error"]["data"]["detail"]


@pytest.mark.parametrize(
    "beside", [{"junk": [{}] * 5000}, {"junk": "x" * 2_000_000}], ids=["dense", "long"]
)
def test_a_bulky_request_waits_for_nothing(world, client, secrets, beside):
    wanted = {"job_id": world.submit().summary.id, "wait": 300}
    call = {"jsonrpc": "2.0", "method": "job.result", "params": wanted, "id": 1}
    answer = client.post(call | beside, secret=secrets["user"][0])
    assert answer["error"]["code"] == -32021


@pytest.mark.parametrize(("length", "waits"), [(900_000, False), (10, True)])
def test_nor_does_a_batch_behind_a_long_answer(world, client, secrets, length, waits):
    for number in range(2):
        world.submit(payload=f"# {number}".ljust(length))
    wanted = {"job_id": world.submit().summary.id, "wait": 0.25}
    calls = [
        {"jsonrpc": "2.0", "method": "jobs.list", "id": 1},
        {"jsonrpc": "2.0", "method": "job.result", "params": wanted, "id": 2},
    ]
    began = time.monotonic()
    listed, waited = client.post(calls, secret=secrets["user"][0])
    assert len(listed["result"]) == 3
    assert waited["error"]["code"] == -32021
    assert (time.monotonic() - began >= 0.25) is waits


def test_a_strangers_batch_is_answered_up_to_a_limit(client, secrets):
    calls = [{"jsonrpc": "2.0", "method": "rpc.discover", "id": n} for n in range(100)]
    answer = client.http.post("/", json=calls)
    assert len(answer.data) < 2 * MAX_OPEN_ANSWERS
    found = answer.get_json()
    assert [one["id"] for one in found] == list(range(100))
    assert found[0]["result"] == found[1]["result"]
    assert found[99]["error"]["code"] == -32023
    whole = client.post(calls, secret=secrets["user"][0])
    assert all(one["result"] == found[0]["result"] for one in whole)


def test_so_is_everybodys_batch(client, secrets, monkeypatch):
    monkeypatch.setattr("api.site.MAX_ANSWERS", 2 * MAX_OPEN_ANSWERS)
    calls = [{"jsonrpc": "2.0", "method": "rpc.discover", "id": n} for n in range(100)]
    found = client.post(calls, secret=secrets["user"][0])
    assert "result" in found[0]
    assert found[99]["error"]["code"] == -32023


def test_a_call_without_a_secret_is_answered_up_to_the_limit(client):
    call = b'{"jsonrpc":"2.0","method":"rpc.discover","id":1}'
    for room, is_served in ((0, True), (1, False)):
        body = call.ljust(MAX_OPEN_BYTES + room)
        answer = client.http.post("/", data=body, **JSON).get_json()
        assert ("result" in answer) is is_served
