"""The small process that scripts are born from: it holds nothing and forks quickly.

It is a Python of its own, executed with an empty environment and one socket, so that
nothing of the runner (keys, secrets, connections) was ever in its memory. For every
order it forks a child that goes into the job's namespaces and has the script run by a
child of its own: the keeper, which takes away what ends and reports the end.

    zygote ── usher ── keeper (the first process of the job's namespace) ── script
    zygote ── keeper ── script                                   (on the plain machine)
"""

from __future__ import annotations

import atexit
import binascii
import builtins
import gc
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
from typing import Any, Final, NoReturn

from horus_celery import kernel
from workers import handover, sandbox
from workers import order as orders
from workers.order import Order, Shelter

#: Descriptors that come with an order: standard output, standard error, the report,
#: and perhaps the way into a cgroup.
DESCRIPTORS: Final = 4
#: What the script's own process says to its keeper before its end: that it is ready,
#: and that it had no more memory.
_READY: Final = b"r"
_NO_MEMORY: Final = b"m"
_MISSING: Final = 127
#: Where the script's process says it, until another program takes its place.
_TELL: Final = 3
#: No process has descriptors from here on, unless its limit was raised very far.
_DESCRIPTORS_END: Final = 1 << 16
#: Packages of ours, which are none of a script's.
_OURS: Final = frozenset({"workers", "horus_celery"})
#: Its keeper counts besides the script's own processes.
_COMPANY: Final = 1
#: Descriptors that a process of a script may have.
_OPEN_FILES: Final = 1024


def main() -> None:
    """Serve the socket whose descriptor is the one argument until it is closed."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    kernel.die_with_parent(signal.SIGKILL)
    # Not on the command line, which scripts see.
    start = orders.receive_start(channel)
    if start is None:
        return
    shelter = start.shelter
    if start.filter is not None:
        # Here it costs nothing, where for each script it costs a quarter millisecond.
        kernel.give_up_new_privileges()
        kernel.filter_calls(binascii.a2b_base64(start.filter))
    if shelter is not None:
        try:
            sandbox.make_root(shelter)
        except OSError as error:
            _say_broken(channel, error)
            return
    _say(channel, ready=True)
    kernel.become_subreaper()
    kernel.set_readable(False)
    # Whoever is left to it is taken away by the kernel.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Its pages are shared with every child for as long as nobody touches them.
    gc.collect()
    gc.freeze()
    while True:
        received = orders.receive(channel, DESCRIPTORS)
        if received is None:
            return
        order, descriptors = received
        if os.fork() == 0:
            channel.close()
            _serve(order, shelter, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _serve(order: Order, shelter: Shelter | None, descriptors: list[int]) -> NoReturn:
    stdout, stderr, report, *group = descriptors
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    kernel.die_with_parent(signal.SIGKILL)
    reports = socket.socket(fileno=report)
    try:
        if shelter is None:
            _say(reports, keeper=os.getpid())
            kernel.become_subreaper()
            kernel.give_up_new_privileges()
            _keep(order, stdout, stderr, reports, group)
        sandbox.leave()
        usher_lives, held = os.pipe()
        keeper = os.fork()
        if keeper == 0:
            os.close(held)
            sandbox.move_in(shelter, room=order.room, space=order.space)
            # Not before: the kernel forgets it of who becomes another user.
            kernel.die_with_parent(signal.SIGKILL)
            if select.select([usher_lives], [], [], 0)[0]:
                os._exit(0)  # too late to be told
            os.close(usher_lives)
            out = os.open(sandbox.OUT, os.O_RDONLY | os.O_DIRECTORY)
            _keep(order, stdout, stderr, reports, group, out)
        _say(reports, keeper=keeper)
        os.close(stdout)
        os.close(stderr)
        os.waitpid(keeper, 0)
    except BaseException as error:  # noqa: BLE001 - nothing may go back up into the loop
        _say_broken(reports, error)
    os._exit(0)


def _keep(
    order: Order,
    stdout: int,
    stderr: int,
    reports: socket.socket,
    group: Sequence[int],
    out: int | None = None,
) -> NoReturn:
    """Have the script run by a child, and tell how it ended.

    `out` is the directory of its result, where the runner has no way to it.
    """
    # The script's user is ours; it is to see nothing of what we know.
    kernel.set_readable(False)
    told, tell = os.pipe()
    script = os.fork()
    if script == 0:
        for door in group:
            os.write(door, b"0")
        _take_over(stdout, stderr, tell)
        try:
            _prepare_script(order)
            if order.interpreter is not None:
                _execute(handover.command_line(order), order.env)
            code = _run_python(order)
        except OSError as error:
            os.write(_TELL, f"{error.errno}".encode())
            code = _MISSING
        os._exit(code)
    for descriptor in (tell, stdout, stderr):
        os.close(descriptor)
    said = os.read(told, 16)
    if said not in (b"", _READY):
        _say(reports, errno=int(said))
        os._exit(0)
    _say(reports, out, ready=True)
    _say(reports, **_until_end(script), memory=_said_at_its_end(told) == _NO_MEMORY)
    if out is None:
        # What the script left behind is the runner's to end; it is taken away here.
        while _reap() is not None:
            pass
    os._exit(0)


def _said_at_its_end(told: int) -> bytes:
    # Whoever the script has forked may still have the other end.
    os.set_blocking(told, False)
    try:
        return os.read(told, 16)
    except BlockingIOError:
        return b""


def _until_end(script: int) -> dict[str, Any]:
    while True:
        ended = _reap()
        if ended is None or ended[0] == script:
            break
    status = ended[1] if ended else 0
    code = os.waitstatus_to_exitcode(status)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "code": code if code >= 0 else 128 - code,
        "cpu_ms": int((used.ru_utime + used.ru_stime) * 1000),
    }


def _reap() -> tuple[int, int] | None:
    try:
        return os.waitpid(-1, 0)
    except ChildProcessError:
        return None


def _say(reports: socket.socket, descriptor: int | None = None, **what: Any) -> None:  # noqa: ANN401 - as JSON has it
    text = json.dumps(what).encode()
    try:
        if descriptor is None:
            reports.send(text)
        else:
            socket.send_fds(reports, [text], [descriptor])
    except OSError:
        # The runner is gone, and so are we in a moment.
        os._exit(0)


def _say_broken(reports: socket.socket, error: BaseException) -> None:
    number = error.errno if isinstance(error, OSError) else None
    where = str(error.filename) if isinstance(error, OSError) else type(error).__name__
    _say(reports, errno=number or 0, where=where)


def _take_over(stdout: int, stderr: int, tell: int) -> None:
    """Have the script's streams and the way to its keeper, and nothing more."""
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.dup2(tell, _TELL, inheritable=False)
    os.closerange(_TELL + 1, _DESCRIPTORS_END)


