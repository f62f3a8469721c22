"""The Python client: signs jobs, follows them, believes only what a runner signed."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self, TypeAlias

import httpx

from horus_celery import certificates
from horus_celery.authoring.signing import Signer
from horus_celery.clock import Clock, SystemClock
from horus_celery.errors import (
    ConfigurationError,
    HorusError,
    ReceiptError,
    UnavailableError,
)
from horus_celery.instants import from_ms
from horus_celery.lifecycle import TERMINAL, Status
from horus_celery.outcome import JobNotCompleted, Outcome, Submitted
from horus_celery.proof import MISMATCH
from horus_celery.record import UNSIGNED_REASONS
from horus_celery.statements import dsse
from horus_celery.statements.job import InputRef, Job, make_job
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.receipt import Expected, Receipt, check_receipt
from horus_celery.statements.trust import Trust, read_trust
from horus_celery.store.base import LogLine, Stream
from horus_celery.transcript import Agreement, Transcript

__all__ = [
    "Agreement",
    "Horus",
    "JobNotCompleted",
    "Outcome",
    "RpcError",
    "Submitted",
    "Transcript",
    "about_job",
]

#: A job whose result or completion another one builds on; a text is its digest.
Upstream: TypeAlias = Submitted | Outcome | str

#: Bytes of a result that may be given as an input, where nobody says otherwise and the
#: result is not known yet.
MAX_INPUT: Final = 4 * 1024 * 1024
_NO_INPUTS: Final[Mapping[str, Upstream | InputRef]] = MappingProxyType({})
#: What one waiting call asks for; proxies often cut an idle request after 30 s.
WAIT: Final = timedelta(seconds=25)
#: What an answer may take on top of the time that the call asked to wait.
PATIENCE: Final = timedelta(seconds=10)
#: How long nothing is heard of a job before its `on_quiet` is called.
QUIET: Final = timedelta(seconds=2)
#: Between two calls of which the first was sent away at once: too many callers wait.
_PAUSE: Final = timedelta(seconds=0.5)
#: The most lines in one answer, as many as the API gives.
_LINES: Final = 10_000
#: Calls that end when a runner has finished what it runs, which may take a day.
_DRAINING: Final = frozenset({"stop_runner", "remove_runner"})
_DRAIN: Final = timedelta(days=1)
#: Calls that end when a script has that was told to stop, which may take five minutes.
_DELETING: Final = frozenset({"job.delete", "delete_job", "workflow.delete"})
_STOPPING: Final = timedelta(seconds=310)
#: The code of an answer that says: not over in time.
NOT_OVER: Final = -32021


class RpcError(HorusError):
    """The supervisor's answer was an error (protocol section 7)."""

    def __init__(
        self, code: int, detail: str, *, reason: str, retryable: bool = False
    ) -> None:
        super().__init__(detail, reason=reason)
        self.code = code
        self.is_retryable = retryable


