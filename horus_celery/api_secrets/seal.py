"""How the supervisors of a deployment know their own entries and their secrets."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from horus_celery.errors import ConfigurationError

#: Bytes of the key of a seal.
SEAL_BYTES: Final = 32


class Seal:
    """What the supervisors of a deployment put under an entry, and nobody else can."""

    def __init__(self, key: bytes, namespace: str) -> None:
        """Take the key, which lies in the state directory.

        Raises:
            ConfigurationError: if it is too short.
        """
        if len(key) < SEAL_BYTES:
            raise ConfigurationError("the seal of the API's secrets is too short")
        self._key = key
        self._namespace = namespace.encode()

    def digest(self, secret: str) -> bytes:
        """Return what is remembered of a secret; without the key it is no use."""
        return hashlib.blake2b(
            secret.encode("utf-8", "surrogatepass"),
            key=self._key,
            digest_size=32,
            person=b"horus-secret",
        ).digest()

    def close(self, secret_id: str, body: bytes) -> bytes:
        """Return an entry: a body, with the seal in front of it."""
        return b"%s.%s" % (self._mark(secret_id, body), body)

    def open(self, secret_id: str, entry: bytes) -> bytes | None:
        """Return the body of an entry that one of us wrote for this id, else None."""
        mark, _, body = entry.partition(b".")
        is_ours = hmac.compare_digest(mark, self._mark(secret_id, body))
        return body if is_ours else None

    def _mark(self, secret_id: str, body: bytes) -> bytes:
        covered = b"%s\0%s\0%s" % (
            self._namespace,
            secret_id.encode("utf-8", "surrogatepass"),
            body,
        )
        seal = hashlib.blake2b(
            covered, key=self._key, digest_size=32, person=b"horus-seal"
        )
        return seal.hexdigest().encode()
