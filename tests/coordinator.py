"""A supervisor with one workflow, in memory and with a real runner's key.

It shows every step running once before it is over, and ends each as a test said. What
is not about workflows it does not know.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from horus_celery.authoring import Signer
from horus_celery.dag.model import Graph
from horus_celery.dag.progress import ENDED, ENDS, Progress, StepStatus
from horus_celery.instants import to_ms
from horus_celery.lifecycle import Status
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import Job
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.manifest import Manifest
from horus_celery.statements.trust import Trust

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROOT, ALICE, RUNNER = (KeyPair.from_seed(bytes([number]) * 32) for number in (9, 1, 2))
UNAVAILABLE = -32020
OVER = frozenset(ENDS) - {StepStatus.SKIPPED}
NO_OUTPUT = {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0, "truncated": False}


def make_trust(caller=ALICE, *, now=NOW):
    """Return a bundle that lets one caller and one runner work."""
    return Trust.from_wire(
        {
            "v": 1,
            "aud": "hero",
            "version": 1,
            "issued_at": to_ms(now),
            "expires_at": to_ms(now + timedelta(days=30)),
            "keys": {one.keyid: one.public.hex() for one in (caller, RUNNER)},
            "grants": [
                {
                    "context_id": "billing",
                    "caller_id": "alice",
                    "keys": [caller.keyid],
                    "threshold": 1,
                    "executors": ["python", "system"],
                    "nets": ["none", "herodb"],
                    "max_timeout": 3600,
                    "secrets": ["token"],
                }
            ],
            "runners": [
                {
                    "name": "r1",
                    "key": RUNNER.keyid,
                    "executors": ["python", "system"],
                    "contexts": ["*"],
                }
            ],
        }
    )


def make_receipt(
    job, digest, *, status="completed", result="", at=NOW, key=RUNNER, **changes
):
    """Return the envelope of a receipt that the runner signed about a job."""
    data = result.encode()
    body = {
        "v": 1,
        "aud": "hero",
        "runner": "r1",
        "seq": 1,
        "prev": None,
        "job": digest,
        "job_id": job.id,
        "attempt": 1,
        "status": status,
        "reason": None if status == "completed" else "exit_code",
        "exit_code": 0 if status == "completed" else 1,
        "started_at": to_ms(at),
        "ended_at": to_ms(at),
        "inputs": [],
        "stdout": NO_OUTPUT,
        "stderr": NO_OUTPUT,
        "result": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)},
        "sandbox": "plain",
        "software": "test",
    }
    return dsse.sign(dsse.RECEIPT, canonical.encode(body | changes), [key])


def make_signer():
    return Signer(aud="hero", caller_id="alice", context_id="billing", keys=[ALICE])


class Refusal(Exception):
    """An error of the API."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.wire = {
            "code": code,
            "message": reason,
            "data": {
                "reason": reason,
                "detail": reason,
                "retryable": code == UNAVAILABLE,
            },
        }


