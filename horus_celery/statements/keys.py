"""Which keys there are: pairs, their ids, what may be trusted, and their files."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Final, NoReturn, Self

from nacl import bindings
from nacl.exceptions import BadSignatureError

from horus_celery.errors import ConfigurationError

#: Sizes in bytes (RFC 8032).
PUBLIC_SIZE: Final = bindings.crypto_sign_PUBLICKEYBYTES
SEED_SIZE: Final = bindings.crypto_sign_SEEDBYTES
SIGNATURE_SIZE: Final = bindings.crypto_sign_BYTES

_KEY_TEXT: Final = re.compile(rb"[0-9a-fA-F]{64}\n?")
#: Bytes read of a key file: enough to see that it is too long.
_READ_SIZE: Final = 128
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class KeyPair:
    """An Ed25519 key pair that signs and does not show its seed by accident."""

    __slots__ = ("_secret", "keyid", "public")

    public: bytes
    #: The hint for looking the public key up.
    keyid: str

    def __init__(self, seed: bytes) -> None:
        self.public, self._secret = bindings.crypto_sign_seed_keypair(seed)
        self.keyid = key_id(self.public)

    @classmethod
    def generate(cls) -> Self:
        """Make a new pair from the system's randomness."""
        return cls(os.urandom(SEED_SIZE))

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Make the pair of a seed of 32 bytes."""
        return cls(seed)

    @property
    def seed(self) -> bytes:
        """The secret, to be written into a key file and nowhere else."""
        return self._secret[:SEED_SIZE]

    def sign(self, message: bytes) -> bytes:
        """Return the signature (64 bytes) over a message."""
        return bindings.crypto_sign(message, self._secret)[:SIGNATURE_SIZE]

    def __repr__(self) -> str:
        return f"<KeyPair {self.keyid}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key pair is never pickled or copied; pass its file on")


def key_id(public: bytes) -> str:
    """Return the hint under which a public key is looked up (protocol section 2)."""
    return hashlib.sha256(b"horus-key-v1\0" + public).hexdigest()[:32]


def is_registrable(public: bytes) -> bool:
    """Tell whether a public key may be trusted at all (protocol section 4)."""
    return len(public) == PUBLIC_SIZE and bindings.crypto_core_ed25519_is_valid_point(
        public
    )


def is_signed_by(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether the key signed the message; anything malformed did not."""
    if len(public) != PUBLIC_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    try:
        bindings.crypto_sign_open(signature + message, public)
    except BadSignatureError:
        return False
    return True


def read_key_file(path: Path) -> KeyPair:
    """Read a private key, which nobody but its owner may be able to read.

    Raises:
        ConfigurationError: if it cannot be read, or not safely.
    """
    return KeyPair.from_seed(_read(path, private=True))


def read_public_key_file(path: Path) -> bytes:
    """Read a public key that may be trusted.

    Raises:
        ConfigurationError: if it cannot be read, or is no valid point of the curve.
    """
    public = _read(path, private=False)
    if not is_registrable(public):
        raise ConfigurationError(f"{path} holds no Ed25519 public key that can be used")
    return public


def write_key_file(path: Path, pair: KeyPair) -> None:
    """Write a private key into a new file of mode 0600.

    Raises:
        ConfigurationError: if the file is already there, or cannot be written.
    """
    _write(path, pair.seed, mode=0o600)


def write_public_key_file(path: Path, public: bytes) -> None:
    """Write a public key into a new file that everybody may read.

    Raises:
        ConfigurationError: if the file is already there, or cannot be written.
    """
    _write(path, public, mode=0o644)


def _read(path: Path, *, private: bool) -> bytes:
    try:
        # Non-blocking, so that a pipe under this name does not hold us up.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 - a Path cannot be opened with flags
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigurationError(f"{path} is not a file")
            if private and status.st_mode & _OTHERS:
                raise ConfigurationError(
                    f"{path} can be read by others: chmod 600 {path}"
                )
            text = file.read(_READ_SIZE)
    except OSError as error:
        raise ConfigurationError(
            f"the key file {path} cannot be read: {error.strerror}"
        ) from None
    if not _KEY_TEXT.fullmatch(text):
        raise ConfigurationError(
            f"{path} is not a key file: it must hold 64 hex digits and a newline"
        )
    return bytes.fromhex(text.decode("ascii"))


def _write(path: Path, key: bytes, *, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with open(os.open(path, flags, mode), "wb") as file:  # noqa: PTH123 - a Path cannot be opened with flags
            file.write(key.hex().encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise ConfigurationError(
            f"{path} is already there and is not overwritten: choose another name"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"the key file {path} cannot be written: {error.strerror}"
        ) from None
