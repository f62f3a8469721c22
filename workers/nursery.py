"""Who starts scripts: zygotes of a pool child's own, and what is left when they end.

A pool child runs one job at a time. So all that stands below its zygotes is that job's,
and what the job leaves behind is found there, however it hides.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog

from horus_celery.processes import tree
from workers import bubblewrap, sandbox
from workers import order as orders
from workers.containment import NAMESPACES, Containment
from workers.launch import Command, Places
from workers.order import Ceilings, Order, Start
from workers.room import Room

_logger: Final = structlog.get_logger(__name__)

#: How long a script may take to be there.
_PATIENCE: Final = timedelta(seconds=10)
#: How long killed processes may take to go.
_GRACE: Final = timedelta(seconds=2)
#: Zygotes that a pool child keeps, where it has one for each context.
_MOST: Final = 8
_MB: Final = 1024 * 1024
#: What a process needs besides the memory that a job counts: an interpreter's own.
_HEADROOM: Final = 16 * _MB
_REPORT: Final = 1024
_MS: Final = timedelta(milliseconds=1)


class Nursery:
    """Starts scripts at one level of containment, from zygotes that it keeps."""

    def __init__(self, containment: Containment, *, has_one_each: bool = False) -> None:
        """Keep one zygote, or (`has_one_each`) one for each context."""
        self._containment = containment
        self._has_one_each = has_one_each
        self._zygotes: OrderedDict[_Key, Zygote] = OrderedDict()

    @property
    def level(self) -> str:
        return self._containment.level

    @property
    def cuts_network(self) -> bool:
        return self._containment.is_apart

    @property
    def owner(self) -> int | None:
        return self._containment.user

    @property
    def company(self) -> int:
        return self._containment.company

    def places(self, room: Room) -> Places:
        if self._containment.is_apart:
            given = sandbox.GIVEN
            return Places(
                script=f"{given}/{room.script.name}",
                work=sandbox.WORK,
                inputs=f"{given}/{room.inputs.name}",
                secrets=f"{given}/{room.secrets.name}",
                result=f"{sandbox.OUT}/{room.result.name}",
            )
        return Places(
            script=str(room.script),
            work=str(room.work),
            inputs=str(room.inputs),
            secrets=str(room.secrets),
            result=str(room.result),
        )

    def prepare(self) -> None:
        """Have a zygote before the first script needs it."""
        if not self._has_one_each:
            self._zygote(_Key(context_id=None, has_network=False))

    def start(self, command: Command) -> Born:
        key = _Key(
            context_id=command.context_id if self._has_one_each else None,
            has_network=command.has_network or self._containment.level != NAMESPACES,
        )
        zygote = self._zygote(key)
        ours = frozenset(one.pid for one in self._zygotes.values())
        return zygote.bear(
            _order(command, self._containment),
            command.room,
            ours=ours,
            company=self.company,
            group=command.group,
        )

    def close(self) -> None:
        """End all zygotes, and whatever stands below them."""
        while self._zygotes:
            self._zygotes.popitem()[1].close()

    def _zygote(self, key: _Key) -> Zygote:
        zygote = self._zygotes.pop(key, None)
        if zygote is None or not zygote.is_alive():
            if zygote is not None:
                zygote.close()
            zygote = Zygote(self._containment.start(has_network=key.has_network))
        self._zygotes[key] = zygote
        while len(self._zygotes) > _MOST:
            self._zygotes.popitem(last=False)[1].close()
        return zygote


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """Which scripts may come from the same zygote."""

    #: None is every context.
    context_id: str | None
    has_network: bool


class Zygote:
    """The process of `workers.zygote`, and the socket to it."""

    def __init__(self, start: Start) -> None:
        """Start one; it says by itself when it is ready."""
        #: Whether its scripts have namespaces of their own.
        self.is_apart = start.shelter is not None
        self._is_ready = False
        ours, theirs = socket.socketpair()
        with theirs:
            # An empty environment and nothing but the socket: it holds nothing.
            self._process = subprocess.Popen(  # noqa: S603 - our own words
                [
                    *(sys.executable, "-I", "-u", "-X", "utf8"),
                    *("-m", "workers.zygote", str(theirs.fileno())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={"LANG": "C.UTF-8"},
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._channel = ours
        orders.send_start(ours, start)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether it can bear another script."""
        return self._process.poll() is None

    def bear(
        self,
        order: Order,
        room: Room,
        *,
        ours: frozenset[int],
        company: int,
        group: int | None,
    ) -> Born:
        """Have a script run.

        Args:
            order: What to run.
            room: Its directory.
            ours: The children of this process that are none of a script's.
            company: How many of those below its keeper are none of them, either.
            group: A descriptor by which they move into a cgroup.

        Raises:
            OSError: if it cannot be started.
        """
        # A script of the same user may have stopped it.
        tree.wake(self.pid)
        self.wait_until_ready()
        outs = os.pipe2(os.O_CLOEXEC)
        errs = os.pipe2(os.O_CLOEXEC)
        reports, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        born = Born(self, outs[0], errs[0], reports, ours=ours, company=company)
        try:
            with theirs:
                door = [] if group is None else [group]
                passed = [outs[1], errs[1], theirs.fileno(), *door]
                orders.send(self._channel, order, passed)
        except OSError:
            born.close()
            raise
        finally:
            os.close(outs[1])
            os.close(errs[1])
        try:
            born.wait_until_ready(room)
        except OSError:
            born.kill()
            born.close()
            raise
        return born

    def wait_until_ready(self) -> None:
        """Return once it can bear scripts.

        Raises:
            OSError: if it cannot, naming what is in the way.
        """
        if self._is_ready:
            return
        self._channel.settimeout(_PATIENCE.total_seconds())
        said = self._channel.recv(_REPORT)
        if not said:
            raise OSError(errno.EIO, "the zygote ended before it was ready")
        _require_no_error(json.loads(said))
        self._channel.settimeout(None)
        self._is_ready = True

    def close(self) -> None:
        """End it, with everything below it."""
        self._channel.close()
        self._process.kill()
        self._process.wait()


