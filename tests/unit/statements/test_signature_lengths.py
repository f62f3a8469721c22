"""No byte moves between a signature and the message that it covers."""

from __future__ import annotations

import pytest

from horus_celery.statements.keys import KeyPair, is_signed_by

PAIR = KeyPair.from_seed(bytes(range(32)))
MESSAGE = b"DSSEv1 4 kind 4 body"


@pytest.mark.parametrize("size", [1, 6, 64])
def test_a_message_does_not_lose_its_beginning_to_the_signature(size):
    # Ed25519 libraries check signature and message as one string of bytes.
    longer = bytes(size) + MESSAGE
    signature = PAIR.sign(longer)
    assert is_signed_by(PAIR.public, longer, signature)
    assert not is_signed_by(PAIR.public, MESSAGE, signature + bytes(size))


@pytest.mark.parametrize("size", [1, 6, 63, 64])
def test_a_message_does_not_gain_a_beginning_from_the_signature(size):
    signature = PAIR.sign(MESSAGE)
    shorter, moved = signature[: 64 - size], signature[64 - size :]
    assert not is_signed_by(PAIR.public, moved + MESSAGE, shorter)
