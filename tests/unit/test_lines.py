"""The last lines of what a program wrote, as text that can be shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from horus_celery.processes.lines import MAX_BYTES, MAX_LINE, clean, last_lines


def test_a_file_that_is_not_there_has_no_lines(tmp_path):
    assert last_lines(tmp_path / "log", lines=10) == ()


def test_the_last_lines_are_returned_and_no_more(tmp_path):
    log = tmp_path / "log"
    log.write_text("one\ntwo\n\nthree\n")
    assert last_lines(log, lines=10) == ("one", "two", "", "three")
    assert last_lines(log, lines=2) == ("", "three")
    assert last_lines(log, lines=0) == ()


def test_a_line_that_goes_on_is_a_line(tmp_path):
    log = tmp_path / "log"
    log.write_text("one\ntw")
    assert last_lines(log, lines=10) == ("one", "tw")


def test_of_a_large_file_only_whole_lines_of_its_end_are_read(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"beginning " + b"x" * MAX_BYTES + b"\nlast\n")
    assert last_lines(log, lines=10) == ("last",)


def test_what_was_put_aside_comes_before_what_was_written_since(tmp_path):
    log, aside = tmp_path / "log", tmp_path / "log.1"
    aside.write_text("one\ntwo\nthr")
    log.write_text("ee\nfour\n")
    assert last_lines(log, lines=3) == ("two", "three", "four")
    assert last_lines(log, lines=1) == ("four",)
    log.write_text("")
    assert last_lines(log, lines=2) == ("two", "thr")
    log.unlink()
    assert last_lines(log, lines=2) == ("two", "thr")


def test_of_both_files_no_more_is_read_than_of_one(tmp_path):
    log, aside = tmp_path / "log", tmp_path / "log.1"
    aside.write_bytes(b"early\n" + b"x" * MAX_BYTES + b"\nlate\n")
    log.write_text("latest\n")
    assert last_lines(log, lines=10) == ("late", "latest")
    log.write_bytes(b"x" * MAX_BYTES + b"\nlast\n")
    assert last_lines(log, lines=10) == ("last",)


def test_a_log_that_is_put_aside_while_it_is_read_is_read_once(tmp_path):
    log, aside = tmp_path / "log", tmp_path / "log.1"
    log.write_text("one\ntwo\n")
    # As it is seen by who opened it just before it got the other name.
    aside.hardlink_to(log)
    assert last_lines(log, lines=10) == ("one", "two")


def test_a_line_without_end_is_cut(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"x" * 3 * MAX_LINE)
    assert last_lines(log, lines=1) == ("x" * MAX_LINE,)


def test_colours_titles_and_bells_are_taken_out():
    written = ["\x1b[1;31mred\x1b[0m", "\x1b]0;title\x07text", "a\tb\x07", "end\r"]
    assert clean(written) == ("red", "text", "a    b\ufffd", "end")


@given(st.lists(st.text()))
def test_nothing_is_left_that_a_terminal_would_act_on(lines):
    assert all(line.isprintable() for line in clean(lines))
