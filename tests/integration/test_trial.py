"""Which level of containment works here is tried, and the trial leaves nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading

import pytest
from structlog.testing import capture_logs

from horus_celery.settings import load_settings
from workers import containment, trial
from workers.room import remove_abandoned

#: Looks for what comes within a second or two, 5 ms apart.
LOOKS = 4000


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The system's temporary directory, which is the test's own."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return path


@pytest.fixture
def state(tmp_path):
    """A state directory in which a runner has been."""
    path = tmp_path / "state"
    (path / "run" / "rooms").mkdir(parents=True)
    return path


def settings_of(state, sandbox="auto"):
    env = {"HORUS_STATE_DIR": str(state), "HORUS_SANDBOX": sandbox}
    return load_settings(env=env)


def appears_in(folder):
    ticks = threading.Event()
    for _ in range(LOOKS):
        if any(folder.iterdir()):
            return True
        ticks.wait(0.005)
    return False


def test_a_trial_that_is_killed_leaves_a_room_that_runners_sweep_up(state, temporary):
    rooms = state / "run" / "rooms"
    env = {**os.environ, "HORUS_STATE_DIR": str(state)}
    with subprocess.Popen([sys.executable, "-m", "workers.trial"], env=env) as asked:
        try:
            assert appears_in(rooms)
        finally:
            asked.kill()
    assert list(temporary.iterdir()) == []
    assert len(list(rooms.iterdir())) == 1
    remove_abandoned(rooms)
    assert list(rooms.iterdir()) == []


def test_a_trial_leaves_nothing_in_a_state_directory(state, temporary):
    assert trial.fault_of(containment.plain(), state) is None
    assert list((state / "run" / "rooms").iterdir()) == []
    assert list(temporary.iterdir()) == []


def test_a_trial_makes_no_state_directory(tmp_path, temporary):
    missing = tmp_path / "missing"
    trial.choose(settings_of(missing))
    assert not missing.exists()
    assert list(temporary.iterdir()) == []


def test_a_state_directory_that_is_unusable_costs_no_level(state, temporary):
    rooms = state / "run" / "rooms"
    elsewhere = state / "elsewhere"
    shutil.move(rooms, elsewhere)
    rooms.symlink_to(elsewhere)
    assert trial.fault_of(containment.plain(), state) is None
    assert list(elsewhere.iterdir()) == []


def test_what_keeps_scripts_from_being_apart_is_said_with_the_remedy(
    state, monkeypatch
):
    def fault_of(level, state_dir):
        assert level.level != containment.PLAIN
        return "Operation not permitted"

    monkeypatch.setattr(trial, "fault_of", fault_of)
    with capture_logs() as logs:
        assert trial.choose(settings_of(state)).level == containment.PLAIN
    (said,) = logs
    assert said["log_level"] == "warning"
    assert said["detail"].startswith("namespaces: Operation not permitted; bwrap: ")
    assert "make user namespaces" in said["remedy"]
    assert 'sandbox = "plain"' in said["remedy"]


def test_who_accepts_it_is_not_told_that_scripts_are_not_kept_apart(state):
    with capture_logs() as logs:
        level = trial.choose(settings_of(state, sandbox="plain"))
    assert level.level == containment.PLAIN
    assert logs == []
