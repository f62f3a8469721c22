"""A deployment in memory: its keys, its trust, and a runner that signs as told."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from api import RequestLimits, create_app
from api.session import HeroDb, Services
from horus_celery.api_secrets.book import SecretBook
from horus_celery.api_secrets.seal import Seal
from horus_celery.api_secrets.secret import Given
from horus_celery.api_secrets.shelf import MemoryShelf
from horus_celery.client import Horus
from horus_celery.coordinator import Coordinator
from horus_celery.dispatch import MemoryDispatcher
from horus_celery.errors import ConflictError, NotCoveredError
from horus_celery.fleet import Fleet
from horus_celery.herodb.estate import MemoryEstate
from horus_celery.herodb.keyring import Keyring
from horus_celery.herodb.layout import Layout
from horus_celery.herodb.steward import Steward
from horus_celery.instants import to_ms
from horus_celery.journal import Journal
from horus_celery.lifecycle import Event
from horus_celery.record import Change, Record
from horus_celery.registry import MemoryRegistry, Phase, RunnerBeat, write_beat
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import make_job
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.receipt import OutputDigest
from horus_celery.statements.trust import Trust, read_trust
from horus_celery.store.base import Chunk, Stream
from horus_celery.store.memory import MemoryLogs, MemoryStore, MemoryWakes
from horus_celery.store.memory_workflows import MemoryWorkflows
from horus_celery.supervisor import Limits, Supervisor
from horus_celery.trustpost import MemoryNoticeboard, TrustPost
from horus_celery.workflows.conductor import Conductor
from horus_celery.workflows.doorbell import MemoryDoorbell
from horus_celery.workflows.supervisors import HomeSupervisor
from tests.signing import Signed, sign_workflow

PROTOCOL = Path(__file__).parents[3] / "docs" / "protocol.md"
#: Where a world has its keys of encryption that was given no folder.
NOWHERE = Path("/nowhere")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRETS = {
    "admin": ("admin-secret-0123456789",),
    "user": ("user-secret-0123456789", "user-secret-9876543210"),
    "register": ("register-secret-0123456789",),
}


@dataclass
class MovableClock:
    at: datetime = NOW

    def now(self) -> datetime:
        return self.at


class GivenTrust:
    """A trust source that says what it was given, or fails as it was told."""

    def __init__(self, trust: Trust, root: KeyPair) -> None:
        self.trust = trust
        self.error: Exception | None = None
        self._root = root

    def current(self) -> Trust:
        if self.error is not None:
            raise self.error
        return self.trust

    def install(self, text: str | bytes, *, aud: str) -> Trust:
        trust = read_trust(text, self._root.public)
        if trust.aud != aud:
            raise NotCoveredError("bind.aud", "it is for another deployment")
        if trust.version <= self.trust.version:
            raise ConflictError(
                f"{trust.version} <= {self.trust.version}", reason="trust_version"
            )
        self.trust = trust
        return trust

    def envelope(self) -> str:
        signed = dsse.sign(dsse.TRUST, self.current().body(), [self._root])
        return dsse.to_json(signed)


class World:
    """One supervisor with everything that it stands on, and who works with it."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        store: type[MemoryStore] = MemoryStore,
        folder: Path = NOWHERE,
    ) -> None:
        self.root, self.caller, self.runner, self.stranger = (
            KeyPair.generate() for _ in range(4)
        )
        self.clock = MovableClock()
        self.trust = GivenTrust(Trust.from_wire(self.trust_body()), self.root)
        self.wakes = MemoryWakes()
        self.logs = MemoryLogs(self.wakes)
        self.dispatcher = MemoryDispatcher(self.clock)
        self.store = store(
            wakes=self.wakes,
            logs=self.logs,
            ring=self._ring,
        )
        self.registry = MemoryRegistry()
        self.journal = Journal(":memory:")
        self.supervisor = Supervisor(
            store=self.store,
            logs=self.logs,
            wakes=self.wakes,
            dispatcher=self.dispatcher,
            registry=self.registry,
            trust=self.trust,
            journal=self.journal,
            clock=self.clock,
            namespace="hero",
            limits=limits,
        )
        self.workflows = MemoryWorkflows(self.wakes)
        self.doorbell = MemoryDoorbell()
        self.conductor = Conductor(
            store=self.workflows,
            supervisor=HomeSupervisor(self.supervisor),
            doorbell=self.doorbell,
            clock=self.clock,
        )
        self.coordinator = Coordinator(
            store=self.workflows,
            home=self.supervisor,
            conductor=self.conductor,
            doorbell=self.doorbell,
            wakes=self.wakes,
            clock=self.clock,
        )
        self.fleet = Fleet(
            registry=self.registry,
            trust=self.trust,
            store=self.store,
            clock=self.clock,
            namespace="hero",
        )
        self.shelf = MemoryShelf()
        self.book = SecretBook(
            [
                Given(scope=scope, secret=secret, place=f"{scope}_secrets")
                for scope, secrets in SECRETS.items()
                for secret in secrets
            ],
            self.shelf,
            Seal(bytes(32), "hero"),
            now=self.monotonic,
        )
        self.board = MemoryNoticeboard()
        self.estate = MemoryEstate()
        self.services = Services(
            supervisor=self.supervisor,
            coordinator=self.coordinator,
            fleet=self.fleet,
            secrets=self.book,
            trust=TrustPost(self.trust, self.board, aud="hero"),
            herodb=self._herodb(folder),
        )

    def _herodb(self, folder: Path) -> HeroDb:
        steward = Steward(
            self.estate,
            MemoryShelf(),
            Layout(namespace="hero"),
            master=bytes(32),
            database=0,
            clock=self.clock,
        )
        return HeroDb(
            steward=steward, keyring=Keyring(folder), address="redis://here:6379/0"
        )

    def monotonic(self) -> float:
        """Tell the seconds of the world's clock."""
        return (self.clock.at - NOW).total_seconds()

    def bound_secret(self, *contexts: str) -> str:
        """Return a user secret that is bound to contexts."""
        _, secret = self.book.add(scope="user", contexts=contexts, secret=None)
        return secret

    def _ring(self, *bell):
        # A test may have it fail.
        self.dispatcher.ring(*bell)

    def trust_body(self) -> dict[str, Any]:
        grant = {
            "caller_id": "alice",
            "keys": [self.caller.keyid],
            "threshold": 1,
            "executors": ["python"],
            "nets": ["none"],
            "max_timeout": 3600,
            "secrets": [],
        }
        return {
            "v": 1,
            "aud": "hero",
            "version": 1,
            "issued_at": to_ms(NOW),
            "expires_at": to_ms(NOW + timedelta(days=90)),
            "keys": {key.keyid: key.public.hex() for key in (self.caller, self.runner)},
            "grants": [{**grant, "context_id": name} for name in ("billing", "lab")],
            "runners": [
                {
                    "name": "r1",
                    "key": self.runner.keyid,
                    "executors": ["python"],
                    "contexts": ["*"],
                }
            ],
        }

    def envelope(self, *, key: KeyPair | None = None, **changes: Any) -> dict[str, Any]:
        """Return a signed job as a client sends it."""
        given = {
            "aud": "hero",
            "caller_id": "alice",
            "context_id": "billing",
            "executor": "python",
            "payload": "print(1)",
            "now": self.clock.at,
            **changes,
        }
        job = make_job(**given)
        return dsse.to_wire(dsse.sign(dsse.JOB, job.body(), [key or self.caller]))

    def workflow(self, *, jobs: dict[str, Any] | None = None, **steps: Any) -> Signed:
        """Sign a workflow as a client does.

        Args:
            jobs: What the job of a step says otherwise, by the name of the step, or
                `also_needs`; "manifest" stands for the manifest.
            steps: What each step says of itself, or the names of those before it.
        """
        changes = dict(jobs or {})
        usual = {"aud": "hero", "caller_id": "alice", "context_id": "billing"}
        return sign_workflow(
            steps,
            key=self.caller,
            now=self.clock.at,
            manifest={**usual, **changes.pop("manifest", {})},
            job={**usual, "executor": "python"},
            jobs=changes,
        )

    def begin(self, **steps: Any) -> Signed:
        """Have a workflow submitted, and its first steps started."""
        signed = self.workflow(**steps)
        self.coordinator.submit(signed.manifest, signed.jobs)
        self.hear()
        return signed

    def hear(self) -> None:
        """Be the coordinator's worker that answers every bell."""
        while self.doorbell.bells or self.store.bells:
            waiting = [*self.doorbell.bells, *self.store.bells]
            self.doorbell.bells.clear()
            self.store.bells.clear()
            for workflow, job in waiting:
                self.conductor.advance(workflow, job)

    def finish(self, signed: Signed, name: str, **facts: Any) -> None:
        """Be the runner that runs the job of a step, and have the bell answered."""
        self.settle(self.claim(self.store.get(signed.digests[name])), **facts)
        self.hear()

    def statuses(self, signed: Signed) -> dict[str, str]:
        """Return where each step of a workflow stands."""
        overview = self.coordinator.status(signed.id)
        return {
            name: step.status.value
            for name, step in zip(overview.graph.names, overview.steps, strict=True)
        }

    def submit(self, *, priority: int = 4, **changes: Any) -> Record:
        """Have a job recorded and queued."""
        return self.supervisor.create_and_queue(
            self.envelope(**changes), priority=priority, not_before=None
        )

    def claim(self, record: Record) -> Record:
        """Be the runner that takes a job."""
        change = Change(event=Event.CLAIMED, at=self.clock.at, attempt=1, ran_on="r1")
        return self.store.apply(record.summary.digest, change)

    def print(
        self, record: Record, *lines: str, stream: Stream = Stream.STDOUT
    ) -> None:
        """Be the script that prints lines."""
        chunks = [
            Chunk(at=self.clock.at, stream=stream, data=f"{line}\n".encode())
            for line in lines
        ]
        self.logs.append(record.summary.digest, chunks)

    def receipt(self, record: Record, **changes: Any) -> str:
        """Return what the runner signs about a job."""
        result = changes.pop("result_text", "").encode()
        body = {
            "v": 1,
            "aud": "hero",
            "runner": "r1",
            "seq": 1,
            "prev": None,
            "job": record.summary.digest,
            "job_id": record.summary.id,
            "attempt": 1,
            "status": "completed",
            "reason": None,
            "exit_code": 0,
            "started_at": to_ms(self.clock.at),
            "ended_at": to_ms(self.clock.at),
            "inputs": [],
            "stdout": self._signed(record, Stream.STDOUT),
            "stderr": self._signed(record, Stream.STDERR),
            "result": {
                "sha256": hashlib.sha256(result).hexdigest(),
                "bytes": len(result),
            },
            "sandbox": "none",
            "software": "test",
        }
        key = changes.pop("key", self.runner)
        signed = dsse.sign(dsse.RECEIPT, canonical.encode({**body, **changes}), [key])
        return dsse.to_json(signed)

    def _signed(self, record: Record, stream: Stream) -> dict[str, Any]:
        """Return what the runner signs of the output that is in the log by now."""
        lines = self.logs.read(record.summary.digest, after=None, limit=10**6)
        data = b"".join(line.data for line in lines if line.stream is stream)
        return dict(OutputDigest.of(data))

    def settle(
        self,
        record: Record,
        *,
        event: Event = Event.COMPLETED,
        result: str = "",
        exit_code: int | None = 0,
        reason: str | None = None,
        signed: dict[str, Any] | None = None,
    ) -> Record:
        """Be the runner that says how a job ended; `signed` differs in the receipt."""
        receipt = {
            "status": event.value if event is not Event.REFUSED else "rejected",
            "reason": reason,
            "exit_code": exit_code,
            "result_text": result,
            **(signed or {}),
        }
        change = Change(
            event=event,
            at=self.clock.at,
            reason=reason,
            exit_code=exit_code,
            result=result,
            receipt=self.receipt(record, **receipt),
        )
        return self.store.apply(record.summary.digest, change)

    def beat(self, *, at: datetime | None = None, **changes: Any) -> None:
        """Be a runner that is alive."""
        said = {
            "name": "r1",
            "executors": ("python",),
            "contexts": ("*",),
            "concurrency": 2,
            "phase": Phase.RUNNING,
            "host": "here",
            "pid": 1,
            **changes,
        }
        beat = RunnerBeat(at=at or self.clock.at, **said)
        self.registry.keep(beat.name, write_beat(beat, aud="hero", key=self.runner))


