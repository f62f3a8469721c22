"""What cannot be used in a state directory is told before anything is made of it."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from horus_celery.crew import runners_of
from horus_celery.errors import ConfigurationError
from horus_celery.journal import Journal
from horus_celery.statedir import SCOPES, StateDirectory

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EXECUTORS = ("python", "system")
PRIVATE = [
    "root.key",
    "keys/default.key",
    "runners/python_runner_1.key",
    *(f"secrets/{scope}" for scope in SCOPES),
]


@pytest.fixture
def state(tmp_path_factory):
    # Not under this test's name, which may be too long for a unix socket.
    state = StateDirectory(tmp_path_factory.mktemp("s") / "s")
    initialise(state)
    return state


def initialise(state, executors=EXECUTORS):
    return state.initialise(namespace="hero", runners=runners_of(executors), now=NOW)


def refusal(state, executors=EXECUTORS):
    """Return why nothing is made, and see that nothing was."""
    before = sorted(state.path.rglob("*"))
    with pytest.raises(ConfigurationError) as caught:
        initialise(state, executors)
    assert sorted(state.path.rglob("*")) == before
    assert caught.value.detail in state.faults(runners_of(executors))
    return caught.value.detail


def spoil(path, how):
    path.unlink()
    if how == "folder":
        path.mkdir(mode=0o700)
    elif how == "pipe":
        os.mkfifo(path, mode=0o600)
    elif how == "link to nothing":
        path.symlink_to(path.with_name("nowhere"))
    else:
        path.write_bytes({"empty": b"", "binary": b"\xff\x00" * 40}[how])
        path.chmod(0o600)


def test_a_whole_state_directory_has_no_fault(state):
    assert not list(state.faults(runners_of(EXECUTORS)))


@pytest.mark.parametrize("name", PRIVATE)
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o666])
def test_what_others_may_read_is_named_with_its_remedy(state, name, mode):
    path = state.path / name
    path.chmod(mode)
    assert f"{path}: chmod 600 {path}" in refusal(state)
    path.chmod(0o600)
    assert initialise(state) == ()


@pytest.mark.parametrize("name", [*PRIVATE, "root.pub", "trust.json"])
@pytest.mark.parametrize("how", ["empty", "binary", "folder", "pipe"])
def test_what_is_not_what_it_must_be_is_named_with_its_remedy(state, name, how):
    path = state.path / name
    spoil(path, how)
    said = refusal(state)
    assert str(path) in said
    assert "restore it" in said or "remove it" in said or "put the right one" in said


@pytest.mark.parametrize("name", [name for name in PRIVATE if name != "root.key"])
def test_a_link_to_what_is_not_there_is_named(state, name):
    spoil(state.path / name, "link to nothing")
    assert str(state.path / name) in refusal(state)


def test_a_secret_that_was_removed_as_told_is_made_anew(state):
    path = state.secret_file("user")
    spoil(path, "empty")
    assert "remove it to have a new one made" in refusal(state)
    path.unlink()
    assert any(str(path) in note for note in initialise(state))


def test_a_root_key_is_never_said_to_be_made_anew_while_it_is_believed(state):
    spoil(state.root_key, "empty")
    said = refusal(state)
    assert "restore it from a backup" in said
    assert "remove" not in said


def test_a_root_key_that_nobody_believes_yet_is_made_anew_as_told(state):
    for path in (state.root_pub, state.trust_file):
        path.unlink()
    spoil(state.root_key, "empty")
    assert "remove it to have a new one made" in refusal(state)
    state.root_key.unlink()
    assert any("made the root key" in note for note in initialise(state))


def test_a_root_public_key_is_made_from_the_root_key_as_told(state):
    before = state.root_pub.read_text()
    spoil(state.root_pub, "empty")
    assert f"remove it to have it made from {state.root_key}" in refusal(state)
    state.root_pub.unlink()
    initialise(state)
    assert state.root_pub.read_text() == before


def test_a_runner_that_the_bundle_does_not_know_gets_a_new_key_as_told(state):
    path = state.runner_key_file("osis_runner_1")
    path.touch(mode=0o600)
    executors = (*EXECUTORS, "osis")
    assert "remove it to have a new one made" in refusal(state, executors)
    path.unlink()
    assert any("osis_runner_1" in note for note in initialise(state, executors))


def test_a_listed_runner_gets_a_new_key_as_told(state):
    name = "python_runner_1"
    spoil(state.runner_key_file(name), "folder")
    assert f"horus trust revoke {name}" in refusal(state)
    state.revoke(name, now=NOW)
    initialise(state)
    assert not list(state.faults(runners_of(EXECUTORS)))


def test_a_new_executor_where_the_root_key_is_not_makes_nothing(state):
    state.root_key.unlink()
    assert "does not know the runner osis_runner_1" in refusal(
        state, (*EXECUTORS, "osis")
    )


def test_without_bundle_and_root_key_nothing_is_made(state):
    state.root_key.unlink()
    state.trust_file.unlink()
    assert "bring the trust.json" in refusal(state)


def test_a_bundle_older_than_what_was_believed_is_told(state):
    journal = Journal(state.journal)
    journal.remember_trust_version(7)
    journal.close()
    assert "already believed version 7" in refusal(state)


def test_a_journal_that_is_none_is_told(state):
    state.journal.write_bytes(b"not a database " * 100)
    assert str(state.journal) in refusal(state)


def test_every_fault_is_told_at_once_to_who_asks(state):
    for scope in SCOPES:
        spoil(state.secret_file(scope), "binary")
    spoil(state.key_file("default"), "empty")
    assert len(list(state.faults(runners_of(EXECUTORS)))) == 4


def test_no_fault_repeats_what_stands_in_a_file(state):
    for name in [*PRIVATE, "root.pub", "trust.json"]:
        (state.path / name).write_text("hidden words")
    assert all("hidden" not in fault for fault in state.faults(runners_of(EXECUTORS)))


# --- where it lies -----------------------------------------------------------------


def below_a_file(folder):
    (folder / "f").touch()
    return folder / "f" / "s"


def a_file(folder):
    (folder / "f").touch()
    return folder / "f"


def a_link_to_nothing(folder):
    (folder / "l").symlink_to(folder / "nowhere")
    return folder / "l"


def a_link_to_itself(folder):
    (folder / "l").symlink_to(folder / "l")
    return folder / "l"


def a_file_inside(folder):
    (folder / "s").mkdir(mode=0o700)
    (folder / "s" / "keys").touch()
    return folder / "s"


@pytest.mark.parametrize(
    "make", [below_a_file, a_file, a_link_to_nothing, a_link_to_itself, a_file_inside]
)
def test_a_path_that_cannot_be_a_state_directory_is_named(tmp_path_factory, make):
    folder = tmp_path_factory.mktemp("s")
    path = make(folder)
    before = sorted(folder.rglob("*"))
    with pytest.raises(ConfigurationError, match=str(path)):
        initialise(StateDirectory(path))
    assert sorted(folder.rglob("*")) == before
