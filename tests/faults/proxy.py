"""A network between a deployment and its Redis, which a test may break."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path


class Proxy:
    """Passes bytes on from a port of this machine to a unix socket."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._lines: list[_Line] = []
        self._threads: list[threading.Thread] = []
        self._swallows = False
        self._begin(self._accept)

    @property
    def url(self) -> str:
        port = self._listener.getsockname()[1]
        return f"redis://127.0.0.1:{port}"

    def reset(self) -> None:
        """Cut every connection, so that both ends are told."""
        for line in self._taken():
            line.reset()

    def forget(self) -> int:
        """Let every connection stand and pass nothing more; return how many.

        It is what a firewall does that was started anew: new connections are fine.
        """
        lines = self._taken()
        for line in lines:
            line.is_forgotten.set()
        with self._lock:
            self._lines += lines
        return len(lines)

    def swallow(self) -> None:
        """Take in all that comes and answer nothing, also over new connections."""
        self._swallows = True
        self.forget()

    def pass_on_again(self) -> None:
        """Let new connections be fine; those from before are never answered."""
        self._swallows = False

    def close(self) -> None:
        # A listener that is only closed would keep who accepts waiting.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()
        for thread in self._threads:
            thread.join()

    def _taken(self) -> list[_Line]:
        with self._lock:
            lines, self._lines = self._lines, []
        return lines

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(str(self._target))
            except OSError:
                near.close()
                far.close()
                continue
            line = _Line(near, far)
            if self._swallows:
                line.is_forgotten.set()
            with self._lock:
                self._lines.append(line)
            self._begin(line.pass_on, near, far)
            self._begin(line.pass_on, far, near)

    def _begin(self, act, *args) -> None:
        thread = threading.Thread(target=act, args=args, daemon=True)
        thread.start()
        self._threads.append(thread)


class _Line:
    """One connection: the caller's end, and Redis's."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._ends = (near, far)
        self.is_forgotten = threading.Event()

    def pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self.is_forgotten.is_set():
                    target.sendall(data)
        self.end()

    def reset(self) -> None:
        near = self._ends[0]
        with suppress(OSError):
            near.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self.end()

    def end(self) -> None:
        for end in self._ends:
            # Whoever waits for bytes there is woken by the first, not by the second.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
