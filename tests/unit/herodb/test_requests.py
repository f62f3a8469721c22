"""What a script sends is read as Redis reads it, and nothing of it is believed."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from horus_celery.herodb import requests
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
    data = b"".join(hiredis.pack_command(tuple(words)) for words in sent)
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


def test_answers_are_what_clients_read():
    reader = hiredis.Reader()
    answers = [requests.number(3), requests.bulk(None), requests.bulk(b"a\r\nb")]
    reader.feed(requests.array(answers))
    assert reader.gets() == [3, None, b"a\r\nb"]
    reader.feed(requests.simple("OK"))
    assert reader.gets() == b"OK"
    reader.feed(requests.error("ERR two\r\nlines"))
    assert str(reader.gets()) == "ERR two lines"
