"""A state directory of somebody else, or one with a hole in it, is not used."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from horus_celery.crew import runners_of
from horus_celery.errors import ConfigurationError
from horus_celery.statedir import StateDirectory

NOBODY = 65534


def make(tmp_path):
    state = StateDirectory(tmp_path / "s")
    initialise(state)
    return state


def initialise(state):
    state.initialise(
        namespace="hero", runners=runners_of(["python"]), now=datetime.now(UTC)
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_state_directory_of_another_user_is_not_used(tmp_path):
    state = make(tmp_path)
    os.chown(state.path, NOBODY, NOBODY)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        initialise(state)


@pytest.mark.parametrize("text", ["", "\n", " \t\n"])
@pytest.mark.parametrize("scope", ["admin", "user", "register"])
def test_an_empty_secret_opens_nothing(tmp_path, scope, text):
    state = make(tmp_path)
    state.secret_file(scope).write_text(text)
    with pytest.raises(ConfigurationError, match=scope):
        state.secret(scope)


@pytest.mark.parametrize("text", ["xx\n", "password1234", "a" * 64])
@pytest.mark.parametrize("scope", ["admin", "user", "register"])
def test_a_secret_that_can_be_guessed_opens_nothing(tmp_path, scope, text):
    state = make(tmp_path)
    path = state.secret_file(scope)
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refusal:
        initialise(state)
    assert refusal.value.detail == (
        f"{path} is too easy to guess: at least 128 random bits, such as those of"
        " `openssl rand -base64 32`, or remove it to have a new one made by `horus"
        f" init --state-dir {state.path}`"
    )
