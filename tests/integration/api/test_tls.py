"""The API through TLS: what is agreed on, what is refused, who is not waited for."""

import itertools
import os
import shutil
import socket
import ssl
import threading
import time
from contextlib import ExitStack, closing
from http.client import HTTPSConnection

import httpx
import pytest
import trustme

from horus_celery.client import Horus
from tests.integration.api.conftest import Server

pytestmark = pytest.mark.integration

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = HEALTHZ[:-2] + b"Connection: close\r\n\r\n"
#: How long a connection may take for a handshake, with some to spare, in seconds.
PATIENCE = 20.0


@pytest.fixture(scope="module")
def issued(authority, tmp_path_factory):
    return authority.issue(tmp_path_factory.mktemp("issued"))


@pytest.fixture(scope="module")
def server(redis_server, issued, tmp_path_factory):
    """A server that others have used, and will use."""
    folder, redis_url = tmp_path_factory.mktemp("server"), f"{redis_server.url}?db=61"
    with closing(Server(folder, redis_url, f"tls-{os.getpid()}", issued)) as made:
        made.wait_until_ready()
        yield made


def shake(server, context):
    """Shake hands as that client does, and return what is open then."""
    host, _ = server.address
    return context.wrap_socket(server.connect(), server_hostname=host)


def test_the_newest_version_is_agreed_on(server, authority):
    context = authority.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with shake(server, context) as connection:
        assert connection.version() == "TLSv1.3"
        assert connection.selected_alpn_protocol() == "http/1.1"


def test_the_second_newest_will_do(server, authority):
    context = authority.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with shake(server, context) as connection:
        connection.sendall(LAST)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_an_older_one_is_refused_and_told_so(server):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        shake(server, context)
    server.submit()


def test_another_authority_is_not_believed(server, tmp_path):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(server.url, verify=ssl.create_default_context(cafile=str(other)))
    assert "Traceback" not in server.log.read_text()


def test_plain_http_is_told_to_speak_https(server):
    with server.connect() as connection:
        connection.sendall(HEALTHZ)
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"https://" in answer


def test_who_stalls_or_speaks_another_language_keeps_nobody_out(server, is_open):
    begun = time.monotonic()
    with ExitStack() as stack:
        # More of each kind than threads.
        stalled = [stack.enter_context(server.connect()) for _ in range(4 * 150)]
        kinds = itertools.cycle([b"", b"\x16\x03", b"\0" * 100, b"SSH-2.0-x\r\n"])
        for connection, said in zip(stalled, kinds, strict=False):
            connection.sendall(said)
        for _ in range(10):
            asked = time.monotonic()
            # Through a handshake of its own.
            assert server.ask(LAST).startswith(b"HTTP/1.1 200 ")
            assert time.monotonic() - asked < 2
        pause = threading.Event()
        while stalled := [one for one in stalled if is_open(one)]:
            assert time.monotonic() - begun < PATIENCE
            pause.wait(0.1)
    assert "Traceback" not in server.log.read_text()


def test_who_leaves_in_the_middle_of_a_handshake_breaks_nothing(server):
    for _ in range(50):
        connection = server.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0" * 2)
        connection.close()
    assert server.ask(LAST).startswith(b"HTTP/1.1 200 ")
    assert "Traceback" not in server.log.read_text()


def test_a_hundred_calls_go_over_one_connection(server):
    host, port = server.address
    connection = HTTPSConnection(host, port, context=server.context, timeout=15)
    connection.connect()
    sock = connection.sock
    for _ in range(100):
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        assert answer.read() == b'{"status":"ok"}'
    assert connection.sock is sock
    connection.close()


def test_large_bodies_and_large_answers_pass(server):
    call = {"jsonrpc": "2.0", "method": "nothing", "id": "x" * (4 * 1024 * 1024 - 100)}
    answer = server.http.post(server.url, json=call).json()
    assert answer["id"] == call["id"]


def test_a_request_in_many_records_and_many_in_one_are_read(server):
    with server.say() as connection:
        for byte in HEALTHZ:
            connection.sendall(bytes([byte]))
        connection.sendall(HEALTHZ * 50 + LAST)
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answers.count(b"HTTP/1.1 200 ") == 52


@pytest.fixture
def own(redis_url, namespace, authority, tmp_path):
    """A server of the test's own, and its certificate."""
    issued = authority.issue(tmp_path)
    with closing(Server(tmp_path, redis_url, namespace, issued)) as made:
        made.wait_until_ready()
        yield made, issued


def test_a_replaced_certificate_is_shown_without_a_restart(own, authority, tmp_path):
    server, issued = own

    def shown(connection):
        return connection.getpeercert(binary_form=True)

    def until(holds):
        """Connect again and again until something holds of what is shown."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with server.say() as connection:
                found = shown(connection)
            if holds(found):
                return found
            assert time.monotonic() < deadline
            pause.wait(0.1)

    pause = threading.Event()
    (tmp_path / "new").mkdir()
    new = authority.issue(tmp_path / "new")
    with server.say() as kept:
        issued.cert.write_text("half of it")
        # Shows what it has as long as what is there is of no use.
        assert until(lambda found: server.log.read_text()) == shown(kept)
        shutil.copy(new.key, issued.key)
        shutil.copy(new.cert, issued.cert)
        until(lambda found: found != shown(kept))
        kept.sendall(LAST)
        assert kept.recv(100).startswith(b"HTTP/1.1 200 ")
    (line,) = server.log.read_text().splitlines()
    assert str(issued.cert) in line


def test_the_client_believes_the_authority_that_it_is_given(server, authority):
    root = server.state.root_public()
    secret = server.state.secret("user")
    job_id = server.submit()
    with Horus(server.url, secret, root=root, ca=authority.file) as horus:
        assert job_id in {one["id"] for one in horus.call("jobs.list")}


class TestWhatKeepsItFromStarting:
    @pytest.fixture
    def start(self, fail_to_start, issued, tmp_path):
        def start(**options):
            paths = {"HORUS_TLS_CERT": issued.cert, "HORUS_TLS_KEY": issued.key}
            given = {name: str(value) for name, value in (paths | options).items()}
            return fail_to_start(HORUS_STATE_DIR=str(tmp_path / "state"), **given)

        return start

    @pytest.mark.parametrize("name", ["HORUS_TLS_CERT", "HORUS_TLS_KEY"])
    def test_a_file_that_is_not_there(self, start, name, tmp_path):
        assert str(tmp_path / "nothing") in start(**{name: tmp_path / "nothing"})

    @pytest.mark.parametrize("name", ["HORUS_TLS_CERT", "HORUS_TLS_KEY"])
    def test_a_file_with_something_else(self, start, name, tmp_path):
        (tmp_path / "junk").write_text("junk")
        assert str(tmp_path / "junk") in start(**{name: tmp_path / "junk"})

    def test_the_key_of_another_certificate(self, start, authority, issued, tmp_path):
        (tmp_path / "other").mkdir()
        other = authority.issue(tmp_path / "other")
        said = start(HORUS_TLS_KEY=other.key)
        assert f"{other.key} is not the key" in said
        assert str(issued.cert) in said

    def test_one_without_the_other(self, start):
        assert "tls_key" in start(HORUS_TLS_KEY="")
