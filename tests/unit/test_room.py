"""Horus follows no link that a script puts in or over its room."""

from __future__ import annotations

import os
import shutil

import pytest
from structlog.testing import capture_logs

from workers.room import BadResult, private_room, remove_abandoned

#: No process has this number and start.
NOBODY = "1-0-left"


def result_of(room, *, limit):
    assert room.out is not None
    return room.read_result(room.out, limit=limit)


@pytest.fixture
def rooms(tmp_path):
    path = tmp_path / "rooms"
    path.mkdir()
    return path


@pytest.fixture
def victim(tmp_path):
    """A directory outside, with a mode and content that nobody may touch."""
    path = tmp_path / "victim"
    (path / "folder").mkdir(parents=True)
    (path / "folder" / "file").write_text("keep")
    (path / "result").write_text("secret")
    path.chmod(0o750)
    yield path
    assert path.stat().st_mode & 0o777 == 0o750
    assert (path / "result").read_text() == "secret"
    assert (path / "folder" / "file").read_text() == "keep"


def test_a_link_in_a_rooms_place_is_removed_and_not_followed(rooms, victim):
    with private_room(rooms, "") as room:
        shutil.rmtree(room.path)
        room.path.symlink_to(victim)
    assert list(rooms.iterdir()) == []


def test_a_file_in_a_rooms_place_is_removed(rooms):
    with private_room(rooms, "") as room:
        shutil.rmtree(room.path)
        room.path.write_text("")
    assert list(rooms.iterdir()) == []


def test_links_within_a_room_are_removed_and_not_followed(rooms, victim):
    with private_room(rooms, "") as room:
        (room.work / "deep").mkdir()
        (room.work / "deep" / "link").symlink_to(victim)
        room.inputs.rmdir()
        room.inputs.symlink_to(victim)
    assert list(rooms.iterdir()) == []


def test_a_link_in_the_place_of_all_rooms_is_not_followed(rooms, victim):
    away = rooms.with_name("away")
    with private_room(rooms, "") as room:
        rooms.rename(away)
        rooms.symlink_to(victim)
        (victim / room.path.name).mkdir()
    assert list(away.iterdir()) == []
    assert (victim / room.path.name).is_dir()
    with pytest.raises(OSError, match="rooms"):
        remove_abandoned(rooms)


@pytest.mark.parametrize("make", ["link", "file", "folder with links"])
def test_what_a_lost_job_left_is_removed_and_not_followed(rooms, victim, make):
    left = rooms / NOBODY
    match make:
        case "link":
            left.symlink_to(victim)
        case "file":
            left.write_text("")
        case _:
            (left / "out").mkdir(parents=True)
            (left / "out" / "link").symlink_to(victim)
            (left / "link").symlink_to(victim)
            left.chmod(0)
    assert remove_abandoned(rooms) == 0
    assert list(rooms.iterdir()) == []


def test_the_room_of_a_living_process_stays(rooms):
    with private_room(rooms, "print(1)") as room:
        remove_abandoned(rooms)
        assert room.script.read_text() == "print(1)"


@pytest.mark.usefixtures("victim")
def test_a_result_behind_a_link_to_a_directory_is_no_result(rooms, victim):
    with private_room(rooms, "") as room:
        room.result.parent.rmdir()
        room.result.parent.symlink_to(victim)
        with pytest.raises(BadResult, match="not in the directory"):
            result_of(room, limit=100)


def test_a_result_in_another_directory_than_the_given_one_is_no_result(rooms):
    with private_room(rooms, "") as room:
        room.result.parent.rmdir()
        room.result.parent.mkdir()
        room.result.write_text("late")
        with pytest.raises(BadResult, match="not in the directory"):
            result_of(room, limit=100)


def test_a_link_in_a_rooms_place_gives_no_result(rooms, victim):
    with private_room(rooms, "") as room:
        shutil.rmtree(room.path)
        (victim / "out").symlink_to(victim)
        room.path.symlink_to(victim)
        assert result_of(room, limit=100) is None


def test_a_result_is_read_where_it_was_to_be_written(rooms):
    with private_room(rooms, "") as room:
        room.result.write_text("done")
        assert result_of(room, limit=4) == b"done"


def test_secrets_are_for_reading_by_their_user_alone_and_go_with_the_room(rooms):
    values = {"token": b"correct horse\n", "a@b:c.d-e": b"\0\xff" * 5}
    with private_room(rooms, "", values=values) as room:
        found = {file.name: file.read_bytes() for file in room.secrets.iterdir()}
        assert found == values
        assert room.secrets.stat().st_mode & 0o777 == 0o500
        modes = {file.stat().st_mode & 0o777 for file in room.secrets.iterdir()}
        assert modes == {0o400}
    assert list(rooms.iterdir()) == []


def test_without_secrets_there_is_no_place_for_them(rooms):
    with private_room(rooms, "") as room:
        assert not room.secrets.exists()


def test_a_room_that_cannot_be_removed_is_told_once(rooms, monkeypatch):
    left = rooms / NOBODY
    left.mkdir()
    with monkeypatch.context() as patch, capture_logs() as said:
        patch.setattr(os, "rmdir", _refuse)
        remove_abandoned(rooms)
        remove_abandoned(rooms)
    assert [line["room"] for line in said] == [NOBODY]
    remove_abandoned(rooms)
    assert list(rooms.iterdir()) == []


def test_inputs_are_files_that_nobody_writes_in_a_folder_that_nobody_writes(rooms):
    inputs = {"A": b"\x00\xff\r\n", "B": b""}
    with private_room(rooms, "", inputs) as room:
        assert {one.name: one.read_bytes() for one in room.inputs.iterdir()} == inputs
        files = [room.inputs, *room.inputs.iterdir()]
        assert [one.stat().st_mode & 0o777 for one in files] == [0o500, 0o400, 0o400]
    assert list(rooms.iterdir()) == []


def test_a_room_whose_inputs_cannot_be_written_is_removed(rooms, monkeypatch):
    monkeypatch.setattr(os, "fchmod", _refuse)
    with pytest.raises(PermissionError), private_room(rooms, "", {"A": b"1"}):
        pytest.fail("there is no such room")
    assert list(rooms.iterdir()) == []


def _refuse(*_args, **_options):
    raise PermissionError(1, "Operation not permitted")
