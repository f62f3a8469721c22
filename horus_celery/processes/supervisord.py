"""How supervisord is told what to run, and asked how it goes."""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
import shlex
import socket
import time
import xmlrpc.client
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from supervisor.xmlrpc import Faults

from horus_celery.errors import ConfigurationError, UnavailableError
from horus_celery.processes.base import GRACE, LOOK
from horus_celery.processes.watched import RETRIES
from horus_celery.statedir import StateDirectory

#: The group of all programs but Redis: they are started, and ended, at once.
GROUP: Final = "horus"
REDIS: Final = "redis"
#: What has the password by which we are known to supervisord, and as whom.
SUPERVISORD: Final = "supervisord"
_USER: Final = "horus"
#: How long an answer takes at most that waits for nothing.
_PATIENCE: Final = timedelta(seconds=10)
_WAIT: Final = True
#: A program that was told to end, in supervisord's word.
STOPPING: Final = "STOPPING"
#: Between two looks whether it has.
_STEP: Final = timedelta(milliseconds=50)
#: What supervisord's configuration takes for the end of a value.
_END: Final = re.compile(r"\s[;#]|[\r\n]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What supervisord runs under a name."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    #: How long it may take to end by itself when it alone is stopped.
    stop_timeout: timedelta = GRACE


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramStatus:
    """How a program goes."""

    name: str
    #: The process id, or 0.
    pid: int
    #: In supervisord's words: STARTING, RUNNING, BACKOFF, FATAL, EXITED, …
    word: str


def configuration(
    programs: Sequence[Program], *, redis: Program | None, password: str
) -> str:
    """Return the text of supervisord's configuration file.

    All paths are relative: supervisord is started in the state directory.

    Args:
        programs: What it runs.
        redis: Our own Redis, if there is to be one.
        password: By which it knows whom it obeys.

    Raises:
        ConfigurationError: if a command, or a value of its environment, has something
            in it that the file has no way to say.
    """
    sections: dict[str, Mapping[str, object]] = {
        "supervisord": {
            "nodaemon": "true",
            "silent": "true",
            "nocleanup": "true",  # else it removes files of others from /tmp
            "pidfile": "run/supervisord.pid",
            "logfile": "logs/supervisord.log",
            "logfile_maxbytes": "1MB",
            "logfile_backups": 1,
            # Unused; else it is where temporary files lie, and expanded: no % in that.
            "childlogdir": "logs",
            "umask": "077",
        },
        "unix_http_server": {
            "file": "run/sup.sock",
            "chmod": "0700",
            "username": _USER,
            # What stands in the file opens nothing.
            "password": f"{{SHA}}{_hashed(password)}",
        },
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": (
                "supervisor.rpcinterface:make_main_rpcinterface"
            )
        },
    }
    if redis is not None:
        # It starts with supervisord and, by its low number, ends after all others.
        sections[f"program:{REDIS}"] = {
            **_program(redis),
            "autostart": "true",
            "priority": 1,
        }
    for program in programs:
        sections[f"program:{program.name}"] = {
            **_program(program),
            "autostart": "false",
        }
    sections[f"group:{GROUP}"] = {
        "programs": ",".join(program.name for program in programs),
        "priority": 100,
    }
    return "\n".join(_section(name, values) for name, values in sections.items())


def _hashed(password: str) -> str:
    # Of 256 bits, by the one hash that supervisord knows.
    return hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest()


def _program(program: Program) -> Mapping[str, object]:
    values: dict[str, object] = {
        "command": shlex.join(program.command),
        "autorestart": "true",
        "startsecs": 2,
        "startretries": RETRIES,
        "stopsignal": "TERM",
        # Less at the end of all: see `watched`.
        "stopwaitsecs": _seconds(program.stop_timeout),
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": f"logs/{program.name}.log",
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": 2,
    }
    if program.environment:
        values["environment"] = ",".join(
            f"{name}={_quoted(value)}" for name, value in program.environment.items()
        )
    return values


def _quoted(value: str) -> str:
    mark = "'" if '"' in value else '"'
    if mark in value:
        raise ConfigurationError(
            f"{value} has both kinds of quotes in it: choose another"
        )
    return f"{mark}{value}{mark}"


