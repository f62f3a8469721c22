"""Whatever is sent to the API is answered as JSON-RPC says, and never by a fault.

`fuzz` makes requests from the document of `rpc.discover`, breaks most of them, and
judges every answer; `bench/` calls it with larger numbers.
"""

from __future__ import annotations

import base64
import json
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import hypothesis
import jsonschema
import pytest
import structlog
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from api import RequestLimits, create_app
from api.session import HeroDb, Services
from horus_celery.api_secrets.book import SecretBook
from horus_celery.api_secrets.seal import Seal
from horus_celery.api_secrets.secret import Given
from horus_celery.api_secrets.shelf import MemoryShelf, RedisShelf, SecretShelf
from horus_celery.clock import SystemClock
from horus_celery.coordinator import Coordinator
from horus_celery.crew import runners_of
from horus_celery.dispatch import MemoryDispatcher
from horus_celery.errors import MalformedError
from horus_celery.fleet import Fleet, ManagedStatus, Planned
from horus_celery.herodb.estate import Estate, MemoryEstate, RedisEstate
from horus_celery.herodb.keyring import Keyring
from horus_celery.herodb.layout import Layout
from horus_celery.herodb.steward import Steward
from horus_celery.instants import to_ms
from horus_celery.journal import Journal
from horus_celery.lifecycle import Event
from horus_celery.record import Change
from horus_celery.registry import (
    MemoryRegistry,
    Phase,
    RedisRegistry,
    Registry,
    RunnerBeat,
    write_beat,
)
from horus_celery.statedir import StateDirectory
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import make_job
from horus_celery.statements.keys import KeyPair, read_key_file
from horus_celery.statements.manifest import make_manifest, make_step
from horus_celery.store.base import Chunk, LogStore, RecordStore, Stream, Wakes
from horus_celery.store.connection import connect, connect_blocking
from horus_celery.store.keys import Keys
from horus_celery.store.memory import MemoryLogs, MemoryStore, MemoryWakes
from horus_celery.store.memory_workflows import MemoryWorkflows
from horus_celery.store.redis import RedisStore
from horus_celery.store.redis_logs import RedisLogs
from horus_celery.store.redis_wakes import RedisWakes
from horus_celery.store.redis_workflows import RedisWorkflows
from horus_celery.store.workflows import WorkflowStore
from horus_celery.supervisor import Limits, Supervisor
from horus_celery.trustfile import TrustFile
from horus_celery.trustpost import (
    MemoryNoticeboard,
    Noticeboard,
    RedisNoticeboard,
    TrustPost,
)
from horus_celery.workflows.conductor import Conductor
from horus_celery.workflows.doorbell import MemoryDoorbell
from horus_celery.workflows.supervisors import HomeSupervisor
from tests.signing import Signed, sign_workflow

with warnings.catch_warnings():
    # It asks jsonschema for a class that is on its way out.
    warnings.simplefilter("ignore", DeprecationWarning)
    from hypothesis_jsonschema import from_schema

#: Enough to reach every method and most of the codes, in seconds.
REQUESTS: Final = 1500
JOBS: Final = 60
SPARE: Final = 20
RUNNER: Final = "python_runner_1"
NAMESPACE: Final = "hero"
#: Faults that are repeated in full.
_SHOWN: Final = 20
#: Codes of what is no call of a method that exists.
_NO_CALL: Final = frozenset({-32700, -32600, -32601})
_KEYS_OF_ERRORS: Final = {"code", "message", "data"}
_KEYS_OF_DATA: Final = {"reason", "detail", "retryable"}


# --- what is sent to --------------------------------------------------------------


class Runners:
    """The process manager of a deployment whose runners are no processes."""

    def __init__(self) -> None:
        self._status: ManagedStatus = "running"

    def names(self) -> tuple[str, ...]:
        return (RUNNER,)

    def plan(self, name: str) -> Planned:
        return Planned(executor="python", contexts=("*",), concurrency=1)

    def kind(self, name: str) -> str:
        return "simple"

    def start(self, name: str) -> None:
        self._status = "running"

    def stop(self, name: str) -> None:
        self._status = "stopped"

    def status(self, name: str) -> ManagedStatus:
        return self._status

    def logs(self, name: str, *, lines: int) -> tuple[str, ...]:
        return ("ready", "\x1b[31mdone")[-lines:]


