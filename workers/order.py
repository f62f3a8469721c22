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
    #: Where the directories of jobs are, on the node.
    rooms: str


class Fence(NamedTuple):
    """What of the machine the scripts of one zygote may use, though they see all."""

    #: Paths that they may read and execute.
    shown: tuple[str, ...]
    #: Paths below those of which they may not.
    hidden: tuple[str, ...]
    has_network: bool


class Start(NamedTuple):
    """What a zygote is for as long as it is there."""

    #: What it makes for its scripts; None is nothing.
    shelter: Shelter | None
    #: The filter of its own and all their system calls, in base64; None is none.
    filter: str | None = None
    #: The module that runs its scripts; None has Python itself run them.
    host: str | None = None
    #: What its scripts may use, where it makes nothing for them; None is everything.
    fence: Fence | None = None


class Box(NamedTuple):
    """What the program bubblewrap is told, where it keeps the script apart."""

    program: str
    options: tuple[str, ...]
    #: The text of files that the script sees and the node does not have, by place.
    files: Mapping[str, str]
    #: The filter of its system calls, in base64; None is none.
    filter: str | None


class Order(NamedTuple):
    """One script to run."""

    #: The interpreter's command line before the script; None is the zygote itself.
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
    #: What the script is put into; None is what its zygote has made, or nothing.
    box: Box | None = None


def send_start(channel: socket.socket, start: Start) -> None:
    """Send what a zygote is to be before its first order."""
    _send_text(channel, json.dumps(start))


def receive_start(channel: socket.socket) -> Start | None:
    """Return what `send_start` sent; None if the other end is gone."""
    text = _receive_text(channel, channel.recv(_LENGTH.size))
    if text is None:
        return None
    shelter, filtered, host, fence = json.loads(text)
    if shelter is not None:
        shown, hidden, *rest = shelter
        shelter = Shelter(tuple(shown), tuple(hidden), *rest)
    if fence is not None:
        shown, hidden, has_network = fence
        fence = Fence(tuple(shown), tuple(hidden), has_network)
    return Start(shelter, filtered, host, fence)


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
    interpreter, script, args, env, cwd, room, space, ceilings, box = wire
    words = None if interpreter is None else tuple(interpreter)
    limits = Ceilings(*ceilings)
    if box is not None:
        program, options, files, filtered = box
        box = Box(program, tuple(options), files, filtered)
    return Order(words, script, tuple(args), env, cwd, room, space, limits, box)
