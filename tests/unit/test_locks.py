"""A lock is waited for within a limit, and who holds it is named with the remedy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from horus_celery import locks
from horus_celery.errors import ConfigurationError
from horus_celery.herodb.keyring import Keyring, Kind
from horus_celery.processes.base import ManagedProcess
from horus_celery.processes.tmux import TmuxManager

#: Locks the file that it is given, and says so.
HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "ab")
fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", timedelta(0))


@pytest.fixture
def hold():
    """Have another process hold a file."""
    holders = []

    def hold(path):
        holder = subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, "-c", HOLDER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        holders.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline()
        return holder

    yield hold
    for holder in holders:
        holder.kill()
        holder.communicate()


def complaint(path):
    with path.open("ab") as file, pytest.raises(ConfigurationError) as caught:
        locks.take(file, path, what="changing keys")
    return caught.value.detail


def test_a_free_lock_is_taken_and_let_go_with_the_file(tmp_path):
    path = tmp_path / "lock"
    for _ in range(2):
        with path.open("ab") as file:
            locks.take(file, path, what="changing keys")


def test_who_holds_it_is_named_with_the_remedy(tmp_path, hold):
    path = tmp_path / "lock"
    pid = hold(path).pid
    assert complaint(path) == (
        f"somebody has been changing keys for longer than 0 s: {path} is held by"
        f" process {pid} ({Path(sys.executable).name}); end it"
        f" (kill {pid}), and try again"
    )


def test_of_one_that_was_stopped_it_is_said_how_it_goes_on(tmp_path, hold):
    path = tmp_path / "lock"
    holder = hold(path)
    holder.send_signal(signal.SIGSTOP)
    os.waitpid(holder.pid, os.WUNTRACED)
    said = complaint(path)
    assert f"process {holder.pid} (" in said
    assert said.endswith(
        f", which was stopped; let it go on (kill -CONT {holder.pid}) or end it (kill"
        f" {holder.pid}), and try again"
    )


def test_of_one_that_cannot_be_seen_the_file_is_named(tmp_path, hold, monkeypatch):
    path = tmp_path / "lock"
    hold(path)
    monkeypatch.setattr(locks, "_LOCKS", tmp_path / "nothing")
    assert f"see who holds {path} (fuser names it), let that go" in complaint(path)


def test_keys_of_encryption_are_not_waited_for_for_ever(tmp_path, hold):
    keyring = Keyring(tmp_path)
    keyring.create("billing", Kind.AGE, "mail")
    lock = tmp_path / "billing" / ".lock"
    holder = hold(lock)
    with pytest.raises(ConfigurationError) as caught:
        keyring.create("billing", Kind.AGE, "post")
    assert "changing keys of the context billing" in caught.value.detail
    assert f"{lock} is held by process {holder.pid} (" in caught.value.detail


def test_a_window_of_tmux_is_not_waited_for_for_ever(tmp_path, hold, monkeypatch):
    monkeypatch.setattr("horus_celery.processes.tmux._OTHERS", timedelta(0))
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    process = ManagedProcess(program="osis_1", stop_timeout=timedelta(seconds=1))
    manager = TmuxManager("horus", tmp_path, {"osis_1": process})
    lock = tmp_path / "lock"
    holder = hold(lock)
    with pytest.raises(ConfigurationError) as caught:
        manager.start("osis_1")
    assert "opening windows of tmux" in caught.value.detail
    assert f"{lock} is held by process {holder.pid} (" in caught.value.detail