@dataclass(frozen=True, kw_only=True)
class Stores:
    """Where a deployment keeps everything, all of it in one kind of place."""

    wakes: Wakes
    logs: LogStore
    store: RecordStore
    workflows: WorkflowStore
    registry: Registry
    shelf: SecretShelf
    users: SecretShelf
    board: Noticeboard
    estate: Estate


@contextmanager
def in_memory() -> Iterator[Stores]:
    wakes = MemoryWakes()
    logs = MemoryLogs(wakes)
    yield Stores(
        wakes=wakes,
        logs=logs,
        store=MemoryStore(wakes=wakes, logs=logs),
        workflows=MemoryWorkflows(wakes),
        registry=MemoryRegistry(),
        shelf=MemoryShelf(),
        users=MemoryShelf(),
        board=MemoryNoticeboard(),
        estate=MemoryEstate(),
    )


@contextmanager
def in_redis(url: str) -> Iterator[Stores]:
    layout = Layout(namespace=NAMESPACE)
    with connect(url) as client, connect_blocking(url) as listening:
        wakes = RedisWakes(listening, NAMESPACE)
        yield Stores(
            wakes=wakes,
            logs=RedisLogs(client, NAMESPACE),
            store=RedisStore(client, NAMESPACE),
            workflows=RedisWorkflows(client, NAMESPACE),
            registry=RedisRegistry(client, NAMESPACE),
            shelf=RedisShelf(client, Keys.of(NAMESPACE).secrets),
            users=RedisShelf(client, layout.contexts),
            board=RedisNoticeboard(client, NAMESPACE),
            estate=RedisEstate(client, layout),
        )
        wakes.close()