class Horus:
    """A connection to one supervisor, for one caller in one context.

    Receipts are verified by default: every outcome is checked against the root key,
    and `ReceiptError` is raised where the supervisor shows something else than what a
    trusted runner signed. May be used by one thread at a time; a context manager.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        key: KeyPair | None = None,
        root: bytes | None = None,
        verify: bool = True,
        context: str = "default",
        caller: str = "default",
        aud: str = "hero",
        clock: Clock | None = None,
        ca: Path | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Connect to nobody yet.

        Args:
            url: Where the supervisor listens, as in `http://127.0.0.1:3030`.
            secret: The user or admin secret of that supervisor.
            key: Signs the jobs; without it the client only reads.
            root: The root's public key, 32 bytes; needed unless `verify` is False.
            verify: Whether outcomes are checked against the runners' receipts.
            context: Whose data the jobs work on.
            caller: Who asks.
            aud: The namespace of the deployment.
            clock: Tells when jobs are made; the machine's clock by default.
            ca: A file with the certificates (PEM) that an `https` supervisor's must be
                signed by; by default, those that public authorities signed pass.
            transport: Carries the requests; the network by default.

        Raises:
            ConfigurationError: if receipts are to be verified without a root key, or
                `ca` holds no certificate.
        """
        if verify and root is None:
            raise ConfigurationError(
                "receipts are verified against the root key: pass root=… (the 32 bytes"
                " of the state directory's root.pub), or verify=False to believe the"
                " supervisor"
            )
        self._url = url
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {secret}"},
            verify=True if ca is None else certificates.believing(ca),
            transport=transport,
        )
        self._key = key
        self._root = root if verify else None
        self._context = context
        self._caller = caller
        self._aud = aud
        self._clock = clock or SystemClock()
        self._ids = itertools.count(1)
        self._trusted: Trust | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    # --- jobs ----------------------------------------------------------------

    def submit(
        self,
        payload: str,
        *,
        executor: str = "python",
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
        timeout: timedelta = timedelta(seconds=60),
        needs: Iterable[Upstream] = (),
        inputs: Mapping[str, Upstream | InputRef] = _NO_INPUTS,
        priority: int = 4,
        not_before: int | None = None,
        **fields: Any,  # noqa: ANN401 - the other fields of a job, checked by its model
    ) -> Submitted:
        """Sign a job and have it queued.

        Args:
            payload: The script itself.
            executor: The kind of work.
            args: Arguments of the script.
            env: Environment variables of the script.
            secrets: Names of secrets of the node, which the script finds as files in
                the directory `HORUS_SECRETS`; a grant must list them.
            timeout: Wall time of one attempt, whole seconds.
            needs: Jobs that must have completed when this one is to start, else its
                runner refuses it.
            inputs: Jobs whose results the script finds as files in `$HORUS_INPUTS`, by
                the names of those; they must have completed, too. Of a result that is
                known no byte more is allowed, of any other `MAX_INPUT` bytes; an
                `InputRef` says it otherwise.
            priority: 0 (first) to 9 (last).
            not_before: Not started before this moment, ms since the epoch.
            fields: Any other field of the job by its name in protocol section 3.

        Raises:
            MalformedError: if a field breaks the job's schema.
            JobNotCompleted: if one of the outcomes to build on is no completion.
            RpcError: if the supervisor refuses the job.
        """
        job = make_job(
            aud=self._aud,
            caller_id=self._caller,
            context_id=self._context,
            executor=executor,
            payload=payload,
            args=args,
            env_vars=env or {},
            secrets=secrets,
            timeout=timeout,
            needs=[_digest(each) for each in needs],
            inputs={name: _input(each) for name, each in inputs.items()},
            now=self._clock.now(),
            **fields,
        )
        return self.submit_signed(
            self.sign(job), job=job, priority=priority, not_before=not_before
        )

    def sign(self, job: Job) -> dsse.Envelope:
        """Return the job's envelope, signed with this client's key.

        Raises:
            ConfigurationError: if this client has no key.
        """
        return dsse.sign(dsse.JOB, job.body(), self.signer().keys)

    def signer(self) -> Signer:
        """Return who signs what this client submits.

        Raises:
            ConfigurationError: if this client has no key.
        """
        if self._key is None:
            raise ConfigurationError("this client has no signing key: pass key=…")
        return Signer(
            aud=self._aud,
            caller_id=self._caller,
            context_id=self._context,
            keys=[self._key],
        )

    def now(self) -> datetime:
        """Return the time by this client's clock."""
        return self._clock.now()

    def submit_signed(
        self,
        envelope: dsse.Envelope,
        *,
        job: Job,
        priority: int = 4,
        not_before: int | None = None,
    ) -> Submitted:
        """Have a signed job queued; the same envelope again is the same job."""
        job_id = self.call(
            "create_job",
            job=dsse.to_wire(envelope),
            priority=priority,
            not_before=not_before,
        )
        return Submitted(id=job_id, digest=envelope.digest, job=job)

    def run(
        self,
        payload: str,
        *,
        on_line: Callable[[LogLine], None] | None = None,
        **options: Any,  # noqa: ANN401 - as in submit
    ) -> Outcome:
        """Sign a job, have it run, and return what became of it.

        Args:
            payload: The script itself.
            on_line: Called with every line of output while the script runs. Only the
                end of this method says whether the lines were those of the script.
            options: As in `submit`.

        Raises:
            ReceiptError: if the outcome is not what a trusted runner signed, or if the
                lines differ from it (see `Transcript`).
        """
        submitted = self.submit(payload, **options)
        if on_line is None:
            return self.outcome(submitted)
        with closing(self.logs(submitted)) as lines:
            for line in lines:
                on_line(line)
        return self.outcome(submitted)

    def outcome(
        self, job: Submitted | str, *, on_quiet: Callable[[], None] | None = None
    ) -> Outcome:
        """Wait until a job is over, however long it takes, and return its outcome.

        Given an id or a digest, what the job was is the supervisor's word; what became
        of it is proven all the same.

        Args:
            job: What `submit` returned, or an id, or a digest.
            on_quiet: Called once if the job is not over after two seconds.

        Raises:
            ReceiptError: if the outcome is not what a trusted runner signed.
        """
        job_id = job if isinstance(job, str) else job.id
        quiet = _Quiet(on_quiet)
        with about_job(job_id):
            while self._waiting("job.result", job_id=job_id, wait=quiet.wait()) is None:
                quiet.pass_on()
            record = self.get(job_id)
            if isinstance(job, str):
                expected = _expected(record, asked_for=job)
            else:
                expected = _expected_of(job)
            return self._proven(record, expected)

    def result(self, job: Submitted | str) -> str:
        """Wait until a job is over and return its result.

        Raises:
            JobNotCompleted: with the outcome.
            ReceiptError: if the outcome is not what a trusted runner signed.
        """
        outcome = self.outcome(job)
        if not outcome.succeeded:
            raise JobNotCompleted(outcome)
        return outcome.result or ""

    def logs(
        self,
        job: Submitted | str,
        *,
        follow: bool = True,
        on_quiet: Callable[[], None] | None = None,
        verify: bool = True,
    ) -> Generator[LogLine]:
        """Yield the job's output lines; with `follow` until the job is over.

        They are the supervisor's word. When it says that they were all, they are
        compared with the receipt.

        Args:
            job: What `submit` returned, or an id, or a digest.
            follow: Whether to wait for lines.
            on_quiet: Called once if there is neither a line nor an end for the first
                two seconds.
            verify: False leaves the comparison to the caller (see `Transcript`).

        Raises:
            ReceiptError: behind the last line, if the lines are not what a trusted
                runner signed.
        """
        if isinstance(job, str):
            job_id, transcript = job, Transcript(may_repeat=True)
        else:
            job_id, transcript = job.id, Transcript.of(job)
        lines = self._lines(job_id, on_quiet, follow=follow)
        while True:
            try:
                line = next(lines)
            except StopIteration:
                return
            except ReceiptError:
                # The supervisor has compared them, too.
                if verify:
                    raise
                return
            if line is not None:
                transcript.add(line)
                yield line
            elif verify and self._root is not None:
                self._require_signed(job, transcript)

    def _require_signed(self, job: Submitted | str, transcript: Transcript) -> None:
        if transcript.agreement(self.outcome(job)) is Agreement.DIFFERENT:
            job_id = job if isinstance(job, str) else job.id
            raise ReceiptError(
                f"the output of job {job_id} that was shown is not what the runner"
                " signed"
            )

    def _lines(
        self, job_id: str, on_quiet: Callable[[], None] | None, *, follow: bool
    ) -> Iterator[LogLine | None]:
        """Yield lines as `logs` does, and None behind the last one of all."""
        after: str | None = None
        quiet = _Quiet(on_quiet)
        while True:
            wait = quiet.wait() if follow else 0
            with about_job(job_id):
                page = self._waiting(
                    "job.logs", job_id=job_id, after=after, limit=_LINES, wait=wait
                )
            if page is not None:
                for line in page["lines"]:
                    quiet.end()
                    yield _line(line)
                after = page["next"]
                if page["ended"]:
                    yield None
                if page["ended"] or not (follow or page["lines"]):
                    return
            quiet.pass_on()

    def status(self, job_id: str) -> dict[str, Any]:
        """Return the status object of protocol section 7.

        Raises:
            ReceiptError: if the job is shown as over, and not as a trusted runner
                signed it.
        """
        with about_job(job_id):
            told = dict(self.call("job.status", job_id=job_id))
            if self._root is None or told["status"] not in TERMINAL:
                return told
            record = self.get(job_id)
            outcome = self._proven(record, _expected(record, asked_for=job_id))
            if (told["status"], told["reason"]) != (outcome.status, outcome.reason):
                raise ReceiptError(
                    f"it is shown as {told['status']}, and its record says"
                    f" {outcome.status.value}"
                )
            return told

    def get(self, job_id: str) -> dict[str, Any]:
        """Return the record of protocol section 7, unverified."""
        return dict(self.call("job.get", job_id=job_id))

    def why(self, job_id: str) -> dict[str, Any]:
        """Return the one thing that holds the job now, or what ended it."""
        return dict(self.call("job.why", job_id=job_id))

    def stop(self, job_id: str) -> dict[str, Any]:
        """Stop a job and return its status object; a second time changes nothing."""
        return dict(self.call("job.stop", job_id=job_id))

    def delete(self, job_id: str) -> None:
        """Delete a job; one that is not over is stopped first."""
        self.call("job.delete", job_id=job_id)

    def list(self, **wanted: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - the filters of jobs.list
        """Return records, newest first, that agree with every given filter.

        Long ones are fewer than the `limit`: go on with `after` until there are none.
        """
        return list(self.call("jobs.list", **wanted))

    def info(self) -> dict[str, Any]:
        """Return what the supervisor says of itself."""
        return dict(self.call("get_supervisor_info"))

    # --- proof ---------------------------------------------------------------

    def trust(self, *, fresh: bool = False) -> Trust:
        """Return the trust bundle, checked against the root key.

        Raises:
            ConfigurationError: if this client was given no root key.
            SignatureError: if the root did not sign what the supervisor distributes.
        """
        if self._root is None:
            raise ConfigurationError("this client has no root key: pass root=…")
        if self._trusted is None or fresh:
            text = json.dumps(self.call("trust.get"))
            newest = read_trust(text, self._root)
            known = self._trusted
            if known is not None and newest.version < known.version:
                raise ReceiptError(
                    f"the supervisor now shows trust bundle {newest.version}, older"
                    f" than {known.version} which it showed before"
                )
            self._trusted = newest
        return self._trusted

    def proven(self, record: Mapping[str, Any], job: Submitted) -> Outcome:
        """Return what a record shows of a job, as far as it may be shown as true.

        Raises:
            ReceiptError: if that is not what a trusted runner signed.
        """
        return self._proven(record, _expected_of(job))

    def _proven(self, record: Mapping[str, Any], expected: Expected) -> Outcome:
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

    # --- transport -----------------------------------------------------------

    def call(self, method: str, **params: Any) -> Any:  # noqa: ANN401 - whatever the method answers
        """Call any method of the supervisor and return its result.

        Raises:
            RpcError: if the answer is an error.
            UnavailableError: if nobody answers at the URL.
        """
        wait = timedelta(seconds=params.get("wait") or 0)
        if method in _DRAINING:
            wait = _DRAIN
        if method in _DELETING:
            wait = _STOPPING
        request = {
            "jsonrpc": "2.0",
            "id": next(self._ids),
            "method": method,
            "params": params,
        }
        try:
            response = self._http.post(
                self._url, json=request, timeout=(wait + PATIENCE).total_seconds()
            )
        except httpx.InvalidURL:
            raise ConfigurationError(f"{self._url} is not a URL") from None
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"no supervisor answers at {self._url} ({type(error).__name__});"
                " start one with `horus up`, or name another with --url"
            ) from None
        return _result(response, url=self._url)

    def _waiting(self, method: str, **params: Any) -> Any | None:  # noqa: ANN401 - as in call
        """Make a call that waits, and return its result, or None if it is to go on."""
        began = time.monotonic()
        try:
            return self.call(method, **params)
        except RpcError as error:
            if error.code != NOT_OVER:
                raise
        # At once, if too many callers wait already; then it is on us to wait.
        left = _PAUSE.total_seconds() - (time.monotonic() - began)
        time.sleep(max(0.0, left))
        return None


