"""Temporary files of programs go with the next start, and nothing else does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from horus_celery.errors import ConfigurationError
from horus_celery.processes.temporary import make_empty, make_own
from horus_celery.statedir import StateDirectory


@pytest.fixture
def folder(tmp_path):
    state = StateDirectory(tmp_path / "state")
    state.make_folders()
    return state.temporary


@pytest.fixture
def victim(tmp_path):
    """A directory outside, of which nothing may be touched."""
    path = tmp_path / "victim"
    path.mkdir()
    (path / "file").write_text("keep")
    path.chmod(0o755)
    yield path
    assert (path / "file").read_text() == "keep"
    assert path.stat().st_mode & 0o777 == 0o755


def test_the_place_is_for_its_user_alone(folder):
    assert make_empty(folder) == ()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert make_empty(folder) == ()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_what_an_earlier_run_left_is_removed_and_no_link_is_followed(folder, victim):
    make_empty(folder)
    (folder / "pymp-empty").mkdir()
    (folder / "file").write_text("left")
    (folder / "link").symlink_to(victim)
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "link").symlink_to(victim)
    (folder / "deep" / "er" / "file").write_text("left")
    (folder / "deep" / "er").chmod(0)
    os.mkfifo(folder / "pipe")
    assert make_empty(folder) == ()
    assert list(folder.iterdir()) == []


def test_neither_depth_nor_long_names_are_a_hindrance(folder):
    make_empty(folder)
    place = os.open(folder, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("ä" * 127, dir_fd=place)
        deeper = os.open("ä" * 127, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = deeper
    os.close(place)
    assert make_empty(folder) == ()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "link to nothing", "file"])
def test_what_stands_in_its_place_is_left_alone_and_said(folder, victim, kind):
    match kind:
        case "link":
            folder.symlink_to(victim)
        case "link to nothing":
            folder.symlink_to(victim / "nothing")
        case _:
            folder.write_text("mine")
    with pytest.raises(ConfigurationError, match="run/tmp is no directory: remove it"):
        make_empty(folder)
    assert folder.is_symlink() or folder.read_text() == "mine"


def test_the_folder_of_another_user_is_refused(folder, monkeypatch):
    make_empty(folder)
    (folder / "file").write_text("theirs")
    somebody = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: somebody)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        make_empty(folder)
    assert (folder / "file").read_text() == "theirs"


def test_what_cannot_be_removed_is_said_and_the_rest_is_removed(folder, monkeypatch):
    make_empty(folder)
    for name in ("mounted", "other"):
        (folder / name).mkdir()
        (folder / name / "file").write_text("")
    rmdir = os.rmdir

    def refuse(name, **options):
        # As the kernel does where something is mounted.
        if name == "mounted":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), name)
        rmdir(name, **options)

    monkeypatch.setattr(os, "rmdir", refuse)
    (said,) = make_empty(folder)
    assert said.endswith("run/tmp/mounted: Device or resource busy")
    assert [each.name for each in folder.iterdir()] == ["mounted"]
    assert (folder / "mounted" / "file").exists()


def test_a_socket_has_room_in_it_as_in_the_state_directory(folder):
    state = StateDirectory(folder.parents[1])
    assert len(os.fsencode(folder)) < len(os.fsencode(state.redis_socket))


# --- a program that is started by itself ---------------------------------------------

#: Has a folder of its own as another program, which it becomes, and says which.
ALONE = """
import os, sys
from pathlib import Path
from horus_celery.processes.temporary import make_own
own = make_own(Path(sys.argv[1]))
(own / "file").write_text("at work")
os.execv("/bin/sh", ["sh", "-c", f"echo {own}; read line"])
"""


@pytest.fixture
def alone(folder):
    """Start a program by itself, and have it end with the block."""

    @contextmanager
    def start():
        words = [sys.executable, "-c", ALONE, str(folder)]
        with subprocess.Popen(  # noqa: S603 - our own words
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as program:
            assert program.stdout is not None
            yield Path(program.stdout.readline().rstrip())
            program.kill()

    return start


def test_who_is_started_by_itself_has_a_folder_that_nobody_removes(folder, alone):
    with alone() as own, alone() as other:
        assert own.parent == other.parent == folder
        assert own != other
        assert own.stat().st_mode & 0o777 == 0o700
        (folder / "left").write_text("by an earlier run")
        assert make_empty(folder) == ()
        assert set(folder.iterdir()) == {own, other}
        assert (own / "file").read_text() == "at work"


def test_what_one_that_was_killed_has_left_goes_with_the_next_one(folder, alone):
    with alone() as own:
        pass
    assert own.is_dir()
    with alone() as other:
        assert set(folder.iterdir()) == {other}
    assert make_empty(folder) == ()
    assert list(folder.iterdir()) == []


def test_who_is_started_by_itself_follows_no_link(folder, victim):
    folder.symlink_to(victim)
    with pytest.raises(ConfigurationError, match="run/tmp is no directory: remove it"):
        make_own(folder)
