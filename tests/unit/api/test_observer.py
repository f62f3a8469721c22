"""What an observer is told of every call that is answered."""

import pytest


@pytest.fixture
def called():
    return []


@pytest.fixture
def client(world, make_client, called):
    return make_client(world, observe=called.append)


def test_a_call_is_told_by_its_main_name_and_its_job(world, client, called):
    record = world.submit()
    client.call("get_job_status", job_id=record.summary.digest)
    (one,) = called
    assert (one.method, one.code, one.reason) == ("job.status", None, None)
    assert (one.job_id, one.context_id) == (record.summary.id, "billing")
    assert one.secret_id.startswith("sec_")
    assert 0 < one.seconds < 10


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("job.start", {}),
        ("job.get", {}),
        ("job.stop", {}),
        ("job.status", {}),
        ("job.result", {"wait": 0}),
    ],
)
def test_what_a_method_finds_is_told(world, client, called, method, params):
    record = world.supervisor.create(world.envelope(), priority=4, not_before=None)
    if method == "job.result":
        world.supervisor.stop(record.summary.id)
    client.call(method, job_id=record.summary.id, **params)
    assert (called[0].job_id, called[0].context_id) == (record.summary.id, "billing")


def test_a_new_job_is_told(world, client, called):
    for method in ("jobs.create", "create_job"):
        job_id = client.call(method, job=world.envelope(context_id="lab"))
        assert (called[-1].job_id, called[-1].context_id) == (job_id, "lab")


def test_a_refusal_is_told_with_code_and_reason(world, client, called):
    client.error("job.start", job_id="nobody")
    client.error("create_job", job={})
    client.error("jobs.list", secret=None)
    client.error("jobs.list", limit=0)
    client.error("nobody", job_id="x")
    told = [(one.method, one.code, one.reason, one.job_id) for one in called]
    assert told == [
        ("job.start", -32004, "not_found", "nobody"),
        ("create_job", -32010, "env.fields", None),
        ("jobs.list", -32001, "unauthenticated", None),
        ("jobs.list", -32602, "invalid_params", None),
        ("", -32601, "method_not_found", None),
    ]
    assert [one.secret_id is None for one in called] == [
        False,
        False,
        True,
        False,
        False,
    ]


def test_each_call_of_a_batch_and_each_notification_is_told(world, client, called):
    call = {"jsonrpc": "2.0", "method": "jobs.list"}
    client.post([call, {**call, "id": 1}, 5])
    assert [one.method for one in called] == ["jobs.list", "jobs.list", ""]
    assert [one.code for one in called] == [None, None, -32600]


def test_what_is_no_call_is_told_without_a_method(client, called):
    client.http.post("/", data="{", content_type="application/json")
    client.http.post("/", data="{}", content_type="text/plain")
    client.post([])
    assert [(one.method, one.code) for one in called] == [
        ("", -32700),
        ("", -32600),
        ("", -32600),
    ]


def test_a_fault_of_ours_is_told(world, client, called, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("secret payload")

    monkeypatch.setattr(world.store, "counts", broken)
    assert client.error("get_supervisor_info")["code"] == -32603
    assert (called[0].method, called[0].code) == ("get_supervisor_info", -32603)
    assert "payload" not in repr(called)
