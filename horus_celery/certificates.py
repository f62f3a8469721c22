"""Which TLS certificate is shown, and which is believed."""

from __future__ import annotations

import ssl
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeAlias

from horus_celery.errors import ConfigurationError

#: How long new connections may still be shown a certificate that was replaced.
FRESH: Final = timedelta(seconds=2)

#: Of OpenSSL: a certificate counts before its time and after it.
_NO_CHECK_TIME: Final = 0x200000
_MISMATCH: Final = "KEY_VALUES_MISMATCH"
_WEAK: Final = frozenset({"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"})
_Stamp: TypeAlias = tuple[tuple[int, int, int], ...]


class Certificate:
    """The certificate of a server, read again when its files change."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Read it.

        Raises:
            ConfigurationError: as `serving`.
        """
        self._cert, self._key = cert, key
        self._stamp = self._present_stamp()
        self._looked = time.monotonic()
        #: What a new connection is to be wrapped by.
        self.context = serving(cert, key)

    def refresh(self) -> None:
        """Read it again if its files have changed.

        Raises:
            ConfigurationError: once, if they are of no use; `context` stays what it was
                until they change again.
        """
        now = time.monotonic()
        if now - self._looked < FRESH.total_seconds():
            return
        self._looked = now
        stamp = self._present_stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            self.context = serving(self._cert, self._key)

    def _present_stamp(self) -> _Stamp | None:
        try:
            found = (self._cert.stat(), self._key.stat())
        except OSError:
            return None
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in found)


def serving(cert: Path, key: Path) -> ssl.SSLContext:
    """Return how a server speaks TLS: 1.2 or newer, and asks callers for nothing.

    Args:
        cert: A file with its certificate, and those between it and a root.
        key: A file with the private key.

    Raises:
        ConfigurationError: naming the file that is of no use.
    """
    for name, path in (("tls_cert", cert), ("tls_key", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise ConfigurationError(
                f"{name}: cannot read {path}: {error.strerror}"
            ) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Nobody is there to be asked for a password.
        context.load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:
        raise ConfigurationError(_complaint(error, cert, key)) from None
    return context


def pinned(cert: Path) -> ssl.SSLContext:
    """Return how a client believes one server: whoever has that very certificate.

    Under whichever name it is called: a server on this machine is called by an address
    that its certificate need not have. And whenever: a deployment whose certificate has
    expired still has to start, and to be looked at.

    Raises:
        ConfigurationError: if there is no certificate in the file.
    """
    context = _pinned(cert)
    context.verify_flags |= _NO_CHECK_TIME
    return context


def fault_of(cert: Path, key: Path) -> str | None:
    """Return why nobody believes a certificate today, whoever signed it, if that is so.

    Raises:
        ConfigurationError: as `serving`.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = serving(cert, key)
    ends = (
        _pinned(cert).wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    try:
        for end in (*ends, *ends):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except ssl.SSLError as error:
        return error.reason
    return None


def believing(ca: Path) -> ssl.SSLContext:
    """Return how a client believes servers whose certificate these ones have signed.

    Raises:
        ConfigurationError: if there is no certificate in the file.
    """
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise ConfigurationError(_no_certificate(ca)) from None
    except OSError as error:
        raise ConfigurationError(_unreadable(ca, error)) from None


def _pinned(cert: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # The certificate itself is the end of the chain, whoever signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        text = cert.read_text("ascii")
    except (OSError, ValueError) as error:
        raise ConfigurationError(_unreadable(cert, error)) from None
    # The first one is the server's. With another, whoever that one signs would pass.
    first, end, _ = text.partition(ssl.PEM_FOOTER)
    try:
        context.load_verify_locations(cadata=first[first.find(ssl.PEM_HEADER) :] + end)
    except (OSError, ValueError):
        raise ConfigurationError(_no_certificate(cert)) from None
    return context


def _complaint(error: Exception, cert: Path, key: Path) -> str:
    if isinstance(error, ssl.SSLError) and error.reason == _MISMATCH:
        return f"tls_key: {key} is not the key of the certificate in {cert}"
    if isinstance(error, ssl.SSLError) and error.reason in _WEAK:
        return (
            f"tls_cert: {cert} has too short a key, or too weak a signature: make a new"
            " one"
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cert)
    except (OSError, ValueError):
        return f"tls_cert: {_no_certificate(cert)}"
    return (
        f"tls_key: {key} holds no private key that can be used: it must be PEM, and"
        " without a password"
    )


def _unreadable(path: Path, error: Exception) -> str:
    why = error.strerror if isinstance(error, OSError) else None
    return f"cannot read {path}: {why or 'it is no text'}"


def _no_certificate(path: Path) -> str:
    return f"{path} holds no certificate in PEM"
