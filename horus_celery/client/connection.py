"""How a supervisor is called, and what it means when the answer is none."""

from __future__ import annotations

import itertools
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx

from horus_celery import certificates
from horus_celery.errors import (
    ConfigurationError,
    HorusError,
    ReceiptError,
    UnavailableError,
)
from horus_celery.proof import MISMATCH

#: What an answer may take on top of the time that the call asked to wait.
PATIENCE: Final = timedelta(seconds=10)
#: Between two calls of which the first was sent away at once: too many callers wait.
_PAUSE: Final = timedelta(seconds=0.5)
#: Calls that end when a runner has finished what it runs, which may take a day.
_DRAINING: Final = frozenset({"stop_runner", "remove_runner"})
_DRAIN: Final = timedelta(days=1)
#: Calls that end when a script has that was told to stop, which may take five minutes.
_DELETING: Final = frozenset({"job.delete", "delete_job", "workflow.delete"})
_STOPPING: Final = timedelta(seconds=310)
_LOGIN: Final = re.compile(r"//[^/?#]*@")
#: What a balancer says for supervisors that do not; none of ours answers a call so.
_NONE_BEHIND: Final = frozenset(
    {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
)
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


class Connection:
    """A connection to one supervisor; it is made with the first call."""

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        ca: Path | None,
        transport: httpx.BaseTransport | None,
    ) -> None:
        if not secret or secret != secret.strip() or not _goes_into_a_header(secret):
            raise ConfigurationError(
                "the secret for the API is empty, or has what no secret has: white"
                " space around it, a line break, or a character that is not ASCII"
            )
        if _LOGIN.search(url):
            # Neither is repeated: what is said of a supervisor has its address.
            raise ConfigurationError(
                "the URL of the supervisor has a user or a password before an @: leave"
                " them out, the secret is all that it asks for"
            )
        self.url = url
        #: Whether there ever was a supervisor at the other end.
        self.has_answered = False
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {secret}"},
            verify=True if ca is None else certificates.believing(ca),
            transport=transport,
        )
        self._ids = itertools.count(1)

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, **params: Any) -> Any:  # noqa: ANN401 - whatever the method answers
        """Call any method of the supervisor and return its result.

        Raises:
            RpcError: if the answer is an error.
            ConfigurationError: if the URL is none.
            UnavailableError: if nobody answers there.
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
                self.url, json=request, timeout=(wait + PATIENCE).total_seconds()
            )
        except httpx.InvalidURL:
            raise ConfigurationError(f"{self.url} is not a URL") from None
        except httpx.UnsupportedProtocol:
            raise ConfigurationError(
                f"{self.url} is not a URL of a supervisor: it begins with http:// or"
                " https://"
            ) from None
        except httpx.ReadTimeout:
            raise UnavailableError(
                f"the supervisor at {self.url} does not answer in time: `horus doctor`"
                " on its machine says what is wrong"
            ) from None
        except httpx.HTTPError as error:
            if (disbelief := _disbelief(error)) is not None:
                raise UnavailableError(
                    f"the certificate of {self.url} is not believed"
                    f" ({disbelief.verify_message}): call it by a name that the"
                    " certificate has, and name the file with the certificate of who"
                    " signed it (HORUS_CA, or ca=… in Python)"
                ) from None
            raise UnavailableError(
                f"no supervisor answers at {self.url} ({type(error).__name__});"
                " start one with `horus up`, or name another with --url"
            ) from None
        result = _result(response, url=self.url)
        self.has_answered = True
        return result

    def wait(self, method: str, **params: Any) -> Any | None:  # noqa: ANN401 - as in call
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


def _disbelief(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """Return why the other end's certificate was not taken, if that ended a call."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def _goes_into_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _result(response: httpx.Response, *, url: str) -> Any:  # noqa: ANN401 - as in call
    if response.status_code in _NONE_BEHIND:
        raise UnavailableError(
            f"what passes calls on at {url} reached no supervisor, or not its answer"
            f" (HTTP status {response.status_code}): ask again"
        )
    try:
        answer = response.json()
        error = answer.get("error")
        if error is None:
            return answer["result"]
        data = error["data"]
        reason = data["reason"] or error["message"]
        # That of a workflow names its reason itself; whoever shows it does so again.
        detail = (data["detail"] or error["message"]).removeprefix(f"{reason}: ")
        raised: HorusError = RpcError(
            error["code"],
            detail,
            reason=reason,
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