def _prepare_script(order: Order) -> None:
    """Make this process one that a script may have.

    Raises:
        OSError: if it cannot be done.
    """
    os.setsid()
    kernel.die_with_parent(signal.SIGKILL)
    _limit(order)
    os.umask(0o077)
    os.chdir(order.cwd)
    kernel.set_readable(True)
    if order.filter is not None:
        kernel.filter_calls(binascii.a2b_base64(order.filter))


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
        count = ceilings.processes + _COMPANY
        _lower(resource.RLIMIT_NPROC, count, count)


def _lower(what: int, soft: int, hard: int) -> None:
    """Set a limit of this process, but to no more than the machine allows."""
    _, most = resource.getrlimit(what)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(what, (soft, hard))


def _run_python(order: Order) -> int:
    """Run the script in this very process, as `python -I -u SCRIPT ARGS` would."""
    os.environ.clear()
    os.environ.update(order.env)
    time.tzset()
    sys.argv = [order.script, *order.args]
    for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
        del sys.modules[name]
    module = types.ModuleType("__main__")
    vars(module).update(
        __file__=order.script, __cached__=None, __builtins__=builtins, __spec__=None
    )
    sys.modules["__main__"] = module
    os.write(_TELL, _READY)
    code = _ran(order.script, vars(module))
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


def _ran(path: str, names: dict[str, Any]) -> int:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - nothing more is imported here
            source = file.read()
        exec(compile(source, path, "exec", dont_inherit=True), names)  # noqa: S102 - the job
    except BaseException as error:  # noqa: BLE001 - it is the script's own
        return _exit_code(error)
    return 0


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
