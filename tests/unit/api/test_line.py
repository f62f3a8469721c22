"""A connection's bytes: kept until they are sent, never waited for."""

import selectors
import socket
import ssl
import tracemalloc

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from api.line import Line, PlainHttp, TlsLine

DEADLINE = 10.0  # seconds


@pytest.fixture
def ends():
    """Both ends of a connection; the second one is the caller's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        caller = socket.create_connection(listener.getsockname(), DEADLINE)
        ours, _ = listener.accept()
    with ours, caller:
        yield ours, caller


@pytest.fixture(scope="module")
def contexts():
    """How a server of ours speaks TLS, and its caller."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def read(line):
    """Return what comes next."""
    with selectors.DefaultSelector() as selector:
        selector.register(line, selectors.EVENT_READ)
        assert selector.select(DEADLINE)
    return line.receive()


def agree(line, caller, context):
    """Shake hands, and return the caller's end."""
    caller.settimeout(0)
    secure = context.wrap_socket(
        caller, server_hostname="localhost", do_handshake_on_connect=False
    )
    is_open = is_agreed = False
    while not (is_open and is_agreed):
        is_open = is_open or not line.open()
        try:
            secure.do_handshake()
        except ssl.SSLWantReadError:
            continue
        is_agreed = True
    secure.settimeout(DEADLINE)
    return secure


def test_what_is_said_is_sent_when_it_is_to_be(ends):
    ours, caller = ends
    line = Line(ours)
    line.sendall(b"head ")
    line.sendall(b"body")
    assert line.unsent == 9
    assert line.send()
    assert line.unsent == 0
    assert caller.recv(100) == b"head body"
    caller.sendall(b"answer")
    assert read(line) == b"answer"
    assert line.receive() is None


@pytest.mark.parametrize("is_secure", [False, True])
def test_a_slow_reader_gets_all_of_it_in_its_order(ends, contexts, is_secure):
    ours, caller = ends
    server, client = contexts
    line = TlsLine(ours, server) if is_secure else Line(ours)
    if is_secure:
        caller = agree(line, caller, client)
    said = bytes(range(256)) * 64 * 1024
    line.sendall(said)
    with caller:
        assert not line.send()
        heard = bytearray()
        while len(heard) < len(said):
            line.send(limit=256 * 1024)
            heard += caller.recv(1024 * 1024)
    assert heard == said
    assert line.send()
    line.close()


def test_what_was_sent_of_an_answer_takes_no_memory_any_more(ends):
    ours, caller = ends
    line = Line(ours)
    size = 16 * 1024 * 1024
    tracemalloc.start()
    try:
        line.sendall(bytes(size))
        assert not line.send()
        while line.unsent > size // 16:
            caller.recv(64 * 1024)
            line.send(limit=64 * 1024)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0 < line.unsent <= kept < 3 * line.unsent
    line.close()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.binary(max_size=40_000), max_size=8))
def test_through_tls_everything_is_heard_as_it_was_said(contexts, pieces):
    server, client = contexts
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plain = socket.create_connection(listener.getsockname(), DEADLINE)
        ours, _ = listener.accept()
    line = TlsLine(ours, server)
    caller = agree(line, plain, client)
    for piece in pieces:
        caller.sendall(piece)
    caller.sendall(b"end")
    heard = bytearray()
    while not heard.endswith(b"end") or len(heard) < sum(map(len, pieces)) + 3:
        heard += read(line) or b""
    assert heard == b"".join(pieces) + b"end"
    caller.close()
    line.close()


def test_who_says_goodbye_is_at_the_end(ends, contexts):
    ours, caller = ends
    server, client = contexts
    line = TlsLine(ours, server)
    caller = agree(line, caller, client)
    with caller:
        line.hang_up()
        assert caller.recv(100) == b""
    # What the caller said about the end is not TLS any more, and nobody's matter.
    while read(line) != b"":
        continue
    line.close()


def test_plain_http_is_told_from_tls_and_can_be_answered(ends, contexts):
    ours, caller = ends
    server, _ = contexts
    line = TlsLine(ours, server)
    assert line.open() == selectors.EVENT_READ
    caller.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with selectors.DefaultSelector() as selector:
        selector.register(line, selectors.EVENT_READ)
        assert selector.select(DEADLINE)
    with pytest.raises(PlainHttp) as raised:
        line.open()
    raised.value.line.sendall(b"speak TLS")
    assert raised.value.line.send()
    assert caller.recv(100) == b"speak TLS"
    raised.value.line.close()


def test_an_answer_that_nobody_reads_is_torn_off(ends):
    ours, caller = ends
    line = Line(ours)
    line.sendall(bytes(16 * 1024 * 1024))
    assert not line.send()
    line.close()
    with pytest.raises(ConnectionResetError):
        list(iter(lambda: caller.recv(1024 * 1024), b""))


def test_who_is_gone_is_an_end_to_whoever_listens_and_an_error_to_whoever_speaks(ends):
    ours, caller = ends
    line = Line(ours)
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    caller.close()
    assert read(line) == b""
    line.sendall(b"x")
    with pytest.raises(OSError, match=r"."):
        line.send()
