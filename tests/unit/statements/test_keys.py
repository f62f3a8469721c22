import copy
import os
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from horus_celery.errors import ConfigurationError
from horus_celery.statements.keys import (
    KeyPair,
    is_registrable,
    is_signed_by,
    key_id,
    read_key_file,
    read_public_key_file,
    write_key_file,
    write_public_key_file,
)

PAIR = KeyPair.from_seed(bytes(range(32)))
#: The order of the group, which may be added to S by anybody.
ORDER = 2**252 + 27742317777372353535851937790883648493


@given(st.binary())
@settings(deadline=None)
def test_a_key_verifies_what_it_signed(message):
    assert is_signed_by(PAIR.public, message, PAIR.sign(message))


@given(st.binary(), st.binary())
@settings(deadline=None)
def test_a_key_does_not_verify_another_message(message, other):
    signature = PAIR.sign(message)
    assert is_signed_by(PAIR.public, other, signature) == (message == other)


def test_a_key_does_not_verify_what_another_key_signed():
    assert not is_signed_by(KeyPair.generate().public, b"m", PAIR.sign(b"m"))


@pytest.mark.parametrize("size", [0, 1, 63, 65, 128])
def test_a_signature_of_another_length_is_none(size):
    signature = (PAIR.sign(b"m") * 2)[:size]
    assert not is_signed_by(PAIR.public, b"m", signature)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_key_of_another_length_signed_nothing(size):
    public = (PAIR.public * 2)[:size]
    assert not is_signed_by(public, b"m", PAIR.sign(b"m"))
    assert not is_registrable(public)


def test_a_signature_that_was_altered_by_the_order_is_none():
    signature = PAIR.sign(b"m")
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    altered = signature[:32] + scalar.to_bytes(32, "little")
    assert not is_signed_by(PAIR.public, b"m", altered)


def test_the_identity_is_no_key():
    identity = (1).to_bytes(32, "little")
    assert not is_registrable(identity)
    assert not is_signed_by(identity, b"m", identity + bytes(32))


def test_a_generated_key_is_registrable_and_new():
    one, other = KeyPair.generate(), KeyPair.generate()
    assert is_registrable(one.public)
    assert one.public != other.public
    assert one.keyid == key_id(one.public) != other.keyid


def test_a_pair_does_not_show_its_seed():
    assert PAIR.seed.hex() not in repr(PAIR)
    assert repr(PAIR.seed) not in repr(PAIR)
    assert PAIR.keyid in repr(PAIR)


def test_a_pair_is_neither_pickled_nor_copied():
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(PAIR)
    with pytest.raises(TypeError, match="never pickled"):
        copy.deepcopy(PAIR)


def test_a_key_file_holds_64_hex_digits_and_is_private(tmp_path):
    path = tmp_path / "a.key"
    write_key_file(path, PAIR)
    assert path.read_text() == PAIR.seed.hex() + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key_file(path).public == PAIR.public


def test_a_public_key_file_is_read_again(tmp_path):
    path = tmp_path / "a.pub"
    write_public_key_file(path, PAIR.public)
    assert path.read_text() == PAIR.public.hex() + "\n"
    assert read_public_key_file(path) == PAIR.public


def test_a_key_file_is_never_overwritten(tmp_path):
    path = tmp_path / "a.key"
    write_key_file(path, PAIR)
    with pytest.raises(ConfigurationError, match="already there"):
        write_key_file(path, KeyPair.generate())
    assert read_key_file(path).public == PAIR.public


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_private_key_that_others_may_touch_is_refused(tmp_path, mode):
    path = tmp_path / "a.key"
    write_key_file(path, PAIR)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
        read_key_file(path)


def test_a_public_key_may_be_read_by_everybody(tmp_path):
    path = tmp_path / "a.pub"
    write_public_key_file(path, PAIR.public)
    path.chmod(0o644)
    assert read_public_key_file(path) == PAIR.public


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"00" * 31 + b"\n",
        b"00" * 33 + b"\n",
        b"0x" + b"00" * 31 + b"\n",
        b"00 " * 21 + b"0\n",
        b"00" * 32 + b"\n\n",
        b"00" * 32 + b"\r\n",
        b" " + b"00" * 32,
        b"zz" * 32,
        b"\xff" * 64,
        b"00" * 10_000,
        "\N{ARABIC-INDIC DIGIT ZERO}".encode() * 64,
    ],
)
def test_a_file_that_holds_anything_else_is_no_key_file(tmp_path, text):
    path = tmp_path / "a.key"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="64 hex digits"):
        read_key_file(path)


def test_the_text_of_a_bad_key_file_is_not_shown(tmp_path):
    path = tmp_path / "a.key"
    path.write_text("nearly-a-secret")
    path.chmod(0o600)
    with pytest.raises(ConfigurationError) as raised:
        read_key_file(path)
    assert "nearly" not in str(raised.value)


def test_a_public_key_that_may_not_be_trusted_is_refused(tmp_path):
    path = tmp_path / "a.pub"
    write_public_key_file(path, bytes(32))
    with pytest.raises(ConfigurationError, match="no Ed25519 public key"):
        read_public_key_file(path)


def test_a_missing_key_file_is_named(tmp_path):
    path = tmp_path / "none.key"
    with pytest.raises(ConfigurationError, match=f"{path} cannot be read: No such"):
        read_key_file(path)


def test_a_key_file_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "none" / "a.key"
    with pytest.raises(ConfigurationError, match=f"{path} cannot be written"):
        write_key_file(path, PAIR)


def test_what_is_not_a_file_is_no_key_file(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(ConfigurationError, match="is not a file"):
        read_key_file(pipe)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_key_file(tmp_path)