class Deployment:
    """The API of a deployment with some jobs behind it."""

    def __init__(self, folder: Path, stores: Stores) -> None:
        self.clock = SystemClock()
        self.state = StateDirectory(folder / "state")
        self.state.initialise(
            namespace="hero", runners=runners_of(["python"]), now=self.clock.now()
        )
        self.key = read_key_file(self.state.key_file("default"))
        self.root = read_key_file(self.state.root_key)
        self.runner = read_key_file(self.state.runner_key_file(RUNNER))
        self.secrets = {
            scope: self.state.secret(scope) for scope in ("admin", "user", "register")
        }
        self.bundle = self.state.trust_body()
        self.bound = "a-secret-for-another-context-0123456789"
        self._stores = stores
        self.wakes, self.logs = stores.wakes, stores.logs
        self.store, self.registry = stores.store, stores.registry
        self.trust = TrustFile(
            self.state.trust_file,
            self.state.root_pub,
            Journal(self.state.journal),
            self.state,
        )
        self.supervisor = self._supervisor()
        self.services = self._services()
        #: Envelopes of jobs that are over.
        self.over: list[dict[str, Any]] = []
        self.jobs = [self._job(number) for number in range(JOBS)]
        self.signed = self._workflow()
        self.workflows = [self.signed.id, self.signed.digest, self._workflow().id]
        self.beat()
        self.spare = [self._spare_secret() for _ in range(SPARE)]
        limits = RequestLimits(max_request_bytes=64 * 1024, rate_limit=10**9)
        self.app = create_app(self.services, limits)
        self.http = self.app.test_client()

    def _supervisor(self) -> Supervisor:
        return Supervisor(
            store=self.store,
            logs=self.logs,
            wakes=self.wakes,
            dispatcher=MemoryDispatcher(self.clock),
            registry=self.registry,
            trust=self.trust,
            journal=Journal(":memory:"),
            clock=self.clock,
            namespace="hero",
            # Nobody may wait: every request is answered at once.
            limits=Limits(max_waiters=0),
        )

    def _coordinator(self) -> Coordinator:
        store, doorbell = self._stores.workflows, MemoryDoorbell()
        home = self.supervisor
        conductor = Conductor(
            store=store,
            supervisor=HomeSupervisor(home),
            doorbell=doorbell,
            clock=self.clock,
        )
        return Coordinator(
            store=store,
            home=home,
            conductor=conductor,
            doorbell=doorbell,
            wakes=self.wakes,
            clock=self.clock,
        )

    def _services(self) -> Services:
        given = [
            Given(scope=scope, secret=secret, place=scope)
            for scope, secret in self.secrets.items()
        ]
        bound = Given(
            scope="user", secret=self.bound, contexts=("elsewhere",), place="user"
        )
        return Services(
            supervisor=self.supervisor,
            coordinator=self._coordinator(),
            fleet=Fleet(
                registry=self.registry,
                trust=self.trust,
                store=self.store,
                clock=self.clock,
                namespace="hero",
                managers=Runners(),
            ),
            secrets=SecretBook(
                [*given, bound], self._stores.shelf, Seal(self.state.seal(), "hero")
            ),
            trust=TrustPost(self.trust, self._stores.board, aud="hero"),
            herodb=HeroDb(
                steward=Steward(
                    self._stores.estate,
                    self._stores.users,
                    Layout(namespace="hero"),
                    master=self.state.herodb_master(),
                    database=0,
                    clock=self.clock,
                ),
                keyring=Keyring(self.state.herodb_keys),
                address="redis://localhost:6379/0",
            ),
        )

    def _spare_secret(self) -> str:
        """Add a secret that may be removed, and return its id."""
        added, _ = self.services.secrets.add(scope="user", contexts=["*"], secret=None)
        return added.id

    def beat(self) -> None:
        """Be a runner that is there."""
        beat = RunnerBeat(
            name=RUNNER,
            executors=("python",),
            contexts=("*",),
            concurrency=1,
            phase=Phase.RUNNING,
            at=self.clock.now(),
            host="here",
            pid=1,
        )
        text = write_beat(beat, aud="hero", key=self.runner)
        self.registry.keep(RUNNER, text)

    def body(self, kind: str, *, is_new: bool = True) -> dict[str, Any]:
        """Return the body of a statement of this kind that would be accepted.

        A trust bundle that is not new would not be.
        """
        now = self.clock.now()
        if kind == dsse.TRUST:
            version = self.trust.current().version + is_new
            return {**self.bundle, "version": version, "issued_at": to_ms(now)}
        if kind == dsse.WORKFLOW:
            manifest = make_manifest(
                aud="hero",
                caller_id="default",
                context_id="default",
                name="w",
                steps=[make_step("a"), make_step("b", depends_on=["a"])],
                now=now,
            )
            return manifest.to_wire()
        if kind == dsse.RUNNER:
            nonce = base64.b64encode(now.isoformat().encode()).decode()
            facts = {"name": RUNNER, "executor": "python", "contexts": ["*"]}
            said = {"concurrency": 1, "nonce": nonce, "at": to_ms(now)}
            return {"v": 1, "aud": "hero", **facts, **said}
        job = make_job(
            aud="hero",
            caller_id="default",
            context_id="default",
            executor="python",
            payload="print(1)",
            now=now,
        )
        return job.to_wire()

    def signer(self, kind: str) -> KeyPair:
        return {dsse.TRUST: self.root, dsse.RUNNER: self.runner}.get(kind, self.key)

    def _workflow(self) -> Signed:
        """Have a workflow that runs."""
        usual = {"aud": "hero", "caller_id": "default", "context_id": "default"}
        signed = sign_workflow(
            {"a": [], "b": ["a"]},
            key=self.key,
            now=self.clock.now(),
            manifest=usual,
            job={**usual, "executor": "python"},
        )
        self.services.coordinator.submit(signed.manifest, signed.jobs)
        return signed

    def _job(self, number: int) -> tuple[str, str]:
        """Have a job that has come as far as its number says; return id and digest."""
        envelope = dsse.sign(
            dsse.JOB, canonical.encode(self.body(dsse.JOB)), [self.key]
        )
        add = self.supervisor.create
        if number % 5:
            add = self.supervisor.create_and_queue
        record = add(dsse.to_wire(envelope), priority=number % 10, not_before=None)
        digest, at = envelope.digest, self.clock.now()
        if number % 5 > 2:
            self.over.append(dsse.to_wire(envelope))
        if number % 5 > 1:
            claimed = Change(event=Event.CLAIMED, at=at, attempt=1, ran_on=RUNNER)
            self.store.apply(digest, claimed)
            line = f"line {number}\n".encode()
            self.logs.append(digest, [Chunk(at=at, stream=Stream.STDOUT, data=line)])
        if number % 5 > 2:
            event = Event.COMPLETED if number % 2 else Event.FAILED
            reason = None if number % 2 else "exit_code"
            ended = Change(event=event, at=at, reason=reason, result="1", receipt="{}")
            self.store.apply(digest, ended)
        return record.summary.id, digest


