"""Runs a HeroScript by the Hero CLI, beside a Redis that is this job's alone.

That program keeps its state in a Redis on 127.0.0.1:6379 and takes no other. Where
nothing answers there it kills every Redis that it may kill, so one is started before it
and ended behind it; where one answers already, it is that of somebody else.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

from horus_celery import kernel

#: The variables by which a runner tells where the programs are.
HERO: Final = "HORUS_HERO_CLI"
REDIS: Final = "HORUS_HERO_REDIS"
#: The one that tells what of the network the job was granted.
NET: Final = "HORUS_NET"
#: Where the Hero CLI looks for its Redis; it cannot be told otherwise.
ADDRESS: Final = ("127.0.0.1", 6379)
#: The Hero CLI takes a file by the end of its name.
SUFFIX: Final = ".hero"
#: Where the kernel lists them: from which line on, and in which column the device.
_ROUTES: Final[Mapping[Path, tuple[int, int]]] = MappingProxyType(
    {Path("/proc/net/route"): (1, 0), Path("/proc/net/ipv6_route"): (0, -1)}
)
_PATIENCE: Final = timedelta(seconds=10)
_STEP: Final = timedelta(milliseconds=5)
_WAIT: Final = timedelta(seconds=1)


class CannotRunError(Exception):
    """Why the Hero CLI cannot be run here, with the remedy."""


def run(path: str, args: Sequence[str]) -> int:
    """Run the script of a file by the Hero CLI, and return its exit code."""
    try:
        return _run(path, args, os.environ)
    except CannotRunError as error:
        sys.stderr.write(f"hero: {error}\n")
        return 1


def rehearse() -> None:
    """Do nothing: what every script makes this process do is to start programs."""


warm_up = rehearse


def _run(path: str, args: Sequence[str], environment: Mapping[str, str]) -> int:
    hero = _program(environment, HERO, "hero_cli")
    redis = _program(environment, REDIS, "redis")
    if args:
        raise CannotRunError("the Hero CLI takes a script and no arguments")
    if environment.get(NET) == "host" or _is_on_the_machine():
        raise CannotRunError(
            "this job has the network of its machine, where its Redis would be"
            " anybody's: sign it with `net: none`, for a runner with a sandbox"
        )
    if _answers():
        raise CannotRunError(
            "something answers on 127.0.0.1:6379 already, which is not this job's:"
            " sign it with `net: none`, for a runner with a sandbox"
        )
    # Its home, too, is a new one: what it keeps there is no other job's.
    with tempfile.TemporaryDirectory(prefix="hero-") as home, _redis(redis, home):
        script = Path(home) / f"script{SUFFIX}"
        shutil.copyfile(path, script)
        return _ended(hero, script, {**environment, "HOME": home})


def _program(environment: Mapping[str, str], name: str, setting: str) -> str:
    program = environment.get(name, "")
    if not os.access(program, os.X_OK) or not os.path.isfile(program):  # noqa: PTH113 - no path yet
        raise CannotRunError(
            f"{name} names no program that can be run here: {program!r}; see {setting}"
            " in the runner's configuration"
        )
    return program


def _ended(hero: str, script: Path, environment: Mapping[str, str]) -> int:
    sys.stdout.flush()
    # With this one argument it skips the step that installs packages.
    done = subprocess.run(  # noqa: S603 - the runner's own setting
        [hero, str(script)], check=False, env=environment, stdin=subprocess.DEVNULL
    )
    code = done.returncode
    return code if code >= 0 else 128 - code


@contextmanager
def _redis(program: str, folder: str) -> Iterator[None]:
    """Have a Redis while something is done, which is gone with all it holds then."""
    host, port = ADDRESS
    options = {
        "bind": host,
        "port": str(port),
        "dir": folder,
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = subprocess.Popen(  # noqa: S603 - as above
        [program, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_end_with_us,  # noqa: PLW1509 - this process has one thread
    )
    try:
        _wait_for(process)
        yield
    finally:
        process.kill()
        process.wait()


def _end_with_us() -> None:
    kernel.die_with_parent(signal.SIGKILL)


def _wait_for(process: subprocess.Popen[bytes]) -> None:
    """Wait until the server answers.

    Raises:
        CannotRunError: if it ends, or does not answer for long.
    """
    deadline = time.monotonic() + _PATIENCE.total_seconds()
    while process.poll() is not None or not _answers():
        if process.returncode is not None or time.monotonic() > deadline:
            raise CannotRunError(
                "the Redis that the Hero CLI needs does not start on 127.0.0.1:6379"
            )
        time.sleep(_STEP.total_seconds())


def _is_on_the_machine() -> bool:
    """Whether a way leads out of this network, as none does that was made for a job."""
    devices = {
        line.split()[column]
        for table, (first, column) in _ROUTES.items()
        # Without IPv6 the kernel has no table of it.
        if table.exists()
        for line in table.read_text("ascii").splitlines()[first:]
    }
    return bool(devices - {"lo"})


def _answers() -> bool:
    """Whether something takes connections where the Hero CLI looks for its Redis.

    Raises:
        CannotRunError: if nothing ever could.
    """
    try:
        with socket.create_connection(ADDRESS, _WAIT.total_seconds()) as channel:
            channel.sendall(b"PING\r\n")
            channel.recv(1)
    except (TimeoutError, ConnectionResetError):
        # Whoever is silent there is no Redis of ours either.
        return True
    except OSError as error:
        if error.errno == errno.ENETUNREACH:
            raise CannotRunError(
                "the network of this job has no loopback, which the Hero CLI needs"
            ) from None
        return False
    return True
