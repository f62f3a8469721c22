"""The connection of one script's connection to the Redis behind it, logged in."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from horus_celery.errors import HorusError, UnavailableError
from horus_celery.herodb.replies import (
    BadReply,
    ErrorReply,
    NotYet,
    Replies,
    Value,
    packed,
)
from horus_celery.herodb.requests import MAX_REQUEST
from horus_celery.store.dialling import dial
from workers.herodb.budget import Account, TooMuch

#: How long one answer may take.
ANSWER: Final = timedelta(seconds=10)
#: How long a login that is refused is tried again: a Redis that was started again is
#: told its users within seconds.
PATIENCE: Final = timedelta(seconds=8)
_STEP: Final = timedelta(milliseconds=200)
#: Bytes of one answer.
MAX_ANSWER: Final = 2 * MAX_REQUEST
_CHUNK: Final = 64 * 1024
#: What an answer begins with that will be another one soon: of a Redis that was told
#: nothing of us yet, or has not read its data.
_SOON: Final = ("WRONGPASS", "LOADING", "NOAUTH", "ERR AUTH")


class CutOff(Exception):
    """There was no answer; the text is the error that the script is answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Where the Redis is, and who we are there."""

    url: str
    user: str
    #: The password as it is now.
    password: Callable[[], str]
    database: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What Redis answered: its very bytes, and what they say."""

    raw: bytes
    value: Value

    @property
    def error(self) -> str | None:
        """The text, if it is an error."""
        is_error = isinstance(self.value, ErrorReply)
        return str(self.value) if is_error else None


class Backend:
    """A connection to Redis as one user; it is made when it is needed."""

    def __init__(
        self,
        login: Login,
        ended: threading.Event,
        *,
        account: Account,
        patience: timedelta = PATIENCE,
    ) -> None:
        """Take who to be.

        Args:
            login: Where and as whom.
            ended: Set when nobody waits for answers any more.
            account: What counts the bytes of an answer while it comes.
            patience: How long a refused login is tried again.
        """
        self._login = login
        self._ended = ended
        self._account = account
        self._patience = patience
        self._socket: socket.socket | None = None
        self._replies = Replies()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, and the other end has not closed it."""
        if self._socket is not None and _is_cut_off(self._socket):
            self.close()
        return self._socket is not None

    def ask(self, words: Sequence[bytes | str | int], *, again: bool = False) -> Answer:
        """Give one command and return the answer.

        Args:
            words: The command.
            again: Whether it may be given twice: then a connection that turns out to
                have been cut off costs nothing.

        Raises:
            CutOff: if there is none.
        """
        was_connected = self.is_connected
        try:
            return self._ask(words)
        except CutOff:
            if not (again and was_connected):
                raise
        return self._ask(words)

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._replies = Replies()

    def interrupt(self) -> None:
        """Have another thread that waits for an answer get none."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _ask(self, words: Sequence[bytes | str | int]) -> Answer:
        channel = self._socket or self._connect()
        try:
            channel.sendall(packed(words))
            with self._account.released():
                return self._answer(channel)
        except TooMuch as error:
            self.close()
            raise CutOff(str(error)) from None
        except (OSError, BadReply) as error:
            self.close()
            raise CutOff(
                "IOERR HeroDB was cut off from its Redis: it is not known whether this"
                " was done"
            ) from error
        except CutOff:
            self.close()
            raise

    def _answer(self, channel: socket.socket) -> Answer:
        parts: list[bytes] = []
        size = 0
        while True:
            data = channel.recv(_CHUNK)
            if not data:
                raise ConnectionResetError
            size += len(data)
            self._account.hold(size)
            parts.append(data)
            if size > MAX_ANSWER:
                raise CutOff(
                    f"ERR the answer is larger than {MAX_ANSWER} bytes: ask for less"
                )
            self._replies.feed(data)
            value = self._replies.next()
            if not isinstance(value, NotYet):
                return Answer(b"".join(parts), value)

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + self._patience.total_seconds()
        while True:
            try:
                refusal = self._log_in()
            except (HorusError, OSError, BadReply) as error:
                refusal = _words(error)
                self.close()
            if self._ended.is_set():
                # Whoever interrupts us has not seen this connection.
                self.close()
                raise CutOff("IOERR the job is over")
            if refusal is None and self._socket is not None:
                return self._socket
            self.close()
            is_over = time.monotonic() > deadline
            if is_over or self._ended.wait(_STEP.total_seconds()):
                raise CutOff(f"IOERR HeroDB is not there: {refusal}")

    def _log_in(self) -> str | None:
        """Connect, and return why that came to nothing, if it did."""
        login = self._login
        channel = self._socket = dial(login.url, within=ANSWER)
        asked: list[tuple[bytes | str | int, ...]] = [
            ("AUTH", login.user, login.password())
        ]
        if login.database:
            asked.append(("SELECT", login.database))
        for words in asked:
            channel.sendall(packed(words))
            with self._account.released():
                error = self._answer(channel).error
            if error is not None:
                is_soon = error.startswith(_SOON)
                return "its users are not there yet" if is_soon else "it refuses us"
        return None


def _is_cut_off(channel: socket.socket) -> bool:
    """Whether the other end closed it while nothing was asked."""
    # Nothing is ever sent to us unasked: what can be read is the end.
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(0))


def _words(error: Exception) -> str:
    if isinstance(error, UnavailableError):
        return "its Redis does not serve"
    if isinstance(error, HorusError):
        return error.detail
    return "its Redis does not answer"