class FakeCoordinator:
    """Answers the calls of a client that has one workflow."""

    def __init__(
        self, root: KeyPair = ROOT, caller: KeyPair = ALICE, *, at: datetime = NOW
    ) -> None:
        self.trust = make_trust(caller, now=at)
        self._root = root
        self.at = at
        #: How steps end: by name a status, else completed; and with which result.
        self.ends: dict[str, Status] = {}
        self.results: dict[str, str] = {}
        #: From the workflow's start to its end.
        self.took = timedelta()
        #: What becomes of an answer before it is sent.
        self.lies: dict[str, Callable[[Any], Any]] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.jobs: dict[str, Any] = {}
        #: How the workflow was to run.
        self.strategy: str | None = None
        self._waiting: deque[int] = deque()
        self._records: dict[int, dict[str, Any]] = {}

    def transport(self) -> httpx.MockTransport:
        """Return what carries a client's calls here."""
        return httpx.MockTransport(
            lambda request: httpx.Response(
                200, json=self.answer(json.loads(request.content))
            )
        )

    def answer(self, call: dict[str, Any]) -> dict[str, Any]:
        """Answer one JSON-RPC request."""
        method, params = call["method"], call["params"]
        self.calls.append((method, params))
        answer = {"jsonrpc": "2.0", "id": call["id"]}
        try:
            result = getattr(self, "on_" + method.replace(".", "_"))(**params)
            lie = self.lies.get(method)
            return {**answer, "result": result if lie is None else lie(result)}
        except Refusal as refusal:
            return {**answer, "error": refusal.wire}

    @property
    def methods(self) -> list[str]:
        return [method for method, _ in self.calls]

    # --- methods -------------------------------------------------------------

    def on_trust_get(self) -> Any:
        return dsse.to_wire(dsse.sign(dsse.TRUST, self.trust.body(), [self._root]))

    def on_workflow_submit(
        self, manifest: Any, jobs: Any, strategy: str | None = None
    ) -> str:
        self.on_workflow_create(manifest)
        self.on_workflow_add_jobs(self.digest, jobs)
        self.on_workflow_start(self.digest, strategy)
        return self.manifest.id

    def on_workflow_create(self, manifest: Any) -> str:
        envelope = dsse.from_wire(manifest, dsse.WORKFLOW, max_bytes=1 << 30)
        self.digest = envelope.digest
        self.envelope = manifest
        self.manifest = Manifest.from_wire(canonical.parse(envelope.body))
        self.graph = Graph.of(self.manifest)
        self.progress = Progress(self.graph)
        return self.manifest.id

    def on_workflow_add_jobs(self, workflow_id: str, jobs: Any) -> int:
        assert workflow_id == self.digest
        assert not self.progress.is_over
        self.jobs |= jobs
        return len(self.graph) - len(self.jobs)

    def on_workflow_start(self, workflow_id: str, strategy: str | None = None) -> Any:
        self.strategy = strategy
        assert self.jobs.keys() == set(self.graph.names)
        self._waiting.extend(self.progress.begin().ready)
        return {}

    def on_workflow_status(self, workflow_id: str) -> Any:
        shown = self._shown()
        self._move()
        return shown

    def on_workflow_result(self, workflow_id: str, wait: float) -> Any:
        if not self.progress.is_over:
            raise Refusal(-32021, "not_over")
        return {"status": self.progress.status.value, "results": {}}

    def on_workflow_stop(self, workflow_id: str) -> Any:
        self.progress.stop()
        self._waiting.clear()
        return self._shown()

    def on_workflow_delete(self, workflow_id: str) -> bool:
        return True

    def on_workflow_list(self, **wanted: Any) -> Any:
        return [
            {
                "id": self.manifest.id,
                "digest": self.digest,
                "name": self.manifest.name,
                "caller_id": self.manifest.caller_id,
                "context_id": self.manifest.context_id,
                "status": self.progress.status.value,
                "steps": len(self.graph),
                "left": 0,
                "created_at": to_ms(self.at),
            }
        ]

    def on_workflow_get(self, workflow_id: str, steps: list[str] | None = None) -> Any:
        return {
            "id": self.manifest.id,
            "digest": self.digest,
            "manifest": self.envelope,
            "jobs": {name: self.jobs[name] for name in steps or ()},
        }

    def on_jobs_list(self, workflow_id: str, limit: int, after: str | None) -> Any:
        assert workflow_id == self.manifest.id
        records = list(self._records.values())
        if after is not None:
            seen = [one["digest"] for one in records].index(after)
            records = records[seen + 1 :]
        return records[:limit]

    # --- how -----------------------------------------------------------------

    def job(self, name: str) -> tuple[Job, str]:
        """Return the job of a step, and its digest."""
        envelope = dsse.from_wire(self.jobs[name], dsse.JOB)
        return Job.from_wire(canonical.parse(envelope.body)), envelope.digest

    def _move(self) -> None:
        """End what runs, and start what may."""
        over = [
            step
            for step, status in enumerate(self.progress.statuses)
            if status is StepStatus.RUNNING
        ]
        for step in over:
            status = self.ends.get(self.graph.names[step], Status.COMPLETED)
            self._records[step] = self._record(step, status)
            self._waiting.extend(self.progress.moved(step, status).ready)
        while self._waiting:
            self.progress.moved(self._waiting.popleft(), Status.RUNNING)

    def _record(self, step: int, status: Status) -> dict[str, Any]:
        name = self.graph.names[step]
        job, digest = self.job(name)
        result = self.results.get(name, "")
        receipt = make_receipt(job, digest, status=status.value, result=result)
        return {
            "id": job.id,
            "digest": digest,
            "status": status.value,
            "reason": None if status is Status.COMPLETED else "exit_code",
            "exit_code": 0 if status is Status.COMPLETED else 1,
            "result": result,
            "attempt": 1,
            "ran_on": "r1",
            "created_at": to_ms(self.at),
            "queued_at": to_ms(self.at),
            "started_at": to_ms(self.at),
            "ended_at": to_ms(self.at),
            "signed_by": ["0" * 32],
            "executor": job.executor,
            "context_id": job.context_id,
            "runner": job.runner,
            "receipt": dsse.to_wire(receipt),
        }

    def _shown(self) -> dict[str, Any]:
        steps = {}
        statuses = zip(self.graph.names, self.progress.statuses, strict=True)
        for name, status in statuses:
            has_job = status not in {StepStatus.PENDING, StepStatus.SKIPPED}
            has_failed = status in OVER - {StepStatus.COMPLETED}
            steps[name] = {
                "status": status.value,
                "reason": "exit_code" if has_failed else None,
                "job_id": self.job(name)[0].id if has_job else None,
                "supervisor": None,
                "started_at": to_ms(self.at) if has_job else None,
                "ended_at": to_ms(self.at) if status in OVER else None,
            }
        return {
            "workflow_id": self.manifest.id,
            "name": self.manifest.name,
            "status": self.progress.status.value,
            "reason": None,
            "steps": steps,
            "created_at": to_ms(self.at),
            "started_at": to_ms(self.at),
            "ended_at": self._ended_at(),
        }

    def _ended_at(self) -> int | None:
        if self.progress.status not in ENDED:
            return None
        return to_ms(self.at + self.took)
