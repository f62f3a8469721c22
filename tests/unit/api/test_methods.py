"""The methods as a client sees them, over HTTP."""

import inspect
import json
import re
from datetime import timedelta
from io import BytesIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import RequestLimits
from api.access import Scope
from api.methods import METHODS
from horus_celery.errors import ConfigurationError
from horus_celery.instants import to_ms
from horus_celery.lifecycle import Event
from horus_celery.statements import dsse
from horus_celery.store.base import Stream
from horus_celery.store.memory import MemoryStore

NAMES = [name for one in METHODS for name in (one.name, *one.aliases)]
NAMES_OF_USERS = [
    name
    for one in METHODS
    for name in (one.name, *one.aliases)
    if one.scope is Scope.USER
]
OF_PROTOCOL = [one for one in METHODS if not one.name.startswith("herodb.")]
#: As section 7 has them, with their defaults; of `upstream`, `strategy` and `steps` it
#: knows nothing.
TAKEN = {
    "jobs.create": "job priority=4 not_before=null",
    "create_job": "job priority=4 not_before=null upstream=null",
    "job.run": "job priority=4 not_before=null wait=60",
    "job.result": "job_id wait=60",
    "job.logs": "job_id after=null limit=1000 wait=0",
    **dict.fromkeys(
        ("job.start", "job.status", "job.get", "job.receipt", "job.why"), "job_id"
    ),
    **dict.fromkeys(("job.stop", "job.delete"), "job_id"),
    "jobs.list": (
        "context_id=null caller_id=null executor=null runner=null status=null"
        " workflow_id=null limit=100 after=null"
    ),
    "workflow.submit": "manifest jobs strategy=null",
    "workflow.create": "manifest",
    "workflow.add_jobs": "workflow_id jobs",
    "workflow.start": "workflow_id strategy=null",
    "workflow.result": "workflow_id wait=60",
    "workflow.list": "context_id=null caller_id=null status=null limit=100 after=null",
    "workflow.get": "workflow_id steps=null",
    **dict.fromkeys(("workflow.status", "workflow.explain"), "workflow_id"),
    **dict.fromkeys(("workflow.stop", "workflow.delete"), "workflow_id"),
    "register_runner": "registration",
    **dict.fromkeys(("get_runner_status", "start_runner", "stop_runner"), "name"),
    "remove_runner": "name",
    "get_runner_logs": "name lines=200",
    "add_secret": 'scope contexts=["*"] secret=null',
    "remove_secret": "id",
    "trust.install": "trust",
}
NOBODY = "00000000-0000-0000-0000-000000000000"


class TestTable:
    """The table of protocol section 7, as far as its methods are here."""

    ROW = re.compile(r"^\| (`[^|]+) \| (\w+) \| ([^|]+) \| (.+) \|$", re.MULTILINE)

    def rows(self, text):
        """Return aliases and scope of each name; an alias stands in parentheses."""
        return {
            name: (re.findall(r"`([^`]+)`", aliases), scope)
            for cell, scope, *_ in self.ROW.findall(text)
            for name, aliases in re.findall(r"`([^`]+)`(?: \(([^)]*)\))?", cell)
        }

    @pytest.mark.parametrize("procedure", OF_PROTOCOL, ids=lambda one: one.name)
    def test_names_aliases_and_scopes_are_those_of_the_protocol(
        self, procedure, protocol_text
    ):
        aliases, scope = self.rows(protocol_text)[procedure.name]
        assert (list(procedure.aliases), procedure.scope.value) == (aliases, scope)

    @pytest.mark.parametrize("procedure", OF_PROTOCOL, ids=lambda one: one.name)
    def test_parameters_are_those_of_the_protocol_in_its_order(self, procedure):
        taken = list(inspect.signature(procedure.function).parameters.values())[1:]
        own = [
            one.name
            if one.default is one.empty
            else f"{one.name}={json.dumps(one.default)}"
            for one in taken
        ]
        assert " ".join(own) == TAKEN.get(procedure.name, "")

    def test_every_method_of_the_protocol_is_here(self, protocol_text):
        wanted = self.rows(protocol_text).keys()
        assert wanted == {*(one.name for one in OF_PROTOCOL), "rpc.discover"}

    def test_what_the_protocol_does_not_have_is_for_administrators_of_herodb(self):
        more = [one for one in METHODS if one not in OF_PROTOCOL]
        assert len(more) == 11
        assert {(one.aliases, one.scope) for one in more} == {((), Scope.ADMIN)}

    def test_no_name_is_there_twice(self):
        assert len(NAMES) == len(set(NAMES))

    @pytest.mark.parametrize(
        ("alias", "name"),
        [(alias, one.name) for one in METHODS for alias in one.aliases],
    )
    def test_an_alias_is_the_same_method(self, alias, name):
        first, second = (
            next(one for one in METHODS if word in (one.name, *one.aliases))
            for word in (alias, name)
        )
        assert first is second