def _section(name: str, values: Mapping[str, object]) -> str:
    lines = [f"{key} = {_written(str(value))}" for key, value in values.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def _written(value: str) -> str:
    if _END.search(value):
        raise ConfigurationError(
            f"{value!r} cannot be told to supervisord, for which a space before a"
            " semicolon or a hash, and a new line, end it: choose another"
        )
    # supervisord expands %(…)s in every value.
    return value.replace("%", "%%")


def _seconds(time: timedelta) -> int:
    return int(time.total_seconds())


class Supervisord:
    """A connection to the supervisord of one state directory, for many threads.

    Every method raises `UnavailableError` when it does not answer.
    """

    def __init__(self, socket_path: Path, password: Callable[[], str]) -> None:
        self._path = socket_path
        self._password = password

    def start_all(self) -> None:
        """Start all programs of the group, without waiting for them."""
        self._call("startProcessGroup", GROUP, not _WAIT)

    def start(self, program: str) -> None:
        """Start one program of the group, without waiting for it; anew if it waits.

        Raises:
            ConfigurationError: if its command is not there.
        """
        name = f"{GROUP}:{program}"
        if self.program(program).word == "BACKOFF":
            self._try("stopProcess", name, _WAIT)
        fault = self._try("startProcess", name, not _WAIT)
        if fault in (Faults.NO_FILE, Faults.NOT_EXECUTABLE):
            raise ConfigurationError(
                f"the command of {program} is not there, or not executable"
            )

    def stop(self, program: str, *, within: timedelta) -> None:
        """Stop one program of the group and return when it has ended.

        Args:
            program: Its name.
            within: How long it may take to end by itself.
        """
        within += _PATIENCE
        deadline = time.monotonic() + within.total_seconds()
        self._try("stopProcess", f"{GROUP}:{program}", _WAIT, within=within)
        # Whoever else has it stopped is the one whom supervisord lets wait.
        while self.program(program).word == STOPPING:
            if time.monotonic() > deadline:
                raise UnavailableError(f"{program} does not end")
            time.sleep(_STEP.total_seconds())

    def shut_down(self) -> None:
        """Have it end everything, Redis last, and then itself."""
        self._call("shutdown", within=LOOK)

    def program(self, name: str) -> ProgramStatus:
        """Return how a program of the group goes."""
        return _status(self._call("getProcessInfo", f"{GROUP}:{name}"))

    def programs(self) -> tuple[ProgramStatus, ...]:
        """Return how every program goes, Redis included."""
        found = self._call("getAllProcessInfo", within=LOOK)
        return tuple(_status(info) for info in found)

    def _try(
        self, method: str, *arguments: object, within: timedelta = _PATIENCE
    ) -> int | None:
        """Call a method; return why it changed nothing, if that is no failure."""
        try:
            self._request(method, *arguments, within=within)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode not in _HARMLESS:
                raise _unavailable(fault) from None
            return int(fault.faultCode)
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise _unavailable(error) from None
        return None

    def _call(
        self, method: str, *arguments: object, within: timedelta = _PATIENCE
    ) -> Any:  # noqa: ANN401 - XML-RPC has no types
        try:
            return self._request(method, *arguments, within=within)
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise _unavailable(error) from None

    def _request(self, method: str, *arguments: object, within: timedelta) -> Any:  # noqa: ANN401 - XML-RPC has no types
        try:
            login = f"{_USER}:{self._password()}".encode()
        except ConfigurationError as error:
            why = f"supervisord does not answer: {error.detail}"
            raise UnavailableError(why) from None
        transport = _UnixTransport(self._path, within, login=login)
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)


def control_of(state: StateDirectory) -> Supervisord:
    """Return the connection to the supervisord of a state directory."""
    return Supervisord(state.run / "sup.sock", partial(state.password_of, SUPERVISORD))


#: Why a start or a stop changed nothing: it was so already, or is told by the status.
_HARMLESS: Final = frozenset(
    {
        Faults.ALREADY_STARTED,
        Faults.NOT_RUNNING,
        Faults.SPAWN_ERROR,
        Faults.NO_FILE,
        Faults.NOT_EXECUTABLE,
    }
)


def _status(info: Mapping[str, Any]) -> ProgramStatus:
    return ProgramStatus(
        name=info["name"],
        pid=info["pid"],
        word=info["statename"],
    )


def _unavailable(error: Exception) -> UnavailableError:
    if isinstance(error, xmlrpc.client.Fault):
        return UnavailableError(f"supervisord refuses (fault {error.faultCode})")
    return UnavailableError(f"supervisord does not answer ({type(error).__name__})")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, within: timedelta) -> None:
        super().__init__("localhost", timeout=within.total_seconds())
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path, within: timedelta, *, login: bytes) -> None:
        # In no URL: errors show that.
        basic = f"Basic {base64.b64encode(login).decode()}"
        super().__init__(headers=[("Authorization", basic)])
        self._path = path
        self._within = within

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        # One for each call: it is on this machine, and may have been restarted.
        made = _UnixConnection(self._path, self._within)
        self._connection = ("localhost", made)  # closed with the transport
        return made
