"""How supervisord is told what to run, and asked how it goes."""

from __future__ import annotations

import http.client
import shlex
import socket
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from horus_celery.errors import UnavailableError

#: The group of all programs but Redis: they are started, and ended, at once.
GROUP: Final = "horus"
REDIS: Final = "redis"
#: Seconds that a program has after TERM before it is killed.
GRACE: Final = 3
#: Times that a program that ends at its start is started again, each a second later.
RETRIES: Final = 4
#: startProcessGroup would wait for one program after the other.
_WAIT: Final = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What supervisord runs under a name."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramStatus:
    """How a program goes."""

    name: str
    #: The process id, or 0.
    pid: int
    #: In supervisord's words: STARTING, RUNNING, BACKOFF, FATAL, EXITED, …
    word: str
    exit_status: int


def configuration(programs: Sequence[Program], *, redis: Program | None) -> str:
    """Return the text of supervisord's configuration file.

    All paths are relative: supervisord is started in the state directory.
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
            "umask": "077",
        },
        "unix_http_server": {"file": "run/sup.sock", "chmod": "0700"},
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


def _program(program: Program) -> Mapping[str, object]:
    values: dict[str, object] = {
        "command": shlex.join(program.command),
        "autorestart": "true",
        "startsecs": 2,
        "startretries": RETRIES,
        "stopsignal": "TERM",
        "stopwaitsecs": GRACE,
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": f"logs/{program.name}.log",
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": 2,
    }
    if program.environment:
        values["environment"] = ",".join(
            f'{name}="{value}"' for name, value in program.environment.items()
        )
    return values


def _section(name: str, values: Mapping[str, object]) -> str:
    # supervisord expands %(…)s in every value.
    lines = [
        f"{key} = {str(value).replace('%', '%%')}" for key, value in values.items()
    ]
    return "\n".join([f"[{name}]", *lines, ""])


class Supervisord:
    """A connection to the supervisord of one state directory.

    Every method raises `UnavailableError` when it does not answer.
    """

    def __init__(self, socket_path: Path) -> None:
        self._proxy = xmlrpc.client.ServerProxy(
            "http://127.0.0.1", transport=_UnixTransport(socket_path)
        )

    def start(self) -> None:
        """Start all programs of the group, without waiting for them."""
        self._call("startProcessGroup", GROUP, _WAIT)

    def shut_down(self) -> None:
        """Have it end everything, Redis last, and then itself."""
        self._call("shutdown")

    def programs(self) -> tuple[ProgramStatus, ...]:
        """Return how every program goes, Redis included."""
        return tuple(
            ProgramStatus(
                name=info["name"],
                pid=info["pid"],
                word=info["statename"],
                exit_status=info["exitstatus"],
            )
            for info in self._call("getAllProcessInfo")
        )

    def _call(self, method: str, *arguments: object) -> Any:  # noqa: ANN401 - XML-RPC has no types
        remote = getattr(self._proxy.supervisor, method)
        try:
            return remote(*arguments)
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise UnavailableError(
                f"supervisord does not answer ({type(error).__name__})"
            ) from None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        # One for each call: it is on this machine, and may have been restarted.
        return _UnixConnection(self._path)