class TestJobs:
    def test_create_and_start(self, world, client):
        job_id = client.call("jobs.create", job=world.envelope())
        assert client.call("job.status", job_id=job_id)["status"] == "created"
        started = client.call("job.start", job_id=job_id)
        assert started == {
            "job_id": job_id,
            "status": "queued",
            "reason": None,
            "created_at": to_ms(world.clock.at),
            "queued_at": to_ms(world.clock.at),
            "started_at": None,
            "ended_at": None,
        }
        world.clock.at += timedelta(seconds=1)
        assert client.error("job.start", job_id=job_id)["code"] == -32009

    def test_positional_parameters(self, world, client):
        call = {
            "jsonrpc": "2.0",
            "method": "create_job",
            "params": [world.envelope(), 9],
            "id": 1,
        }
        job_id = client.post(call)["result"]
        assert world.dispatcher.bells == [(job_id, "python", 9)]

    def test_the_same_envelope_again_is_the_same_id(self, world, client):
        envelope = world.envelope()
        ids = {client.call("create_job", job=envelope) for _ in range(3)}
        assert len(ids) == 1

    def test_the_same_id_with_other_bytes_is_a_conflict(self, world, client):
        job_id = client.call("create_job", job=world.envelope())
        other = world.envelope(job_id=job_id, payload="print(2)")
        error = client.error("create_job", job=other)
        assert (error["code"], error["data"]["reason"]) == (-32009, "id_taken")

    def test_a_job_for_later(self, world, client):
        later = to_ms(world.clock.at + timedelta(hours=1))
        client.call("create_job", job=world.envelope(), not_before=later)
        assert world.dispatcher.bells == []

    def test_a_result(self, world, client):
        record = world.submit()
        assert client.error("job.result", job_id=record.summary.id, wait=0) == {
            "code": -32021,
            "message": "Not over in time",
            "data": {
                "reason": "not_over",
                "detail": f"job {record.summary.id} is queued still",
                "retryable": True,
            },
        }
        world.settle(world.claim(record), result="41")
        answer = client.call("job.result", job_id=record.summary.id)
        assert answer == {"success": "41"}

    def test_a_job_that_is_over_gives_its_result_to_run_as_well(self, world, client):
        envelope = world.envelope()
        job_id = client.call("create_job", job=envelope)
        record = world.claim(world.store.named(job_id)[0])
        world.settle(record, result="41")
        assert client.call("run_job", job=envelope) == {"success": "41"}

    @pytest.mark.parametrize(
        ("event", "reason", "exit_code", "said"),
        [
            (Event.FAILED, "exit_code", 3, "failed: exit_code 3\nTraceback\nboom"),
            (Event.FAILED, "timeout", None, "failed: timeout\nTraceback\nboom"),
        ],
    )
    def test_a_failure_says_why_and_shows_the_error_output(
        self, world, client, event, reason, exit_code, said
    ):
        record = world.claim(world.submit())
        world.print(record, "Traceback", "boom", stream=Stream.STDERR)
        world.settle(record, event=event, reason=reason, exit_code=exit_code)
        answer = client.call("job.result", job_id=record.summary.id)
        assert answer == {"error": said}

    def test_a_refusal_names_its_code(self, world, client):
        record = world.submit()
        world.settle(
            record,
            event=Event.REFUSED,
            reason="auth.key",
            exit_code=None,
            signed={"attempt": 0},
        )
        answer = client.call("job.result", job_id=record.summary.id)
        assert answer == {"error": "rejected: auth.key"}

    def test_a_record_shows_the_job_and_what_became_of_it(self, world, client):
        record = world.claim(
            world.submit(args=["a"], env_vars={"B": "c"}, timeout=timedelta(seconds=9))
        )
        world.settle(record, result="41")
        shown = client.call("job.get", job_id=record.summary.digest)
        receipt = shown.pop("receipt")
        at = to_ms(world.clock.at)
        assert shown == {
            "id": record.summary.id,
            "digest": record.summary.digest,
            "caller_id": "alice",
            "context_id": "billing",
            "executor": "python",
            "runner": None,
            "payload": "print(1)",
            "args": ["a"],
            "env_vars": {"B": "c"},
            "timeout": 9,
            "status": "completed",
            "reason": None,
            "created_at": at,
            "queued_at": at,
            "started_at": at,
            "ended_at": at,
            "attempt": 1,
            "ran_on": "r1",
            "exit_code": 0,
            "result": "41",
            "signed_by": [world.caller.keyid],
            "workflow": None,
        }
        assert receipt == client.call("job.receipt", job_id=record.summary.id)
        assert dsse.signers(
            dsse.from_wire(receipt, dsse.RECEIPT),
            {world.runner.keyid: world.runner.public},
        )

    def test_lines_of_output(self, world, client):
        record = world.claim(world.submit())
        world.print(record, "hello")
        page = client.call("job.logs", job_id=record.summary.id)
        (line,) = page["lines"]
        assert line == {
            "cursor": page["next"],
            "at": to_ms(world.clock.at),
            "stream": "stdout",
            "text": "hello",
        }
        assert page["ended"] is False

    def test_a_wrong_cursor_is_a_wrong_parameter(self, world, client):
        record = world.submit()
        error = client.error("job.logs", job_id=record.summary.id, after="x")
        assert error["code"] == -32602

    def test_why(self, world, client):
        record = world.submit()
        shown = client.call("job.why", job_id=record.summary.id)
        assert shown == {
            "status": "queued",
            "gate": "runner",
            "since": to_ms(world.clock.at),
            "detail": "no live runner: it waits for any runner of python, never seen",
        }

    def test_stop_and_delete(self, world, client):
        job_id = world.submit().summary.id
        stopped = client.call("job.stop", job_id=job_id)
        assert stopped["status"] == "stopped"
        assert client.call("stop_job", job_id=job_id) == stopped
        assert client.call("job.delete", job_id=job_id) is True
        assert client.error("job.delete", job_id=job_id)["code"] == -32004

    def test_lists_are_filtered_and_paged(self, world, client):
        ids = []
        for context in ("billing", "lab", "billing"):
            ids.append(world.submit(context_id=context).summary.id)
            world.clock.at += timedelta(milliseconds=5)
        client.call("job.stop", job_id=ids[0])
        listed = client.call("jobs.list", context_id="billing")
        assert [one["id"] for one in listed] == [ids[2], ids[0]]
        listed = client.call("jobs.list", status="stopped")
        assert [one["id"] for one in listed] == [ids[0]]
        listed = client.call("jobs.list", limit=1, after=ids[2])
        assert [one["id"] for one in listed] == [ids[1]]
        assert client.error("jobs.list", after=NOBODY)["code"] == -32004

    def test_a_page_of_long_jobs_is_short_and_an_empty_one_is_the_end(
        self, world, client
    ):
        # In base64 each envelope is a good mebibyte.
        payload = "x" * (800 * 1024)
        ids = [world.submit(payload=payload).summary.id for _ in range(10)]
        pages, after = [], None
        while page := client.call("jobs.list", limit=1000, after=after):
            pages.append([job["id"] for job in page])
            after = page[-1]["id"]
        assert [len(page) for page in pages] == [8, 2]
        assert [job for page in pages for job in page] == ids[::-1]

    @pytest.mark.parametrize(
        "method",
        [
            "job.start",
            "job.status",
            "job.result",
            "job.get",
            "job.logs",
            "job.receipt",
            "job.why",
            "job.stop",
            "job.delete",
        ],
    )
    @pytest.mark.parametrize("job_id", [NOBODY, "0" * 64, "nobody", ""])
    def test_what_nobody_has_is_not_found_in_one_form(self, client, method, job_id):
        error = client.error(method, job_id=job_id)
        assert error["code"] == -32004
        assert error["data"]["reason"] == "not_found"
        assert error["data"]["retryable"] is False


