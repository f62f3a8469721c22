"""The client against a supervisor that tells the truth, and one that lies."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from api import create_app
from horus_celery.client import MAX_INPUT, Horus, JobNotCompleted, RpcError
from horus_celery.errors import (
    ConfigurationError,
    MalformedError,
    ReceiptError,
    SignatureError,
    UnavailableError,
)
from horus_celery.lifecycle import Event, Status
from horus_celery.statements.job import InputRef
from horus_celery.statements.trust import Trust


class Between(httpx.BaseTransport):
    """Sits between client and supervisor and may change what a method answers."""

    def __init__(self, app: Any) -> None:
        self._inner = httpx.WSGITransport(app=app)
        self.lies: dict[str, Callable[[Any], Any]] = {}
        self.calls: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        method = json.loads(request.content)["method"]
        self.calls.append(method)
        response = self._inner.handle_request(request)
        answer = json.loads(response.read())
        if method in self.lies and "result" in answer:
            answer["result"] = self.lies[method](answer["result"])
        return httpx.Response(200, text=json.dumps(answer))


@pytest.fixture
def between(world, secrets):
    return Between(create_app(world.services))


@pytest.fixture
def horus(make_horus, world, between):
    with make_horus(world, between) as client:
        yield client


@pytest.fixture
def finished(world, horus):
    """Submit a job and be the runner that ends it."""

    def finish(**end: Any) -> Any:
        submitted = horus.submit("print(5)")
        record = world.claim(world.store.get(submitted.digest))
        world.settle(record, **end)
        return submitted

    return finish


def test_an_outcome_is_what_the_runner_signed(horus, finished):
    submitted = finished(result="5\n")
    outcome = horus.outcome(submitted)
    assert outcome.status is Status.COMPLETED
    assert outcome.result == "5\n"
    assert outcome.is_verified
    assert outcome.receipt is not None
    assert outcome.receipt.job == submitted.digest


def test_a_job_is_known_by_its_id_alone(horus, finished):
    assert horus.outcome(finished(result="5\n").id).result == "5\n"


def test_logs_follow_a_job_to_its_end(world, horus):
    submitted = horus.submit("print('early')")
    record = world.claim(world.store.get(submitted.digest))
    world.print(record, "early")
    lines = []
    for line in horus.logs(submitted.id):
        lines.append((line.stream.value, line.text))
        world.settle(record, result="late")
    assert lines == [("stdout", "early")]
    assert horus.outcome(submitted).result == "late"


def test_the_result_of_a_failed_job_is_an_error_that_holds_the_outcome(horus, finished):
    submitted = finished(event=Event.FAILED, reason="exit_code", exit_code=3)
    with pytest.raises(JobNotCompleted, match="exit_code") as caught:
        horus.result(submitted)
    assert caught.value.outcome.exit_code == 3


@pytest.mark.parametrize(
    ("field", "lie"),
    [
        ("result", "6\n"),
        ("result", None),
        ("result", "\ud800"),
        ("status", "failed"),
        ("exit_code", 1),
        ("attempt", 2),
        ("ran_on", "r2"),
        ("reason", "timeout"),
        ("receipt", None),
    ],
)
def test_a_record_that_says_otherwise_is_not_believed(
    horus, finished, between, field, lie
):
    submitted = finished(result="5\n")
    between.lies["job.get"] = lambda record: {**record, field: lie}
    with pytest.raises(ReceiptError):
        horus.outcome(submitted)


def test_the_receipt_of_another_job_is_not_believed(horus, finished, between):
    other = horus.get(finished(result="5\n").id)
    submitted = finished(result="5\n")
    between.lies["job.get"] = lambda record: {**record, "receipt": other["receipt"]}
    with pytest.raises(ReceiptError, match="another job"):
        horus.outcome(submitted)


def test_a_whole_record_of_another_job_is_not_believed(horus, finished, between):
    other = horus.get(finished(result="6\n").id)
    submitted = finished(result="5\n")
    between.lies["job.get"] = lambda _: other
    with pytest.raises(ReceiptError, match="another job"):
        horus.outcome(submitted)


def test_a_whole_record_of_another_job_is_not_believed_for_an_id_either(
    horus, finished, between
):
    other = horus.get(finished(result="6\n").id)
    submitted = finished(result="5\n")
    between.lies["job.get"] = lambda _: other
    for name in (submitted.id, submitted.digest):
        with pytest.raises(ReceiptError, match="another job"):
            horus.outcome(name)


def test_the_receipt_of_a_key_that_no_runner_has_is_not_believed(
    world, horus, between, finished
):
    submitted = finished(result="5\n")
    record = world.store.get(submitted.digest)
    forged = world.receipt(record, key=world.stranger, result_text="6\n")
    between.lies["job.get"] = lambda shown: {
        **shown,
        "result": "6\n",
        "receipt": json.loads(forged),
    }
    with pytest.raises(ReceiptError, match="no runner"):
        horus.outcome(submitted)


def test_a_bundle_that_the_root_did_not_sign_is_not_believed(
    world, horus, finished, between, make_world
):
    submitted = finished(result="5\n")
    foreign = json.loads(make_world().trust.envelope())
    between.lies["trust.get"] = lambda _: foreign
    with pytest.raises(SignatureError):
        horus.outcome(submitted)


def test_an_older_bundle_than_before_is_not_believed(world, horus):
    body = world.trust_body()
    world.trust.trust = Trust.from_wire({**body, "version": 2})
    horus.trust()
    world.trust.trust = Trust.from_wire(body)
    with pytest.raises(ReceiptError, match="older"):
        horus.trust(fresh=True)


def test_a_runner_that_is_newer_than_the_known_bundle_is_believed(
    world, horus, finished
):
    body = world.trust_body()
    world.trust.trust = Trust.from_wire({**body, "runners": []})
    horus.trust()
    world.trust.trust = Trust.from_wire({**body, "version": 2})
    assert horus.outcome(finished(result="5\n")).is_verified


def test_a_job_that_was_stopped_before_it_started_is_over_but_not_verified(horus):
    submitted = horus.submit("print(5)")
    horus.stop(submitted.id)
    outcome = horus.outcome(submitted)
    assert outcome.status is Status.STOPPED
    assert not outcome.is_verified
    assert outcome.result is None


def test_a_stopped_job_with_a_result_needs_a_receipt(horus, between):
    submitted = horus.submit("print(5)")
    horus.stop(submitted.id)
    between.lies["job.get"] = lambda record: {**record, "result": "planted"}
    with pytest.raises(ReceiptError):
        horus.outcome(submitted)


def test_verification_can_only_be_left_out_by_name(world, between, secrets):
    with pytest.raises(ConfigurationError, match="root"):
        Horus("http://localhost", secrets["user"][0], transport=between)
    Horus("http://localhost", "s", verify=False, transport=between).close()


def test_a_client_without_a_key_reads_and_does_not_sign(world, between, secrets):
    reader = Horus(
        "http://localhost",
        secrets["user"][0],
        root=world.root.public,
        transport=between,
    )
    with pytest.raises(ConfigurationError, match="key"):
        reader.submit("print(5)")
    assert reader.list() == []


def test_a_refusal_is_an_error_with_its_code(world, between, secrets):
    stranger = Horus(
        "http://localhost",
        secrets["user"][0],
        key=world.stranger,
        verify=False,
        context="billing",
        caller="alice",
        clock=world.clock,
        transport=between,
    )
    with pytest.raises(RpcError) as caught:
        stranger.submit("print(5)")
    assert (caught.value.code, caught.value.reason) == (-32011, "sig.none")


def test_the_text_of_an_error_does_not_repeat_its_reason(world, horus):
    signed = world.workflow(a=["a"])
    with pytest.raises(RpcError, match=r"^steps wait") as caught:
        horus.call("workflow.submit", manifest=signed.manifest, jobs={})
    assert caught.value.reason == "workflow.cycle"


def test_a_wrong_secret_is_an_error_with_its_code(world, between):
    stranger = Horus("http://localhost", "x" * 30, verify=False, transport=between)
    with pytest.raises(RpcError) as caught:
        stranger.info()
    assert caught.value.code == -32001


def test_nobody_at_the_address_is_said_with_the_remedy():
    horus = Horus("http://127.0.0.1:1", "s", verify=False)
    with pytest.raises(UnavailableError, match="horus up"):
        horus.info()
    horus.close()


@pytest.mark.parametrize("scheme", ["http", "https", "ftp"])
def test_a_password_in_the_address_is_refused_and_never_repeated(scheme):
    url = f"{scheme}://user:hunter2hunter2@127.0.0.1:1"
    with pytest.raises(ConfigurationError, match="leave them out") as caught:
        Horus(url, "s", verify=False)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:3030", "nonsense", "ftp://localhost"])
def test_what_is_no_address_of_a_supervisor_is_not_called_away(url):
    horus = Horus(url, "s", verify=False)
    with pytest.raises(ConfigurationError, match="begins with http:// or https://"):
        horus.info()
    horus.close()


@pytest.mark.parametrize("secret", ["", " ", "s\n", "s\nt", "s\xe4"])
def test_what_cannot_be_a_secret_is_told_before_anybody_is_called(secret):
    with pytest.raises(ConfigurationError, match="the secret for the API") as refusal:
        Horus("http://localhost", secret, verify=False)
    assert "\xe4" not in refusal.value.detail


def test_somebody_else_at_the_address_is_said():
    page = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>"))
    horus = Horus("http://localhost", "s", verify=False, transport=page)
    with pytest.raises(UnavailableError, match="no Horus supervisor"):
        horus.info()
    horus.close()


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_balancer_without_a_supervisor_is_taken_for_no_wrong_address(status):
    page = httpx.MockTransport(lambda _: httpx.Response(status, text="<html>"))
    horus = Horus("http://localhost", "s", verify=False, transport=page)
    with pytest.raises(UnavailableError, match=rf"HTTP status {status}\): ask again"):
        horus.info()
    horus.close()


def test_the_names_of_secrets_are_signed(world, horus):
    with pytest.raises(RpcError, match=r"no grant covers the named secrets") as refused:
        horus.submit("print(5)", secrets=["token"])
    assert refused.value.reason == "auth.secrets"


def test_the_time_of_one_attempt_is_signed(world, horus):
    submitted = horus.submit("print(5)", timeout=timedelta(seconds=7))
    assert submitted.job.timeout == timedelta(seconds=7)


# --- jobs that build on others ---------------------------------------------------


def test_a_known_result_is_named_with_its_own_size(horus, finished):
    outcome = horus.outcome(finished(result="ümlaut"))
    job = horus.submit("", inputs={"A": outcome}, needs=[outcome]).job
    assert job.needs == (outcome.digest,)
    assert (job.inputs["A"].source, job.inputs["A"].max_bytes) == (outcome.digest, 7)


def test_a_job_that_is_not_over_is_named_by_its_digest(horus):
    first = horus.submit("print(5)")
    inputs = {
        "A": first,
        "B": first.digest,
        "C": InputRef.from_wire({"from": first.digest, "max_bytes": 8}),
    }
    job = horus.submit("", inputs=inputs, needs=[first, first.digest]).job
    assert {one.source for one in job.inputs.values()} == {*job.needs} == {first.digest}
    allowed = {name: one.max_bytes for name, one in job.inputs.items()}
    assert allowed == {"A": MAX_INPUT, "B": MAX_INPUT, "C": 8}


def test_nothing_builds_on_what_is_known_not_to_have_completed(horus, finished):
    outcome = horus.outcome(finished(event=Event.FAILED, reason="timeout"))
    for facts in ({"needs": [outcome]}, {"inputs": {"A": outcome}}):
        with pytest.raises(JobNotCompleted, match="timeout"):
            horus.submit("", **facts)


def test_what_is_no_digest_is_not_signed(horus, finished):
    job_id = finished().id
    for facts in ({"needs": [job_id]}, {"inputs": {"A": job_id}}):
        with pytest.raises(MalformedError):
            horus.submit("", **facts)