class _Quiet:
    """Makes a call once, when nothing was heard for a time."""

    def __init__(self, call: Callable[[], None] | None) -> None:
        self._call = call
        self._at = time.monotonic() + QUIET.total_seconds()

    def wait(self) -> float:
        """Return how many seconds one may wait now."""
        wait = WAIT.total_seconds()
        if self._call is None:
            return wait
        return min(wait, max(0.0, self._at - time.monotonic()))

    def end(self) -> None:
        """Something was heard: nobody need be called."""
        self._call = None

    def pass_on(self) -> None:
        """Make the call, if it is time for it."""
        call = self._call
        if call is not None and time.monotonic() >= self._at:
            self._call = None
            call()


@contextmanager
def about_job(job_id: str) -> Iterator[None]:
    """Have every error name the job that it is about."""
    try:
        yield
    except HorusError as error:
        if job_id not in error.detail:
            error.detail = f"job {job_id}: {error.detail}"
            error.args = (error.detail,)
        raise


def _line(line: Mapping[str, Any]) -> LogLine:
    cursor: str = line["cursor"]
    return LogLine(
        cursor=cursor.removesuffix("+"),
        at=from_ms(line["at"]),
        stream=Stream(line["stream"]),
        text=line["text"],
        ends_line=not cursor.endswith("+"),
    )


