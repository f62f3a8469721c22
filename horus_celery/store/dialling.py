"""How a bare connection to a Redis is made, for whoever speaks its protocol himself."""

from __future__ import annotations

import socket
import ssl
from datetime import timedelta
from typing import Final

from redis.sentinel import SentinelConnectionPool

from horus_celery.errors import UnavailableError
from horus_celery.store import connection
from horus_celery.store.address import Address, Tls

_CHECKS: Final = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}


def dial(redis_url: str, *, within: timedelta) -> socket.socket:
    """Return a connection to a Redis, on which nothing was said yet.

    Args:
        redis_url: The address; its user and password are left to the caller.
        within: How long each step may take, and later each answer.

    Raises:
        UnavailableError: if there is none.
        ConfigurationError: as `connection.connect`.
    """
    address = connection.usable(redis_url)
    seconds = within.total_seconds()
    if address.path is not None:
        channel = socket.socket(socket.AF_UNIX)
        try:
            channel.settimeout(seconds)
            channel.connect(address.path)
        except OSError as error:
            channel.close()
            raise _cut_off(error) from None
        return channel
    host, port = _place(redis_url, address)
    try:
        channel = socket.create_connection((host, port), seconds)
    except OSError as error:
        raise _cut_off(error) from None
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if address.tls is None:
        return channel
    try:
        # What it wraps it closes, if no TLS comes about.
        return _context(address.tls).wrap_socket(channel, server_hostname=host)
    except OSError as error:
        channel.close()
        raise _cut_off(error) from None


def _place(redis_url: str, address: Address) -> tuple[str, int]:
    if address.service is None:
        return address.places[0].host, address.places[0].port
    pool = connection.connect(redis_url).connection_pool
    if not isinstance(pool, SentinelConnectionPool):
        raise TypeError(pool)
    with connection.answering():
        host, port = pool.get_master_address()  # type: ignore[no-untyped-call]  # so is redis-py
    return str(host), int(port)


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = tls.check_hostname and tls.cert_reqs == "required"
    context.verify_mode = _CHECKS[tls.cert_reqs]
    if tls.ca_certs is not None:
        context.load_verify_locations(tls.ca_certs)
    if tls.certfile is not None:
        context.load_cert_chain(tls.certfile, tls.keyfile, password="")
    return context


def _cut_off(error: OSError) -> UnavailableError:
    why = error.strerror or type(error).__name__
    return UnavailableError(f"Redis does not serve: no connection ({why})")
