"""SAL's functions that reach other machines."""

from __future__ import annotations

import socket
from datetime import timedelta
from time import monotonic
from typing import Final

from workers.sal import web
from workers.sal.kinds import Port, Seconds, WebAddress, Word
from workers.sal.programs import CommandResult, Program, succeeded
from workers.sal.session import Power, SalError, Session
from workers.sal.table import make_module

_WAIT: Final = timedelta(seconds=5)
_LONGEST: Final = timedelta(hours=1)
#: The code with which ssh itself fails.
_SSH_FAILED: Final = 255
_HTTP_ERRORS: Final = 400


def tcp_check(here: Session, host: Word, port: Port, timeout: Seconds = _WAIT) -> bool:
    """Whether something listens there: whether a connection is made in time."""
    here.require_host()
    try:
        _connected(host, port, timeout)
    except OSError:
        return False
    return True


def tcp_ping(here: Session, host: Word, port: Port, timeout: Seconds = _WAIT) -> float:
    """Return in how many milliseconds a connection was made; an error if it was not."""
    here.require_host()
    try:
        took = _connected(host, port, timeout)
    except OSError as error:
        said = error.strerror or str(error)
        raise SalError(f"{host}, port {port} cannot be reached: {said}") from None
    return took.total_seconds() * 1000


def http_check(here: Session, url: WebAddress) -> bool:
    """Whether an address answers with success, redirects followed."""
    here.require_host()
    try:
        return _status(url) < _HTTP_ERRORS
    except SalError:
        return False


def http_status(here: Session, url: WebAddress) -> int:
    """Return the status with which an address answers, redirects followed."""
    here.require_host()
    return _status(url)


def ssh_execute(here: Session, host: Word, command: str) -> CommandResult:
    """Run a command line on another machine, by the shell there.

    `host` is `user@machine`, or a name in ssh's configuration; `ssh` must be allowed.
    What the command writes is in the job's log.
    """
    return _ssh(here, host, command, is_logged=True)


def ssh_execute_output(here: Session, host: Word, command: str) -> str:
    """Run a command line on another machine, and return what it wrote.

    It is an error if the exit code is not 0.
    """
    result = _ssh(here, host, command, is_logged=False)
    return succeeded(["ssh"], result).stdout


def ssh_ping_host(here: Session, host: Word) -> bool:
    """Whether a command can be run on another machine."""
    try:
        return _ssh(here, host, "true", is_logged=False).success
    except _SshFailed:
        return False


class _SshFailed(SalError):
    """Another machine could not be reached, or lets nobody in."""


def _connected(host: str, port: int, timeout: timedelta) -> timedelta:
    started = monotonic()
    # Zero would mean not to wait for the connection at all.
    seconds = max(timeout.total_seconds(), 0.001)
    with socket.create_connection((host, port), seconds):
        return timedelta(seconds=monotonic() - started)


def _status(url: str) -> int:
    with web.answering("GET", url, follow=True) as response:
        return response.status_code


def _ssh(here: Session, host: str, command: str, *, is_logged: bool) -> CommandResult:
    here.require(Power.SSH)
    here.require_host()
    if not command.strip() or "\0" in command:
        raise SalError("there is no command")
    options = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10")
    program = Program(
        words=["ssh", *options, "--", host, command],
        timeout=_LONGEST,
        write=here.write if is_logged else None,
    )
    result = program.run()
    if result.code == _SSH_FAILED:
        said = result.stderr.strip().splitlines() or ["ssh says nothing"]
        raise _SshFailed(f"{host} cannot be reached: {said[-1]}")
    return result


MODULE: Final = make_module(
    "net",
    """Other machines, with `net: host`.

    The functions of ssh are off unless the runner's configuration says
    `sal_allow = ["ssh"]`.
    """,
    *(tcp_check, tcp_ping, http_check, http_status),
    *(ssh_execute, ssh_execute_output, ssh_ping_host),
)
