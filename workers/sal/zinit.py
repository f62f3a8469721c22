"""SAL's functions for the services of the node, by the daemon zinit."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

from workers.sal.kinds import Word
from workers.sal.session import Power, SalError, Session
from workers.sal.table import make_module

#: Seconds that one answer may take: a stop takes one of them in zinit itself.
_SILENCE: Final = 10.0
#: How long a service may take to stop before it is started again.
_STOPPING: Final = timedelta(seconds=15)
#: Seconds between two looks at it: zinit tells nobody when a service has ended.
_LOOK: Final = 0.1
_LARGEST_ANSWER: Final = 16 * 2**20
_CHUNK: Final = 2**16
#: By the codes of zinit's errors.
_REFUSALS: Final[Mapping[int, str]] = {
    -32000: "there is no such service",
    -32001: "it is monitored already",
    -32002: "it is up: stop it first",
    -32003: "it is down",
    -32004: "there is no such signal",
    -32005: "its configuration is wrong",
    -32006: "zinit is shutting down",
    -32007: "there is a service of this name already",
    -32008: "its file cannot be read or written",
    -32602: "the name must not contain '/', '\\' or '.'",
}


def zinit_list(here: Session, socket_path: Path) -> dict[str, str]:
    """Return every service with its state."""
    return _mapping(_call(here, socket_path, "service_list"))


def zinit_status(here: Session, socket_path: Path, name: Word) -> dict[str, object]:
    """Return the state of a service: name, pid, state, target, after.

    A pid of 0 means that it does not run.
    """
    return _mapping(_call(here, socket_path, "service_status", name))


def zinit_start(here: Session, socket_path: Path, name: Word) -> None:
    """Start a service that is monitored and was stopped."""
    _call(here, socket_path, "service_start", name)


def zinit_stop(here: Session, socket_path: Path, name: Word) -> None:
    """Stop a service; zinit gives it half a second."""
    _call(here, socket_path, "service_stop", name)


def zinit_restart(here: Session, socket_path: Path, name: Word) -> None:
    """Stop a service, wait until it has ended, and start it."""
    zinit_stop(here, socket_path, name)
    deadline = monotonic() + _STOPPING.total_seconds()
    while zinit_status(here, socket_path, name).get("pid") != 0:
        if monotonic() > deadline:
            raise SalError(f"{name} does not end; kill it with zinit_kill")
        sleep(_LOOK)
    zinit_start(here, socket_path, name)


def zinit_monitor(here: Session, socket_path: Path, name: Word) -> None:
    """Take up a service that was created: it is started, and again when it ends."""
    _call(here, socket_path, "service_monitor", name)


def zinit_forget(here: Session, socket_path: Path, name: Word) -> None:
    """Give up a service that was stopped; its configuration stays."""
    _call(here, socket_path, "service_forget", name)


def zinit_kill(
    here: Session, socket_path: Path, name: Word, signal: Word = "SIGTERM"
) -> None:
    """Send a signal to a service."""
    _call(here, socket_path, "service_kill", name, signal)


def zinit_create_service(
    here: Session, socket_path: Path, name: Word, content: dict[str, object]
) -> None:
    """Write the configuration of a service, as in `#{exec: "…", after: ["redis"]}`.

    `exec` is a command line that no shell runs; others are test, oneshot, after,
    signal, log, env and dir. Nothing is started: call `zinit_monitor` next.
    """
    if not isinstance(content.get("exec"), str) or not content["exec"]:
        raise SalError("content needs exec, the command line of the service")
    _call(here, socket_path, "service_create", name, content)


def zinit_delete_service(here: Session, socket_path: Path, name: Word) -> None:
    """Delete the configuration of a service that was forgotten."""
    _call(here, socket_path, "service_delete", name)


def zinit_get_service(
    here: Session, socket_path: Path, name: Word
) -> dict[str, object]:
    """Return the configuration of a service."""
    return _mapping(_call(here, socket_path, "service_get", name))


def zinit_logs(here: Session, socket_path: Path, name: Word) -> list[str]:
    """Return the last lines that a service wrote."""
    return _lines(_call(here, socket_path, "stream_currentLogs", name))


def zinit_logs_all(here: Session, socket_path: Path) -> list[str]:
    """Return the last lines that all services wrote."""
    return _lines(_call(here, socket_path, "stream_currentLogs"))


def _call(here: Session, path: Path, method: str, *params: object) -> Any:  # noqa: ANN401 - JSON of others
    here.require(Power.SERVICES)
    question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    try:
        line = json.dumps(question).encode()
    except (TypeError, ValueError):
        raise SalError("content must be data: strings, numbers, arrays, maps") from None
    try:
        answer = json.loads(_exchange(path, line + b"\n"))
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise SalError(f"what listens at {path} is no zinit that is known")
    if isinstance(error := answer.get("error"), dict):
        said = _REFUSALS.get(error.get("code", 0)) or str(error.get("message"))
        about = f" {params[0]}" if params else ""
        raise SalError(f"zinit refuses{about}: {said}")
    if "result" not in answer:
        # The line protocol of older versions answers with state and body.
        raise SalError(f"zinit at {path} is too old: it speaks no JSON-RPC")
    return answer["result"]


def _exchange(path: Path, line: bytes) -> bytes:
    """Send a line, and return the one that comes back."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(_SILENCE)
        try:
            channel.connect(str(path))
        except OSError as error:
            said = error.strerror or str(error)
            raise SalError(f"zinit cannot be reached at {path}: {said}") from None
        channel.sendall(line)
        received = bytearray()
        try:
            while not received.endswith(b"\n") and (data := channel.recv(_CHUNK)):
                received += data
                if len(received) > _LARGEST_ANSWER:
                    raise SalError(f"zinit at {path} answers without an end")
        except TimeoutError:
            raise SalError(f"zinit at {path} does not answer") from None
    return bytes(received)


def _mapping(result: object) -> dict[str, Any]:
    if not isinstance(result, dict):
        raise SalError("zinit answers with something else than a map")
    return result


def _lines(result: object) -> list[str]:
    if not isinstance(result, list):
        raise SalError("zinit answers with something else than lines")
    return [str(line) for line in result]


MODULE: Final = make_module(
    "zinit",
    """The services of the node, by zinit 0.2.

    All of it is off unless the runner's configuration says `sal_allow = ["services"]`.
    `socket_path` is where zinit listens: `zinit.sock` in the system's directory for
    temporary files, `/var/run/zinit.sock` in older versions.
    """,
    *(zinit_list, zinit_status, zinit_start, zinit_stop, zinit_restart),
    *(zinit_monitor, zinit_forget, zinit_kill, zinit_create_service),
    *(zinit_delete_service, zinit_get_service, zinit_logs, zinit_logs_all),
)
