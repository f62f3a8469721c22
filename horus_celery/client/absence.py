"""How long a supervisor may be away for which somebody waits, and who is told of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final, TypeVar

from horus_celery.client.connection import Connection, RpcError
from horus_celery.errors import UnavailableError

_T = TypeVar("_T")

#: How long a supervisor that was there may be away before its client gives up.
AWAY: Final = timedelta(seconds=60)
#: Between two calls while it is.
RETRY: Final = timedelta(seconds=1)


class Absence:
    """Makes calls until they are answered, for as long as a supervisor may be away.

    One that never answered is not waited for: it may well not be there at all.
    """

    def __init__(
        self,
        connection: Connection,
        tell: Callable[[str], None] | None = None,
        *,
        patience: timedelta | None = None,
        retry: timedelta | None = None,
    ) -> None:
        """Take whose calls they are.

        Args:
            connection: The connection to the supervisor.
            tell: Told, for a person, that it is away, and that it is back.
            patience: How long it may be; `AWAY` by default.
            retry: Between two calls; `RETRY` by default.
        """
        self._connection = connection
        self._tell = tell or (lambda _: None)
        self._patience = AWAY if patience is None else patience
        self._retry = RETRY if retry is None else retry
        self._since: float | None = None

    def insist(self, call: Callable[[], _T]) -> _T:
        """Return what a call returns, as soon as somebody answers it.

        Raises:
            UnavailableError: if nobody does for as long as one may be away.
            RpcError: if the answer is an error that the same call would meet again.
        """
        while True:
            try:
                answer = call()
            except (UnavailableError, RpcError) as error:
                self._bear(error)
            else:
                self._end()
                return answer

    def _bear(self, error: UnavailableError | RpcError) -> None:
        may_end = error.is_retryable if isinstance(error, RpcError) else error.retryable
        if not may_end or not self._connection.has_answered:
            raise error
        limit = f"{self._patience.total_seconds():g} s"
        if self._since is None:
            self._since = time.monotonic()
            self._tell(f"waiting: {_what(error)}; asked again for {limit}")
        elif time.monotonic() - self._since > self._patience.total_seconds():
            raise UnavailableError(
                f"the supervisor at {self._connection.url} has been away for {limit}"
                f" ({_what(error)}); what it was handed goes on without this command"
            ) from None
        time.sleep(self._retry.total_seconds())

    def _end(self) -> None:
        if self._since is not None:
            self._since = None
            self._tell("the supervisor answers again")


def _what(error: UnavailableError | RpcError) -> str:
    if isinstance(error, RpcError):
        return f"the supervisor cannot tell now: {error.detail}"
    return "the supervisor does not answer"
