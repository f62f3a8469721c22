"""What a caller may do: sign jobs, follow them, and have what became of them proven."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import httpx

from horus_celery.authoring.signing import Signer
from horus_celery.client.absence import Absence
from horus_celery.client.connection import Connection, about_job
from horus_celery.client.lines import lines_of
from horus_celery.client.proofs import Proofs, expected_by, expected_of
from horus_celery.client.quiet import Quiet
from horus_celery.client.upstream import Upstream, digest_of, input_of
from horus_celery.clock import Clock, SystemClock
from horus_celery.errors import ConfigurationError, ReceiptError
from horus_celery.lifecycle import TERMINAL
from horus_celery.outcome import JobNotCompleted, Outcome, Submitted
from horus_celery.statements import dsse
from horus_celery.statements.job import InputRef, Job, make_job
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.trust import Trust
from horus_celery.store.base import LogLine
from horus_celery.transcript import Agreement, Transcript

_NO_INPUTS: Final[Mapping[str, Upstream | InputRef]] = MappingProxyType({})


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
            ConfigurationError: if receipts are to be verified without a root key,
                `ca` holds no certificate, or `secret` is not even like a secret.
        """
        if verify and root is None:
            raise ConfigurationError(
                "receipts are verified against the root key: pass root=… (the 32 bytes"
                " of the state directory's root.pub), or verify=False to believe the"
                " supervisor"
            )
        self._connection = Connection(url, secret, ca=ca, transport=transport)
        self._proofs = Proofs(
            root if verify else None, fetch=partial(self.call, "trust.get")
        )
        self._key = key
        self._context = context
        self._caller = caller
        self._aud = aud
        self._clock = clock or SystemClock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def absence(
        self,
        on_away: Callable[[str], None] | None,
        *,
        patience: timedelta | None = None,
        retry: timedelta | None = None,
    ) -> Absence:
        """Return what makes calls again while the supervisor is away; see there."""
        return Absence(self._connection, on_away, patience=patience, retry=retry)

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
            needs=[digest_of(each) for each in needs],
            inputs={name: input_of(each) for name, each in inputs.items()},
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
        self,
        job: Submitted | str,
        *,
        on_quiet: Callable[[], None] | None = None,
        on_away: Callable[[str], None] | None = None,
    ) -> Outcome:
        """Wait until a job is over, however long it takes, and return its outcome.

        Given an id or a digest, what the job was is the supervisor's word; what became
        of it is proven all the same.

        Args:
            job: What `submit` returned, or an id, or a digest.
            on_quiet: Called if the job is not over after two seconds, and again, ever
                more seldom.
            on_away: Told, for a person, that the supervisor does not answer any more,
                and that it does again.

        Raises:
            ReceiptError: if the outcome is not what a trusted runner signed.
            UnavailableError: if a supervisor that has answered stays away for a minute.
        """
        job_id = job if isinstance(job, str) else job.id
        quiet, absence = Quiet(on_quiet), self.absence(on_away)

        def wait() -> object | None:
            return self._connection.wait("job.result", job_id=job_id, wait=quiet.wait())

        with about_job(job_id):
            while absence.insist(wait) is None:
                absence.insist(quiet.pass_on)
            return absence.insist(lambda: self._proven_end(job, job_id))

    def _proven_end(self, job: Submitted | str, job_id: str) -> Outcome:
        record = self.get(job_id)
        if isinstance(job, str):
            expected = expected_by(record, asked_for=job)
        else:
            expected = expected_of(job)
        return self._proofs.outcome(record, expected)

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
        on_away: Callable[[str], None] | None = None,
        verify: bool = True,
    ) -> Generator[LogLine]:
        """Yield the job's output lines; with `follow` until the job is over.

        They are the supervisor's word. When it says that they were all, they are
        compared with the receipt.

        Args:
            job: What `submit` returned, or an id, or a digest.
            follow: Whether to wait for lines.
            on_quiet: Called if there is neither a line nor an end for two seconds, and
                again, ever more seldom.
            on_away: As of `outcome`.
            verify: False leaves the comparison to the caller (see `Transcript`).

        Raises:
            ReceiptError: behind the last line, if the lines are not what a trusted
                runner signed.
        """
        if isinstance(job, str):
            job_id, transcript = job, Transcript(may_repeat=True)
        else:
            job_id, transcript = job.id, Transcript.of(job)
        lines = lines_of(
            job_id,
            self._connection,
            quiet=Quiet(on_quiet),
            absence=self.absence(on_away),
            follow=follow,
        )
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
            elif verify and self._proofs.are_wanted:
                self._require_signed(job, transcript)

    def _require_signed(self, job: Submitted | str, transcript: Transcript) -> None:
        if transcript.agreement(self.outcome(job)) is Agreement.DIFFERENT:
            job_id = job if isinstance(job, str) else job.id
            raise ReceiptError(
                f"the output of job {job_id} that was shown is not what the runner"
                " signed"
            )

    def status(self, job_id: str) -> dict[str, Any]:
        """Return the status object of protocol section 7.

        Raises:
            ReceiptError: if the job is shown as over, and not as a trusted runner
                signed it.
        """
        with about_job(job_id):
            told = dict(self.call("job.status", job_id=job_id))
            if not self._proofs.are_wanted or told["status"] not in TERMINAL:
                return told
            record = self.get(job_id)
            outcome = self._proofs.outcome(
                record, expected_by(record, asked_for=job_id)
            )
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

    def proven(self, record: Mapping[str, Any], job: Submitted) -> Outcome:
        """Return what a record shows of a job, as far as it may be shown as true.

        Raises:
            ReceiptError: if that is not what a trusted runner signed.
        """
        return self._proofs.outcome(record, expected_of(job))

    def trust(self, *, fresh: bool = False) -> Trust:
        """Return the trust bundle, checked against the root key.

        Raises:
            ConfigurationError: if this client was given no root key.
            SignatureError: if the root did not sign what the supervisor distributes.
            ReceiptError: if it is older than the one that was shown before.
        """
        return self._proofs.trust(fresh=fresh)

    def call(self, method: str, **params: Any) -> Any:  # noqa: ANN401 - whatever the method answers
        """Call any method of the supervisor and return its result.

        Raises:
            RpcError: if the answer is an error.
            UnavailableError: if nobody answers at the URL.
        """
        return self._connection.call(method, **params)
