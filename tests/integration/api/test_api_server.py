"""The API as gunicorn serves it, over a real Redis."""

import json
import os
import resource
import select
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import psutil
import pytest

from api.reception import MAX_ARRIVING
from tests.integration.api.conftest import Server
from tests.waiting import within

pytestmark = pytest.mark.integration

DEADLINE = 15.0  # seconds

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
STALLED = HEAD + b"Content-Length: 1000\r\n\r\n{"
DISCOVER = b'{"jsonrpc":"2.0","method":"rpc.discover","id":1}'
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
#: How long a connection may take for a request, with some to spare, in seconds.
PATIENCE = 20.0


#: Every promise holds through TLS, too.
TRANSPORTS = ["in the clear", "TLS"]


@pytest.fixture(params=TRANSPORTS)
def issued(request, authority, tmp_path):
    """The certificate of a server of the test's own."""
    return authority.issue(tmp_path) if request.param == "TLS" else None


@pytest.fixture(scope="module")
def lasting(authority, redis_server, tmp_path_factory):
    """Make servers for tests that leave them as they are, one for each transport."""
    servers = {}

    def find(transport):
        if transport not in servers:
            folder = tmp_path_factory.mktemp("server")
            certificate = authority.issue(folder) if transport == "TLS" else None
            redis_url = f"{redis_server.url}?db=62"
            made = Server(folder, redis_url, f"lasting-{os.getpid()}", certificate)
            servers[transport] = made
            made.wait_until_ready()
        return servers[transport]

    yield find
    for server in servers.values():
        server.close()


@pytest.fixture(params=TRANSPORTS)
def server(request, lasting):
    """A server that others have used, and will use."""
    return lasting(request.param)


def waiters(server, pool, count):
    """Let that many callers wait for one job."""
    job_id = server.submit()
    waiting = [
        pool.submit(server.post, "job.result", job_id=job_id, wait=60)
        for _ in range(count)
    ]
    return job_id, waiting


