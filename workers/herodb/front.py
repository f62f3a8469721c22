"""Where the scripts of one job find HeroDB: a socket in the job's room, served by us.

A script never sees a password: who it is follows from the socket that it reached, which
answers nobody who is not below this process, as all that belongs to its job is. It is
served by threads of this process for as long as its job runs, whatever it does.
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
from horus_celery.processes import tree
from workers.herodb.budget import Account, TooMuch
from workers.herodb.conversation import Conversation

#: Connections that one job has at a time.
MAX_CONNECTIONS: Final = 16
#: How long a script may take to take an answer.
SLOW: Final = timedelta(seconds=30)
#: How long threads may take to end that were told to.
_LEAVE: Final = timedelta(seconds=2)
#: How long nobody is let in when there can be no more connections.
_PAUSE: Final = timedelta(milliseconds=50)
_CHUNK: Final = 64 * 1024
#: Answers that are gathered while requests are there already.
_GATHERED: Final = 64 * 1024
#: As the kernel has it: seconds, and microseconds.
_TIME: Final = struct.Struct("ll")
#: As the kernel says who has connected: process, user and group.
_PEER: Final = struct.Struct("iII")
_FULL: Final = f"ERR max number of clients reached: {MAX_CONNECTIONS} of one job"
_pause: Final = threading.Event()
_logger: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """What serves one connection, and how it is kept from waiting any longer."""

    conversation: Conversation
    #: What counts the bytes of requests that come, and of answers that go.
    requests: Account
    answers: Account
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
        made = _Front(listener, begin)
        _PORTER.watch(made)
        try:
            yield
        finally:
            _PORTER.leave(made)
            made.close()


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


class _Porter:
    """Waits at the doors of all fronts of this process: one thread, once it has one.

    A thread for each job would cost it more than all the rest.
    """

    def __init__(self) -> None:
        self._process = 0
        self._doors = select.epoll()
        self._fronts: dict[int, _Front] = {}

    def watch(self, front: _Front) -> None:
        """Let a front take connections from now on."""
        if self._process != os.getpid():
            self._begin()
        door = front.listener.fileno()
        self._fronts[door] = front
        self._doors.register(door, select.EPOLLIN)

    def leave(self, front: _Front) -> None:
        """Let a front take no more, before it is closed."""
        door = front.listener.fileno()
        self._doors.unregister(door)
        del self._fronts[door]

    def _begin(self) -> None:
        """Begin in this process; what another one has is none of ours."""
        self._process = os.getpid()
        self._doors = select.epoll()
        self._fronts = {}
        threading.Thread(target=self._run, name="horus-porter", daemon=True).start()

    def _run(self) -> None:
        while True:
            for door, _ in self._doors.poll():
                # Another front may have the number by now: it finds nobody there.
                front = self._fronts.get(door)
                if front is not None:
                    self._open(front)

    def _open(self, front: _Front) -> None:
        try:
            front.take()
        except OSError:
            # No descriptors for now, or it was just closed: the others wait as well.
            _pause.wait(_PAUSE.total_seconds())
        except Exception as error:  # noqa: BLE001 - no job would be let in any more
            _logger.error("herodb lets nobody in", error=type(error).__name__)  # noqa: TRY400 - as below


_PORTER: Final = _Porter()


def _is_ours(channel: socket.socket) -> bool:
    """Whether who has connected is of this process's job.

    Where scripts have no namespaces, one of another job may know this one's socket.
    """
    peer = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    pid, _, _ = _PEER.unpack(peer)
    return tree.stands_below(pid, os.getpid())


class _Front:
    """Takes connections, and gives a thread to each."""

    def __init__(
        self, listener: socket.socket, begin: Callable[[threading.Event], Talk]
    ) -> None:
        self.listener = listener
        self._begin = begin
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, _Connection] = {}

    def take(self) -> None:
        """Take a connection, if there is one.

        Raises:
            OSError: if there can be none now.
        """
        try:
            channel, _ = self.listener.accept()
        except BlockingIOError:
            return  # it has gone again
        if _is_ours(channel):
            self._serve(channel)
        else:
            channel.close()

    def close(self) -> None:
        """End all connections; who does not end in time is left to itself."""
        self._ended.set()
        with self._lock:
            left = dict(self._open)
        for connection in left.values():
            connection.interrupt()
        for thread in left:
            thread.join(_LEAVE.total_seconds())
            if thread.is_alive():
                _logger.warning("a connection to herodb does not end")

    def _serve(self, channel: socket.socket) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            with channel, suppress(OSError):
                channel.settimeout(0)
                channel.send(requests.error(_FULL))
            return
        connection = _Connection(channel, self._begin(self._ended))
        thread = threading.Thread(
            target=self._run, args=(connection,), name="herodb-talk", daemon=True
        )
        with self._lock:
            if not self._ended.is_set():
                try:
                    thread.start()
                except RuntimeError:
                    pass  # there can be no more threads now
                else:
                    self._open[thread] = connection
                    return
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
        with self._talk.requests.released(), self._talk.answers.released():
            try:
                self._serve()
            except BadProtocol as bad:
                self._say(f"ERR Protocol error: {bad}")
            except TooMuch as much:
                self._say(str(much))
            except OSError:
                return  # it is gone, or takes nothing

    def interrupt(self) -> None:
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._talk.interrupt()

    def close(self) -> None:
        self._channel.close()
        self._talk.close()

    def _serve(self) -> None:
        while not self._talk.conversation.is_over:
            data = self._channel.recv(_CHUNK)
            if not data:
                return
            self._requests.feed(data)
            self._talk.requests.hold(self._requests.size)
            self._answer_all()
            self._talk.requests.hold(self._requests.size)

    def _say(self, text: str) -> None:
        with suppress(OSError):
            self._channel.sendall(requests.error(text))

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
                    # Who is slow holds it for long.
                    self._talk.answers.hold(size)
                    self._channel.sendall(b"".join(answers))
                    answers, size = [], 0
                    self._talk.answers.hold(0)
        finally:
            if answers:
                self._channel.sendall(b"".join(answers))
