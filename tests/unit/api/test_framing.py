"""Where a request ends, whatever pieces it comes in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.framing import MAX_HEAD, Arrival, Stage

LIMIT = 1000
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def with_length(length, body=b""):
    return POST + b"Content-Length: %b\r\n\r\n%b" % (length, body)


def arrival(data=b"", limit=LIMIT):
    return Arrival(data, lambda authorization: limit)


WHOLE = [
    GET,
    with_length(b"0"),
    with_length(b"5", b"hello"),
    CHUNKED + b"0\r\n\r\n",
    CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
    CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("request_", WHOLE)
@given(data=st.data(), rest=st.sampled_from([b"", b"G", GET]))
def test_a_request_is_whole_with_its_last_byte_and_not_before(request_, data, rest):
    coming = arrival()
    left = request_
    while left:
        assert coming.stage() is Stage.PARTIAL
        size = data.draw(st.integers(1, len(left)))
        coming.data += left[:size]
        left = left[size:]
    coming.data += rest
    assert coming.stage() is Stage.WHOLE
    assert coming.rest() == rest
    assert b"".join(coming.pieces()) == request_


@pytest.mark.parametrize(
    "request_",
    [
        with_length(b"1001"),
        with_length(b"five"),
        with_length(b"-5"),
        with_length(b"+5"),
        with_length(b"5, 5"),
        with_length(b"9" * 5000),
        POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        CHUNKED + b"zz\r\nx",
        CHUNKED + b"-1\r\nx",
        CHUNKED + b"0x5\r\nhello\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"1" * 9000,
        CHUNKED + b"FFFFFF\r\n" + b"x" * 80_000,
        b"x" * (MAX_HEAD + 1),
    ],
)
def test_what_is_wrong_or_too_large_is_not_waited_for(request_):
    assert arrival(request_).stage() is Stage.CUT


@given(st.binary(max_size=200), st.sampled_from([b"", GET[:-2], CHUNKED]))
def test_nothing_that_is_sent_breaks_it(noise, before):
    coming = arrival(before + noise)
    assert coming.stage() in Stage
    assert len(b"".join(coming.pieces()) + coming.rest()) <= len(before + noise)


def test_the_limit_is_that_of_the_secret_in_the_head():
    asked = []

    def limit(authorization):
        asked.append(authorization)
        return 0

    head = POST + b"authorization:  Bearer abc\r\nContent-Length: 1\r\n\r\n"
    assert Arrival(head, limit).stage() is Stage.CUT
    assert Arrival(with_length(b"1"), limit).stage() is Stage.CUT
    assert asked == ["Bearer abc", None]


def test_the_sender_is_told_once_to_continue_and_gunicorn_not_at_all():
    coming = arrival(POST + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n")
    assert coming.stage() is Stage.PARTIAL
    assert coming.take_expectation()
    assert not coming.take_expectation()
    coming.data += b"x"
    assert coming.stage() is Stage.WHOLE
    assert b"expect" not in b"".join(coming.pieces()).lower()


EXPECT = b"Expect: 100-continue\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        GET[:-2] + EXPECT + b"\r\n",
        POST + EXPECT + b"Content-Length: 1\r\n\r\nx",
        POST + EXPECT + b"expect:100-Continue \r\nContent-Length: 1\r\n\r\nx",
        POST + EXPECT + b"Content-Length: 1001\r\n\r\n",
        POST + EXPECT + b"Content-Length: five\r\n\r\n",
        b"\r\n" + POST + EXPECT + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_gunicorn_does_not_hear_of_a_body_that_need_not_be_asked_for(request_):
    coming = arrival(request_)
    assert coming.stage() is not Stage.PARTIAL
    assert b"expect" not in b"".join(coming.pieces()).lower()


@pytest.mark.parametrize("first", [b"POST / HTTP/1.0\r\n", b"POST / HTTP/1.1\r\n"])
def test_only_a_sender_of_http_1_1_is_told_to_continue(first):
    coming = arrival(first + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n")
    coming.stage()
    assert coming.take_expectation() is (b"1.1" in first)
