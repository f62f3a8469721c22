"""One connection's bytes, in the clear or through TLS, without ever waiting for any.

gunicorn writes an answer to it as to a socket. The answer is kept until it is sent, as
far as the other end takes it: who does not read costs memory, and no thread.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import struct
from contextlib import suppress
from typing import Final

#: The most that is received, or sent to a slow reader, at once.
PIECE: Final = 64 * 1024

_AT_ONCE: Final = struct.pack("ii", 1, 0)
_NOT_NOW: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError)
_IS_HTTP: Final = "HTTP_REQUEST"


class PlainHttp(OSError):
    """What came is no TLS but a request in the clear; it is answered on `line`."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self.line = line


class Line:
    """A connection; what is said on it waits until `send` has sent it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        self._sock = sock
        self._said: list[bytes] = []
        self._kept = b""
        self._unsent = memoryview(self._kept)

    # --- as gunicorn treats a socket ---------------------------------------------

    def sendall(self, data: bytes) -> None:
        """Say something; it is not sent yet."""
        self._said.append(data)

    def fileno(self) -> int:
        return self._sock.fileno()

    def setblocking(self, flag: object) -> None:
        """Stay as it is: nothing here ever blocks."""

    settimeout = setblocking

    def gettimeout(self) -> float:
        return 0.0

    def shutdown(self, how: int) -> None:
        """Refuse to wait for the other end: the event loop does."""
        raise OSError

    def close(self) -> None:
        if self.unsent:
            # What the kernel took of it is for nobody, either: it goes at once.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self.forget()
        self._sock.close()

    # --- what is said and heard --------------------------------------------------

    @property
    def unsent(self) -> int:
        """How many bytes wait to be sent."""
        return len(self._unsent) + sum(map(len, self._said))

    def forget(self) -> None:
        """Send nothing more of what was said."""
        self._said.clear()
        self._keep(b"")

    def send(self, *, limit: int | None = None) -> bool:
        """Send what was said as far as it goes, and say whether all of it is gone.

        Args:
            limit: Stop once so many bytes are gone: others want their turn.

        Raises:
            OSError: if there is nobody any more.
        """
        if self._said:
            # One packet and one system call for head and body.
            self._keep(b"".join((self._unsent, *self._said)))
            self._said.clear()
        end = 0 if limit is None else max(0, len(self._unsent) - limit)
        while len(self._unsent) > end:
            try:
                sent = self._sock.send(self._unsent)
            except (*_NOT_NOW, ssl.SSLWantWriteError):
                break
            self._unsent = self._unsent[sent:]
        if 2 * len(self._unsent) <= len(self._kept):
            # What is gone takes memory as long as what is left is a view of both.
            self._keep(bytes(self._unsent))
        return not self._unsent

    def _keep(self, data: bytes) -> None:
        self._kept, self._unsent = data, memoryview(data)

    def receive(self) -> bytes | None:
        """Return what there is, b"" at the end, or None if there is nothing now."""
        try:
            return self._receive()
        except (*_NOT_NOW, ssl.SSLWantWriteError):
            return None
        except OSError:
            return b""

    def _receive(self) -> bytes:
        return self._sock.recv(PIECE)

    # --- how it begins and ends --------------------------------------------------

    def open(self) -> int:
        """Go on with what comes before the first request.

        Returns:
            The event of `selectors` to wait for; 0 if the line is open.

        Raises:
            PlainHttp: if the caller speaks no TLS.
            OSError: if it cannot be opened.
        """
        return 0

    def hang_up(self) -> None:
        """Tell the other end that nothing more is said.

        Raises:
            OSError: if there is nobody any more.
        """
        self._sock.shutdown(socket.SHUT_WR)


class TlsLine(Line):
    """A connection through TLS."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        sock.settimeout(0)
        self._tls = context.wrap_socket(
            sock, server_side=True, do_handshake_on_connect=False
        )
        super().__init__(self._tls)

    def open(self) -> int:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            return selectors.EVENT_WRITE
        except ssl.SSLError as error:
            if error.reason != _IS_HTTP:
                raise
            plain = socket.socket(fileno=self._tls.detach())
            raise PlainHttp(Line(plain)) from None
        return 0

    def _receive(self) -> bytes:
        data = self._tls.recv(PIECE)
        # What is decrypted already makes no event.
        while left := self._tls.pending():
            data += self._tls.recv(left)
        return data

    def hang_up(self) -> None:
        # Says good-bye; whether the other end does, is not waited for.
        with suppress(OSError, ValueError):
            self._tls.unwrap()
        super().hang_up()
