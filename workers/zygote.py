"""The small process that scripts are born from: it holds nothing and forks quickly.

It is a Python of its own, executed with an empty environment and one socket, so that
nothing of the runner (keys, secrets, connections) was ever in its memory. It serves one
order at a time: it has the script run by a child, takes away what ends, and reports the
end. With namespaces a child of it does that for all jobs, as the first process in them.

    zygote ── keeper (the first process of the namespaces) ── script
    zygote ── script                    (on the plain machine, also with Landlock)
    zygote ── bwrap ── bwrap ── script                       (with bubblewrap)
"""

from __future__ import annotations

import atexit
import binascii
import builtins
import errno
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

from horus_celery import kernel
from workers import handover, landlock, sandbox
from workers import order as orders
from workers.landlock import Grounds
from workers.order import Ceilings, Order, Shelter

#: Descriptors that come with an order: standard output, standard error, the report,
#: and perhaps the way into a cgroup.
DESCRIPTORS: Final = 4
#: Descriptors that the script's process gives its keeper: the report, and perhaps what
#: its mounts are kept by.
_MENTIONED: Final = 2
#: What the script's own process says to who waits for it: that the script's own words
#: begin, and that it had no more memory. Before them stands the number of an error.
_READY: Final = b"r"
_NO_MEMORY: Final = b"m"
#: More than that is never said.
_SAID: Final = 16
_MISSING: Final = 127
#: Where the script's process says it, until another program takes its place.
_TELL: Final = 3
#: No process has descriptors from here on, unless its limit was raised very far.
_DESCRIPTORS_END: Final = 1 << 16
#: After so many runs Python has learnt what it ever learns about a function.
_REHEARSALS: Final = 20
#: Packages of ours, which are none of a script's.
_OURS: Final = frozenset({"workers", "horus_celery"})
#: The number of the first process of a namespace, in there.
_FIRST: Final = 1
#: Descriptors that a process of a script may have.
_OPEN_FILES: Final = 1024
#: What a process is called that waits for its script, and then.
UNBORN: Final = "horus-unborn"
_BORN: Final = "horus-script"
#: Seconds that whoever settles the last job has the processor for itself.
_PAUSE: Final = 0.005
_MUCH: Final = 1 << 40
#: An order that does nothing, within limits that limit nothing.
_FAR: Final = Order(
    interpreter=None,
    script=os.devnull,
    args=(),
    env=dict(os.environ),
    cwd="/",
    room="/",
    space=0,
    ceilings=Ceilings(memory=_MUCH, cpu=_MUCH, processes=None),
)