class Client:
    """Calls methods over HTTP, as a user unless told otherwise."""

    def __init__(
        self, world: World, *, rate_limit: int | None = None, **options: Any
    ) -> None:
        if rate_limit is not None:
            options["limits"] = RequestLimits(rate_limit=rate_limit)
        self.http = create_app(world.services, **options).test_client()

    def post(self, body: Any, *, secret: str | None = SECRETS["user"][0]) -> Any:
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        response = self.http.post("/", json=body, headers=headers)
        assert response.status_code in {200, 204}
        return response.get_json() if response.data else None

    def answer(
        self, method: str, *, secret: str | None = SECRETS["user"][0], **params: Any
    ) -> Any:
        call = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
        return self.post(call, secret=secret)

    def call(self, method: str, **params: Any) -> Any:
        answer = self.answer(method, **params)
        assert "error" not in answer, answer
        return answer["result"]

    def error(self, method: str, **params: Any) -> Any:
        answer = self.answer(method, **params)
        assert "error" in answer, answer
        return answer["error"]


@pytest.fixture
def world(tmp_path):
    return World(folder=tmp_path)


@pytest.fixture
def client(world):
    return Client(world)


@pytest.fixture
def make_world():
    return World


@pytest.fixture
def make_client():
    return Client


@pytest.fixture
def secrets():
    return SECRETS


@pytest.fixture
def make_horus(secrets):
    """Make the client of a world's caller, which reaches its supervisor by a way."""

    def make(world, transport):
        return Horus(
            "http://localhost",
            secrets["user"][0],
            key=world.caller,
            root=world.root.public,
            context="billing",
            caller="alice",
            clock=world.clock,
            transport=transport,
        )

    return make


@pytest.fixture(scope="session")
def protocol_text():
    return PROTOCOL.read_text("utf-8")