class Born:
    """A script that a zygote has borne, with all that it starts."""

    def __init__(
        self,
        zygote: Zygote,
        stdout: int,
        stderr: int,
        reports: socket.socket,
        *,
        ours: frozenset[int],
        company: int,
    ) -> None:
        self._zygote = zygote
        self._reports = reports
        self._ours = ours
        self._company = company
        self._said: dict[str, Any] = {}
        self._own_out: int | None = None
        self.stdout = stdout
        self.stderr = stderr
        self.ended = reports.fileno()
        self.keeper = 0
        self.out = -1
        os.set_blocking(stdout, False)
        os.set_blocking(stderr, False)

    def wait_until_ready(self, room: Room) -> None:
        """Return once the script runs.

        Raises:
            OSError: if it does not.
        """
        deadline = time.monotonic() + _PATIENCE.total_seconds()
        while not ("ready" in self._said and "keeper" in self._said):
            if not self._hear(deadline):
                raise OSError(errno.EIO, "its keeper said nothing")
            _require_no_error(self._said)
        self.keeper = self._said["keeper"]
        self.out = room.out if self._own_out is None else self._own_out

    def terminate(self) -> None:
        # Parents come first: who keeps the script apart is not to end before it.
        below = tree.descendants(self.keeper)[self._company :]
        tree.signal_all(below, signal.SIGTERM)

    def kill(self) -> None:
        if self._zygote.is_apart:
            # The first process of a namespace takes all others with it.
            if "code" not in self._said and self.keeper and not self._has_reported():
                tree.signal_all([self.keeper], signal.SIGKILL)
            self._hear_out()
        else:
            self._kill_below()
        if tree.descendants(self._zygote.pid):
            left = tree.kill_below(self._zygote.pid, within=_GRACE)
            if left:
                _logger.error("processes cannot be killed", count=left)

    def exit_code(self) -> int:
        return int(self._said.get("code", 128 + signal.SIGKILL))

    def had_no_memory(self) -> bool:
        return bool(self._said.get("memory"))

    def cpu_time(self) -> timedelta:
        return timedelta(milliseconds=self._said.get("cpu_ms", 0))

    def close(self) -> None:
        os.close(self.stdout)
        os.close(self.stderr)
        self._reports.close()
        if self._own_out is not None:
            os.close(self._own_out)

    def _kill_below(self) -> None:
        """End what the script has started, and then let its keeper end by itself."""
        if self.keeper:
            tree.kill_below(self.keeper, within=_GRACE)
        self._hear_out()
        # What a killed keeper left has come to the zygote, or else to us.
        tree.kill_descendants(within=_GRACE, but=self._ours)

    def _has_reported(self) -> bool:
        while self._is_readable(0.0):
            if not self._hear(time.monotonic()):
                break
        return "code" in self._said

    def _hear_out(self) -> None:
        """Wait until nobody is left who could say any more."""
        deadline = time.monotonic() + _GRACE.total_seconds()
        while self._hear(deadline):
            pass

    def _hear(self, deadline: float) -> bool:
        """Take up one report; False if there is none more, or none in time."""
        if not self._is_readable(deadline - time.monotonic()):
            return False
        text, passed, *_ = socket.recv_fds(self._reports, _REPORT, 1)
        if passed:
            self._own_out = passed[0]
        if not text:
            return False
        self._said.update(json.loads(text))
        return True

    def _is_readable(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._reports, select.POLLIN)
        return bool(poll.poll(max(0, timedelta(seconds=seconds) / _MS)))


def _require_no_error(said: Mapping[str, Any]) -> None:
    if "errno" in said:
        number = int(said["errno"])
        raise OSError(number, os.strerror(number), said.get("where"))


def _order(command: Command, containment: Containment) -> Order:
    limits = command.limits
    space = limits.memory_mb * _MB
    order = Order(
        interpreter=command.interpreter,
        script=command.places.script,
        args=command.args,
        env=command.env,
        cwd=command.places.work,
        room=str(command.room.path),
        space=space,
        ceilings=Ceilings(
            memory=space + _HEADROOM,
            cpu=limits.cpu_s,
            processes=limits.procs if containment.is_apart else None,
        ),
        filter=containment.late_filter,
    )
    if containment.program is None:
        return order
    return bubblewrap.boxed(order, containment.program, has_network=command.has_network)