def main() -> None:
    """Serve the socket whose descriptor is the one argument until it is closed."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    kernel.die_with_parent(signal.SIGKILL)
    # What a script has filled without holding it (files in memory, buffers) goes with
    # it alone: any other process would be ended in vain.
    with suppress(OSError):
        kernel.go_first()
    # Not on the command line, which scripts see.
    start = orders.receive_start(channel)
    if start is None:
        return
    shelter = start.shelter
    # Before it sees nothing of the machine any more.
    host = None if start.host is None else importlib.import_module(start.host)
    grounds = None
    try:
        # Programs that a script executes gain nothing, whatever they are marked with.
        kernel.give_up_new_privileges()
        if start.fence is not None:
            grounds = landlock.surveyed(start.fence, version=kernel.landlock_version())
            # Of root it has the name alone, and opens no files of others by that.
            kernel.drop_capabilities()
        if start.filter is not None:
            # Here it costs nothing; for each script it costs a quarter millisecond.
            kernel.filter_calls(binascii.a2b_base64(start.filter))
        if shelter is not None:
            sandbox.make_root(shelter)
    except OSError as error:
        _say(channel.fileno(), _broken(error))
        return
    if shelter is not None:
        _have_a_keeper(channel)
    kernel.become_subreaper()
    kernel.set_readable(False)
    _Keeper(channel, shelter, grounds, host).serve()


def _have_a_keeper(channel: socket.socket) -> None:
    """Return in a child, the first process of its namespaces, and wait for its end."""
    # Only this process has the other end: who waits at this one learns of its end.
    is_over, held = os.pipe()
    keeper = os.fork()
    if keeper != 0:
        _say(channel.fileno(), {"keeper": keeper})
        channel.close()
        os.waitpid(keeper, 0)
        os._exit(0)
    os.close(held)
    kernel.die_with_parent(signal.SIGKILL)
    if select.select([is_over], [], [], 0)[0]:
        os._exit(0)  # too late to be told
    os.close(is_over)
    signal.signal(orders.KILL, lambda *_: _kill_all())


def _kill_all() -> None:
    """End all that lives in these namespaces, but for this process."""
    # Elsewhere it would be all that this user has.
    if os.getpid() == _FIRST:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)


class _Keeper:
    """Has scripts run, one after the other, and tells how they ended."""

    def __init__(
        self,
        channel: socket.socket,
        shelter: Shelter | None,
        grounds: Grounds | None,
        host: types.ModuleType | None,
    ) -> None:
        self._channel = channel
        self._host = host
        self._shelter = shelter
        self._grounds = grounds
        #: Directories: of what /proc/sys sets, and that jobs have theirs in.
        self._knobs = self._rooms = -1
        #: What a script may use, while it has no room yet.
        self._rules = -1

    def serve(self) -> None:
        """Take orders until there are none more."""
        try:
            if self._shelter is not None:
                self._knobs = sandbox.enter_root()
        except OSError as error:
            _say(self._channel.fileno(), _broken(error))
            return
        # A script of the same user could interrupt it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _say(self._channel.fileno(), {"ready": 1})
        if self._host is None:
            # Scripts import nothing of ours, and to look for it in each takes time.
            for name in [one for one in sys.modules if one.partition(".")[0] in _OURS]:
                del sys.modules[name]
        _rehearse(self._host, self._grounds)
        # Its pages are shared with every child for as long as nobody touches them.
        gc.collect()
        gc.freeze()
        while self._bear():
            pass

    def _bear(self) -> bool:
        """Have one script run; return whether there may be another.

        Its process is there before its order is, and has done what all of them do.
        """
        select.select([self._channel], [], [], _PAUSE)
        told, tell = os.pipe()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        before = _used_by_children()
        try:
            script = os.fork()
            if script == 0:
                os.close(told)
                ours.close()
                self._become_script(tell, theirs)
        except OSError as error:
            os.close(told)
            ours.close()
            return self._refuse(error)
        finally:
            os.close(tell)
            theirs.close()
        with ours:
            _, passed, *_ = socket.recv_fds(ours, 1, _MENTIONED)
        held = [told, *passed]
        try:
            if not passed:
                # Killed while it waited; else there are no orders any more.
                return _end_of(script) != 0
            try:
                end = _ended(script, told, before)
            except OSError as error:
                end = _broken(error)
            self._tell(end, passed[0])
        finally:
            for descriptor in held:
                os.close(descriptor)
        return True

    def _refuse(self, error: OSError) -> bool:
        """Answer the next order by why there can be no further process."""
        received = orders.receive(self._channel, DESCRIPTORS)
        if received is None:
            return False
        _, (stdout, stderr, report, *door) = received
        self._tell(_broken(error), report)
        for descriptor in (stdout, stderr, report, *door):
            os.close(descriptor)
        return True

    def _tell(self, end: Mapping[str, int | str], report: int) -> None:
        """Say how a script ended, once nothing of it is left."""
        if self._shelter is not None:
            _kill_all()
        elif not _is_alone():
            # What the script left behind is the runner's to end.
            _say(report, end)
            end = {}
        while _reap() is not None:
            pass
        _say(report, {**end, "over": 1, "reaped_ms": _used_by_children()})

    def _move_in(self, shelter: Shelter, order: Order, report: int) -> None:
        try:
            sandbox.move_in(
                shelter,
                knobs=self._knobs,
                rooms=self._rooms,
                room=os.path.basename(order.room),
                space=order.space,
            )
            out = os.open(sandbox.OUT, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            _say(report, _broken(error))
            os._exit(_MISSING)
        # The runner has no other way there.
        reports = socket.socket(fileno=report)
        socket.send_fds(reports, [b"{}"], [out])
        reports.detach()

    def _close_in(self, grounds: Grounds, order: Order, report: int) -> None:
        try:
            landlock.close_in(grounds, self._rules, room=order.room)
        except OSError as error:
            _say(report, _broken(error))
            os._exit(_MISSING)

    def _become_script(self, tell: int, keeper: socket.socket) -> NoReturn:
        """Be the process of the next script, from before anybody knows which."""
        code = _MISSING
        try:
            kernel.die_with_parent(signal.SIGKILL)
            kernel.set_name(UNBORN)
            fault = self._settle()
            _warm_up(self._host)
            received = orders.receive(self._channel, DESCRIPTORS)
            if received is None:
                os._exit(0)
            order, (stdout, stderr, report, *door) = received
            socket.send_fds(keeper, [b"o"], [report, *self._mounts()])
            kernel.set_name(_BORN)
            signal.signal(orders.KILL, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.setsid()
            for way in door:
                os.write(way, b"0")
            if fault is not None:
                _say(report, _broken(fault))
                os._exit(_MISSING)
            if self._shelter is not None:
                self._move_in(self._shelter, order, report)
            if self._grounds is not None:
                self._close_in(self._grounds, order, report)
            _take_over((stdout, stderr), tell)
            _prepare_script(order)
            if order.interpreter is not None:
                _execute(handover.command_line(order), order.env)
            code = _run(order, self._host)
        except OSError as error:
            os.write(_TELL, f"{error.errno}".encode())
        finally:
            os._exit(code)

    def _mounts(self) -> list[int]:
        """Return what keeps the mounts of this process until the keeper lets go of it.

        Else the kernel does so when the script ends, which then takes twice as long.
        """
        if self._shelter is None:
            return []
        return [os.open("/proc/self/ns/mnt", os.O_RDONLY)]

    def _settle(self) -> OSError | None:
        """Have what keeps the script apart needs, or why that cannot be."""
        try:
            if self._shelter is not None:
                self._rooms = sandbox.settle(self._shelter)
            if self._grounds is not None:
                self._rules = landlock.settled(self._grounds)
        except OSError as error:
            return error
        return None


def _ended(script: int, told: int, before: int) -> dict[str, int | str]:
    """Return how a script ended, once it has.

    Args:
        script: Its process.
        told: Where that says what nobody sees.
        before: What was used before it, in ms.

    Raises:
        OSError: if it is no child of this process any more.
    """
    code = _end_of(script)
    said = _said_at_its_end(told)
    if said[:1] not in (b"", _READY):
        return {"errno": int(said)}
    used = _used_by_children() - before
    return {"code": code, "cpu_ms": used, "memory": _NO_MEMORY in said}


def _said_at_its_end(told: int) -> bytes:
    # Whoever the script has forked may still have the other end.
    os.set_blocking(told, False)
    try:
        return os.read(told, _SAID)
    except BlockingIOError:
        return b""


def _end_of(script: int) -> int:
    """Return the exit code of the script, once it has ended: 128 + N by signal N."""
    while (ended := _reap()) is not None:
        if ended[0] == script:
            code = os.waitstatus_to_exitcode(ended[1])
            return code if code >= 0 else 128 - code
    raise OSError(errno.ECHILD, os.strerror(errno.ECHILD), "script")


def _used_by_children() -> int:
    """Return the milliseconds of processor time of all that was taken away."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((used.ru_utime + used.ru_stime) * 1000)