def _result(response: httpx.Response, *, url: str) -> Any:  # noqa: ANN401 - as in call
    try:
        answer = response.json()
        error = answer.get("error")
        if error is None:
            return answer["result"]
        data = error["data"]
        detail = data["detail"] or error["message"]
        raised: HorusError = RpcError(
            error["code"],
            detail,
            reason=data["reason"] or error["message"],
            retryable=data["retryable"],
        )
        if data["reason"] == MISMATCH:
            raised = ReceiptError(detail)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UnavailableError(
            f"what answers at {url} is no Horus supervisor"
            f" (HTTP status {response.status_code}); check --url"
        ) from None
    raise raised


def _instant(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)


def _digest(job: Upstream) -> str:
    """Return the digest by which a job names another one.

    Raises:
        JobNotCompleted: if it is known that nothing can build on that.
    """
    if isinstance(job, str):
        return job
    if isinstance(job, Outcome) and not job.succeeded:
        raise JobNotCompleted(job)
    return job.digest


def _input(job: Upstream | InputRef) -> InputRef:
    """Return how a job names another one's result.

    Raises:
        JobNotCompleted: as `_digest`.
    """
    if isinstance(job, InputRef):
        return job
    size = MAX_INPUT
    if isinstance(job, Outcome):
        size = len((job.result or "").encode())
    return InputRef.from_wire({"from": _digest(job), "max_bytes": size})


def _expected_of(job: Submitted) -> Expected:
    return Expected(
        digest=job.digest,
        job_id=job.id,
        aud=job.job.aud,
        executor=job.job.executor,
        context_id=job.job.context_id,
        runner=job.job.runner,
    )


def _expected(record: Mapping[str, Any], *, asked_for: str) -> Expected:
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
    result = (record["result"] or "").encode()
    if hashlib.sha256(result).hexdigest() != receipt.result.sha256:
        raise ReceiptError("the result is not the one that the runner signed")
