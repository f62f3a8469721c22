"""SAL's functions for files."""

from __future__ import annotations

import errno
import os
import shutil

import pytest


def test_what_is_there_exists_and_nothing_else(confined, folder):
    (folder / "a").touch()
    assert confined("exist", "a") is True
    assert confined("exist", "b") is False


def test_a_file_is_written_read_and_measured(confined, folder):
    assert confined("file_write", "deep/er/a.txt", "één\n") == "deep/er/a.txt"
    assert confined("file_write_append", "deep/er/a.txt", "two\r\n") == "deep/er/a.txt"
    assert confined("file_read", "deep/er/a.txt") == "één\ntwo\r\n"
    assert confined("file_size", "deep/er/a.txt") == 11


def test_writing_replaces_what_was_there(confined, folder):
    confined("file_write", "a", "long text")
    confined("file_write", "a", "x")
    assert (folder / "a").read_text() == "x"


@pytest.mark.parametrize("name", ["file_read", "file_size", "copy_bin", "chmod_exec"])
def test_a_file_that_is_missing_is_named(confined, folder, name):
    said = confined.refusal(name, "nowhere")
    assert said == f"{name}: No such file or directory: nowhere"


def test_a_name_that_is_no_text_is_shown_to_who_finds_it(confined, folder):
    (folder / os.fsdecode(b"n\xffm")).mkdir()
    for name in ("find_dirs", "find_dir"):
        said = confined.refusal(name, ".", "n*")
        assert said == (
            f"{name}: the name n\\udcffm is not text in UTF-8; rename the file"
        )


def test_what_fails_at_a_name_that_is_no_text_is_said_as_text(
    confined, folder, monkeypatch
):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", path / "n\udcffm")

    (folder / "d").mkdir()
    monkeypatch.setattr(shutil, "rmtree", refuse)
    said = confined.refusal("delete", "d")
    assert said == "delete: Permission denied: d/n\\udcffm"


@pytest.mark.parametrize("name", ["file_read", "file_size", "copy_bin"])
def test_a_pipe_is_not_waited_for(confined, folder, name):
    os.mkfifo(folder / "pipe")
    assert confined.refusal(name, "pipe") == f"{name}: pipe is not a file"


def test_bytes_that_are_no_text_are_not_read_as_text(confined, folder):
    (folder / "a").write_bytes(b"\xff")
    assert "not text in UTF-8" in confined.refusal("file_read", "a")


def test_a_file_larger_than_texts_may_be_is_not_read(confined, folder):
    with (folder / "a").open("wb") as file:
        file.truncate(16 * 2**20 + 1)
    assert "at most 16777216 are read" in confined.refusal("file_read", "a")


@pytest.mark.parametrize("name", ["file_write", "file_write_append"])
def test_a_directory_cannot_be_written_as_a_file(confined, folder, name):
    assert "Is a directory" in confined.refusal(name, ".", "text")


