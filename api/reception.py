"""How gunicorn takes requests in: one gets a thread when it is here, not before.

gunicorn's own thread worker reads a request in the thread that answers it, without any
deadline, so whoever sends half a request keeps a thread. Here the worker's one event
loop collects the bytes, and connections of which nothing comes cost no thread at all;
when there are too many, the oldest of them makes room. Nor does an answer that is not
read keep a thread: what the other end does not take at once, the event loop sends.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from gunicorn import http, util  # type: ignore[import-untyped]  # ships no types
from gunicorn.workers.gthread import (  # type: ignore[import-untyped]  # ships no types
    STOP_KEEPALIVE_LINGER,
    TConn,
    ThreadWorker,
)

from api.framing import Arrival, BodyLimit, Stage
from api.line import Line, PlainHttp, TlsLine
from horus_celery.certificates import Certificate
from horus_celery.errors import ConfigurationError

#: Seconds from the first byte of a request to its last, from a connection to its first
#: byte, and for a handshake; as long may a caller take none of his answer.
PATIENCE: Final = 10.0
#: Seconds that a caller has for reading the last answer before the connection goes.
LINGER: Final = 2.0
#: The most that is sent to one slow reader before the others have their turn, in bytes.
TURN: Final = 256 * 1024
#: What all answers together may hold that are not read, in bytes.
MAX_UNSENT: Final = 256 * 1024 * 1024

#: What all requests together may hold that are on their way or wait for a thread, in
#: bytes: who sends most to nobody's use makes room.
MAX_ARRIVING: Final = 128 * 1024 * 1024

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_SAYS_HTTPS: Final = b"400 Bad Request: this port speaks HTTPS; call it by https://\n"
_NOT_TLS: Final = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_SAYS_HTTPS), _SAYS_HTTPS)
)
_OUT_OF_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE})
_NOTHING_THERE: Final = frozenset(
    {errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED, errno.EINTR}
)


class Visitor(TConn):  # type: ignore[misc]  # gunicorn ships no types
    """A connection, with what has come of its next request."""

    sock: Line
    arrival: Arrival
    #: What an event on the line means at present.
    react: Callable[[Visitor], None]
    #: Bytes of its present request that lie here.
    held = 0
    #: The event that the poller waits for on the line; 0 is none.
    watched = 0
    #: What came behind the request that is being answered.
    rest = b""
    #: Its present request is the last one that can be made out.
    is_cut = False
    #: There may be another request behind the present one.
    stays = False


class Reception(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's thread worker with an event loop that waits for whole requests."""

    #: What it listens on.
    sockets: list[socket.socket]
    #: Set as soon as the application is there; without it nobody may send a body.
    body_limit: BodyLimit = staticmethod(lambda authorization: 0)

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as in the base class
        super().__init__(*args, **kwargs)
        self._certificate: Certificate | None = None
        if self.cfg.is_ssl:
            self._certificate = Certificate(
                Path(self.cfg.certfile), Path(self.cfg.keyfile)
            )
        # Each in the order in which their time is over.
        self._arriving: OrderedDict[Visitor, None] = OrderedDict()
        self._sending: OrderedDict[Visitor, None] = OrderedDict()
        self._leaving: OrderedDict[Visitor, None] = OrderedDict()
        #: Who is answered, or waits for a thread.
        self._served: set[Visitor] = set()
        #: Bytes of all requests that lie here, at most.
        self._held = 0

    def init_process(self) -> None:
        # Workers of one server take turns.
        _keep_to_one_processor(self.ppid + self.age)
        super().init_process()

    # --- they come -------------------------------------------------------------

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001 - as in the base class
        if self.alive:
            super().set_accept_enabled(enabled)
            return
        for listener in self.sockets:
            # Who is connected already is still heard.
            for _ in range(self.cfg.backlog):
                if not self._let_in(listener):
                    break
        super().set_accept_enabled(False)
        # Left open, the kernel would connect others, whom nobody hears. Who is refused
        # goes elsewhere at once; so does a balancer.
        for listener in self.sockets:
            listener.close()
        self.sockets = []

    def accept(self, listener: socket.socket) -> None:
        self._let_in(listener)

    def _let_in(self, listener: socket.socket) -> bool:
        """Let in one connection, and say whether there was one."""
        if self.nr_conns + 1 >= self.worker_connections:
            self._make_room()
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in _OUT_OF_FILES:
                self._make_room()
            elif error.errno not in _NOTHING_THERE:
                raise
            return False
        try:
            line = self._line(client)
        except OSError:  # it is gone already
            client.close()
            return True
        self.nr_conns += 1
        conn = Visitor(self.cfg, line, address, listener.getsockname())
        self._give_time(conn, self._arriving)
        self._open(conn)
        return True

    def _line(self, client: socket.socket) -> Line:
        if self._certificate is None:
            return Line(client)
        try:
            self._certificate.refresh()
        except ConfigurationError as error:
            self.log.warning("%s; the certificate stays the one before", error)
        return TlsLine(client, self._certificate.context)

    def _open(self, conn: Visitor) -> None:
        """Go on with a handshake."""
        try:
            wanted = conn.sock.open()
        except PlainHttp as error:
            conn.sock = error.line
            conn.sock.sendall(_NOT_TLS)
            self._send_on(conn)
        except OSError:
            # It may have to be told why.
            self._part(conn)
        else:
            if wanted:
                self._watch(conn, wanted, self._open)
            else:
                self._expect_request(conn)

    def _expect_request(self, conn: Visitor) -> None:
        conn.arrival = Arrival(conn.rest, self.body_limit)
        self._hold(conn, len(conn.rest))
        conn.rest = b""
        self._give_time(conn, self._arriving)
        self._watch(conn, selectors.EVENT_READ, self._take_in)
        # Perhaps it is here already.
        self._take_in(conn)

    def _take_in(self, conn: Visitor) -> None:
        """Take in some bytes; the last ones of a request get it a thread."""
        data = conn.sock.receive()
        if data:
            if not conn.arrival.data:
                self._give_time(conn, self._arriving)
            conn.arrival.data += data
            self._hold(conn, conn.held + len(data))
            if conn not in self._arriving:
                return  # it made room
        stage = conn.arrival.stage()
        if stage is not Stage.PARTIAL or data == b"":
            self._hand_on(conn, is_cut=stage is not Stage.WHOLE)
        elif conn.arrival.take_expectation():
            conn.sock.sendall(_CONTINUE)
            _try(conn.sock.send)

    def _hand_on(self, conn: Visitor, *, is_cut: bool) -> None:
        if not conn.arrival.data:
            self._drop(conn)
            return
        del self._arriving[conn]
        self._served.add(conn)
        # Mostly nothing comes meanwhile, and the poller need not be told twice.
        conn.react = self._look_away
        conn.is_cut = is_cut
        conn.rest = b"" if is_cut else conn.arrival.rest()
        # It reads what is here and then an end: a thread never waits for bytes.
        conn.parser = http.get_parser(self.cfg, conn.arrival.pieces(), conn.client)
        conn.initialized = True
        self.enqueue_req(conn)

    def _look_away(self, conn: Visitor) -> None:
        """Leave lying what comes while a request is answered."""
        # Mostly it is answered already, and this loop has only not heard of it.
        self.method_queue.run_callbacks(None)
        if conn.react == self._look_away:
            self._watch(conn, 0, self._look_away)
        else:
            _react(conn, conn.sock)

    # --- they are answered, in a thread ----------------------------------------

    def handle(self, conn: Visitor) -> bool:
        keep = super().handle(conn)
        try:
            conn.sock.send()
        except OSError:
            conn.sock.forget()
            return False
        # Bytes that were no part of the request as gunicorn reads it: two readings.
        return bool(keep) and not conn.parser.unreader.read()

    def handle_request(self, req: Any, conn: Visitor) -> bool:  # noqa: ANN401 - gunicorn's
        if conn.is_cut:
            req.force_close()
        return bool(super().handle_request(req, conn))

    def handle_error(
        self,
        req: object,
        client: Line,
        addr: object,
        exc: Exception,
    ) -> None:
        if not isinstance(exc, http.errors.ParseException):
            super().handle_error(req, client, addr, exc)
            return
        # Without its text: that quotes what was sent.
        self.log.warning("what came is no HTTP request: %s", type(exc).__name__)
        util.write_error(client, 400, "Bad Request", "")

    # --- they go, or stay ------------------------------------------------------

    def finish_request(self, conn: Visitor, fs: Future[bool]) -> None:
        """Keep a connection for its next request, or let it go."""
        self._served.discard(conn)
        self._hold(conn, 0)
        conn.stays = not fs.cancelled() and fs.exception() is None and fs.result()
        self._send_on(conn)

    def _send_on(self, conn: Visitor) -> None:
        """Send what is left of an answer, as far as it is taken."""
        before = conn.sock.unsent
        try:
            is_sent = conn.sock.send(limit=TURN)
        except OSError:
            self._drop(conn)
            return
        if not is_sent:
            if conn not in self._sending or conn.sock.unsent < before:
                self._give_time(conn, self._sending)
            self._watch(conn, selectors.EVENT_WRITE, self._send_on)
            self._limit_unsent()
            return
        self._sending.pop(conn, None)
        if not conn.stays:
            self._part(conn)
        elif conn.rest:
            self._expect_request(conn)
        else:
            self._keep(conn)

    def _limit_unsent(self) -> None:
        left = sum(conn.sock.unsent for conn in self._sending)
        while left > MAX_UNSENT:
            first = next(iter(self._sending))
            left -= first.sock.unsent
            self._drop(first)

    def _keep(self, conn: Visitor) -> None:
        conn.set_timeout()
        if not self.alive:
            # As gunicorn does while it ends.
            conn.timeout = min(conn.timeout, time.monotonic() + STOP_KEEPALIVE_LINGER)
        self.keepalived_conns.append(conn)
        self._watch(conn, selectors.EVENT_READ, self._begin_again)

    def _begin_again(self, conn: Visitor) -> None:
        """Take the next request of a connection that was kept."""
        self.keepalived_conns.remove(conn)
        self._expect_request(conn)

    def _part(self, conn: Visitor) -> None:
        """Close a connection once the last answer is read.

        Closing at once would take the answer away from a caller who still sends;
        gunicorn waits for him in its event loop, where everybody else waits, too.
        """
        self._arriving.pop(conn, None)
        conn.timeout = time.monotonic() + LINGER
        self._leaving[conn] = None
        self._watch(conn, selectors.EVENT_READ, self._discard)
        if not _try(conn.sock.hang_up):
            self._drop(conn)

    def _discard(self, conn: Visitor) -> None:
        if conn.sock.receive() == b"":
            self._drop(conn)

    def murder_pending(self) -> None:
        """Close what took too long."""
        now = time.monotonic()
        for waiting in (self._arriving, self._sending, self._leaving):
            while waiting and next(iter(waiting)).timeout <= now:
                self._drop(next(iter(waiting)))

    def _make_room(self) -> None:
        """Close the connection that is most likely nobody's."""
        for waiting in (self._leaving, self._arriving):
            if waiting:
                self._drop(next(iter(waiting)))
                return
        if self.keepalived_conns:
            self._drop(self.keepalived_conns.popleft())
        elif self._sending:
            self._drop(next(iter(self._sending)))

    def _hold(self, conn: Visitor, size: int) -> None:
        """Note how much of a request lies here; who sends most may have to go."""
        self._note_held(conn, size)
        if self._held > MAX_ARRIVING:
            for one in self._served:
                # What was read since lies here no more.
                self._note_held(one, len(one.arrival.data))
        if self._held > MAX_ARRIVING and self._arriving:
            self._drop(max(self._arriving, key=lambda one: one.held))

    def _note_held(self, conn: Visitor, size: int) -> None:
        self._held += size - conn.held
        conn.held = size

    def _drop(self, conn: Visitor) -> None:
        self._note_held(conn, 0)
        for waiting in (self._arriving, self._sending, self._leaving):
            waiting.pop(conn, None)
        self._watch(conn, 0, self._drop)
        self.nr_conns -= 1
        conn.close()

    # --- meanwhile ---------------------------------------------------------------

    def _give_time(self, conn: Visitor, waiting: OrderedDict[Visitor, None]) -> None:
        conn.timeout = time.monotonic() + PATIENCE
        waiting[conn] = None
        waiting.move_to_end(conn)

    def _watch(
        self, conn: Visitor, events: int, react: Callable[[Visitor], None]
    ) -> None:
        """Wait for events on a line, of which 0 is none, and say what they mean."""
        conn.react = react
        if events == conn.watched:
            return
        if not events:
            self.poller.unregister(conn.sock)
        elif conn.watched:
            self.poller.modify(conn.sock, events, partial(_react, conn))
        else:
            self.poller.register(conn.sock, events, partial(_react, conn))
        conn.watched = events


def _keep_to_one_processor(number: int) -> None:
    """Have all threads of this process run on one processor, chosen by a number.

    They share one interpreter lock, and a request lets go of it twenty times: handing
    it from processor to processor would cost half as much again as the request.
    """
    free = sorted(os.sched_getaffinity(0))
    with suppress(OSError):  # where that is forbidden, it is slower
        os.sched_setaffinity(0, {free[number % len(free)]})


def _react(conn: Visitor, _: Line) -> None:
    # It may have made room a moment ago.
    if conn.sock.fileno() >= 0:
        conn.react(conn)


def _try(step: Callable[[], object]) -> bool:
    """Say whether the other end was still there for a step."""
    try:
        step()
    except OSError:
        return False
    return True
