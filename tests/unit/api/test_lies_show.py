"""What the store says otherwise than a runner signed is told to everybody who asks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from api import create_app
from api.codes import Code
from horus_celery.client import Horus
from horus_celery.errors import ReceiptError
from horus_celery.lifecycle import Event, Status
from horus_celery.mismatches import Place
from horus_celery.store.base import Chunk, Filter, Stream
from horus_celery.store.memory import MemoryLogs, MemoryStore
from horus_celery.wholelog import PAGE, PAGES


class Written(MemoryStore):
    """A store that others write to."""

    def put(self, digest, **facts):
        entry = self._entries[digest]
        entry.record = replace(entry.record, **facts)


class WrittenLogs(MemoryLogs):
    """A log that others write to."""

    def put(self, digest, *lines, stream=Stream.STDOUT):
        at = self._chunks[digest][0].at
        self._chunks[digest] = [
            Chunk(at=at, stream=stream, data=f"{line}\n".encode()) for line in lines
        ]


@pytest.fixture
def world(make_world):
    made = make_world(store=Written)
    made.logs.__class__ = WrittenLogs
    return made


@pytest.fixture
def done(world):
    """A job that printed two lines and completed."""
    record = world.claim(world.submit())
    world.print(record, "one", "two")
    return world.settle(record, result="one\ntwo\n")


@pytest.fixture
def failed(world):
    """A job that said why it failed."""
    record = world.claim(world.submit())
    world.print(record, "it is broken", stream=Stream.STDERR)
    return world.settle(
        record, event=Event.FAILED, reason="exit_code", exit_code=3, result=""
    )


def read_log(client, record, *, limit):
    """Return the texts that a reader is shown, and the error or the end behind them."""
    texts: list[str] = []
    after = None
    while True:
        answer = client.answer(
            "job.logs", job_id=record.summary.id, after=after, limit=limit
        )
        if "error" in answer:
            return texts, answer["error"]
        page = answer["result"]
        texts += [line["text"] for line in page["lines"]]
        if page["ended"]:
            return texts, "ended"
        assert page["lines"], "it never ended"
        after = page["next"]


# --- records ---------------------------------------------------------------------


def test_a_record_that_lies_is_counted_and_logged_once_however_it_is_asked_for(
    world, client, done
):
    job_id = done.summary.id
    world.store.put(done.summary.digest, result="forged")
    with capture_logs() as logs:
        for _ in range(2):
            for method in ("job.status", "job.get"):
                told = client.call(method, job_id=job_id)
                assert (told["status"], told["reason"]) == (
                    "failed",
                    "receipt_mismatch",
                )
            assert (
                "receipt_mismatch" in client.call("job.result", job_id=job_id)["error"]
            )
            client.call("jobs.list")
            client.call("job.why", job_id=job_id)
            client.call("job.stop", job_id=job_id)
    assert world.supervisor.mismatches.counts() == {Place.RECORD: 1, Place.LOG: 0}
    found = [one for one in logs if one["event"] == "receipt mismatch"]
    assert [(one["digest"], one["what"]) for one in found] == [
        (done.summary.digest, "record")
    ]


def test_who_is_bound_to_contexts_counts_for_the_whole_process(world, done):
    world.store.put(done.summary.digest, exit_code=1)
    world.supervisor.within(frozenset({"billing"})).list(Filter(), limit=9)
    assert world.supervisor.mismatches.counts()[Place.RECORD] == 1


def test_what_is_true_is_not_counted(world, client, done, failed):
    for record in (done, failed, world.submit()):
        client.call("job.get", job_id=record.summary.id)
        client.call("job.logs", job_id=record.summary.id)
    assert set(world.supervisor.mismatches.counts().values()) == {0}


# --- logs ------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_a_log_that_was_signed_ends(client, done, limit):
    assert read_log(client, done, limit=limit) == (["one", "two"], "ended")


LIES = pytest.mark.parametrize(
    "lines",
    [["one"], ["one", "two", "three"], ["two", "one"], ["one", "2"], []],
    ids=str,
)


@LIES
@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_of_a_log_that_was_not_signed_all_lines_are_shown_and_no_end(
    world, client, done, lines, limit
):
    world.logs.put(done.summary.digest, *lines)
    texts, error = read_log(client, done, limit=limit)
    assert texts == lines
    assert (error["code"], error["data"]["reason"]) == (
        Code.SIGNATURE,
        "receipt_mismatch",
    )
    assert world.supervisor.mismatches.counts() == {Place.RECORD: 0, Place.LOG: 1}


def test_a_forged_error_output_is_not_shown_as_why_a_job_failed(world, client, failed):
    answer = client.call("job.result", job_id=failed.summary.id)
    assert "it is broken" in answer["error"]
    world.logs.put(failed.summary.digest, "all is well", stream=Stream.STDERR)
    answer = client.call("job.result", job_id=failed.summary.id)
    assert "receipt_mismatch" in answer["error"]
    assert "all is well" not in answer["error"]
    assert world.supervisor.mismatches.counts()[Place.LOG] == 1


def test_of_a_record_that_lies_no_error_output_is_shown(world, client, failed):
    world.store.put(failed.summary.digest, exit_code=4)
    answer = client.call("job.result", job_id=failed.summary.id)
    assert "receipt_mismatch" in answer["error"]
    assert "it is broken" not in answer["error"]


def test_of_a_record_that_lies_no_log_is_said_to_end(world, client, done):
    world.store.put(done.summary.digest, receipt="{}")
    texts, error = read_log(client, done, limit=9)
    assert texts == ["one", "two"]
    assert error["data"]["reason"] == "receipt_mismatch"


@pytest.mark.parametrize("field", ["id", "context_id"])
def test_of_a_job_under_another_name_no_log_is_shown(world, client, done, field):
    other = world.submit().summary
    named = {"id": other.id, "context_id": "lab"}[field]
    world.store.put(
        done.summary.digest, summary=replace(done.summary, **{field: named})
    )
    answer = client.answer("job.logs", job_id=done.summary.digest)
    assert answer["error"]["data"]["reason"] == "receipt_mismatch"


def test_what_a_runner_that_died_left_behind_is_shown(world, client):
    record = world.claim(world.submit())
    world.print(record, "so far")
    world.store.put(
        record.summary.digest,
        status=Status.FAILED,
        reason="worker_lost",
        ended_at=world.clock.at,
    )
    assert read_log(client, record, limit=9) == (["so far"], "ended")


def test_a_log_that_is_too_long_is_left_to_who_shows_all_of_it(world, client, done):
    lines = [str(number) for number in range(PAGE * PAGES)]
    world.logs.put(done.summary.digest, *lines)
    page = client.call(
        "job.logs", job_id=done.summary.id, after=f"{PAGE * PAGES - 1}-0"
    )
    assert page["ended"]


# --- the client ------------------------------------------------------------------


@pytest.fixture
def lies() -> list[Any]:
    """What a supervisor that lies does to the answers of its methods."""
    return []


@pytest.fixture
def horus(world, secrets, lies):
    def answer(request):
        response = httpx.WSGITransport(app=app).handle_request(request)
        body = json.loads(response.read())
        for lie in lies:
            lie(json.loads(request.content)["method"], body)
        return httpx.Response(200, json=body)

    app = create_app(world.services)
    with Horus(
        "http://localhost",
        secrets["user"][0],
        root=world.root.public,
        context="billing",
        caller="alice",
        clock=world.clock,
        transport=httpx.MockTransport(answer),
    ) as client:
        yield client


def test_a_client_raises_at_the_status_of_a_record_that_lies(world, horus, done):
    assert horus.status(done.summary.id)["status"] == "completed"
    world.store.put(done.summary.digest, result="forged")
    with pytest.raises(ReceiptError, match=done.summary.id):
        horus.status(done.summary.id)
    with pytest.raises(ReceiptError):
        horus.result(done.summary.id)


@pytest.mark.parametrize(
    "lie",
    [{"status": "completed"}, {"reason": "timeout"}, {"status": "stopped"}],
    ids=str,
)
def test_a_client_raises_at_the_status_of_a_supervisor_that_lies(
    horus, lies, failed, lie
):
    def tell(method, body):
        if method == "job.status":
            body["result"].update(lie)

    lies.append(tell)
    with pytest.raises(ReceiptError):
        horus.status(failed.summary.id)


def test_a_status_that_is_no_end_needs_no_proof(world, horus):
    assert horus.status(world.submit().summary.id)["status"] == "queued"


@LIES
def test_a_client_raises_behind_the_lines_of_a_log_that_lies(world, horus, done, lines):
    world.logs.put(done.summary.digest, *lines)
    shown: list[str] = []
    with pytest.raises(ReceiptError, match="runner signed"):
        show(shown, horus.logs(done.summary.id))
    assert shown == lines


def test_a_client_raises_at_lines_that_a_supervisor_adds(horus, lies, done):
    def tell(method, body):
        if method == "job.logs" and body["result"]["lines"]:
            body["result"]["lines"][0]["text"] = "forged"

    assert [line.text for line in horus.logs(done.summary.id)] == ["one", "two"]
    lies.append(tell)
    with pytest.raises(ReceiptError, match="not what the runner signed"):
        list(horus.logs(done.summary.id))
    assert len(list(horus.logs(done.summary.id, verify=False))) == 2


def show(shown, lines):
    """Keep the lines that came before an error."""
    for line in lines:
        shown.append(line.text)