# --- what is sent -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it goes over the wire."""

    raw: bytes
    headers: dict[str, str]
    verb: str = "POST"
    #: What the front server would say of the body's length, if that is not so.
    length: str | None = None


_ODD: Final[st.SearchStrategy[Any]] = st.sampled_from(
    [
        *(-1, 2**31, 2**53, 2**63, 2**64, 10**300, -(10**30), 1e308, 5e-324, -0.0),
        *(float("nan"), float("inf"), "", "\0", "\ud800", "\x1b[31m", "0" * 5000),
        *("null", "../../etc/passwd", "{{7*7}}", "%s%n", "\u202e", "é" * 200),
        *([], {}, [[]], {"": None}, True, False, None, "*", "-", "1-0", "9" * 20),
    ]
)
_JUNK: Final = st.recursive(
    _ODD | st.text(max_size=20) | st.integers() | st.floats() | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


class Requests:
    """Makes requests that a deployment should take, and breaks them."""

    def __init__(self, deployment: Deployment, document: dict[str, Any]) -> None:
        self._deployment = deployment
        self._document = document
        self._schemas = {
            method["name"]: {
                one["name"]: (one["required"], self._values(one))
                for one in method["params"]
            }
            for method in document["methods"]
        }
        strange = ["", "rpc.describe", "workflow.run", "__class__", "system.list"]
        self._names = st.sampled_from([*sorted(self._schemas), *strange])

    def strategy(self) -> st.SearchStrategy[Request]:
        return st.composite(self._request)()

    def _values(self, parameter: dict[str, Any]) -> st.SearchStrategy[Any]:
        """Return values of a parameter: by its schema, and such as there really are."""
        schema = {"components": self._document["components"], **parameter["schema"]}
        values = _values_of(schema)
        jobs = [one for job in self._deployment.jobs for one in job]
        workflows = self._deployment.workflows
        real = {
            "workflow_id": st.sampled_from(workflows),
            "manifest": self._statements(dsse.WORKFLOW)
            | st.just(self._deployment.signed.manifest),
            "jobs": st.just(self._deployment.signed.jobs),
            "job_id": st.sampled_from(jobs),
            "after": st.sampled_from([*jobs, *workflows, "1-0", "1-0+"]),
            "name": st.sampled_from([RUNNER, "nobody"]),
            "id": st.sampled_from(self._deployment.spare),
            "context_id": st.sampled_from(["default", "elsewhere"]),
            "job": self._statements(dsse.JOB) | st.sampled_from(self._deployment.over),
            "registration": self._statements(dsse.RUNNER),
            "trust": self._statements(dsse.TRUST),
        }.get(parameter["name"])
        return values if real is None else st.one_of(real, real, values)

    def _statements(self, kind: str) -> st.SearchStrategy[Any]:
        """Return envelopes whose signatures count, and whose bodies hardly do."""

        @st.composite
        def make(draw: st.DrawFn) -> Any:
            how = draw(st.sampled_from(["right", "nearly", "broken"]))
            # With a bundle that lacks something all that follows would be refused.
            body = self._deployment.body(kind, is_new=how == "right")
            if how == "nearly":
                body |= draw(_NEARLY)
            elif how == "broken":
                body = _mutated(draw, body)
            try:
                raw = canonical.encode(body)
            except MalformedError:
                raw = json.dumps(body).encode()
            signed = dsse.sign(kind, raw, [self._deployment.signer(kind)])
            return dsse.to_wire(signed)

        return make()

    def _request(self, draw: st.DrawFn) -> Request:
        calls = draw(st.sampled_from([None] * 24 + [0, 1, 2, 3, 4, 5, 100, 101]))
        body: Any
        if calls is None:
            body = self._call(draw)
        elif calls < 100:
            body = [self._call(draw) for _ in range(calls)]
        else:
            body = [self._call(draw)] * calls
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
            body = _mutated(draw, body)
        raw = _text(body)
        if draw(st.sampled_from(range(8))) == 7:
            raw = _broken(draw, raw)
        headers, verb, length = self._framing(draw, body)
        return Request(raw=raw, headers=headers, verb=verb, length=length)

    def _call(self, draw: st.DrawFn) -> dict[str, Any]:
        name = draw(self._names)
        given = {
            parameter: draw(values)
            for parameter, (is_required, values) in self._schemas.get(name, {}).items()
            if is_required or draw(st.booleans())
        }
        params: Any = given
        if draw(st.sampled_from(range(4))) == 3:
            params = list(given.values())
        call: dict[str, Any] = {"jsonrpc": "2.0", "method": name, "params": params}
        if draw(st.sampled_from(range(10))) < 9:
            call["id"] = draw(st.integers(0, 99) | st.text(max_size=4) | st.none())
        return call

    def _framing(
        self, draw: st.DrawFn, body: object
    ) -> tuple[dict[str, str], str, str | None]:
        known = self._deployment
        usual = [known.secrets["admin"], known.secrets["user"]] * 4
        if isinstance(body, dict) and body.get("method") == "register_runner":
            usual = [known.secrets["register"]] * 8
        others = [known.bound, known.secrets["register"], "wrong", ""]
        secret = draw(st.sampled_from([*usual, *others]))
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {secret}",
        }
        verb, length = "POST", None
        match draw(st.sampled_from(range(40))):
            case 39:
                del headers["Authorization"]
            case 1:
                del headers["Content-Type"]
            case 2:
                headers["Content-Type"] = draw(_HEADER)
            case 3:
                headers["Authorization"] = draw(_HEADER)
            case 4:
                headers[draw(st.sampled_from(_HEADERS))] = draw(_HEADER)
            case 5:
                length = draw(st.sampled_from(["0", "1", "1000000", "-1", "x", ""]))
            case 6:
                verb = draw(st.sampled_from(["GET", "PUT", "OPTIONS", "HEAD", "X"]))
            case _:
                pass
        return headers, verb, length


