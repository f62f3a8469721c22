"""Secrets of a node: which file may hold one, and that none shows its value."""

from __future__ import annotations

import os

import pytest

from horus_celery.errors import ConfigurationError, NotCoveredError
from horus_celery.node_secrets import (
    LARGEST,
    SHORTEST,
    NodeSecrets,
    read_value,
    require_usable,
)

VALUE = b"correct horse\nbattery\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "token"
    path.write_bytes(VALUE)
    path.chmod(0o600)
    return path


def test_a_value_is_what_the_file_holds(file):
    require_usable(file)
    assert read_value(file).get_secret_value() == VALUE


def test_a_value_does_not_show_itself(file):
    values = NodeSecrets(files={"token": file}).read(["token"])
    assert "horse" not in f"{values!r} {values} {values['token']!s}"


def test_only_what_is_named_is_read(file, tmp_path):
    kept = NodeSecrets(files={"token": file, "other": tmp_path / "nowhere"})
    assert kept.names == {"token", "other"}
    assert kept.read(["token", "token"]).keys() == {"token"}
    assert kept.read([]) == {}


def test_a_file_that_is_replaced_counts_at_once(file):
    kept = NodeSecrets(files={"token": file})
    assert kept.read(["token"])["token"].get_secret_value() == VALUE
    newer = file.with_name("newer")
    newer.write_bytes(b"another value")
    newer.chmod(0o400)
    newer.replace(file)
    assert kept.read(["token"])["token"].get_secret_value() == b"another value"


def test_a_link_to_a_file_is_followed(file):
    link = file.with_name("link")
    link.symlink_to(file)
    assert read_value(link).get_secret_value() == VALUE


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o602, 0o777])
def test_a_file_that_others_may_use_is_refused_with_the_remedy(file, mode):
    file.chmod(mode)
    for look in (read_value, require_usable):
        with pytest.raises(ConfigurationError, match=f"chmod 600 {file}"):
            look(file)


@pytest.mark.parametrize("size", [0, SHORTEST - 1, LARGEST + 1])
def test_a_value_must_be_long_enough_to_be_masked_and_not_huge(file, size):
    file.write_bytes(b"x" * size)
    for look in (read_value, require_usable):
        with pytest.raises(ConfigurationError, match=r"less than 8|larger than 65536"):
            look(file)


def test_white_space_does_not_make_a_value_long_enough(file):
    file.write_bytes(b"   \tx\n \n\n\n\n\n")
    with pytest.raises(ConfigurationError, match="masked"):
        read_value(file)


def test_the_longest_and_the_shortest_value_may_be(file):
    for size in (SHORTEST, LARGEST):
        file.write_bytes(b"x" * size)
        assert len(read_value(file).get_secret_value()) == size


@pytest.mark.parametrize("make", ["folder", "pipe", "nothing"])
def test_what_is_no_file_is_refused_and_holds_nobody_up(tmp_path, make):
    path = tmp_path / "there"
    if make == "folder":
        path.mkdir(mode=0o700)
    elif make == "pipe":
        os.mkfifo(path, 0o600)
    for look in (read_value, require_usable):
        with pytest.raises(ConfigurationError, match=f"{path}, which (is no|cannot)"):
            look(path)


def test_one_that_cannot_be_used_is_refused_by_its_name(file):
    file.unlink()
    kept = NodeSecrets(files={"token": file})
    with pytest.raises(NotCoveredError, match=f"the secret token lies in {file}") as no:
        kept.read(["token"])
    assert no.value.reason == "auth.secrets"
