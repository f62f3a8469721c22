"""What of a record is believed: what agrees with a receipt that a runner signed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from horus_celery.errors import ConfigurationError, ReceiptError
from horus_celery.instants import from_ms
from horus_celery.lifecycle import Status
from horus_celery.outcome import Outcome, Submitted
from horus_celery.record import UNSIGNED_REASONS
from horus_celery.statements.receipt import Expected, Receipt, check_receipt
from horus_celery.statements.trust import Trust, read_trust


class Proofs:
    """Checks outcomes against the root key, or believes the supervisor without one."""

    def __init__(self, root: bytes | None, fetch: Callable[[], object]) -> None:
        """Know nothing yet.

        Args:
            root: The root's public key; None believes what is shown.
            fetch: Returns the trust bundle as the supervisor shows it.
        """
        self._root = root
        self._fetch = fetch
        self._trusted: Trust | None = None

    @property
    def are_wanted(self) -> bool:
        """Whether anything is checked."""
        return self._root is not None

    def trust(self, *, fresh: bool = False) -> Trust:
        """Return the trust bundle, checked against the root key.

        Raises:
            ConfigurationError: if this client was given no root key.
            SignatureError: if the root did not sign what the supervisor distributes.
            ReceiptError: if it is older than the one that was shown before.
        """
        if self._root is None:
            raise ConfigurationError("this client has no root key: pass root=…")
        if self._trusted is None or fresh:
            text = json.dumps(self._fetch())
            newest = read_trust(text, self._root)
            known = self._trusted
            if known is not None and newest.version < known.version:
                raise ReceiptError(
                    f"the supervisor now shows trust bundle {newest.version}, older"
                    f" than {known.version} which it showed before"
                )
            self._trusted = newest
        return self._trusted

    def outcome(self, record: Mapping[str, Any], expected: Expected) -> Outcome:
        """Return what became of a job, as a record says it.

        Raises:
            ReceiptError: if that is not what a trusted runner signed.
        """
        receipt = None
        if self._root is not None:
            receipt = self._receipt(record, expected)
        return Outcome(
            job_id=expected.job_id,
            digest=expected.digest,
            status=Status(record["status"]),
            reason=record["reason"],
            exit_code=record["exit_code"],
            result=record["result"],
            created_at=from_ms(record["created_at"]),
            queued_at=_instant(record["queued_at"]),
            started_at=_instant(record["started_at"]),
            ended_at=from_ms(record["ended_at"]),
            signed_by=tuple(record["signed_by"]),
            receipt=receipt,
        )

    def _receipt(self, record: Mapping[str, Any], expected: Expected) -> Receipt | None:
        if record["receipt"] is None:
            if _needs_no_receipt(record):
                return None
            raise ReceiptError(
                f"job {expected.job_id} is shown as {record['status']} without a"
                " receipt: do not believe it"
            )
        text = json.dumps(record["receipt"])
        try:
            receipt = check_receipt(text, trust=self.trust(), expected=expected)
        except ReceiptError:
            # The runner may be newer than the bundle that this client has read.
            receipt = check_receipt(
                text, trust=self.trust(fresh=True), expected=expected
            )
        _agree(record, receipt)
        return receipt


def expected_of(job: Submitted) -> Expected:
    """Return what the receipt of a job that this client signed must be about."""
    return Expected(
        digest=job.digest,
        job_id=job.id,
        aud=job.job.aud,
        executor=job.job.executor,
        context_id=job.job.context_id,
        runner=job.job.runner,
    )


def expected_by(record: Mapping[str, Any], *, asked_for: str) -> Expected:
    """Return what a receipt must be about, by the word of who shows the record.

    Raises:
        ReceiptError: if it is not even the record that was asked for.
    """
    if asked_for not in (record["id"], record["digest"]):
        raise ReceiptError("the record that is shown is another job's")
    return Expected(
        digest=record["digest"],
        job_id=record["id"],
        aud=None,
        executor=record["executor"],
        context_id=record["context_id"],
        runner=record["runner"],
    )


def _instant(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)


def _needs_no_receipt(record: Mapping[str, Any]) -> bool:
    """Say whether it may be over without a receipt; then it carries no result."""
    status = Status(record["status"])
    silent = status is Status.STOPPED or (
        status is Status.FAILED and record["reason"] in UNSIGNED_REASONS
    )
    return silent and record["result"] is None


def _agree(record: Mapping[str, Any], receipt: Receipt) -> None:
    """Refuse a record that says anything else than its receipt.

    Raises:
        ReceiptError: naming the first field that differs.
    """
    shown = {
        "status": record["status"],
        "reason": record["reason"],
        "exit_code": record["exit_code"],
        "attempt": record["attempt"],
        "ran_on": record["ran_on"],
    }
    signed = {
        "status": receipt.status,
        "reason": receipt.reason,
        "exit_code": receipt.exit_code,
        "attempt": receipt.attempt,
        "ran_on": receipt.runner,
    }
    for field, value in shown.items():
        if value != signed[field]:
            raise ReceiptError(
                f"the record says {field} {value!r}, the runner signed"
                f" {signed[field]!r}"
            )
    result = (record["result"] or "").encode("utf-8", "surrogatepass")
    if hashlib.sha256(result).hexdigest() != receipt.result.sha256:
        raise ReceiptError("the result is not the one that the runner signed")