def _reap() -> tuple[int, int] | None:
    try:
        return os.waitpid(-1, 0)
    except ChildProcessError:
        return None


def _is_alone() -> bool:
    """Take away what has ended, and tell whether nothing else is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def _say(report: int, what: Mapping[str, int | str]) -> None:
    try:
        os.write(report, f"{_as_json(what)}\n".encode())
    except OSError:
        # The runner is gone, and so are we in a moment.
        os._exit(0)


def _as_json(what: Mapping[str, int | str]) -> str:
    """Return an object as JSON; numbers alone need nothing of the encoder.

    It would be thirty pages that a process shares no more with the one it came from.
    """
    parts = [
        f'"{name}":{json.dumps(value) if isinstance(value, str) else int(value)}'
        for name, value in what.items()
    ]
    return f"{{{','.join(parts)}}}"


def _broken(error: BaseException) -> dict[str, int | str]:
    if not isinstance(error, OSError):
        return {"errno": 0, "where": type(error).__name__}
    return {"errno": error.errno or 0, "where": str(error.filename)}


def _rehearse(host: types.ModuleType | None, grounds: Grounds | None) -> None:
    """Do what every child does, as far as it does no harm here.

    What Python learns when it first runs a function is then learnt for all of them, on
    pages that they share: each has a quarter fewer of its own to copy.
    """
    mask = os.umask(0o077)
    for _ in range(_REHEARSALS):
        _warm_up(host)
        if host is not None:
            host.rehearse()
        if grounds is not None:
            os.close(landlock.settled(grounds))
        _set_environment(_FAR.env)
        spare = os.dup(0)
        os.dup2(0, spare, inheritable=False)
        os.closerange(spare, spare + 1)
    os.umask(mask)
    os.environ.clear()


def _warm_up(host: types.ModuleType | None) -> None:
    """Do once what is no secret of any script and may be done again."""
    _limit(_FAR)
    os.chdir(_FAR.cwd)
    if host is None:
        _ran(_FAR.script, {"__builtins__": builtins})
    else:
        host.warm_up()


def _take_over(streams: tuple[int, int], tell: int) -> None:
    """Have the script's streams and the way to its keeper, and nothing more."""
    for number, stream in enumerate(streams, 1):
        os.dup2(stream, number)
    os.dup2(tell, _TELL, inheritable=False)
    os.closerange(_TELL + 1, _DESCRIPTORS_END)


