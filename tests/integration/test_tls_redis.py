"""A Redis behind TLS: it is believed by its certificate, or one line tells why not."""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from kombu.connection import Connection
from kombu.exceptions import OperationalError

from horus_celery.errors import ConfigurationError, UnavailableError
from horus_celery.lifecycle import Status
from horus_celery.redis_server import require_usable
from horus_celery.store.connection import answering, broker, connect
from horus_celery.store.dialling import dial

pytestmark = pytest.mark.integration

PATIENCE = 10.0  # seconds


class Proxy:
    """Speaks TLS, and plainly with the Redis behind it."""

    def __init__(self, path, context):
        self._path = str(path)
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()
        self.port = self._listener.getsockname()[1]
        #: TLS versions of the connections so far.
        self.versions: set[str | None] = set()

    def close(self):
        self._ended.set()
        # A listener that is closed keeps its accept waiting; one more caller does not.
        with self._listener, socket.create_connection(("127.0.0.1", self.port)):
            self._threads[0].join(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def _serve(self):
        while not self._ended.is_set():
            plain, _ = self._listener.accept()
            thread = threading.Thread(target=self._connect, args=(plain,))
            thread.start()
            self._threads.append(thread)

    def _connect(self, accepted):
        with accepted, socket.socket(socket.AF_UNIX) as server:
            accepted.settimeout(PATIENCE)
            with suppress(OSError):  # whoever is not content hangs up
                server.connect(self._path)
                with self._context.wrap_socket(
                    accepted, server_side=True, do_handshake_on_connect=False
                ) as client:
                    if self._is_content(client):
                        self.versions.add(client.version())
                        self._carry(client, server)

    @staticmethod
    def _is_content(client):
        try:
            client.do_handshake()
        except ssl.SSLError:
            # What the other end had said already would make it miss the reason.
            with socket.socket(fileno=client.detach()) as rest:
                rest.settimeout(PATIENCE)
                rest.shutdown(socket.SHUT_WR)
                while rest.recv(65536):
                    pass
            return False
        return True

    def _carry(self, client, server):
        with selectors.DefaultSelector() as selector:
            for each in (client, server):
                selector.register(each, selectors.EVENT_READ)
            while not self._ended.is_set():
                for key, _ in selector.select(0.05):
                    is_from_client = key.fileobj is client
                    source = client if is_from_client else server
                    data = self._taken(source)
                    if data == b"":
                        return
                    (server if is_from_client else client).sendall(data or b"")

    @staticmethod
    def _taken(source):
        """Return what is there, empty at the end, or None if it is not complete yet."""
        source.settimeout(0)
        try:
            data = source.recv(65536)
            while isinstance(source, ssl.SSLSocket) and source.pending():
                data += source.recv(65536)
        except ssl.SSLWantReadError:
            return None
        finally:
            source.settimeout(PATIENCE)
        return data


class TlsRedis:
    """The test's Redis as a `rediss://` address of its own."""

    def __init__(self, behind, ca, folder, *, names=("localhost",), client_ca=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(*names).configure_cert(context)
        if client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            client_ca.configure_trust(context)
        self.proxy = Proxy(behind.socket, context)
        self.ca_file = folder / "ca.pem"
        ca.cert_pem.write_to_path(str(self.ca_file))
        self.place = f"rediss://localhost:{self.proxy.port}/0"
        self.url = f"{self.place}?ssl_ca_certs={self.ca_file}"


@pytest.fixture(scope="module")
def ca():
    return trustme.CA()


@pytest.fixture
def behind_tls(redis_server, ca, tmp_path):
    """Put a proxy of one's own before the shared Redis."""
    made = []

    def make(authority=ca, **options):
        made.append(TlsRedis(redis_server, authority, tmp_path, **options))
        return made[-1]

    yield make
    for each in made:
        each.proxy.close()


def fault(url):
    with connect(url) as client:
        with pytest.raises(UnavailableError) as caught, answering():
            client.ping()
        why = caught.value.detail.partition(": ")[2].partition(";")[0]
    # What is asked at the start of everything says the same.
    with pytest.raises(ConfigurationError, match="cannot be used") as refused:
        require_usable(url, namespace="hero")
    assert why in refused.value.detail
    return why


def is_usable(url):
    """Ask again when the machine was too busy for a handshake in time."""
    for _ in range(10):
        try:
            return require_usable(url, namespace="hero")
        except ConfigurationError as error:
            if "in time" not in error.detail:
                raise
    return False


def test_whoever_names_the_authority_gets_in_by_tls_alone(behind_tls):
    redis = behind_tls()
    assert is_usable(redis.url)
    with connect(redis.url) as client:
        client.set("key", b"x" * 1_000_000)
        assert client.get("key") == b"x" * 1_000_000
    assert redis.proxy.versions <= {"TLSv1.2", "TLSv1.3"}


def test_a_bare_connection_is_by_tls_as_well(behind_tls):
    redis = behind_tls()
    with dial(redis.url, within=timedelta(seconds=PATIENCE)) as channel:
        channel.sendall(b"PING\r\n")
        assert channel.recv(100) == b"+PONG\r\n"
    assert redis.proxy.versions <= {"TLSv1.2", "TLSv1.3"}
    for url in (redis.place, behind_tls(names=("redis.example",)).url):
        with pytest.raises(UnavailableError, match="no connection"):
            dial(url, within=timedelta(seconds=PATIENCE))


def test_an_unknown_authority_is_told_with_its_remedy(behind_tls):
    assert "ssl_ca_certs" in fault(behind_tls().place)


def test_another_host_name_is_told(behind_tls):
    redis = behind_tls(names=("redis.example",))
    assert "another host name" in fault(redis.url)
    with connect(f"{redis.url}&ssl_check_hostname=false") as client:
        assert client.ping()


def test_another_address_is_told(behind_tls):
    redis = behind_tls()
    url = redis.url.replace("localhost", "127.0.0.1")
    assert "another address" in fault(url)


def test_an_expired_certificate_is_told(redis_server, ca, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    day_before = datetime.now(UTC) - timedelta(days=1)
    expired = ca.issue_cert(
        "localhost", not_before=day_before, not_after=day_before + timedelta(hours=1)
    )
    expired.configure_cert(context)
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    proxy = Proxy(redis_server.socket, context)
    place = f"rediss://localhost:{proxy.port}"
    assert "has expired" in fault(f"{place}?ssl_ca_certs={tmp_path}/ca.pem")
    proxy.close()


def test_a_server_that_asks_for_our_certificate_is_told_it(behind_tls, tmp_path):
    ours = trustme.CA()
    redis = behind_tls(client_ca=ours)
    assert "ssl_certfile" in fault(redis.url)
    path = tmp_path / "client.pem"
    ours.issue_cert("runner@example").private_key_and_cert_chain_pem.write_to_path(
        str(path)
    )
    with connect(f"{redis.url}&ssl_certfile={path}") as client:
        assert client.ping()


def test_a_server_without_tls_is_told():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            for _ in range(4):  # two attempts of each who asks
                with suppress(OSError):
                    accepted, _ = listener.accept()
                    with accepted:
                        accepted.recv(100)
                        accepted.sendall(b"-ERR unknown command\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert "no TLS" in fault(f"rediss://localhost:{listener.getsockname()[1]}")
        thread.join(PATIENCE)


def test_plain_words_to_a_server_with_tls_are_told(behind_tls):
    redis = behind_tls()
    with (
        connect(f"redis://localhost:{redis.proxy.port}") as client,
        pytest.raises(UnavailableError, match=r"no Redis|no connection"),
        answering(),
    ):
        client.ping()


def test_a_server_that_never_ends_the_handshake_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"rediss://localhost:{listener.getsockname()[1]}"
        begun = datetime.now(UTC)
        assert "in time" in fault(url)
        assert datetime.now(UTC) - begun < timedelta(seconds=4)  # two who ask


def test_celery_believes_no_certificate_that_the_store_does_not(behind_tls):
    redis = behind_tls()
    with Connection(broker(redis.url).url, ssl=broker(redis.url).tls) as good:
        assert good.default_channel.client.ping()
    for url in (redis.place, redis.url.replace("localhost", "127.0.0.1")):
        with (
            Connection(broker(url).url, ssl=broker(url).tls) as bad,
            pytest.raises(OperationalError, match="CERTIFICATE_VERIFY"),
        ):
            bad.ensure_connection(max_retries=1, interval_start=0)


@pytest.fixture
def private_redis(private_redis, ca, tmp_path):
    """Give the deployment of a test a Redis behind TLS."""
    redis = TlsRedis(private_redis, ca, tmp_path)
    yield redis
    redis.proxy.close()


def test_a_job_runs_over_it_from_the_api_to_the_worker_and_back(
    private_deployment, api_of, private_redis
):
    private_deployment.start_worker("-Q", "python", "-c", "1")
    api = api_of(private_deployment)
    answer = api.run("print('by TLS')")
    assert answer == {"success": "by TLS\n"}
    record = private_deployment.run("print('and again')")
    assert (record.status, record.result) == (Status.COMPLETED, "and again\n")
    assert private_redis.proxy.versions == {"TLSv1.3"}


def test_flower_shows_its_queues(private_deployment, flower_of):
    private_deployment.submit("print()")
    flower = flower_of(private_deployment)
    flower.shows("python", 1)
