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
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import structlog

from horus_celery.processes import tree
from workers import bubblewrap, sandbox
from workers import order as orders
from workers.containment import NAMESPACES, Containment
from workers.launch import Command, Places
from workers.order import Ceilings, Order, Start
from workers.room import Room
from workers.seccomp import Sockets

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
#: With any of these the script is said to have ended.
_ENDS: Final = frozenset({"code", "errno", "over"})
#: Until a keeper is told again to end its script.
_STEP: Final = timedelta(milliseconds=100)
_MS: Final = timedelta(milliseconds=1)


class Nursery:
    """Starts scripts at one level of containment, from zygotes that it keeps."""

    def __init__(self, containment: Containment, *, rooms: Path) -> None:
        """Take the level, and where the directories of jobs are."""
        self._containment = containment
        self._rooms = rooms
        self._zygotes: OrderedDict[_Key, Zygote] = OrderedDict()

    @property
    def level(self) -> str:
        return self._containment.level

    @property
    def cuts_network(self) -> bool:
        return self._containment.cuts_network

    @property
    def owner(self) -> int | None:
        return self._containment.user

    @property
    def has_own_files(self) -> bool:
        return self._containment.level == NAMESPACES

    def places(self, room: Room) -> Places:
        if self._containment.is_apart:
            given = sandbox.GIVEN
            return Places(
                script=f"{given}/{room.script.name}",
                work=sandbox.WORK,
                inputs=(
                    f"{given}/{room.inputs.name}"
                    if room.has_inputs
                    else sandbox.NO_INPUTS
                ),
                secrets=f"{given}/{room.secrets.name}",
                herodb=f"{given}/{room.herodb.name}",
                result=f"{sandbox.OUT}/{room.result.name}",
            )
        return Places(
            script=str(room.script),
            work=str(room.work),
            inputs=str(room.inputs),
            secrets=str(room.secrets),
            herodb=str(room.herodb),
            result=str(room.result),
        )

    def prepare(self, hosts: Iterable[str | None]) -> None:
        """Have the zygotes of these hosts before the first script needs them."""
        sockets = self._containment.sockets(has_network=False, has_herodb=False)
        for host in hosts:
            self._zygote(self._key(context_id=None, sockets=sockets, host=host))

    def start(self, command: Command) -> Born:
        sockets = self._containment.sockets(
            has_network=command.has_network, has_herodb=command.has_herodb
        )
        key = self._key(
            context_id=command.context_id, sockets=sockets, host=command.host
        )
        zygote = self._zygote(key)
        others = frozenset(one.pid for one in self._zygotes.values() if one != zygote)
        order = _order(command, self._containment)
        company = self._containment.company
        return zygote.bear(order, command, others, company=company)

    def close(self) -> None:
        """End all zygotes, and whatever stands below them."""
        while self._zygotes:
            self._zygotes.popitem()[1].close()

    def _key(
        self, *, context_id: str | None, sockets: Sockets, host: str | None
    ) -> _Key:
        # With a program it is nothing of the zygote's.
        own = None if self._containment.program is not None else host
        # One that was made anew its namespaces do not show.
        found = self._rooms.stat() if self.has_own_files else None
        return _Key(
            context_id=context_id,
            sockets=sockets,
            host=own,
            rooms=None if found is None else (found.st_dev, found.st_ino),
        )

    def _zygote(self, key: _Key) -> Zygote:
        zygote = self._zygotes.pop(key, None)
        if zygote is None or not zygote.is_alive():
            if zygote is not None:
                zygote.close()
            start = self._containment.start(
                key.sockets, host=key.host, rooms=self._rooms
            )
            zygote = Zygote(start)
        self._zygotes[key] = zygote
        while len(self._zygotes) > _MOST:
            self._zygotes.popitem(last=False)[1].close()
        return zygote


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """Which scripts may come from the same zygote."""

    #: None is every context.
    context_id: str | None
    sockets: Sockets
    #: The module that runs them.
    host: str | None
    #: Device and number of the directory that jobs have theirs in, where it is shown.
    rooms: tuple[int, int] | None


class Zygote:
    """The process of `workers.zygote`, and the socket to it."""

    def __init__(self, start: Start) -> None:
        """Start one; it says by itself when it is ready."""
        #: Whether its scripts stand in namespaces of its own.
        self.is_apart = start.shelter is not None
        #: The process that all of its scripts stand below.
        self.keeper = 0
        #: Processor time of what that has taken away so far.
        self.reaped = timedelta(0)
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
        self, order: Order, command: Command, others: frozenset[int], *, company: int
    ) -> Born:
        """Have a script run.

        Args:
            order: What to run.
            command: What that was made of.
            others: Children of this process that have nothing to do with the script.
            company: How many processes below the keeper are none of the script's.

        Raises:
            OSError: if the zygote does not take the order.
        """
        self.wait_until_ready()
        outs = os.pipe2(os.O_CLOEXEC)
        errs = os.pipe2(os.O_CLOEXEC)
        reports, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        born = Born(self, command.room, (outs, errs), reports, others, company=company)
        try:
            with theirs:
                door = [] if command.group is None else [command.group]
                passed = [outs[1], errs[1], theirs.fileno(), *door]
                orders.send(self._channel, order, passed)
        except OSError:
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
        said: dict[str, Any] = {}
        with self._channel.makefile("rb") as lines:
            while "ready" not in said:
                line = lines.readline()
                if not line:
                    raise OSError(errno.EIO, "the zygote ended before it was ready")
                said.update(json.loads(line))
                if (fault := _fault_in(said)) is not None:
                    raise fault
        self._channel.settimeout(None)
        self.keeper = said.get("keeper", self.pid)
        self._is_ready = True

    def close(self, *, at_once: bool = False) -> None:
        """End it; what stood below it is left to this process.

        Args:
            at_once: Whether it may be held up, by a script.
        """
        self._channel.close()
        if at_once:
            self._process.kill()
        try:
            # It ends by itself, and takes away the process that waits for a script.
            self._process.wait(_GRACE.total_seconds())
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self.is_apart and self.keeper:
            # The kernel ends it with the zygote; where we are a subreaper it is ours.
            with suppress(ChildProcessError):
                os.waitpid(self.keeper, 0)


