"""How a process of a script calls HeroDB: words there, an answer back.

It costs a script little to have one: it connects when it is first called.
"""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from typing import Final, TypeAlias, cast
from urllib.parse import unquote, urlsplit

from horus_celery.herodb.replies import (
    BadReply,
    ErrorReply,
    NotYet,
    Replies,
    packed,
)

#: What one call answers: nothing, a number, bytes, or a list of such.
Reply: TypeAlias = "bytes | int | list[Reply] | None"
#: Seconds that one answer may take.
TIMEOUT: Final = 30.0
_CHUNK: Final = 64 * 1024


class DatabaseError(Exception):
    """HeroDB refused what was asked of it, or did not answer; `message` says why."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Database:
    """A connection to HeroDB, for one thread."""

    def __init__(self, url: str, *, timeout: float = TIMEOUT) -> None:
        """Take the address as `$HERODB_URL` holds it.

        Args:
            url: `unix:///PATH`.
            timeout: Seconds that one answer may take.

        Raises:
            DatabaseError: if it is no such address.
        """
        parts = urlsplit(url)
        if parts.scheme != "unix" or parts.netloc or parts.path[:1] != "/":
            raise DatabaseError("HERODB_URL is no address of the form unix:///PATH")
        self._path = unquote(parts.path)
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._replies = Replies()

    def call(self, *words: str | bytes | int) -> Reply:
        """Give one command, such as `call("SET", "name", "value")`.

        Raises:
            DatabaseError: if it is refused, or there is no answer.
        """
        if not words:
            raise DatabaseError("a command has at least one word")
        try:
            channel = self._connected()
            # Who takes no more of it has said why, before it went.
            with suppress(BrokenPipeError, ConnectionResetError):
                channel.sendall(packed(words))
            while isinstance(answer := self._replies.next(), NotYet):
                data = channel.recv(_CHUNK)
                if not data:
                    raise ConnectionResetError
                self._replies.feed(data)
        except (OSError, BadReply) as error:
            # Half an answer may be on its way: what comes next is not the next one's.
            self.close()
            why = getattr(error, "strerror", None) or str(error) or "no answer"
            raise DatabaseError(f"HeroDB does not answer: {why}") from None
        if isinstance(answer, ErrorReply):
            raise DatabaseError(str(answer))
        return cast("Reply", answer)

    def close(self) -> None:
        """End the connection; the next call makes another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._replies = Replies()

    def _connected(self) -> socket.socket:
        # Nothing is ever sent unasked: what can be read is the end of the connection.
        if self._socket is not None:
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            if poll.poll(0):
                self.close()
        return self._socket or self._connect()

    def _connect(self) -> socket.socket:
        channel = socket.socket(socket.AF_UNIX)
        try:
            channel.settimeout(self._timeout)
            channel.connect(self._path)
        except OSError:
            channel.close()
            raise
        self._socket = channel
        return channel
