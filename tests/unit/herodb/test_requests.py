"""What a script sends is read as Redis reads it, and nothing of it is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horus_celery.herodb import requests
from horus_celery.herodb.replies import (
    BadReply,
    ErrorReply,
    NotYet,
    Replies,
    packed,
)
from horus_celery.herodb.requests import MAX_REQUEST, MAX_WORDS, BadProtocol, Requests

WORDS = st.lists(st.binary(max_size=40), min_size=1, max_size=6)


def read(*pieces):
    reader = Requests()
    found = []
    for piece in pieces:
        reader.feed(piece)
        while (words := reader.next()) is not None:
            found.append(words)
    return found


@given(st.lists(WORDS, max_size=5), st.integers(1, 50))
def test_requests_are_read_however_they_are_cut(sent, size):
    data = b"".join(packed(words) for words in sent)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert read(*pieces) == sent


def test_a_request_of_no_words_is_passed_over():
    assert read(b"*0\r\n*1\r\n$4\r\nPING\r\n") == [[b"PING"]]


@pytest.mark.parametrize(
    "data",
    [
        b"PING\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"*-1\r\n",
        b"*x\r\n",
        b"*1\r\n+PING\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$ 1\r\na\r\n",
        b"*1\r\n$1\r\nab\r\n",
        b"*99999999999999999999\r\n",
        b"*" + b"1" * 100,
        b"*%d\r\n" % (MAX_WORDS + 1),
        b"*1\r\n$%d\r\n" % (MAX_REQUEST + 1),
        b"*2\r\n$1\r\na\r\n$%d\r\n" % MAX_REQUEST,
        b"*4294967295\r\n",
    ],
)
def test_what_is_no_request_ends_the_reading(data):
    with pytest.raises(BadProtocol):
        read(data)


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(data):
    try:
        read(data)
    except BadProtocol:
        assert data


def test_an_announcement_costs_nothing():
    reader = Requests()
    reader.feed(b"*%d\r\n$%d\r\n" % (MAX_WORDS, MAX_REQUEST))
    assert reader.next() is None


# --- answers -----------------------------------------------------------------------

VALUES: st.SearchStrategy = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


def written(value):
    match value:
        case list():
            return requests.array(map(written, value))
        case int():
            return requests.number(value)
        case _:
            return requests.bulk(value)


def answers(*pieces):
    reader = Replies()
    found = []
    for piece in pieces:
        reader.feed(piece)
        while not isinstance(value := reader.next(), NotYet):
            found.append(value)
    return found


@given(st.lists(VALUES, max_size=4), st.integers(1, 50))
def test_answers_are_read_however_they_are_cut(sent, size):
    data = b"".join(map(written, sent))
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert answers(*pieces) == sent


def test_an_error_is_a_value_in_one_line():
    (found, inner) = answers(
        requests.error("ERR two\r\nlines"), b"*2\r\n-NO\r\n+OK\r\n"
    )
    assert isinstance(found, ErrorReply)
    assert str(found) == "ERR two lines"
    assert (str(inner[0]), inner[1]) == ("NO", b"OK")
    assert answers(b"*-1\r\n") == [None]


@pytest.mark.parametrize(
    "data", [b"x\r\n", b"$x\r\n", b":\r\n", b"*1\r\n?\r\n", b"\r\n"]
)
def test_what_is_no_answer_ends_the_reading(data):
    with pytest.raises(BadReply):
        answers(data)


def test_a_list_within_lists_is_no_burden():
    deep = b"*1\r\n" * 10_000
    (value,) = answers(deep + b":1\r\n")
    for _ in range(10_000):
        (value,) = value
    assert value == 1


def test_numbers_and_texts_are_words():
    assert (
        packed(["SET", b"\xff", 3]) == b"*3\r\n$3\r\nSET\r\n$1\r\n\xff\r\n$1\r\n3\r\n"
    )
    assert packed(["é"]) == b"*1\r\n$2\r\n\xc3\xa9\r\n"