class TestRefusals:
    @pytest.mark.parametrize("method", ["jobs.create", "create_job", "job.run"])
    @pytest.mark.parametrize(
        ("changes", "code", "reason"),
        [
            ({"aud": "elsewhere"}, -32012, "bind.aud"),
            ({"context_id": "nobody"}, -32012, "auth.context"),
            ({"timeout": timedelta(hours=2)}, -32012, "auth.timeout"),
        ],
    )
    def test_a_refusal_names_its_reason(
        self, world, client, method, changes, code, reason
    ):
        error = client.error(method, job=world.envelope(**changes))
        assert (error["code"], error["data"]["reason"]) == (code, reason)
        assert error["data"]["retryable"] is False

    @pytest.mark.parametrize(
        ("job", "reason"),
        [
            (None, "env.fields"),
            ("text", "env.fields"),
            ([], "env.fields"),
            ({}, "env.fields"),
            ({"payloadType": "x", "payload": "", "signatures": []}, "env.type"),
        ],
    )
    def test_what_is_no_envelope_is_a_malformed_job(self, client, job, reason):
        error = client.error("create_job", job=job)
        assert (error["code"], error["data"]["reason"]) == (-32010, reason)

    def test_signatures_and_times_have_codes_of_their_own(self, world, client):
        stranger = world.envelope(key=world.stranger)
        assert client.error("create_job", job=stranger)["code"] == -32011
        late = world.envelope(now=world.clock.at - timedelta(days=2))
        assert client.error("create_job", job=late)["code"] == -32013

    def test_a_job_over_the_size_of_a_statement_is_malformed(self, world, client):
        envelope = world.envelope()
        envelope["payload"] = "A" * (1024 * 1024 * 4 // 3 + 8)
        error = client.error("create_job", job=envelope)
        assert (error["code"], error["data"]["reason"]) == (-32010, "env.size")


class TestParameters:
    @pytest.mark.parametrize(
        ("method", "params"),
        [
            ("job.result", {"job_id": NOBODY, "wait": -1}),
            ("job.result", {"job_id": NOBODY, "wait": 301}),
            ("job.result", {"job_id": NOBODY, "wait": 10**400 // 10**100}),
            ("job.result", {"job_id": NOBODY, "wait": "1"}),
            ("job.result", {"job_id": NOBODY, "wait": True}),
            ("job.result", {"job_id": 5}),
            ("job.result", {"job_id": "x" * 65}),
            ("job.result", {}),
            ("job.logs", {"job_id": NOBODY, "limit": 0}),
            ("job.logs", {"job_id": NOBODY, "limit": 10**9}),
            ("jobs.list", {"limit": 1001}),
            ("jobs.list", {"limit": 0}),
            ("jobs.list", {"status": "finished"}),
            ("jobs.list", {"context": "billing"}),
            ("create_job", {"job": {}, "priority": 10}),
            ("create_job", {"job": {}, "priority": -1}),
            ("create_job", {"job": {}, "priority": 1.0}),
            ("create_job", {"job": {}, "not_before": -1}),
            ("create_job", {"job": {}, "not_before": 10**18}),
            ("trust.get", {"version": 1}),
        ],
    )
    def test_a_wrong_parameter_is_named(self, client, method, params):
        error = client.error(method, **params)
        assert error["code"] == -32602
        assert ": " in error["data"]["detail"]
        assert "Input" not in error["data"]["detail"]


class TestDeployment:
    def test_the_trust_bundle_is_as_the_root_signed_it(self, world, client):
        envelope = dsse.from_wire(client.call("trust.get"), dsse.TRUST)
        assert dsse.signers(envelope, {world.root.keyid: world.root.public})

    def test_it_tells_how_it_is(self, world, client):
        world.beat()
        world.submit()
        info = client.call("get_supervisor_info")
        assert info["namespace"] == "hero"
        assert info["counts"]["queued"] == 1
        assert info["queues"] == {"python": 1, "python.at.r1": 0}
        (runner,) = info["runners"]
        assert (runner["name"], runner["status"]) == ("r1", "running")

    def test_a_broken_trust_file_is_unavailable_with_its_remedy(self, world, client):
        world.trust.error = ConfigurationError("the bundle is gone: horus init")
        error = client.error("trust.get")
        assert error["code"] == -32020
        assert "horus init" in error["data"]["detail"]


class TestStoreAway:
    def params(self, world, name):
        if name in {"job.run", "run_job"}:
            return {"job": world.envelope(), "wait": 0}
        if name in {"workflow.submit", "submit_workflow"}:
            signed = world.workflow(a=[])
            return {"manifest": signed.manifest, "jobs": signed.jobs}
        if name == "workflow.create":
            return {"manifest": world.workflow(a=[]).manifest}
        if name == "workflow.add_jobs":
            return {"workflow_id": NOBODY, "jobs": {}}
        if "create" in name:
            return {"job": world.envelope()}
        if name == "workflow.list":
            return {}
        if "workflow" in name:
            return {"workflow_id": NOBODY}
        if name in {"jobs.list", "list_jobs", "get_supervisor_info", "list_runners"}:
            return {}
        if name == "get_runner_status":
            return {"name": "r1"}
        return {"job_id": NOBODY}

    @pytest.mark.parametrize("name", sorted({*NAMES_OF_USERS} - {"trust.get"}))
    def test_every_method_says_so(self, world, client, name):
        world.beat()
        params = self.params(world, name)
        world.store.is_away = world.workflows.is_away = True
        error = client.error(name, **params)
        assert error["code"] == -32020
        assert error["data"]["retryable"] is True
        world.store.is_away = world.workflows.is_away = False
        assert client.answer(name, **params).get("error", {}).get("code") != -32020

    def test_what_needs_no_store_goes_on(self, world, client):
        world.store.is_away = True
        assert client.call("rpc.discover")
        assert client.call("trust.get")
        assert client.http.get("/healthz").status_code == 200

    def test_a_batch_asks_the_silent_store_once(self, make_world, make_client):
        asked = []

        class Silent(MemoryStore):
            def named(self, job_id, *, contexts=None):
                asked.append(job_id)
                return super().named(job_id, contexts=contexts)

        world = make_world(store=Silent)
        world.store.is_away = True
        call = {"jsonrpc": "2.0", "method": "job.status", "params": [NOBODY], "id": 1}
        answers = make_client(world).post([call] * 50)
        assert {one["error"]["code"] for one in answers} == {-32020}
        assert len(asked) == 1


class TestSizes:
    def test_a_request_over_the_limit_is_refused_unread(self, world, make_client):
        client = make_client(world, limits=RequestLimits(max_request_bytes=1000))
        answer = client.answer("job.status", job_id="x" * 1000)
        assert answer["error"]["code"] == -32023
        assert "1000" in answer["error"]["data"]["detail"]

    def test_whoever_sends_too_much_is_told_what_raises_the_limit(
        self, world, make_client
    ):
        client = make_client(world, limits=RequestLimits(max_request_bytes=100_000))
        error = client.error("workflow.create", manifest="x" * 100_000)
        assert error["code"] == -32023
        assert "max_request_bytes" in error["data"]["detail"]

    def test_a_chunked_request_is_read_up_to_the_limit_only(self, world, make_client):
        client = make_client(world, limits=RequestLimits(max_request_bytes=1000))
        stream = BytesIO(b" " * 100_000)
        response = client.http.post(
            "/",
            input_stream=stream,
            content_type="application/json",
            headers={"Transfer-Encoding": "chunked"},
            environ_overrides={"wsgi.input_terminated": True},
        )
        assert response.get_json()["error"]["code"] == -32023
        assert stream.tell() <= 1001

    @pytest.mark.parametrize("is_chunked", [True, False])
    def test_a_request_at_the_limit_is_served(self, world, make_client, is_chunked):
        call = json.dumps({"jsonrpc": "2.0", "method": "rpc.discover", "id": 1})
        options = {
            "headers": {"Transfer-Encoding": "chunked"},
            "environ_overrides": {"wsgi.input_terminated": True},
        }
        for room, is_served in ((0, True), (-1, False)):
            limits = RequestLimits(max_request_bytes=len(call) + room)
            response = make_client(world, limits=limits).http.post(
                "/",
                input_stream=BytesIO(call.encode()),
                content_type="application/json",
                **(options if is_chunked else {}),
            )
            assert ("result" in response.get_json()) is is_served

    def test_a_batch_has_its_own_limit(self, world, make_client):
        client = make_client(world, limits=RequestLimits(max_batch=2))
        call = {"jsonrpc": "2.0", "method": "rpc.discover", "id": 1}
        assert len(client.post([call] * 2)) == 2
        assert client.post([call] * 3)["error"]["code"] == -32600


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=10,
)
PARAMETERS = st.sampled_from(
    ["job", "job_id", "priority", "not_before", "limit", "after", "status"]
)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    method=st.sampled_from(NAMES),
    params=st.dictionaries(PARAMETERS, JSON, max_size=4) | st.lists(JSON, max_size=4),
    call_id=JSON,
)
def test_no_input_whatever_is_a_fault_of_ours(client, method, params, call_id):
    if isinstance(params, dict) and ("result" in method or "run" in method):
        params["wait"] = 0
    call = {"jsonrpc": "2.0", "method": method, "params": params, "id": call_id}
    answer = client.post(call)
    assert answer.get("error", {}).get("code") != -32603
    assert_ids_are_kept(call_id, answer)


def assert_ids_are_kept(call_id, answer):
    assert answer["id"] in (call_id, None)
