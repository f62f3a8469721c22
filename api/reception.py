"""How gunicorn takes requests in: one gets a thread when it is here, not before.

gunicorn's own thread worker reads a request in the thread that answers it, without any
deadline, so whoever sends half a request keeps a thread. Here the worker's one event
loop collects the bytes, and connections of which nothing comes cost no thread at all;
when there are too many, the oldest of them makes room.
"""

from __future__ import annotations

import errno
import selectors
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

from gunicorn import http, util  # type: ignore[import-untyped]  # ships no types
from gunicorn.workers.gthread import (  # type: ignore[import-untyped]  # ships no types
    TConn,
    ThreadWorker,
)

from api.framing import PIECE, Arrival, BodyLimit, Stage

#: Seconds from the first byte of a request to its last, and from a connection to its
#: first byte; as long may a caller take to read an answer.
PATIENCE: Final = 10.0
#: Seconds that a caller has for reading the last answer before the connection goes.
LINGER: Final = 2.0

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_OUT_OF_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE})
_NOTHING_THERE: Final = frozenset(
    {errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED, errno.EINTR}
)


class Visitor(TConn):  # type: ignore[misc]  # gunicorn ships no types
    """A connection, with what has come of its next request."""

    arrival: Arrival
    #: What came behind the request that is being answered.
    rest = b""
    #: Its present request is the last one that can be made out.
    is_cut = False


class Reception(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's thread worker with an event loop that waits for whole requests."""

    #: Set as soon as the application is there; without it nobody may send a body.
    body_limit: BodyLimit = staticmethod(lambda authorization: 0)

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as in the base class
        super().__init__(*args, **kwargs)
        # Each in the order in which their time is over.
        self._arriving: OrderedDict[Visitor, None] = OrderedDict()
        self._leaving: OrderedDict[Visitor, None] = OrderedDict()

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:  # noqa: ANN401 - gunicorn's
        super().check_config(cfg, log)
        if cfg.is_ssl:
            sys.exit("the API cannot start: TLS is for a proxy in front of it")

    # --- they come -------------------------------------------------------------

    def accept(self, listener: socket.socket) -> None:
        if self.nr_conns + 1 >= self.worker_connections:
            self._make_room()
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in _OUT_OF_FILES:
                self._make_room()
            elif error.errno not in _NOTHING_THERE:
                raise
            return
        self.nr_conns += 1
        conn = Visitor(self.cfg, client, address, listener.getsockname())
        self._expect_request(conn)

    def on_client_socket_readable(self, conn: Visitor, client: socket.socket) -> None:
        """Take the next request of a connection that was kept."""
        if client.fileno() < 0:  # it made room a moment ago
            return
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._expect_request(conn)
        self.on_pending_socket_readable(conn, client)

    def on_pending_socket_readable(self, conn: Visitor, client: socket.socket) -> None:
        """Take in some bytes; the last ones of a request get it a thread."""
        if client.fileno() < 0:
            return
        data = _receive(client)
        if data:
            if not conn.arrival.data:
                self._give_time(conn)
            conn.arrival.data += data
        stage = conn.arrival.stage()
        if stage is not Stage.PARTIAL or data == b"":
            self._hand_on(conn, is_cut=stage is not Stage.WHOLE)
        elif conn.arrival.take_expectation():
            _try(lambda: client.send(_CONTINUE))

    def _expect_request(self, conn: Visitor) -> None:
        conn.arrival = Arrival(conn.rest, self.body_limit)
        conn.rest = b""
        self._give_time(conn)
        callback = partial(self.on_pending_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, callback)

    def _give_time(self, conn: Visitor) -> None:
        conn.timeout = time.monotonic() + PATIENCE
        self._arriving[conn] = None
        self._arriving.move_to_end(conn)

    def _hand_on(self, conn: Visitor, *, is_cut: bool) -> None:
        if not conn.arrival.data:
            self._drop(conn)
            return
        del self._arriving[conn]
        self.poller.unregister(conn.sock)
        conn.is_cut = is_cut
        conn.rest = b"" if is_cut else conn.arrival.rest()
        # It reads what is here and then an end: a thread never waits for bytes.
        conn.parser = http.get_parser(self.cfg, conn.arrival.pieces(), conn.client)
        conn.initialized = True
        self.enqueue_req(conn)

    # --- they are answered, in a thread ----------------------------------------

    def handle(self, conn: Visitor) -> bool:
        keep = super().handle(conn)
        # Bytes that were no part of the request as gunicorn reads it: two readings.
        return bool(keep) and not conn.parser.unreader.read()

    def handle_request(self, req: Any, conn: Visitor) -> bool:  # noqa: ANN401 - gunicorn's
        # Of one `sendall` as a whole: who does not read his answer goes without.
        conn.sock.settimeout(PATIENCE)
        if conn.is_cut:
            req.force_close()
        try:
            return bool(super().handle_request(req, conn))
        except TimeoutError:
            return False

    def handle_error(
        self,
        req: object,
        client: socket.socket,
        addr: object,
        exc: Exception,
    ) -> None:
        client.settimeout(PATIENCE)
        if not isinstance(exc, http.errors.ParseException):
            super().handle_error(req, client, addr, exc)
            return
        # Without its text: that quotes what was sent.
        self.log.warning("what came is no HTTP request: %s", type(exc).__name__)
        _try(lambda: util.write_error(client, 400, "Bad Request", ""))

    # --- they go ---------------------------------------------------------------

    def finish_request(self, conn: Visitor, fs: Future[bool]) -> None:
        """Keep a connection for its next request, or let it go."""
        if fs.cancelled() or fs.exception() is not None or not fs.result():
            self._part(conn)
            return
        super().finish_request(conn, fs)
        if conn.rest and conn.sock.fileno() >= 0:
            self.on_client_socket_readable(conn, conn.sock)

    def murder_pending(self) -> None:
        """Close what took too long."""
        now = time.monotonic()
        for waiting in (self._arriving, self._leaving):
            while waiting and next(iter(waiting)).timeout <= now:
                self._drop(next(iter(waiting)))

    def _part(self, conn: Visitor) -> None:
        """Close a connection once the last answer is read.

        Closing at once would take the answer away from a caller who still sends;
        gunicorn waits for him in its event loop, where everybody else waits, too.
        """
        if conn.sock.fileno() < 0:  # gunicorn did it
            self.nr_conns -= 1
            return
        conn.timeout = time.monotonic() + LINGER
        conn.sock.settimeout(0)
        self._leaving[conn] = None
        self.poller.register(
            conn.sock, selectors.EVENT_READ, partial(self._discard, conn)
        )
        if not _try(lambda: conn.sock.shutdown(socket.SHUT_WR)):
            self._drop(conn)

    def _discard(self, conn: Visitor, client: socket.socket) -> None:
        if client.fileno() >= 0 and _receive(client) == b"":
            self._drop(conn)

    def _make_room(self) -> None:
        """Close the connection that is most likely nobody's."""
        for waiting in (self._leaving, self._arriving):
            if waiting:
                self._drop(next(iter(waiting)))
                return
        if self.keepalived_conns:
            self._drop(self.keepalived_conns.popleft())

    def _drop(self, conn: Visitor) -> None:
        self._arriving.pop(conn, None)
        self._leaving.pop(conn, None)
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()


def _receive(client: socket.socket) -> bytes | None:
    """Return what there is, b"" at the end, or None if there is nothing now."""
    try:
        return client.recv(PIECE)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError:
        return b""


def _try(step: Callable[[], object]) -> bool:
    """Say whether the other end was still there for a step."""
    try:
        step()
    except OSError:
        return False
    return True