class Born:
    """A script that a zygote has borne, with all that it starts."""

    def __init__(
        self,
        zygote: Zygote,
        room: Room,
        pipes: tuple[tuple[int, int], tuple[int, int]],
        reports: socket.socket,
        others: frozenset[int],
        *,
        company: int,
    ) -> None:
        self._zygote = zygote
        self._room = room
        self._reports = reports
        self._others = others
        self._said: dict[str, Any] = {}
        #: Whether nobody is left who could say any more.
        self._is_silent = False
        self._is_killed = False
        self._own_out: int | None = None
        self.keeper = zygote.keeper
        self.used_before = zygote.reaped
        self.company = company
        # The ends that are written to stay open here, too: that the script closed its
        # own is nothing that anybody has to be woken for.
        (self.stdout, self._outs), (self.stderr, self._errs) = pipes
        self.reports = reports.fileno()
        for stream in (self.stdout, self.stderr):
            os.set_blocking(stream, False)

    @property
    def out(self) -> int:
        for folder in (self._own_out, self._room.out):
            if folder is not None:
                return folder
        raise ValueError("only a script that ended by itself left anything")

    def has_ended(self, *, within: timedelta = timedelta(0)) -> bool:
        self._hear_until(self._is_known, within=within)
        return self._is_known()

    def wake(self) -> None:
        tree.wake(self.keeper)

    def terminate(self) -> None:
        # Parents come first: who keeps the script apart is not to end before it.
        below = tree.descendants(self.keeper)[self.company :]
        tree.signal_all(below, signal.SIGTERM)

    def kill(self) -> None:
        self._is_killed = not self.has_ended()
        if not self._is_over():
            self._end_what_is_left()
        if not self._is_over():
            # The zygote is gone, or somebody holds it up: all it had is ours.
            self._zygote.close(at_once=True)
            left = tree.kill_descendants(within=_GRACE, but=self._others)
            if left:
                _logger.error("processes cannot be killed", count=left)
        self._zygote.reaped = timedelta(milliseconds=self._said.get("reaped_ms", 0))

    def fault(self) -> OSError | None:
        return _fault_in(self._said)

    def is_lost(self) -> bool:
        return not self._is_killed and not ("code" in self._said or self.fault())

    def exit_code(self) -> int:
        return int(self._said.get("code", 128 + signal.SIGKILL))

    def had_no_memory(self) -> bool:
        return bool(self._said.get("memory"))

    def cpu_time(self) -> timedelta:
        return timedelta(milliseconds=self._said.get("cpu_ms", 0))

    def close(self) -> None:
        for end in (self.stdout, self._outs, self.stderr, self._errs):
            os.close(end)
        self._reports.close()
        if self._own_out is not None:
            os.close(self._own_out)

    def _end_what_is_left(self) -> None:
        if not self._zygote.is_apart:
            tree.kill_below(self.keeper, within=_GRACE, is_over=self._hears_it_is_over)
            self._hear_until(self._is_over, within=_GRACE)
            return
        deadline = time.monotonic() + _GRACE.total_seconds()
        while not (self._is_over() or self._is_silent or time.monotonic() > deadline):
            # Again, as it may have come before the script did.
            tree.signal_all([self.keeper], orders.KILL)
            self._hear_until(self._is_over, within=_STEP)

    def _hears_it_is_over(self) -> bool:
        self._hear_until(self._is_over, within=timedelta(0))
        return self._is_over()

    def _is_known(self) -> bool:
        """Whether the script has ended, as far as anybody says."""
        return self._is_silent or not self._said.keys().isdisjoint(_ENDS)

    def _is_over(self) -> bool:
        """Whether nothing of it is left, as the zygote says."""
        return "over" in self._said

    def _hear_until(self, is_enough: Callable[[], bool], *, within: timedelta) -> None:
        """Take up reports until it is enough, nobody says any more, or time is up."""
        deadline = time.monotonic() + within.total_seconds()
        while not (is_enough() or self._is_silent):
            if not self._is_readable(deadline - time.monotonic()):
                return
            text, passed, *_ = socket.recv_fds(self._reports, _REPORT, 1)
            if passed:
                self._own_out = passed[0]
            self._is_silent = not text
            self._said.update(json.loads(text or "{}"))

    def _is_readable(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._reports, select.POLLIN)
        return bool(poll.poll(max(0, timedelta(seconds=seconds) / _MS)))


def _fault_in(said: Mapping[str, Any]) -> OSError | None:
    if "errno" not in said:
        return None
    number = int(said["errno"])
    return OSError(number, os.strerror(number), said.get("where"))


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
    )
    program = containment.program
    if program is None:
        return order
    return bubblewrap.boxed(
        order,
        program,
        host=command.host,
        has_network=command.has_network,
        filtered=containment.filter,
    )
