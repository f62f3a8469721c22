"""Keys of encryption stay on their node; a rotation leaves old values readable."""

from __future__ import annotations

import stat
import threading

import pytest

from horus_celery.errors import (
    ConfigurationError,
    ConflictError,
    HorusError,
    NotFoundError,
    TooManyError,
)
from horus_celery.herodb import values
from horus_celery.herodb.age import Age
from horus_celery.herodb.commands import BadRequest
from horus_celery.herodb.keyring import DEFAULT, Keyring, Kind


@pytest.fixture
def keyring(tmp_path):
    return Keyring(tmp_path / "herodb")


@pytest.fixture
def age(keyring):
    def ask(*words, context="a"):
        return Age(keyring, context).answer(
            [word.encode() if isinstance(word, str) else word for word in words]
        )

    return ask


def encrypted(keyring, value=b"value", *, context="a", at=b"k", name=DEFAULT):
    key = keyring.get_or_make(context, Kind.SECRET, name).newest
    secret = bytes.fromhex(key.private)
    return values.encrypt(value, secret=secret, key_id=key.id, context=context, at=at)


def decrypted(keyring, text, *, context="a", at=b"k"):
    secret = keyring.secret_of(context, values.key_id_of(text))
    return values.decrypt(text, secret=secret, context=context, at=at)


def test_a_value_comes_back_also_after_its_key_was_rotated(keyring):
    text = encrypted(keyring)
    assert b"value" not in text
    before = keyring.get("a", Kind.SECRET, DEFAULT)
    after = keyring.rotate("a", Kind.SECRET, DEFAULT)
    assert after.generations[:-1] == before.generations
    assert decrypted(keyring, text) == b"value"
    assert values.key_id_of(encrypted(keyring)) == after.newest.id


def test_a_value_is_none_in_another_place(keyring):
    text = encrypted(keyring)
    with pytest.raises(ConflictError, match="another place"):
        decrypted(keyring, text, at=b"other")
    key = keyring.get("a", Kind.SECRET, DEFAULT).newest
    secret = bytes.fromhex(key.private)
    with pytest.raises(ConflictError, match="another place"):
        values.decrypt(text, secret=secret, context="b", at=b"k")
    with pytest.raises(NotFoundError, match="not on this node"):
        decrypted(keyring, text, context="b")


def test_a_value_that_was_altered_is_none(keyring):
    text = encrypted(keyring)
    mark, key_id, sealed = text.split(b".")
    other = bytes([sealed[40] ^ 1]) if sealed[40:41] not in b"ba" else b"Z"
    for broken in (
        b".".join((mark, key_id, sealed[:40] + other + sealed[41:])),
        b".".join((mark, key_id, sealed[:-4])),
        b".".join((mark, key_id, b"")),
        b"hdb2." + text.partition(b".")[2],
        b"plain text",
        b"",
    ):
        with pytest.raises(HorusError, match=r"decrypted|no encrypted value"):
            decrypted(keyring, broken)


def test_a_deleted_key_reads_nothing_also_if_there_is_another_of_its_name(keyring):
    text = encrypted(keyring, name="own")
    keyring.delete("a", Kind.SECRET, "own")
    keyring.create("a", Kind.SECRET, "own")
    with pytest.raises(NotFoundError, match="deleted"):
        decrypted(keyring, text)
    with pytest.raises(NotFoundError):
        keyring.delete("a", Kind.SECRET, "gone")
    with pytest.raises(NotFoundError):
        keyring.rotate("a", Kind.SECRET, "gone")
    with pytest.raises(ConflictError, match="already"):
        keyring.create("a", Kind.SECRET, "own")


def test_nobody_else_may_read_a_key(keyring, tmp_path):
    keyring.create("a:b", Kind.AGE, "x@y")
    folder = tmp_path / "herodb" / "a:b"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    path = folder / "age.x@y"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        keyring.get("a:b", Kind.AGE, "x@y")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", ".lock", "a\n", "ä", "x" * 129]
)
def test_a_name_leads_to_no_other_file(keyring, name):
    with pytest.raises(ConflictError):
        keyring.create("a", Kind.SECRET, name)
    with pytest.raises(ConflictError):
        keyring.create(name, Kind.SECRET, "a")


def test_what_holds_no_key_is_named(keyring, tmp_path):
    keyring.create("a", Kind.SIGN, "s")
    path = tmp_path / "herodb" / "a" / "sign.s"
    for text in ("", "{}", '{"generations": []}', '{"generations": [1]}'):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=r"sign\.s"):
            keyring.get("a", Kind.SIGN, "s")


