"""What a process executes to become a script, and what it hands to whom it executes.

What bubblewrap is told goes through descriptors: the script can read the command line
and the environment of the process that stands above it.
"""

from __future__ import annotations

import binascii
import os

from workers.order import Order


def command_line(order: Order) -> list[str]:
    """Return what a process executes to become the script of an order.

    For a box it opens descriptors in this process, which the program inherits.

    Raises:
        OSError: if there can be none.
    """
    words = [*(order.interpreter or ()), order.script, *order.args]
    if order.box is None:
        return words
    options: list[str] = []
    for place, text in order.box.files.items():
        data = _descriptor(text.encode())
        options += ["--perms", "0444", "--ro-bind-data", str(data), place]
    if order.box.filter is not None:
        program = _descriptor(binascii.a2b_base64(order.box.filter))
        options += ["--seccomp", str(program)]
    # The files come first: the root is locked by one of the others.
    told = b"\0".join(map(os.fsencode, [*options, *order.box.options]))
    return [order.box.program, "--args", str(_descriptor(told)), "--", *words]


def _descriptor(data: bytes) -> int:
    """Return a descriptor that a program inherits, and reads this from."""
    descriptor = os.memfd_create("told", 0)
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
