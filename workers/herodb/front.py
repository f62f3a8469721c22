"""Where the scripts of one job find HeroDB: a socket in the job's room, served by us.

A script never sees a password: who it is follows from the socket that it reached. It
is served by threads of this process for as long as its job runs, whatever it does.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from horus_celery.herodb import requests
from horus_celery.herodb.requests import BadProtocol, Requests
from workers.herodb.conversation import Conversation

#: Connections that one job has at a time.
MAX_CONNECTIONS: Final = 16
#: How long a script may take to take an answer.
SLOW: Final = timedelta(seconds=30)
#: How long threads may take to end that were told to.
_LEAVE: Final = timedelta(seconds=2)
_CHUNK: Final = 64 * 1024
#: Answers that are gathered while requests are there already.
_GATHERED: Final = 64 * 1024
#: As the kernel has it: seconds, and microseconds.
_TIME: Final = struct.Struct("ll")
_FULL: Final = f"ERR max number of clients reached: {MAX_CONNECTIONS} of one job"
_logger: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """What serves one connection, and how it is kept from waiting any longer."""

    conversation: Conversation
    interrupt: Callable[[], None]
    close: Callable[[], None]


@contextmanager
def front(
    name: str,
    folder: int,
    *,
    owner: int | None,
    begin: Callable[[threading.Event], Talk],
) -> Iterator[None]:
    """Listen in a folder until the block ends, and for nobody any longer.

    Args:
        name: What the socket is called there.
        folder: A descriptor of the folder.
        owner: The user who may connect, if that is not this process's own.
        begin: Makes what serves one connection; it is given what is set at the end.

    Raises:
        OSError: if it cannot be listened there.
    """
    with _listening(name, folder, owner) as listener:
        desk = _Front(listener, begin)
        desk.start()
        try:
            yield
        finally:
            desk.close()


@contextmanager
def _listening(name: str, folder: int, owner: int | None) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as one:
        # The room's own path may be longer than the address of a socket.
        one.bind(f"/proc/self/fd/{folder}/{name}")
        os.chmod(name, 0o600, dir_fd=folder)
        if owner is not None:
            os.chown(name, owner, owner, dir_fd=folder, follow_symlinks=False)
        one.listen(MAX_CONNECTIONS)
        one.settimeout(0)
        yield one


class _Front:
    """Takes connections, and gives a thread to each."""

    def __init__(
        self, listener: socket.socket, begin: Callable[[threading.Event], Talk]
    ) -> None:
        self._listener = listener
        self._begin = begin
        self._ended = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, _Connection] = {}
        self._thread = threading.Thread(
            target=self._take, name="herodb-front", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End all of it; who does not end in time is left to itself."""
        self._ended.set()
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)
        with self._lock:
            left = dict(self._open)
        for connection in left.values():
            connection.interrupt()
        for thread in left:
            thread.join(_LEAVE.total_seconds())
            if thread.is_alive():
                _logger.warning("a connection to herodb does not end")

    def _take(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            poll.poll()
            if self._ended.is_set():
                return
            # A script that has connected and gone, or no descriptors for now.
            with suppress(OSError):
                channel, _ = self._listener.accept()
                self._serve(channel)

    def _serve(self, channel: socket.socket) -> None:
        with self._lock:
            is_full = len(self._open) >= MAX_CONNECTIONS
        if is_full:
            with channel, suppress(OSError):
                channel.settimeout(0)
                channel.send(requests.error(_FULL))
            return
        connection = _Connection(channel, self._begin(self._ended))
        thread = threading.Thread(
            target=self._run, args=(connection,), name="herodb-talk", daemon=True
        )
        with self._lock:
            self._open[thread] = connection
        try:
            thread.start()
        except RuntimeError:
            # There can be no more threads now; the script is told nothing at all.
            self._forget(thread)
            connection.close()

    def _run(self, connection: _Connection) -> None:
        try:
            connection.serve()
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it
            _logger.error("herodb broke", error=type(error).__name__)  # noqa: TRY400 - its text may quote a script's data
        finally:
            connection.close()
            self._forget(threading.current_thread())

    def _forget(self, thread: threading.Thread) -> None:
        with self._lock:
            self._open.pop(thread, None)


class _Connection:
    """One connection of a script."""

    def __init__(self, channel: socket.socket, talk: Talk) -> None:
        self._channel = channel
        self._talk = talk
        self._requests = Requests()

    def serve(self) -> None:
        """Answer until one of both has enough."""
        channel = self._channel
        # For answers alone: a script may keep a connection that it does not use.
        channel.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIME.pack(SLOW.seconds, 0)
        )
        channel.settimeout(None)
        while not self._talk.conversation.is_over:
            try:
                data = channel.recv(_CHUNK)
                if not data:
                    return
                self._requests.feed(data)
                self._answer_all()
            except BadProtocol as bad:
                with suppress(OSError):
                    channel.sendall(requests.error(f"ERR Protocol error: {bad}"))
                return
            except OSError:
                return  # it is gone, or takes nothing

    def interrupt(self) -> None:
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._talk.interrupt()

    def close(self) -> None:
        self._channel.close()
        self._talk.close()

    def _answer_all(self) -> None:
        """Answer what is there, together."""
        answers: list[bytes] = []
        size = 0
        conversation = self._talk.conversation
        try:
            while not conversation.is_over:
                words = self._requests.next()
                if words is None:
                    return
                answers.append(conversation.answer(words))
                size += len(answers[-1])
                if size > _GATHERED:
                    self._channel.sendall(b"".join(answers))
                    answers, size = [], 0
        finally:
            if answers:
                self._channel.sendall(b"".join(answers))