def test_keys_are_listed_by_kind_and_name_and_by_context(keyring):
    for kind, name in ((Kind.SIGN, "b"), (Kind.AGE, "c.d"), (Kind.AGE, "a")):
        keyring.create("a", kind, name)
    listed = [(key.kind, key.name) for key in keyring.list("a")]
    assert listed == [(Kind.AGE, "a"), (Kind.AGE, "c.d"), (Kind.SIGN, "b")]
    assert keyring.list("b") == []


def test_a_private_half_is_never_shown(keyring):
    for kind in Kind:
        key = keyring.create("a", kind, "k")
        assert key.newest.private not in repr(key)


def test_a_context_cannot_fill_the_disk_with_keys(tmp_path):
    keyring = Keyring(tmp_path, max_keys=2)
    keyring.create("a", Kind.AGE, "one")
    keyring.create("a", Kind.SIGN, "two")
    with pytest.raises(TooManyError):
        keyring.get_or_make("a", Kind.AGE, "three")
    assert keyring.get_or_make("a", Kind.AGE, "one").name == "one"


def test_of_several_at_once_all_have_the_same_key(keyring):
    barrier = threading.Barrier(4)
    seen = []

    def make():
        barrier.wait()
        seen.append(keyring.get_or_make("a", Kind.SECRET, DEFAULT))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(seen) == 4
    assert len({one.newest.id for one in seen}) == 1


# --- AGE ---------------------------------------------------------------------------


def test_a_message_reaches_who_has_the_identity(age):
    recipient, identity = age("GENENC")
    assert recipient.startswith(b"age1")
    assert identity.startswith(b"AGE-SECRET-KEY-1")
    sealed = age("ENCRYPT", recipient, "hello")
    assert age("DECRYPT", identity, sealed) == b"hello"
    _, other = age("GENENC")
    with pytest.raises(BadRequest, match="another key"):
        age("DECRYPT", other, sealed)


def test_a_signature_is_of_one_key_and_one_message(age):
    public, private = age("GENSIGN")
    signature = age("SIGN", private, "hello")
    assert age("VERIFY", public, "hello", signature) == 1
    assert age("VERIFY", public, "hallo", signature) == 0
    assert age("VERIFY", age("GENSIGN")[0], "hello", signature) == 0


def test_a_key_with_a_name_shows_its_public_half_alone(age):
    recipient, nothing = age("KEYGEN", "mail")
    assert nothing == b""
    assert age("KEYGEN", "mail") == [recipient, b""]
    sealed = age("ENCRYPT", recipient, "hello")
    assert age("DECRYPTNAME", "mail", sealed) == b"hello"
    assert age("DECRYPTNAME", "mail", age("ENCRYPTNAME", "mail", "you")) == b"you"
    public, nothing = age("SIGNKEYGEN", "mail")
    assert nothing == b""
    signature = age("SIGNNAME", "mail", "hello")
    assert age("VERIFY", public, "hello", signature) == 1
    assert age("VERIFYNAME", "mail", "hello", signature) == 1
    assert age("LIST") == [b"mail"]
    assert age("LIST", context="b") == []


def test_what_a_rotated_key_did_can_still_be_read_and_verified(age, keyring):
    age("KEYGEN", "k")
    age("SIGNKEYGEN", "k")
    sealed, signature = age("ENCRYPTNAME", "k", "m"), age("SIGNNAME", "k", "m")
    keyring.rotate("a", Kind.AGE, "k")
    keyring.rotate("a", Kind.SIGN, "k")
    assert age("DECRYPTNAME", "k", sealed) == b"m"
    assert age("VERIFYNAME", "k", "m", signature) == 1
    assert age("SIGNNAME", "k", "m") != signature


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("NOTHING",),
        ("GENENC", "x"),
        ("ENCRYPT", "x"),
        ("ENCRYPT", "age1nobody", "x"),
        ("DECRYPT", "x", "aGVsbG8="),
        ("DECRYPT", "x", "no base64"),
        ("SIGN", "aGVsbG8=", "x"),
        ("VERIFY", "%", "x", "y"),
    ],
)
def test_what_cannot_be_done_is_an_error(age, words):
    with pytest.raises(BadRequest, match="ERR"):
        age(*words)


@pytest.mark.parametrize(
    "words",
    [
        ("ENCRYPTNAME", "nobody", "x"),
        ("SIGNNAME", "nobody", "x"),
        ("KEYGEN", "../x"),
        ("KEYGEN", b"\xff"),
    ],
)
def test_a_key_that_is_not_there_is_an_error(age, words):
    with pytest.raises((NotFoundError, ConflictError)):
        age(*words)


def test_verifying_with_what_is_no_key_is_no(age):
    assert age("VERIFY", "aGVsbG8=", "x", "aGVsbG8=") == 0
