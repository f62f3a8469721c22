"""What the commands `AGE …` answer: encryption by age, and signatures by Ed25519.

A key that has a name is kept on this node, and only its public half is ever shown.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

import pyrage
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from horus_celery.herodb.commands import BadRequest, shown
from horus_celery.herodb.keyring import Keyring, Kind, make_pair

#: A text, a number, or a list of texts.
Answer: TypeAlias = bytes | int | Sequence[bytes]
_NOTHING: Final = b""


class Age:
    """The commands `AGE …` of one context."""

    def __init__(self, keyring: Keyring, context: str) -> None:
        self._keyring = keyring
        self._context = context

    def answer(self, words: Sequence[bytes]) -> Answer:
        """Answer a command, of which the word `AGE` was taken away.

        Raises:
            BadRequest: if there is no such command, or it cannot be done.
            HorusError: if a key is not there or cannot be kept.
        """
        name = words[0][:32].upper() if words else b""
        if name not in _COMMANDS:
            raise BadRequest(f"ERR there is no command AGE {shown(name)}")
        count, function = _COMMANDS[name]
        if len(words) - 1 != count:
            raise BadRequest(f"ERR wrong number of arguments for AGE {shown(name)}")
        return function(self, *words[1:])

    def generate(self) -> Answer:
        private, public = make_pair(Kind.AGE)
        return [public.encode(), private.encode()]

    def generate_signing(self) -> Answer:
        private, public = make_pair(Kind.SIGN)
        return [_base64_of_hex(public), _base64_of_hex(private)]

    def encrypt(self, recipient: bytes, message: bytes) -> Answer:
        try:
            known = pyrage.x25519.Recipient.from_str(_text(recipient))
        except pyrage.RecipientError:
            raise BadRequest("ERR that is no recipient of age") from None
        return base64.b64encode(pyrage.encrypt(message, [known]))

    def decrypt(self, identity: bytes, message: bytes) -> Answer:
        return _decrypted(message, [_text(identity)])

    def sign(self, key: bytes, message: bytes) -> Answer:
        seed = _from_base64(key, "signing key")
        return _signed(seed, message)

    def verify(self, key: bytes, message: bytes, signature: bytes) -> Answer:
        return int(_is_signed([_from_base64(key, "key")], message, signature))

    def keep(self, name: bytes) -> Answer:
        key = self._keyring.get_or_make(self._context, Kind.AGE, _text(name))
        return [key.newest.public.encode(), _NOTHING]

    def keep_signing(self, name: bytes) -> Answer:
        key = self._keyring.get_or_make(self._context, Kind.SIGN, _text(name))
        return [_base64_of_hex(key.newest.public), _NOTHING]

    def encrypt_by_name(self, name: bytes, message: bytes) -> Answer:
        key = self._keyring.get(self._context, Kind.AGE, _text(name))
        return self.encrypt(key.newest.public.encode(), message)

    def decrypt_by_name(self, name: bytes, message: bytes) -> Answer:
        key = self._keyring.get(self._context, Kind.AGE, _text(name))
        return _decrypted(message, [one.private for one in key.generations])

    def sign_by_name(self, name: bytes, message: bytes) -> Answer:
        key = self._keyring.get(self._context, Kind.SIGN, _text(name))
        return _signed(bytes.fromhex(key.newest.private), message)

    def verify_by_name(self, name: bytes, message: bytes, signature: bytes) -> Answer:
        key = self._keyring.get(self._context, Kind.SIGN, _text(name))
        known = [bytes.fromhex(one.public) for one in key.generations]
        return int(_is_signed(known, message, signature))

    def names(self) -> Answer:
        keys = self._keyring.list(self._context)
        kept = {one.name for one in keys if one.kind is not Kind.SECRET}
        return [name.encode() for name in sorted(kept)]


#: How many arguments each takes, and what it does.
_COMMANDS: Final[Mapping[bytes, tuple[int, Callable[..., Answer]]]] = MappingProxyType(
    {
        b"GENENC": (0, Age.generate),
        b"ENCRYPT": (2, Age.encrypt),
        b"DECRYPT": (2, Age.decrypt),
        b"GENSIGN": (0, Age.generate_signing),
        b"SIGN": (2, Age.sign),
        b"VERIFY": (3, Age.verify),
        b"KEYGEN": (1, Age.keep),
        b"ENCRYPTNAME": (2, Age.encrypt_by_name),
        b"DECRYPTNAME": (2, Age.decrypt_by_name),
        b"SIGNKEYGEN": (1, Age.keep_signing),
        b"SIGNNAME": (2, Age.sign_by_name),
        b"VERIFYNAME": (3, Age.verify_by_name),
        b"LIST": (0, Age.names),
    }
)


def _decrypted(message: bytes, identities: Sequence[str]) -> bytes:
    sealed = _from_base64(message, "message")
    try:
        known = [pyrage.x25519.Identity.from_str(one) for one in identities]
    except pyrage.IdentityError:
        raise BadRequest("ERR that is no identity of age") from None
    try:
        return bytes(pyrage.decrypt(sealed, known))
    except pyrage.DecryptError:
        raise BadRequest(
            "ERR the message cannot be decrypted: it was altered, or is for another key"
        ) from None


def _signed(seed: bytes, message: bytes) -> bytes:
    try:
        key = SigningKey(seed)
    except ValueError:
        raise BadRequest("ERR that is no signing key") from None
    return base64.b64encode(key.sign(message).signature)


def _is_signed(keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
    given = _from_base64(signature, "signature")
    for key in keys:
        try:
            VerifyKey(key).verify(message, given)
        except (BadSignatureError, ValueError):
            continue
        return True
    return False


def _base64_of_hex(text: str) -> bytes:
    return base64.b64encode(bytes.fromhex(text))


def _from_base64(text: bytes, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise BadRequest(f"ERR the {what} is no base64") from None


def _text(word: bytes) -> str:
    return word.decode("ascii", "replace")