def _prepare_script(order: Order) -> None:
    """Make this process one that a script may have.

    Raises:
        OSError: if it cannot be done.
    """
    kernel.die_with_parent(signal.SIGKILL)
    _limit(order)
    os.umask(0o077)
    os.chdir(order.cwd)
    kernel.set_readable(True)


def _execute(argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    # UTF-8, whatever this machine's locale is.
    words = [word.encode() for word in argv]
    variables = {name.encode(): value.encode() for name, value in env.items()}
    os.execve(words[0], words, variables)  # noqa: S606 - the job's interpreter


def _limit(order: Order) -> None:
    ceilings = order.ceilings
    _lower(resource.RLIMIT_CORE, 0, 0)
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES)
    _lower(resource.RLIMIT_DATA, ceilings.memory, ceilings.memory)
    _lower(resource.RLIMIT_FSIZE, ceilings.memory, ceilings.memory)
    # The second is for scripts that do not end at the first.
    _lower(resource.RLIMIT_CPU, ceilings.cpu, ceilings.cpu + 1)
    if ceilings.processes is not None:
        _lower(resource.RLIMIT_NPROC, ceilings.processes, ceilings.processes)


def _lower(what: int, soft: int, hard: int) -> None:
    """Set a limit of this process, but to no more than the machine allows."""
    _, most = resource.getrlimit(what)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(what, (soft, hard))


def _run(order: Order, host: types.ModuleType | None) -> int:
    """Run the script in this very process.

    Without a host as `python -I -u SCRIPT ARGS` would.
    """
    _set_environment(order.env)
    sys.argv = [order.script, *order.args]
    if host is None:
        module = types.ModuleType("__main__")
        vars(module).update(
            __file__=order.script, __cached__=None, __builtins__=builtins, __spec__=None
        )
        sys.modules["__main__"] = module
        os.write(_TELL, _READY)
        code = _ran(order.script, vars(module))
    else:
        os.write(_TELL, _READY)
        code = _hosted(order, host)
    try:
        # Not imported here: it would do something in the child of every fork.
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()  # noqa: SLF001 - what Python does at its end
        atexit._run_exitfuncs()  # noqa: SLF001 - as above
    except BaseException as error:  # noqa: BLE001 - it is the script's own
        code = code or _exit_code(error)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            code = code or 120
    return code


def _set_environment(env: Mapping[str, str]) -> None:
    """Set variables where there are none; one by one, which costs least."""
    for name, value in env.items():
        os.environ[name] = value
    time.tzset()


def _ran(path: str, names: dict[str, Any]) -> int:
    try:
        with open(path, "rb") as file:
            source = file.read()
        exec(compile(source, path, "exec", dont_inherit=True), names)  # noqa: S102 - the job
    except BaseException as error:  # noqa: BLE001 - it is the script's own
        return _exit_code(error)
    return 0


def _hosted(order: Order, host: types.ModuleType) -> int:
    if "say_no_memory_to" in vars(host):
        host.say_no_memory_to(_TELL)
    try:
        return int(host.run(order.script, order.args))
    except BaseException as error:  # noqa: BLE001 - it is the script's own
        return _exit_code(error)


def _exit_code(error: BaseException) -> int:
    """Say what Python says when a script ends so, and return its exit code."""
    if isinstance(error, SystemExit):
        match error.code:
            case None:
                return 0
            case int():
                return error.code & 0xFF
            case _:
                sys.stderr.write(f"{error.code}\n")
                return 1
    if isinstance(error, MemoryError):
        os.write(_TELL, _NO_MEMORY)
    # Without the frame that is ours.
    trace = error.__traceback__
    shown = error.with_traceback(None if trace is None else trace.tb_next)
    sys.excepthook(type(shown), shown, shown.__traceback__)
    return 130 if isinstance(error, KeyboardInterrupt) else 1


if __name__ == "__main__":
    main()
