"""Everything that can go wrong, as one tree: a branch says what the caller should do.

HorusError
├── RefusedError           never, as it stands: a statement is not what it must be
│   ├── MalformedError         env.* json.* schema.*
│   ├── SignatureError         sig.*
│   ├── NotCoveredError        bind.* auth.*
│   ├── TimeError              time.*
│   ├── WorkflowError          workflow.*
│   ├── InputError             input.*
│   └── ClaimError             claim.*
├── NotFoundError          elsewhere: there is no such thing here
├── ConflictError          differently: it stands in the way of what is there
│   ├── IdTaken                another job of that context has this id
│   ├── IdAmbiguous            jobs of several contexts have this id
│   └── IllegalTransition      the record's status does not allow the event
├── TooLargeError          smaller
├── UnauthenticatedError   with a secret
├── ForbiddenError         with another secret
├── TooManyError           later: it asks too often
├── UnavailableError       later: Redis is away
│   └── DamagedError           once somebody has mended what stands in Redis
├── NotOverError           later: the job is not over yet
├── ReceiptError           not at all: what was shown is not what a runner signed
└── ConfigurationError     after mending the setting, file or machine that it names
"""

from __future__ import annotations

from typing import ClassVar


class HorusError(Exception):
    """The root of the tree; its text names the thing and, if there is one, the remedy.

    The text may be shown to anybody: it never holds a secret or a payload.
    """

    #: Whether the same request may succeed later without any change.
    retryable: ClassVar[bool] = False
    #: The word that programs read, as `data.reason` of an answer.
    reason: str

    def __init__(self, detail: str, *, reason: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason


class RefusedError(HorusError):
    """A statement was checked and refused (protocol section 5); `reason` is the code.

    `digest` identifies the refused bytes as far as they could be read, else None.
    """

    def __init__(self, reason: str, detail: str, *, digest: str | None = None) -> None:
        super().__init__(detail, reason=reason)
        self.digest = digest


class MalformedError(RefusedError):
    """The bytes have the wrong form: `env.*`, `json.*`, `schema.*`."""


class SignatureError(RefusedError):
    """No trusted key signed it: `sig.*`."""


class NotCoveredError(RefusedError):
    """It is meant for somebody else, or no grant covers it: `bind.*`, `auth.*`."""


class TimeError(RefusedError):
    """It is too late or too early for it: `time.*`."""


class WorkflowError(RefusedError):
    """Its steps do not hang together, or its jobs are not its steps': `workflow.*`.

    `names` are the steps that the text is about: of a cycle all of them, in order.
    """

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        names: tuple[str, ...] = (),
        digest: str | None = None,
    ) -> None:
        super().__init__(reason, detail, digest=digest)
        self.names = names


class InputError(RefusedError):
    """What it needs is not proven: `input.*`."""


class ClaimError(RefusedError):
    """The runner's journal does not let it start: `claim.*`."""


class NotFoundError(HorusError):
    """There is no such job, or it lies outside what the caller may see."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, reason="not_found")


class ConflictError(HorusError):
    """What is there already does not allow it."""


class IdTaken(ConflictError):
    """Another job, or another workflow, of the same context already has this id."""

    def __init__(self, job_id: str, context_id: str, *, what: str = "job") -> None:
        super().__init__(
            f"context {context_id} already has another {what} with the id {job_id};"
            " choose a new id",
            reason="id_taken",
        )
        self.job_id = job_id
        self.context_id = context_id


class IdAmbiguous(ConflictError):
    """Several contexts have this id, and the caller may see more than one."""

    def __init__(
        self, job_id: str, digests: tuple[str, ...], *, what: str = "job"
    ) -> None:
        super().__init__(
            f"{len(digests)} contexts have a {what} with the id {job_id};"
            f" name the {what} by its digest instead",
            reason="id_ambiguous",
        )
        self.job_id = job_id
        self.digests = digests


class IllegalTransition(ConflictError):
    """The table of transitions has no such arrow."""

    def __init__(self, status: str, event: str) -> None:
        super().__init__(
            f"a job that is {status} cannot be {event}", reason="illegal_transition"
        )
        self.status = status
        self.event = event


class TooLargeError(HorusError):
    """A request is larger than this deployment takes."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, reason="too_large")


class UnauthenticatedError(HorusError):
    """No secret was given, or one that nobody has."""

    def __init__(self) -> None:
        super().__init__(
            "this method needs a secret that is known here: send Authorization:"
            " Bearer SECRET",
            reason="unauthenticated",
        )


class ForbiddenError(HorusError):
    """The secret is right, its scope is not."""

    def __init__(self, method: str, needed: str) -> None:
        super().__init__(
            f"{method} needs a secret of the scope {needed}", reason="forbidden"
        )


class TooManyError(HorusError):
    """The caller has asked too often; the text says when to ask again."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, reason="too_many_requests")


class UnavailableError(HorusError):
    """Redis does not answer; nothing was lost, and the same call may be made again."""

    retryable = True

    def __init__(self, detail: str) -> None:
        super().__init__(detail, reason="unavailable")


class DamagedError(UnavailableError):
    """Redis answers, but something there is not what Horus wrote; the text names it.

    Only what stands there cannot be used: the store serves everything else.
    """


class NotOverError(HorusError):
    """The job is not over within the time that the caller wanted to wait."""

    retryable = True

    def __init__(self, detail: str) -> None:
        super().__init__(detail, reason="not_over")


class ReceiptError(HorusError):
    """What was shown is not what a trusted runner signed; believe nothing of it."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, reason="receipt_mismatch")


class ConfigurationError(HorusError):
    """A setting, a file or the machine is wrong; the text says what to do."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, reason="configuration")