@pytest.fixture
def forest(folder):
    """Files and directories to look for."""
    for path in ("a.md", "b.txt", "sub/c.md", "sub/sub/d.rs"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def test_files_are_found_at_any_depth_in_order(confined, forest):
    assert confined("find_files", ".", "*.md") == ["a.md", "sub/c.md"]
    assert confined("find_files", str(forest), "?.txt") == [f"{forest}/b.txt"]
    assert confined("find_files", ".", "nothing") == []


def test_directories_are_found_and_files_are_none(confined, forest):
    assert confined("find_dirs", ".", "s*") == ["sub", "sub/sub"]
    assert confined("find_dirs", ".", "*.md") == []
    assert confined("find_dir", "sub", "sub") == "sub/sub"


def test_the_one_file_is_found(confined, forest):
    assert confined("find_file", ".", "*.rs") == "sub/sub/d.rs"


@pytest.mark.parametrize("name", ["find_file", "find_dir"])
def test_one_of_none_or_of_several_is_an_error(confined, forest, name):
    assert "there is no" in confined.refusal(name, ".", "nothing")
    assert "there are" in confined.refusal(name, ".", "*")


@pytest.mark.parametrize("name", ["find_file", "find_files", "find_dir", "find_dirs"])
def test_nothing_is_looked_for_in_what_is_no_directory(confined, forest, name):
    assert confined.refusal(name, "a.md", "*") == f"{name}: there is no directory a.md"


def test_what_is_deleted_is_gone_and_may_be_deleted_again(confined, forest):
    assert confined("delete", "sub") == "sub"
    assert confined("delete", "sub") == "sub"
    assert confined("delete", "a.md") == "a.md"
    assert [one.name for one in forest.iterdir()] == ["b.txt"]


def test_deleting_a_link_spares_what_it_leads_to(confined, forest):
    (forest / "link").symlink_to("sub")
    confined("delete", "link")
    assert (forest / "sub/c.md").exists()
    assert not (forest / "link").is_symlink()


def test_what_lies_below_a_file_cannot_be_deleted_or_made(confined, forest):
    assert "Not a directory" in confined.refusal("delete", "a.md/x")
    assert "Not a directory" in confined.refusal("mkdir", "a.md/x")


def test_directories_are_made_with_those_above(confined, folder):
    assert confined("mkdir", "a/b") == "a/b"
    assert confined("mkdir", "a/b") == "a/b"
    assert (folder / "a/b").is_dir()


def test_the_current_directory_changes(confined, folder):
    (folder / "sub").mkdir()
    assert confined("chdir", "sub") == str(folder / "sub")
    confined("file_write", "a", "x")
    assert (folder / "sub/a").exists()
    assert "No such file" in confined.refusal("chdir", "nowhere")


def test_copies_go_into_a_directory_or_to_a_path(confined, forest):
    assert confined("copy", "a.md", "sub") == "sub/a.md"
    assert confined("copy", "a.md", "new/name.md") == "new/name.md"
    assert confined("copy", "sub", "other") == "other"
    assert (forest / "other/sub/d.rs").exists()
    assert "No such file" in confined.refusal("copy", "nowhere", "x")


def test_a_directory_is_not_copied_into_itself(confined, forest):
    assert "lies in sub itself" in confined.refusal("copy", "sub", "sub/sub")


def test_a_link_is_copied_as_a_link_within_a_directory(confined, forest):
    (forest / "sub/link").symlink_to("/etc/passwd")
    confined("copy", "sub", "other")
    assert (forest / "other/link").readlink().as_posix() == "/etc/passwd"


def test_moving_leaves_nothing_behind(confined, forest):
    assert confined("mv", "a.md", "sub") == "sub/a.md"
    assert confined("mv", "b.txt", "new/c.txt") == "new/c.txt"
    assert not (forest / "a.md").exists()
    assert "No such file" in confined.refusal("mv", "a.md", "x")


def test_a_program_is_copied_to_where_programs_of_a_user_are(
    confined, folder, tmp_path
):
    (folder / "tool").write_text("#!/bin/sh\n")
    place = confined("copy_bin", "tool")
    assert place == f"{tmp_path}/.local/bin/tool"
    assert os.access(place, os.X_OK)


def test_a_program_is_found_by_its_name(confined, stand_in, tmp_path):
    stand_in("tool")
    assert confined("which", "tool") == f"{tmp_path}/bin/tool"
    assert confined("which", "no-such-tool") == ""
    assert "must not be empty" in confined.refusal("which", "")


def test_programs_that_are_missing_are_named(confined, stand_in):
    stand_in("tool")
    assert confined("cmd_ensure_exists", "tool") is None
    assert confined("cmd_ensure_exists", ["tool", "tool"]) is None
    said = confined.refusal("cmd_ensure_exists", "tool,no-a,no-b")
    assert said == "cmd_ensure_exists: not installed: no-a, no-b"


def test_rsync_is_told_whole_paths_so_that_no_colon_leads_away(
    confined, forest, stand_in
):
    rsync = stand_in("rsync")
    (forest / "host:sub").mkdir()
    assert confined("rsync", "host:sub", "copy") == "copy"
    assert rsync.calls == [
        ["--archive", "--delete", "--", f"{forest}/host:sub/", f"{forest}/copy/"]
    ]
    assert "no directory" in confined.refusal("rsync", "nowhere", "copy")


def test_without_rsync_the_program_is_named(confined, forest, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    said = confined.refusal("rsync", "sub", "copy")
    assert said == (
        "rsync: there is no program rsync here; install it, or name its path"
    )