def test_a_stop_wakes_everybody_who_waits(server):
    with ThreadPoolExecutor(50) as pool:
        job_id, waiting = waiters(server, pool, 50)
        assert server.post("job.status", job_id=job_id)["result"]["status"] == "queued"
        stopped = server.post("job.stop", job_id=job_id)
        assert stopped["result"]["status"] == "stopped"
        answers = [one.result(DEADLINE) for one in waiting]
    assert {answer["result"]["error"] for answer in answers} == {"stopped"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_long_before_those_who_wait_would_leave(serve, redis_url, number):
    server = serve(redis_url)
    with ThreadPoolExecutor(20) as pool:
        _, waiting = waiters(server, pool, 20)
        assert server.post("get_supervisor_info")["result"]["counts"]["queued"] == 1
        assert server.end(number) < DEADLINE / 2  # they would wait for a minute
        for one in waiting:
            error = one.exception(DEADLINE)
            # A call that arrived after the signal finds nobody.
            assert error is None or isinstance(error, httpx.TransportError)
            assert error or one.result()["error"]["code"] == -32021
    assert "Traceback" not in server.log.read_text()


def is_refused(server):
    try:
        socket.create_connection(server.address).close()
    except ConnectionRefusedError:
        return True
    return False


def test_who_comes_while_it_ends_is_sent_elsewhere_at_once(serve, redis_url):
    server = serve(redis_url)
    with server.say(STALLED) as begun:
        server.process.send_signal(signal.SIGTERM)
        within(DEADLINE, lambda: is_refused(server))
        assert server.process.poll() is None
        # Who was in before is heard to the end.
        begun.sendall(b"}" + b" " * 998)
        assert begun.recv(12) == b"HTTP/1.1 200"
    assert server.end() < DEADLINE


def test_redis_away_is_told_within_two_seconds_and_mends_itself(serve, private_redis):
    server = serve(private_redis.url)
    job_id = server.submit()
    private_redis.pause()
    for method in ("job.status", "job.result", "job.logs", "job.stop"):
        begun = time.monotonic()
        answer = server.post(method, job_id=job_id)
        assert time.monotonic() - begun < 2
        assert answer["error"]["code"] == -32020
        assert answer["error"]["data"]["retryable"] is True
    assert server.http.get(f"{server.url}healthz").is_success
    private_redis.resume()
    assert server.post("job.status", job_id=job_id)["result"]["job_id"] == job_id
    private_redis.stop()
    begun = time.monotonic()
    assert server.post("job.status", job_id=job_id)["error"]["code"] == -32020
    assert time.monotonic() - begun < 2
    private_redis.start()
    assert server.post("job.status", job_id=job_id)["result"]["job_id"] == job_id


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_request_over_the_limit_is_refused_by_the_real_server(server, is_chunked):
    size = 5 * 1024 * 1024
    blocks = (b" " * 65536 for _ in range(size // 65536))
    # On a connection of its own: what the server leaves unread ends the connection.
    response = httpx.post(
        server.url,
        verify=server.context or True,
        content=blocks if is_chunked else b" " * size,
        headers={"Content-Type": "application/json"},
    )
    assert response.json()["error"]["code"] == -32023
    assert "result" in server.post("get_supervisor_info")


def test_who_sends_most_and_never_ends_makes_room(server):
    secret = server.state.secret("user").encode()
    size = 4 * 1024 * 1024
    head = HEAD + b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
    began = head % (secret, size) + b" " * (size - 1)
    with ExitStack() as stack:
        # More than all requests together may hold.
        senders = MAX_ARRIVING // size + 8
        said = [stack.enter_context(server.say(began)) for _ in range(senders)]
        assert "result" in server.post("rpc.discover")
        gone, _, _ = select.select(said, [], [], DEADLINE)
        assert gone


@pytest.fixture
def many_files():
    """As many open files as this process may have, where a shell allows 1,024."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_thousand_silent_connections_keep_nobody_out(server, many_files):
    with ExitStack() as stack:
        for _ in range(min(1100, many_files // 2)):
            stack.enter_context(server.say())
        assert server.http.get(f"{server.url}healthz").is_success
        server.submit()


def leave_half_requests(server, is_open):
    """Leave requests half said: they keep nobody waiting, and are cut off."""
    pause = threading.Event()
    begun = time.monotonic()
    with ExitStack() as stack:
        chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        stalled = [
            stack.enter_context(server.say(data))
            for data, count in (
                (STALLED, 300),
                (HEAD, 100),
                (chunked + b"5\r\nhe", 50),
                (HEALTHZ + HEAD, 50),  # half a request behind a whole one
                (b"", 50),
            )
            for _ in range(count)
        ]
        trickling = [stack.enter_context(server.say(STALLED)) for _ in range(10)]
        for _ in range(20):
            asked = time.monotonic()
            assert server.http.get(f"{server.url}healthz").is_success
            server.submit()
            assert time.monotonic() - asked < 2
        yield
        while any(map(is_open, trickling)):
            assert time.monotonic() - begun < PATIENCE
            for connection in filter(is_open, trickling):
                try:
                    connection.sendall(b"x")
                except ConnectionError:
                    break
            pause.wait(0.5)
        while stalled := [one for one in stalled if is_open(one)]:
            assert time.monotonic() - begun < PATIENCE + 2
            pause.wait(0.1)
    assert "Traceback" not in server.log.read_text()


def do_not_read(server):
    """Do not read an answer: that keeps no thread, and is cut off."""
    # The answer repeats the id; the kernel takes about 3 MB of it from the server.
    call = b'{"jsonrpc":"2.0","method":"nothing","id":"%b"}' % (b"x" * 3_500_000)
    authorization = f"Authorization: Bearer {server.state.secret('user')}\r\n".encode()
    request = HEAD + authorization + b"Content-Length: %d\r\n\r\n" % len(call) + call
    with ExitStack() as stack:
        deaf = []
        for _ in range(24):  # three for each thread
            connection = server.connect(receive_buffer=4096)
            deaf.append(stack.enter_context(server.secure(connection)))
            deaf[-1].sendall(request)
        for connection in deaf[-8:]:
            assert connection.recv(12) == b"HTTP/1.1 200"
        begun = time.monotonic()
        for _ in range(20):
            asked = time.monotonic()
            assert server.http.get(f"{server.url}healthz").is_success
            assert time.monotonic() - asked < 1
        ends = select.poll()
        for connection in deaf:
            ends.register(connection, 0)  # for nothing but its end
        pause = threading.Event()
        yield
        while len(ends.poll(0)) < len(deaf):
            assert time.monotonic() - begun < PATIENCE
            pause.wait(0.1)
    assert "Traceback" not in server.log.read_text()


def test_who_stops_in_the_middle_keeps_nobody_waiting_and_is_cut_off(
    serve, redis_url, is_open
):
    both = [
        leave_half_requests(serve(redis_url), is_open),
        do_not_read(serve(redis_url, "--threads", "8")),
    ]
    # What is left is to wait, which they do beside each other.
    for one in both:
        next(one)
    for one in both:
        assert next(one, None) is None


def test_all_threads_of_the_worker_keep_to_one_processor(server):
    (worker,) = psutil.Process(server.process.pid).children()
    threads = [thread.id for thread in worker.threads()]
    assert len({frozenset(os.sched_getaffinity(thread)) for thread in threads}) == 1
    assert len(os.sched_getaffinity(threads[0])) == 1


def test_who_does_not_close_after_the_last_answer_holds_nobody_up(server):
    last = HEALTHZ[:-2] + b"Connection: close\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(server.say(last))
        begun = time.monotonic()
        assert server.http.get(f"{server.url}healthz").is_success
        assert time.monotonic() - begun < 2


def complaints_since(before, server):
    """The lines about what cannot be read, which are written before the answer.

    Others may come at any time: a call's own line, for one, follows its answer.
    """
    said = server.log.read_text().removeprefix(before).splitlines()
    words = ("a request cannot be read", "what came is no HTTP request")
    return [line for line in said if any(word in line for word in words)]


@pytest.mark.parametrize("chunks", [b"zz\r\nx", b"5\r\nhello, world\r\n0\r\n\r\n"])
def test_a_bad_chunk_is_a_parse_error_and_one_line(server, chunks):
    before = server.log.read_text()
    answer = server.ask(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"code":-32700' in answer
    assert len(complaints_since(before, server)) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"this is no HTTP\r\n\r\n",
        HEAD + b"Secret key: of-mine\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_one_line_without_its_words(server, data):
    before = server.log.read_text()
    assert server.ask(data + HEALTHZ).startswith(b"HTTP/1.1 400 ")
    assert len(complaints_since(before, server)) == 1
    assert "mine" not in server.log.read_text()


def test_two_requests_in_one_piece_are_answered_in_turn(server):
    last = HEALTHZ[:-2] + b"Connection: close\r\n\r\n"
    assert server.ask(HEALTHZ * 3 + last).count(b"HTTP/1.1 200 OK") == 4


def test_a_body_that_waits_to_be_asked_for_is_asked_for_once(server):
    head = HEAD + b"Expect: 100-continue\r\nConnection: close\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(DISCOVER)
    with server.say(head + length) as connection:
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(DISCOVER)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("length", "body", "code"),
    [(len(DISCOVER), DISCOVER, None), (70_000, b"", -32023), (0, b"", -32700)],
    ids=["came along", "too large", "none"],
)
def test_a_body_that_need_not_be_asked_for_is_not_asked_for(server, length, body, code):
    head = HEAD + b"Expect: 100-continue\r\nConnection: close\r\n"
    answer = server.ask(head + b"Content-Length: %d\r\n\r\n" % length + body)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    said = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert said.get("error", {}).get("code") == code


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"HORUS_PORT": "many"}, "port"),
        ({"HORUS_STATE_DIR": "/nowhere"}, "/nowhere"),
    ],
)
def test_what_keeps_it_from_starting_is_said_in_one_line(fail_to_start, options, word):
    assert word in fail_to_start(**options)
