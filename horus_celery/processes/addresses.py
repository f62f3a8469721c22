"""Where a deployment listens: which ports are free, which address is shown."""

from __future__ import annotations

import errno
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from horus_celery.errors import ConfigurationError
from horus_celery.journal import ProcessMark
from horus_celery.settings import Settings
from horus_celery.statedir import StateDirectory


class PortTaken(ConfigurationError):
    """Somebody else listens there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a deployment can be reached."""

    #: Who keeps it up.
    process: ProcessMark
    api: str
    #: None: there is none.
    flower: str | None
    #: The certificate that the API shows, if it speaks TLS.
    tls_cert: Path | None = None
    #: The Redis that it uses, without login; None where an earlier version is up.
    redis: str | None = None
    #: The configuration file that it was started with, if there was one.
    config: Path | None = None


def with_ports(settings: Settings, *, flower: bool = True) -> Settings:
    """Return settings whose ports are free, and chosen where that was left to us.

    Args:
        settings: What the deployment chose.
        flower: Whether it runs Flower.

    Raises:
        ConfigurationError: naming a port that somebody else has.
    """
    host = settings.bind_address
    port = settings.port or free_port(host)
    if settings.port and not _is_free(host, port):
        raise ConfigurationError(
            f"port {port} of {host} is taken: end what listens there, or choose"
            " another with --port (0 takes a free one)"
        )
    settings = settings.model_copy(update={"port": port})
    return _with_flower_port(settings) if flower else settings


def _with_flower_port(settings: Settings) -> Settings:
    host, port = settings.flower_address, settings.flower_port
    if not port or port == settings.port or not _is_free(host, port):
        if "flower_port" in settings.model_fields_set and port:
            raise ConfigurationError(
                f"port {port}, which Flower is to have, is taken: set another"
                " flower_port (0 takes a free one)"
            )
        port = free_port(host, but=settings.port)
    return settings.model_copy(update={"flower_port": port})


def free_port(host: str, *, but: int | None = None) -> int:
    """Return a port that nobody has, other than `but`."""
    while True:
        with _bound(host, 0) as bound:
            port = int(bound.getsockname()[1])
        if port != but:
            return port


def _is_free(host: str, port: int) -> bool:
    try:
        _bound(host, port).close()
    except PortTaken:
        return False
    return True


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind)
    except (OSError, ValueError):  # a name that is none is an error of its encoding
        raise _no_address(host) from None
    try:
        # As servers do: an address whose last connections are just ending is free.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _refusal(error, host, port) from None
    return bound


def _refusal(error: OSError, host: str, port: int) -> ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        return PortTaken(
            f"port {port} of {host} is taken" if port else "no port is free"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return _no_address(host)
    if error.errno == errno.EACCES:
        return ConfigurationError(
            f"this user may not listen on port {port}: choose one over 1023"
        )
    return ConfigurationError(
        f"cannot listen on {host!r} ({os.strerror(error.errno or 0)}): set another"
        " bind_address"
    )


def _no_address(host: str) -> ConfigurationError:
    return ConfigurationError(
        f"there is no address {host!r} to listen on: set another bind_address"
    )


def read_addresses(state: StateDirectory) -> Addresses | None:
    """Return where the deployment of this state directory listens, if it is up.

    One that was killed leaves it behind: whether its process is alive, ask that.
    """
    try:
        values = json.loads((state.run / "up.json").read_text("utf-8"))
        cert, config = values.get("tls_cert"), values.get("config")
        return Addresses(
            process=ProcessMark(**values["process"]),
            api=values["url"],
            flower=values["flower_url"],
            tls_cert=None if cert is None else Path(cert),
            redis=values.get("redis"),
            config=None if config is None else Path(config),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
