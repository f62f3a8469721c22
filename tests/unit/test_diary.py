"""Whatever a field holds, it makes one line that everybody reads the same."""

import io
import json
import logging
import os
import pty
import sys
from contextlib import closing

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from horus_celery import diary

HOSTILE = [
    "two\nlines",
    "return\rover",
    "\x1b[2J\x1b]0;title\x07",
    "\x00\x01\x7f\x85\x9b31m",
    "\u2028and\u2029",
    "\u202eevird",
    "\ud800",
    "\udc80 half",
    'quote" and \\ slash',
    "{'event': 'forged'}",
    "é 中 \U0001f600",
    "",
]
TEXT = st.text(st.characters(codec=None, exclude_categories=()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=10,
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def as_before():
    yield
    structlog.reset_defaults()


@pytest.fixture
def written(capsys):
    """Return the lines that were written to standard error."""

    def lines():
        return capsys.readouterr().err.splitlines()

    return lines


@pytest.fixture
def words(monkeypatch):
    """What renders for a terminal that shows no colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    return diary.renderer_for(Terminal())


def is_plain(line):
    return line.isascii() and line.isprintable()


def read(line):
    """Read a line as every reader does."""
    assert is_plain(line)
    assert orjson.loads(line) is not None
    return json.loads(line)


# --- a line of JSON ----------------------------------------------------------------


@given(text=TEXT, value=JSON)
def test_any_value_makes_one_line_of_json(text, value):
    fields = {"event": text, "job_id": text, "value": value}
    assert read(diary.to_json(fields)).keys() == fields.keys()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_read_as_it_was(text):
    expected = text.encode("utf-8", "backslashreplace").decode()
    assert read(diary.to_json({"event": "x", "job_id": text}))["job_id"] == expected


def test_a_field_is_cut():
    said = read(diary.to_json({"event": "x", "long": "é" * 1_000_000, "short": "y"}))
    assert said["long"].startswith("é" * diary.MAX_FIELD)
    assert said["long"].endswith("... (1000000 characters)")
    assert said["short"] == "y"


def test_a_field_is_cut_also_where_it_is_no_text():
    said = read(diary.to_json({"event": "x", "many": list(range(1_000_000))}))
    assert len(said["many"]) < diary.MAX_FIELD + 100


def circle():
    endless: list[object] = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"a payload", "bytes"),
        (ValueError("a payload"), "ValueError"),
        (10**30, "1" + "0" * 30),
        (10**10_000, "int"),
        (circle(), "list"),
        (["\ud800"], '["\\ud800"]'),
        (float("nan"), None),
        ({1: 2}, {"1": 2}),
        ({"a", "b"}, "set"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_does_not_know_is_described_without_its_text(value, shown):
    assert read(diary.to_json({"event": "x", "value": value}))["value"] == shown


def test_a_value_that_is_nested_without_end_is_described():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert read(diary.to_json({"event": "x", "deep": deep}))["deep"] == "list"


# --- words for a person ------------------------------------------------------------


@given(text=TEXT, value=JSON)
def test_at_a_terminal_any_value_is_one_line_of_words(text, value):
    render = diary.renderer_for(Terminal())
    said = {"at": "1", "level": "info", "event": text, "job_id": text, "value": value}
    uncoloured = render(said)
    for code in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[35m", "\x1b[36m"):
        uncoloured = uncoloured.replace(code, "")
    assert is_plain(uncoloured)


def test_at_a_terminal_the_words_can_be_read(words):
    line = words({"at": "12:00", "level": "info", "event": "bell put off", "n": 3})
    assert line.split() == ["12:00", "[info", "]", "bell", "put", "off", "n=3"]


def test_at_a_terminal_without_colours_nothing_moves_the_cursor(words):
    line = words({"at": "1", "level": "info", "event": "x", "job_id": "\x1b[2J"})
    assert is_plain(line)
    assert "\\u001b[2J" in line


def test_only_a_terminal_is_shown_words():
    assert diary.renderer_for(io.StringIO()) is diary.to_json
    assert diary.renderer_for(None) is diary.to_json
    assert diary.renderer_for(Terminal()) is not diary.to_json


# --- standard error ----------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_an_event_is_one_line_whatever_its_fields_hold(written, text):
    diary.to_stderr()
    structlog.get_logger().warning("job refused", job_id=text, context_id=text)
    [line] = written()
    said = read(line)
    assert list(said) == ["at", "level", "event", "job_id", "context_id"]
    assert (said["level"], said["event"]) == ("warning", "job refused")
    assert said["at"].endswith("Z")


def test_a_field_does_not_take_the_place_of_time_level_or_event(written):
    diary.to_stderr()
    structlog.get_logger().warning("true", at="forged", level="forged")
    [line] = written()
    said = read(line)
    assert (said["level"], said["event"]) == ("warning", "true")
    assert said["at"] != "forged"


def test_what_helps_only_a_developer_is_not_written(written):
    diary.to_stderr()
    structlog.get_logger().debug("detail")
    assert written() == []


def test_a_traceback_is_not_written(written):
    diary.to_stderr()
    try:
        raise ValueError("a payload")  # noqa: TRY301 - to have one
    except ValueError:
        structlog.get_logger().error("broke", exc_info=True, stack_info=True)
    [line] = written()
    assert read(line).keys() == {"at", "level", "event"}


def test_a_log_that_cannot_be_written_breaks_nobody(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    diary.to_stderr()
    stream.close()
    structlog.get_logger().warning("unheard")


def test_a_pipe_without_a_reader_breaks_nobody(monkeypatch):
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", stream)
    diary.to_stderr()
    os.close(reader)
    structlog.get_logger().warning("unheard")
    structlog.get_logger().warning("unheard")
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_terminal_is_found_by_itself(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    master, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stream, closing(os.fdopen(master, "rb", 0)) as end:
        monkeypatch.setattr(sys, "stderr", stream)
        diary.to_stderr()
        structlog.get_logger().warning("bell put off", job_id="\n\x1b[2J")
        line = end.read(4096)
    assert line.count(b"\n") == 1
    assert b"bell put off" in line
    assert b"{" not in line
    assert b"\x1b" not in line


# --- the standard library's loggers --------------------------------------------------


@pytest.fixture
def logged():
    """A logger as Celery sets it up, and what it writes."""
    stream = io.StringIO()
    logger = logging.Logger("celery.worker")  # noqa: LOG001 - of this test alone
    logger.addHandler(logging.StreamHandler(stream))
    diary.format_handlers(logger)
    return logger, stream


@pytest.mark.parametrize("text", HOSTILE)
def test_a_line_of_a_library_has_the_same_form(logged, text):
    logger, stream = logged
    logger.warning("Received task: %s", text)
    said = read(stream.getvalue().strip())
    assert list(said) == ["at", "level", "event", "process", "logger"]
    assert said["event"].startswith("Received task: ")
    assert said["logger"] == "celery.worker"


def test_an_error_of_a_library_says_where_it_broke_and_not_its_words(logged):
    logger, stream = logged
    try:
        raise ValueError("a payload")  # noqa: TRY301 - to have one
    except ValueError:
        logger.exception("Task broke")
    said = read(stream.getvalue().strip())
    assert said["error"] == "ValueError"
    assert "test_diary.py" in said["where"]


def test_our_events_go_through_it_as_they_are(logged):
    logger, stream = logged
    diary.through_logging()
    structlog.wrap_logger(logger).warning("job refused", job_id="\n", reason="sig.none")
    said = read(stream.getvalue().strip())
    assert list(said) == ["at", "level", "event", "job_id", "reason", "process"]
    assert (said["event"], said["job_id"]) == ("job refused", "\n")
