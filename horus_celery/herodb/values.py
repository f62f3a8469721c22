"""What an encrypted value looks like, and what it is bound to.

`hdb1.KEYID.BASE64`, encrypted by XChaCha20-Poly1305. Context, key of encryption and the
value's own key are covered, so a value that was put elsewhere is none there.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from nacl import bindings
from nacl.exceptions import CryptoError
from nacl.utils import random

from horus_celery.errors import ConflictError

KEY_BYTES: Final = 32
_MARK: Final = b"hdb1"
_NONCE: Final = bindings.crypto_aead_xchacha20poly1305_ietf_NPUBBYTES


def encrypt(
    value: bytes, *, secret: bytes, key_id: str, context: str, at: bytes
) -> bytes:
    """Return the text that stands for a value.

    Args:
        value: The value.
        secret: The key of encryption.
        key_id: By which that is found again.
        context: The context that it lies in.
        at: The key in the database.
    """
    nonce = random(_NONCE)
    sealed = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        value, _covered(key_id, context, at), nonce, secret
    )
    return b".".join((_MARK, key_id.encode(), base64.b64encode(nonce + sealed)))


def key_id_of(text: bytes) -> str:
    """Return by which key a value is encrypted.

    Raises:
        ConflictError: if it is no encrypted value.
    """
    return _parts(text)[0]


def decrypt(text: bytes, *, secret: bytes, context: str, at: bytes) -> bytes:
    """Return the value that a text stands for.

    Raises:
        ConflictError: if it is none of this key, context and place, or was altered.
    """
    key_id, sealed = _parts(text)
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
            sealed[_NONCE:], _covered(key_id, context, at), sealed[:_NONCE], secret
        )
    except (CryptoError, ValueError):
        raise ConflictError(
            "the value cannot be decrypted: it was altered, or encrypted for another"
            " place",
            reason="not_decryptable",
        ) from None


def _parts(text: bytes) -> tuple[str, bytes]:
    mark, _, rest = text.partition(b".")
    key_id, _, encoded = rest.rpartition(b".")
    try:
        sealed = base64.b64decode(encoded, validate=True)
        name = key_id.decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        sealed, name = b"", ""
    if mark != _MARK or not name or len(sealed) < _NONCE:
        raise ConflictError(
            "what stands there is no encrypted value", reason="not_encrypted"
        )
    return name, sealed


def _covered(key_id: str, context: str, at: bytes) -> bytes:
    # No name has a zero in it, and the last part ends where all of it does.
    return b"\0".join((_MARK, context.encode(), key_id.encode(), at))
