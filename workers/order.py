"""What a zygote is told to run, and how that crosses the socket to it.

Both ends are ours and of one version, so this is no protocol to keep.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

_LENGTH: Final = struct.Struct("!I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What the kernel itself lets no process of the job go beyond."""

    #: Bytes of memory of its own that one process may have, and of one file.
    memory: int
    #: Seconds of processor time of one process.
    cpu: int
    #: Processes and threads; None where the kernel would count those of others.
    processes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelter:
    """What of the machine the scripts of one zygote see, in namespaces of their own."""

    #: Paths that are shown where they are, never to be written.
    shown: tuple[str, ...]
    #: Paths below those that are covered.
    hidden: tuple[str, ...]
    has_network: bool
    #: The user that they become; None is the one that the runner is already.
    user: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a zygote is for as long as it is there."""

    #: What it makes for its scripts; None is nothing.
    shelter: Shelter | None
    #: The filter of its own and all their system calls, in base64; None is none.
    filter: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """What the program bubblewrap is told, where it keeps the script apart."""

    program: str
    options: tuple[str, ...]
    #: The text of files that the script sees and the node does not have, by place.
    files: Mapping[str, str]
    #: The filter of its system calls, in base64; None is none.
    filter: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
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
    #: The filter of its system calls, in base64; None is none, or another's to load.
    filter: str | None = None
    #: What the script is put into; None is what its zygote has made, or nothing.
    box: Box | None = None


def send_start(channel: socket.socket, start: Start) -> None:
    """Send what a zygote is to be before its first order."""
    _send_text(channel, json.dumps(asdict(start)))


def receive_start(channel: socket.socket) -> Start | None:
    """Return what `send_start` sent; None if the other end is gone."""
    text = _receive_text(channel, channel.recv(_LENGTH.size))
    if text is None:
        return None
    wire = json.loads(text)
    shelter = wire["shelter"]
    if shelter is not None:
        lists = {name: tuple(shelter[name]) for name in ("shown", "hidden")}
        shelter = Shelter(**{**shelter, **lists})
    return Start(shelter=shelter, filter=wire["filter"])


def send(channel: socket.socket, order: Order, descriptors: Sequence[int]) -> None:
    """Send an order, with the descriptors that go with it."""
    _send_text(channel, json.dumps(asdict(order)), descriptors)


def receive(channel: socket.socket, count: int) -> tuple[Order, list[int]] | None:
    """Return the next order and its `count` descriptors; None if there is none more."""
    head, descriptors, *_ = socket.recv_fds(channel, _LENGTH.size, count)
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


def _from_wire(wire: dict[str, Any]) -> Order:
    interpreter = wire["interpreter"]
    return Order(
        interpreter=None if interpreter is None else tuple(interpreter),
        script=wire["script"],
        args=tuple(wire["args"]),
        env=wire["env"],
        cwd=wire["cwd"],
        room=wire["room"],
        space=wire["space"],
        ceilings=Ceilings(**wire["ceilings"]),
        filter=wire["filter"],
        box=None if wire["box"] is None else _box_from_wire(wire["box"]),
    )


def _box_from_wire(wire: dict[str, Any]) -> Box:
    return Box(**{**wire, "options": tuple(wire["options"])})
