from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from horus_celery.errors import MalformedError
from horus_celery.store.base import Chunk, Stream

DIGEST = "a" * 64


@pytest.fixture
def chunk(clock):
    def make(data: bytes, stream: Stream = Stream.STDOUT) -> Chunk:
        return Chunk(at=clock.at, stream=stream, data=data)

    return make


def texts(lines):
    return [line.text for line in lines]


def test_a_job_without_output_has_no_lines(logs):
    assert logs.read(DIGEST, after=None, limit=10) == []


def test_nothing_more_is_nothing(logs):
    logs.append(DIGEST, [])
    assert logs.read(DIGEST, after=None, limit=10) == []


def test_lines_come_back_as_they_came(logs, chunk, clock):
    logs.append(DIGEST, [chunk(b"one\n"), chunk(b"two\n", Stream.STDERR)])
    at = clock.advance(seconds=1)
    logs.append(DIGEST, [chunk(b"three\n")])
    lines = logs.read(DIGEST, after=None, limit=10)
    assert texts(lines) == ["one", "two", "three"]
    assert [line.stream for line in lines] == ["stdout", "stderr", "stdout"]
    assert [at - line.at for line in lines] == [
        timedelta(seconds=1),
        timedelta(seconds=1),
        timedelta(0),
    ]


def test_equal_lines_are_all_kept(logs, chunk):
    logs.append(DIGEST, [chunk(b"y\n")] * 3)
    logs.append(DIGEST, [chunk(b"y\n")])
    assert texts(logs.read(DIGEST, after=None, limit=10)) == ["y"] * 4


def test_each_job_has_its_own_log(logs, chunk):
    logs.append(DIGEST, [chunk(b"mine\n")])
    logs.append("b" * 64, [chunk(b"other\n")])
    assert texts(logs.read(DIGEST, after=None, limit=10)) == ["mine"]


def test_reading_goes_on_behind_a_cursor(logs, chunk):
    logs.append(DIGEST, [chunk(b"%d\n" % number) for number in range(5)])
    seen, after = [], None
    while page := logs.read(DIGEST, after=after, limit=2):
        assert len(page) <= 2
        seen += texts(page)
        after = page[-1].cursor
    assert seen == ["0", "1", "2", "3", "4"]
    logs.append(DIGEST, [chunk(b"5\n")])
    assert texts(logs.read(DIGEST, after=after, limit=2)) == ["5"]


def test_many_lines_at_once_stay_in_order(logs, chunk):
    logs.append(DIGEST, (chunk(b"%d\n" % number) for number in range(1234)))
    lines = texts(logs.read(DIGEST, after=None, limit=2000))
    assert lines == [str(number) for number in range(1234)]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"line\n", "line"),
        (b"no newline", "no newline"),
        (b"\n", ""),
        (b"two\n\n", "two\n"),
        (b"\xff\xfe\n", "\ufffd\ufffd"),
        (b"nul \x00 and \x1b[31m\n", "nul \x00 and \x1b[31m"),
        ("käse\r\n".encode(), "käse\r"),
    ],
)
def test_a_line_is_shown_as_text_without_its_newline(logs, chunk, data, text):
    logs.append(DIGEST, [chunk(data)])
    assert texts(logs.read(DIGEST, after=None, limit=1)) == [text]


def test_a_line_says_whether_a_newline_followed(logs, chunk):
    pieces = [b"one ", b"line\n", b"\n", "käse".encode()]
    logs.append(DIGEST, map(chunk, pieces))
    lines = logs.read(DIGEST, after=None, limit=10)
    assert [line.ends_line for line in lines] == [False, True, True, False]
    assert [line.data for line in lines] == pieces


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "-",
        "+",
        "$",
        "0",
        "-1-0",
        "1-",
        "1-0 ",
        "1-0\n",
        "٣-0",
        "9" * 40 + "-0",
    ],
)
def test_what_is_no_cursor_is_refused(logs, cursor):
    with pytest.raises(MalformedError) as refused:
        logs.read(DIGEST, after=cursor, limit=1)
    assert refused.value.reason == "schema.after"


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cursor=st.text(alphabet="0123456789-+($", max_size=50))
def test_no_cursor_breaks_a_log(logs, cursor):
    with suppress(MalformedError):
        assert logs.read(DIGEST, after=cursor, limit=1) == []