def _values_of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return values that fit a schema.

    Objects are put together here: those of hypothesis-jsonschema call what newer
    versions of hypothesis no longer have.
    """
    others = schema.get("additionalProperties")
    if schema.get("type") == "object" and others:
        return st.dictionaries(st.sampled_from("abc"), _values_of(others), max_size=2)
    if schema.get("type") == "object":
        return st.fixed_dictionaries(
            {name: _values_of(one) for name, one in schema["properties"].items()}
        )
    if schema.get("type") == "array":
        least, most = schema.get("minItems", 0), schema.get("maxItems", 3)
        items = _values_of(schema["items"])
        return st.lists(items, min_size=least, max_size=min(most, least + 2))
    return from_schema(schema)


#: What makes a statement one for somebody else, of another time, or of too much.
_NEARLY: Final[st.SearchStrategy[dict[str, Any]]] = st.sampled_from(
    [
        *({"aud": "other"}, {"caller_id": "bob"}, {"context_id": "elsewhere"}),
        *({"executor": "osis"}, {"name": "nobody"}, {"runner": "nobody"}, {"v": 2}),
        *({"timeout": 10**6}, {"net": "host"}, {"secrets": ["x"]}, {"version": 1}),
        *({"expires_at": 1}, {"created_at": 10**15}, {"at": 1}, {"contexts": ["x"]}),
    ]
)
_HEADERS: Final = ("Host", "Origin", "X-Forwarded-For", "Content-Encoding", "Range")
_HEADER: Final = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_categories=["Cc"]),
    max_size=20,
) | st.sampled_from(["application/json; charset=utf-16", "Bearer", "Basic eDp5", "*"])


def _mutated(draw: st.DrawFn, value: Any) -> Any:
    """Return a value with something in it dropped, replaced, added or wrapped."""
    value = _copy(value)
    holders = list(_holders(value))
    if not holders:
        return draw(_JUNK)
    holder = draw(st.sampled_from(holders))
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    key = draw(st.sampled_from(list(keys)))
    match draw(st.integers(0, 5)):
        case 0:
            del holder[key]
        case 1:
            holder[key] = draw(_ODD)
        case 2:
            for _ in range(draw(st.sampled_from([1, 31, 40, 400]))):
                holder[key] = [holder[key]]
        case 3 if isinstance(holder, dict):
            holder[draw(st.text(max_size=6))] = draw(_JUNK)
        case 4 if isinstance(holder[key], str):
            holder[key] = holder[key] + draw(st.sampled_from(["", "=", "\0", "x" * 70]))
        case _:
            holder[key] = draw(_JUNK)
    return value


def _copy(value: Any) -> Any:
    """Copy what may be changed; the calls of a batch may be one and the same."""
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_copy(inner) for inner in value]
    return value


def _holders(value: Any) -> Iterator[Any]:
    """Yield every object and list that holds something."""
    if isinstance(value, (dict, list)) and value:
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _holders(inner)


def _text(body: Any) -> bytes:
    return json.dumps(body).encode()


def _broken(draw: st.DrawFn, raw: bytes) -> bytes:
    """Return a text that is no longer what it was; hardly ever is it JSON still."""
    at = draw(st.integers(0, max(0, len(raw) - 1)))
    match draw(st.integers(0, 9)):
        case 0:
            return raw[:at]
        case 1:
            return raw[:at] + draw(st.binary(min_size=1, max_size=4)) + raw[at:]
        case 2:
            return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] if raw else b"\xff"
        case 3:
            return raw.replace(b"{", b'{"id": 7, ', 1)
        case 4:
            return raw.decode().encode(draw(st.sampled_from(["utf-16", "utf-32"])))
        case 5:
            return b"\xef\xbb\xbf" + raw
        case 6:
            return b"[" * draw(st.sampled_from([1, 500, 60_000]))
        case 7:
            return b'{"a":' * 30_000
        case 8:
            return draw(st.binary(max_size=64))
        case _:
            return raw + draw(st.sampled_from([b"\0", b"{}", b" ", b"\n" * 9, raw]))


# --- what is answered -------------------------------------------------------------


@dataclass(slots=True)
class Findings:
    """What a run came to."""

    requests: int = 0
    #: How often each code was answered, "result", "silence" or an HTTP status.
    answers: Counter[str] = field(default_factory=Counter)
    #: Methods that had a result.
    answered: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def blame(self, what: str, request: Request) -> None:
        shown = request.raw[:400]
        self.faults.append(f"{what}: {request.verb} {request.headers} {shown!r}")


class Judge:
    """Says what is wrong with an answer."""

    def __init__(self, document: dict[str, Any], findings: Findings) -> None:
        self._findings = findings
        errors = document["components"]["errors"]
        self._codes = {
            method["name"]: {
                errors[one["$ref"].rpartition("/")[2]]["code"]
                for one in method["errors"]
            }
            for method in document["methods"]
        }
        self._every = {one["code"] for one in errors.values()}
        self._results = {
            method["name"]: jsonschema.Draft202012Validator(
                {"components": document["components"], **method["result"]["schema"]}
            )
            for method in document["methods"]
        }

    def look(self, request: Request, response: TestResponse) -> None:
        """Judge one answer."""
        found = self._findings
        found.requests += 1
        if response.status_code >= 500:
            found.blame(f"HTTP {response.status_code}", request)
        elif b"Traceback" in response.data:
            found.blame("a traceback", request)
        elif response.status_code not in (200, 204) or request.verb != "POST":
            found.answers[f"HTTP {response.status_code}"] += 1
        else:
            try:
                self._judge(request, response)
            except (AssertionError, ValueError, KeyError, TypeError) as error:
                shown = f"{type(error).__name__} {str(error)[:300]}"
                found.blame(f"{shown} {response.data[:300]!r}", request)

    def _judge(self, request: Request, response: TestResponse) -> None:
        sent = _parsed(request)
        if response.status_code == 204:
            calls = sent if isinstance(sent, list) else [sent]
            _require(response.data == b"", "a body with 204")
            _require(
                bool(calls) and all("id" not in call for call in calls),
                "silence for what is no notification",
            )
            self._findings.answers["silence"] += 1
            return
        answer = json.loads(response.data, parse_constant=_refuse)
        if not isinstance(answer, list):
            self._one(answer, sent)
            return
        _require(isinstance(sent, list) and bool(answer), "a list for what was none")
        # Answers stand in the order of the calls. What is no call is answered also if
        # it has no id: then nobody can say which answer is whose.
        awaited = [call for call in sent if not isinstance(call, dict) or "id" in call]
        _require(len(answer) >= len(awaited), "too few answers")
        if len(answer) > len(awaited):
            awaited = [None] * len(answer)
        for each, call in zip(answer, awaited, strict=True):
            self._one(each, call)

    def _one(self, answer: dict[str, Any], call: Any) -> None:
        _require(answer.get("jsonrpc") == "2.0", "no version")
        name = call.get("method") if isinstance(call, dict) else None
        known = name if isinstance(name, str) and name in self._codes else None
        if "result" in answer:
            _require(answer.keys() == {"jsonrpc", "id", "result"}, "its members")
            self._findings.answers["result"] += 1
            if known is not None:
                self._findings.answered.add(known)
                wrong = next(self._results[known].iter_errors(answer["result"]), None)
                _require(wrong is None, f"{known}: {wrong}")
        else:
            self._error(answer, known)
        code = answer.get("error", {}).get("code")
        if isinstance(call, dict) and code not in {-32700, -32600, -32023}:
            _require(answer["id"] == call.get("id"), "another id")

    def _error(self, answer: dict[str, Any], known: str | None) -> None:
        _require(answer.keys() == {"jsonrpc", "id", "error"}, "its members")
        error = answer["error"]
        _require(error.keys() == _KEYS_OF_ERRORS, "the members of its error")
        _require(error["data"].keys() == _KEYS_OF_DATA, "the members of its data")
        code = error["code"]
        self._findings.answers[str(code)] += 1
        _require(code != -32603, "a fault of ours")
        _require(code in self._every, f"the code {code}, which is none")
        if known is not None and code not in _NO_CALL:
            _require(code in self._codes[known], f"{known}: {code} is not listed")


def _parsed(request: Request) -> Any:
    """Return what was sent, if it can be read at all."""
    try:
        return json.loads(request.raw)
    except (ValueError, RecursionError):
        return None


def _refuse(literal: str) -> None:
    raise ValueError(f"{literal} is no JSON")


def _require(holds: object, what: str) -> None:
    if not holds:
        raise AssertionError(what)


class _Listener(logging.Handler):
    """Hears of errors that were logged, whoever logged them."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


