"""Which level scripts get is found by trying, and what was asked for is not lowered."""

from __future__ import annotations

import json

import pytest
from structlog.testing import capture_logs

from horus_celery.errors import ConfigurationError
from horus_celery.settings import load_settings
from workers import bubblewrap, seccomp, trial
from workers.bubblewrap import Bubblewrap
from workers.seccomp import Filter

PROGRAM = Bubblewrap(program="/bwrap", limiter="/prlimit", walls=())


@pytest.fixture
def settings(tmp_path):
    def made(sandbox):
        env = {"HORUS_STATE_DIR": str(tmp_path), "HORUS_SANDBOX": sandbox}
        return load_settings(env=env)

    return made


@pytest.fixture
def works(monkeypatch):
    """Say which levels work for the plain user that we then are."""

    def only(*levels):
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        monkeypatch.setattr(bubblewrap, "prepared", lambda **_: PROGRAM)
        monkeypatch.setattr(
            trial,
            "fault_of",
            lambda one, _: None if one.level in levels else "denied",
        )

    return only


@pytest.mark.parametrize(
    ("sandbox", "working", "level"),
    [
        ("auto", ["namespaces", "bwrap"], "namespaces"),
        ("auto", ["bwrap"], "bwrap"),
        ("auto", ["bwrap", "landlock"], "bwrap"),
        ("auto", ["landlock"], "landlock"),
        ("auto", [], "plain"),
        ("landlock", ["namespaces", "landlock"], "landlock"),
        ("bwrap", ["namespaces", "bwrap"], "bwrap"),
        ("plain", ["namespaces", "bwrap"], "plain"),
    ],
)
def test_the_best_level_that_works_and_is_wanted_is_taken(
    settings, works, monkeypatch, capsys, sandbox, working, level
):
    works(*working)
    chosen = settings(sandbox)
    with capture_logs() as logs:
        assert trial.choose(chosen).level == level
    is_worse = sandbox == "auto" and level == "plain"
    assert [one["event"] for one in logs] == ["scripts are not kept apart"] * is_worse
    monkeypatch.setattr(trial, "load_settings", lambda: chosen)
    trial.main()
    said = json.loads(capsys.readouterr().out)
    assert said["level"] == level
    assert said["works"] == working
    assert said["cuts_network"] == (level != "plain")


@pytest.mark.parametrize(
    ("sandbox", "remedy"),
    [("bwrap", "install bubblewrap"), ("landlock", "boot Linux 5.13 or newer with")],
)
def test_what_was_asked_for_is_not_lowered(
    settings, works, monkeypatch, capsys, sandbox, remedy
):
    works("namespaces")
    chosen = settings(sandbox)
    with pytest.raises(ConfigurationError, match=f"denied; {remedy}"):
        trial.choose(chosen)
    monkeypatch.setattr(trial, "load_settings", lambda: chosen)
    trial.main()
    said = json.loads(capsys.readouterr().out)
    assert said["level"] is None
    assert [one["level"] for one in said["faults"]] == [sandbox]
    assert said["cuts_network"] is False


def test_without_a_filter_landlock_cuts_no_network(settings, works, monkeypatch):
    works("landlock")
    none = Filter(program=None, fault="there is no libseccomp")
    monkeypatch.setattr(seccomp, "own", lambda **_: none)
    chosen = trial.choose(settings("landlock"))
    assert (chosen.level, chosen.cuts_network) == ("landlock", False)


def test_a_program_that_is_missing_is_named(settings, works, monkeypatch):
    works("bwrap")

    def missing(**_):
        raise FileNotFoundError("there is no program bwrap")

    monkeypatch.setattr(bubblewrap, "prepared", missing)
    with pytest.raises(ConfigurationError, match="no program bwrap; install"):
        trial.choose(settings("bwrap"))


def test_root_gets_no_box(settings, works, monkeypatch):
    works("bwrap")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(ConfigurationError, match="run the runner as a plain user"):
        trial.choose(settings("bwrap"))
