"""What a zygote is told to run, and how that crosses the socket to it.

Both ends are ours and of one version, so this is no protocol to keep. Named tuples, as
data classes would bring half of the standard library into every script's process.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

#: Tells the first process of namespaces to end all others in there.
KILL: Final = signal.SIGUSR1
_LENGTH: Final = struct.Struct("!I")


class Ceilings(NamedTuple):
    """What the kernel itself lets no process of the job go beyond."""

    #: Bytes of memory of its own that one process may have, and of one file.
    memory: int
    #: Seconds of processor time of one process.
    cpu: int
    #: Processes and threads; None where the kernel would count those of others.
    processes: int | None


class Shelter(NamedTuple):
    """What of the machine the scripts of one zygote see, in namespaces of their own."""

    #: Paths that are shown where they are, never to be written.
    shown: tuple[str, ...]
    #: Paths below those that are covered.
    hidden: tuple[str, ...]
    has_network: bool
    #: The user that they become; None is the one that the runner is already.
    user: int | None


class Order(NamedTuple):
    """One script to run."""

    #: The interpreter's command line before the script; None is this Python itself.
    interpreter: tuple[str, ...] | None
    #: The script's path as the script itself sees it.
    script: str
    args: tuple[str, ...]
    #: The whole environment.
    env: Mapping[str, str]
    #: The working directory, as the script sees it.
    cwd: str
    #: The directory of the job on the node.
    room: str
    #: Bytes that its files may take, where it has a file system of its own.
    space: int
    ceilings: Ceilings


def send_shelter(channel: socket.socket, shelter: Shelter | None) -> None:
    """Send what a zygote is to make for its scripts; None is nothing."""
    _send_text(channel, json.dumps(shelter))


def receive_shelter(channel: socket.socket) -> Shelter | None:
    """Return what `send_shelter` sent."""
    wire = json.loads(_receive_text(channel, channel.recv(_LENGTH.size)) or "null")
    if wire is None:
        return None
    shown, hidden, *rest = wire
    return Shelter(tuple(shown), tuple(hidden), *rest)


def send(channel: socket.socket, order: Order, descriptors: Sequence[int]) -> None:
    """Send an order, with the descriptors that go with it."""
    _send_text(channel, json.dumps(order), descriptors)


def receive(channel: socket.socket, count: int) -> tuple[Order, list[int]] | None:
    """Return the next order and its `count` descriptors; None if there is none more."""
    try:
        head, descriptors, *_ = socket.recv_fds(channel, _LENGTH.size, count)
    except ConnectionResetError:
        # The other end went without having read what was said to it.
        return None
    text = _receive_text(channel, head)
    return None if text is None else (_from_wire(json.loads(text)), descriptors)


def _send_text(
    channel: socket.socket, text: str, descriptors: Sequence[int] = ()
) -> None:
    data = text.encode("ascii")
    socket.send_fds(channel, [_LENGTH.pack(len(data))], descriptors)
    channel.sendall(data)


def _receive_text(channel: socket.socket, head: bytes) -> bytes | None:
    """Return the text behind its length; None if the other end is gone."""
    if len(head) < _LENGTH.size:
        return None
    (left,) = _LENGTH.unpack(head)
    parts: list[bytes] = []
    while left > 0:
        part = channel.recv(min(left, 1 << 20))
        if not part:
            return None
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _from_wire(wire: Sequence[Any]) -> Order:
    interpreter, script, args, env, cwd, room, space, ceilings = wire
    words = None if interpreter is None else tuple(interpreter)
    return Order(words, script, tuple(args), env, cwd, room, space, Ceilings(*ceilings))
