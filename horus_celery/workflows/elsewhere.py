"""A supervisor elsewhere, as a coordinator uses it: over JSON-RPC, and not believed.

What it says of a job's end counts as far as the receipt proves it, by the trust bundle
of this node. Only addresses of the configuration are ever called.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from horus_celery.client import NOT_OVER, Horus, RpcError
from horus_celery.errors import (
    ConflictError,
    HorusError,
    RefusedError,
    UnavailableError,
)
from horus_celery.instants import from_ms
from horus_celery.lifecycle import Status
from horus_celery.proof import Proofs, Shown
from horus_celery.record import Record, Summary
from horus_celery.supervisor import TrustSource

_NOT_FOUND: Final = -32004
_CONFLICT: Final = -32009
#: What a supervisor answers to a job that it will never take.
_REFUSALS: Final = frozenset({-32010, -32011, -32012, -32013, -32014, -32023})


class RemoteSupervisor:
    """A `StepSupervisor` at a URL; may be called by many threads."""

    def __init__(self, name: str, client: Horus, trust: TrustSource) -> None:
        """Take what it works with.

        Args:
            name: What it is called in manifests.
            client: The connection to it.
            trust: By whose keys receipts are proven.
        """
        self._name = name
        self._client = client
        self._trust = trust
        self._proofs = Proofs()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def start(self, envelope: str, upstream: Sequence[object]) -> bool:
        brought = {"upstream": list(upstream)} if upstream else {}
        with self._answering():
            self._client.call("create_job", job=json.loads(envelope), **brought)
        # Its word for an end would not count; it is waited for.
        return False

    def find(self, digest: str, envelope: Callable[[], str]) -> Shown | None:
        try:
            with self._answering():
                told = self._client.call("job.get", job_id=digest)
        except _Absent:
            return None
        try:
            record = _record(told, digest, envelope())
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            raise self._is_none() from None
        return self._proofs.prove(record, self._trust.current())

    def stop(self, digest: str) -> None:
        try:
            with self._answering():
                self._client.call("job.stop", job_id=digest)
        except _Absent:
            return

    def wait(self, digest: str, wait: timedelta) -> bool:
        """Wait for the end of a job, and say whether it is said to have ended.

        Raises:
            UnavailableError: if the supervisor does not answer.
        """
        seconds = wait.total_seconds()
        try:
            with self._answering():
                self._client.call("job.result", job_id=digest, wait=seconds)
        except _Waiting:
            return False
        except _Absent:
            return True
        return True

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn what it answers into errors that say what to do.

        Raises:
            UnavailableError: if it does not answer as a supervisor that may be used.
        """
        try:
            yield
        except RpcError as error:
            raise self._said(error) from None
        except UnavailableError:
            raise UnavailableError(
                f"the supervisor {self._name} does not answer"
            ) from None

    def _said(self, error: RpcError) -> HorusError:
        if error.code == NOT_OVER:
            return _Waiting()
        if error.code == _NOT_FOUND:
            return _Absent()
        if error.code in _REFUSALS:
            return RefusedError(error.reason, error.detail)
        if error.code == _CONFLICT:
            return ConflictError(error.detail, reason=error.reason)
        # A secret that does not count is mended there, and then the steps go on.
        return UnavailableError(
            f"the supervisor {self._name} does not serve: {error.reason}"
        )

    def _is_none(self) -> UnavailableError:
        return UnavailableError(
            f"what answers for the supervisor {self._name} is none: check its url"
        )


class _Absent(HorusError):
    """There is no such job there."""

    def __init__(self) -> None:
        super().__init__("there is no such job there", reason="not_found")


class _Waiting(HorusError):
    """The job is not over there."""

    def __init__(self) -> None:
        super().__init__("the job is not over there", reason="not_over")


def _record(told: Mapping[str, Any], digest: str, envelope: str) -> Record:
    """Read the record of a job, of which nothing is proven yet."""
    receipt = told["receipt"]
    return Record(
        summary=Summary(
            digest=digest,
            id=str(told["id"]),
            caller_id=str(told["caller_id"]),
            context_id=str(told["context_id"]),
            executor=str(told["executor"]),
            runner=told["runner"],
            attempts=1,
            expires_at=from_ms(told["created_at"]),
            workflow_id=None,
            signed_by=(),
        ),
        envelope=envelope,
        status=Status(told["status"]),
        reason=told["reason"],
        created_at=from_ms(told["created_at"]),
        queued_at=_instant(told["queued_at"]),
        started_at=_instant(told["started_at"]),
        ended_at=_instant(told["ended_at"]),
        attempt=int(told["attempt"]),
        ran_on=told["ran_on"],
        exit_code=told["exit_code"],
        result=None if told["result"] is None else str(told["result"]),
        receipt=None if receipt is None else json.dumps(receipt),
    )


def _instant(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)