def fuzz(
    *, requests: int = REQUESTS, seed: int = 0, redis_url: str | None = None
) -> Findings:
    """Send so many requests to a deployment, and return what they came to.

    Args:
        requests: How many.
        seed: Other seeds make other requests.
        redis_url: Where it keeps everything, which has to be empty; by default, in
            memory.
    """
    place = in_memory() if redis_url is None else in_redis(redis_url)
    with tempfile.TemporaryDirectory(prefix="horus-") as folder, place as stores:
        return _fuzz(Deployment(Path(folder), stores), requests=requests, seed=seed)


def _fuzz(deployment: Deployment, *, requests: int, seed: int) -> Findings:
    findings = Findings()
    asked = {"jsonrpc": "2.0", "id": 1, "method": "rpc.discover"}
    document = deployment.http.post("/", json=asked).get_json()["result"]
    judge = Judge(document, findings)
    listener = _Listener()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=requests,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(Requests(deployment, document).strategy())
    def send(request: Request) -> None:
        overrides = {} if request.length is None else {"CONTENT_LENGTH": request.length}
        response = deployment.http.open(
            "/",
            method=request.verb,
            data=request.raw,
            headers=request.headers,
            environ_overrides=overrides,
        )
        judge.look(request, response)

    logging.getLogger().addHandler(listener)
    try:
        with structlog.testing.capture_logs() as lines, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            send()
    finally:
        logging.getLogger().removeHandler(listener)
    findings.faults += listener.heard
    findings.faults += [
        json.dumps(line, default=repr)
        for line in lines
        if "where" in line or "exc_info" in line
    ]
    return findings


@pytest.mark.parametrize("is_in_redis", [False, True], ids=["memory", "Redis"])
def test_whatever_is_sent_is_answered_in_order(is_in_redis, request):
    redis = request.getfixturevalue("private_redis") if is_in_redis else None
    findings = fuzz(redis_url=redis and redis.url)
    assert not findings.faults, "\n".join(findings.faults[:_SHOWN])
    assert findings.requests >= REQUESTS
    # It is no proof if everything was turned away at the door.
    reached = {-32700, -32600, -32601, -32602, -32001, -32003, -32004, -32010, -32011}
    assert findings.answers.keys() >= {"result", "silence", *map(str, reached)}
    assert len(findings.answered) >= 20
