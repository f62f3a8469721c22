"""Two supervisors behind a balancer, set up as `docs/operations.md` says."""

import re
import shutil
import socket
import subprocess
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.api.conftest import TOP
from tests.waiting import within

pytestmark = pytest.mark.integration

NAME = "horus.example.org"
DEADLINE = 15.0  # seconds
#: What stands around what the page shows, and the command.
BALANCERS = {
    "haproxy": (
        "defaults\n mode http\n timeout connect 2s\n timeout client 310s\n{}",
        ["-db", "-f", "{file}"],
    ),
    "nginx": (
        """
        daemon off; pid {folder}/pid; error_log {folder}/log; events {{}}
        http {{
            access_log off; client_body_temp_path {folder}/b;
            proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
            uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
            {}
        }}
        """,
        ["-e", "{folder}/log", "-c", "{file}"],
    ),
}


def find(program):
    """Return where a program is: what serves is on no user's path."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def shown(program):
    """Return the configuration that the page shows for a balancer."""
    page = (TOP / "docs" / "operations.md").read_text()
    (found,) = re.findall(rf"```{program}\n(.*?)```", page, re.DOTALL)
    return found


@pytest.fixture
def issued(authority, tmp_path):
    return authority.issue(tmp_path, NAME)


@pytest.fixture(scope="module")
def _runner(deployment):
    deployment.start_worker("-Q", "python", "-c1")


@pytest.fixture
def supervisors(deployment, api_of, issued, _runner):
    settings = {
        "HORUS_TLS_CERT": str(issued.cert),
        "HORUS_TLS_KEY": str(issued.key),
        "HORUS_ALLOWED_HOSTS": NAME,
        "HORUS_TRUSTED_PROXIES": "127.0.0.1",
    }
    return [api_of(deployment, **settings) for _ in range(2)]


class Balancer:
    """What stands before them, as a caller of another address finds it."""

    def __init__(self, url, context):
        self._url = url
        # One that is trusted would be asked for whom it calls.
        elsewhere = httpx.HTTPTransport(verify=context, local_address="127.0.0.2")
        self.http = httpx.Client(transport=elsewhere, timeout=DEADLINE)

    def post(self, secret, method, *, host=NAME, said="", **params):
        """Call a method and return the answer; `said` is for whom one says to call."""
        return self.http.post(
            self._url,
            json={"jsonrpc": "2.0", "method": method, "params": params, "id": 1},
            headers={
                "Authorization": f"Bearer {secret}",
                "Host": host,
                "X-Forwarded-For": said,
            },
            extensions={"sni_hostname": NAME},
        )

    def call(self, secret, method, **params):
        answer = self.post(secret, method, **params).json()
        return answer["result"] if "result" in answer else answer["error"]["code"]

    def insist(self, secret, method, **params):
        """Make the same call until it is answered, and return its result."""
        results = []

        def is_answered():
            with suppress(httpx.TransportError):
                answer = self.post(secret, method, **params)
                if answer.is_success:
                    results.append(answer.json()["result"])
            return results

        within(DEADLINE, is_answered)
        return results[0]


@pytest.fixture(params=BALANCERS)
def balancer(request, supervisors, authority, issued, tmp_path):
    program = find(request.param)
    if program is None:
        pytest.skip(f"there is no {request.param}")
    port = free_port()
    pem = tmp_path / "all.pem"
    pem.write_bytes(issued.cert.read_bytes() + issued.key.read_bytes())
    text = shown(request.param)
    for before, after in {
        "/etc/horus/tls/all.pem": pem,
        "/etc/horus/tls/ca.pem": authority.file,
        "10.0.0.11:3030": urlsplit(supervisors[0].url).netloc,
        "10.0.0.12:3030": urlsplit(supervisors[1].url).netloc,
        "bind :443": f"bind 127.0.0.1:{port}",
        "listen 443": f"listen 127.0.0.1:{port}",
    }.items():
        assert before in text or before.endswith("443")
        text = text.replace(before, str(after))
    around, words = BALANCERS[request.param]
    file = tmp_path / "balancer"
    file.write_text(around.format(text, folder=tmp_path))
    argv = [program, *(word.format(file=file, folder=tmp_path) for word in words)]
    process = subprocess.Popen(argv)  # noqa: S603 - our own command line
    found = Balancer(f"https://127.0.0.1:{port}/", issued.context)
    try:
        found.insist("none", "rpc.discover")
        yield found
    finally:
        found.http.close()
        process.terminate()
        process.wait()


def test_jobs_are_run_by_either_though_the_other_is_killed(
    balancer, supervisors, deployment
):
    secret = deployment.state.secret("user")

    def run():
        job = deployment.envelope("print(1)")
        return balancer.insist(secret, "job.run", job=job, wait=10)

    assert run() == {"success": "1\n"}
    supervisors[0].kill()
    assert [run() for _ in range(4)] == [{"success": "1\n"}] * 4


def test_who_guesses_is_known_by_what_the_balancer_saw(balancer):
    # Each of both counts ten.
    codes = [
        balancer.call("wrong", "jobs.list", said=f"192.0.2.{number}")
        for number in range(21)
    ]
    assert codes[-1] == -32022


def test_no_other_name_leads_to_them(balancer, deployment):
    secret = deployment.state.secret("user")
    for host, is_called in ((NAME, True), ("evil.example", False)):
        assert balancer.post(secret, "jobs.list", host=host).is_success is is_called
