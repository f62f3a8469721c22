"""A zygote outlasts a machine that gives it no process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]
#: In a process of its own: it takes away every child that it has.
SERVES_WITHOUT_FORKS = """
import errno, json, os, socket
from workers import order as orders, zygote

def refuse():
    raise OSError(errno.EAGAIN, "no process")

os.fork = refuse
ours, theirs = socket.socketpair()
keeper = zygote._Keeper(theirs, None, None, None)
before = len(os.listdir("/proc/self/fd"))
for _ in range(3):
    hears, report = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with hears, report:
        streams = [os.open(os.devnull, os.O_WRONLY) for _ in range(2)]
        orders.send(ours, zygote._FAR, [*streams, report.fileno()])
        for stream in streams:
            os.close(stream)
        assert keeper._bear()
        said = json.loads(hears.recv(1024))
        print(errno.errorcode[said["errno"]], said["over"])
print(len(os.listdir("/proc/self/fd")) - before)
"""


def test_without_processes_each_order_is_refused_and_nothing_stays_open():
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", SERVES_WITHOUT_FORKS],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout.splitlines() == ["EAGAIN 1", "EAGAIN 1", "EAGAIN 1", "0"]
