"""Two supervisors of one deployment: what one is told, the other knows."""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from horus_celery.statements import dsse
from horus_celery.store.connection import connect
from horus_celery.store.keys import Keys

pytestmark = pytest.mark.integration


def ask(server, method, secret, **params):
    """Call a method with a secret and return the answer."""
    call = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.post(server.url, json=call, headers=headers, timeout=20).json()


@pytest.fixture
def servers(serve, redis_url):
    return serve(redis_url), serve(redis_url)


def test_a_secret_that_one_adds_the_other_knows_at_once(servers):
    here, there = servers
    admin = here.state.secret("admin")
    for _ in range(5):
        added = ask(here, "add_secret", admin, scope="user", contexts=["lab"])["result"]
        assert ask(there, "jobs.list", added["secret"]) == {
            "jsonrpc": "2.0",
            "result": [],
            "id": 1,
        }
    # A body that a stranger could not send.
    answer = ask(there, "job.status", added["secret"], job_id="x" * 100_000)
    assert answer["error"]["code"] == -32602
    assert ask(there, "remove_secret", admin, id=added["id"])["result"] is True
    assert ask(there, "jobs.list", added["secret"])["error"]["code"] == -32001
    shown = {one["id"] for one in ask(here, "list_secrets", admin)["result"]}
    assert added["id"] not in shown


def test_a_secret_that_was_removed_is_put_back_by_nobody(serve, redis_url, namespace):
    servers = here, there = serve(redis_url), serve(redis_url)
    admin = here.state.secret("admin")
    key = Keys.of(namespace).secrets
    added = ask(here, "add_secret", admin, scope="admin")["result"]
    with connect(redis_url) as client:
        kept = client.hget(key, added["id"])
        assert ask(there, "remove_secret", admin, id=added["id"])["result"] is True
        assert ask(here, "list_secrets", admin)["result"]  # and so it hears of it
        client.hset(key, added["id"], kept)
        # A third one was not there: it begins with what its node knows.
        for server in (*servers, serve(redis_url)):
            answer = ask(server, "list_secrets", added["secret"])
            assert answer["error"]["code"] == -32001
            listed = ask(server, "list_secrets", admin)["result"]
            assert added["id"] not in {one["id"] for one in listed}


def test_a_bundle_that_one_installs_the_other_goes_by(servers):
    here, there = servers
    trust = here.state.trust()
    newer = here.state.reissue(lambda body: {**body, "grants": []}, now=trust.issued_at)
    envelope = ask(here, "trust.get", here.state.secret("user"))["result"]
    assert dsse.from_wire(envelope, dsse.TRUST).body == newer.body()
    assert ask(there, "trust.get", there.state.secret("user"))["result"] == envelope
    again = ask(there, "trust.install", there.state.secret("admin"), trust=envelope)
    assert (again["error"]["code"], again["error"]["data"]["reason"]) == (
        -32009,
        "trust_version",
    )


def test_what_is_logged_holds_no_secret(servers):
    here, _ = servers
    admin = here.state.secret("admin")
    added = ask(here, "add_secret", admin, scope="admin")["result"]
    ask(here, "jobs.list", "wrong-secret-of-somebody")
    ask(here, "remove_secret", added["secret"], id=added["id"])
    logged = here.log.read_text()
    for secret in (admin, added["secret"], "wrong-secret-of-somebody"):
        assert secret not in logged
    assert added["id"] in logged


#: What no answer at all is taken for.
RETRYABLE = {"data": {"retryable": True}}


class Caller:
    """Somebody behind a load balancer: what one does not answer, the other is asked."""

    def __init__(self, deployment, *supervisors):
        self._deployment = deployment
        self._supervisors = list(supervisors)
        #: Ids that were answered: jobs that were accepted.
        self.accepted = []
        #: What `job.run` answered.
        self.results = []

    def work(self, is_over):
        while not is_over():
            job = self._deployment.envelope("print(1)")
            self.accepted.append(self._ask("create_job", job=job))
            job = self._deployment.envelope("print(2)")
            self.results.append(self._ask("job.run", job=job, wait=20))

    def _ask(self, method, **params):
        try:
            answer = self._supervisors[0].call(method, **params)
        except httpx.TransportError:
            answer = {}
        if "result" not in answer:
            # Whoever waits is sent away by one that ends in order.
            assert answer.get("error", RETRYABLE)["data"]["retryable"]
            # The same once more: whether it was accepted is not known.
            self._supervisors.reverse()
            answer = self._supervisors[0].call(method, **params)
        return answer["result"]


@pytest.fixture(scope="module")
def _runner(deployment):
    deployment.start_worker("-Q", "python", "-c2")


@pytest.mark.usefixtures("_runner")
@pytest.mark.parametrize("how", ["kill", "end"])
def test_every_job_ends_and_is_answered_though_one_of_two_ends_at_work(
    deployment, api_of, how
):
    ended, left = api_of(deployment), api_of(deployment)
    callers = [Caller(deployment, ended, left) for _ in range(4)]
    callers += [Caller(deployment, left, ended) for _ in range(2)]
    is_over = threading.Event()

    def answered():
        return [len(caller.results) for caller in callers]

    with ThreadPoolExecutor(len(callers)) as threads:
        working = [threads.submit(one.work, is_over.is_set) for one in callers]
        try:
            deployment.until(lambda: min(answered()) >= 2)
            getattr(ended, how)()
            before = answered()
            deployment.until(
                lambda: all(
                    now > then + 1 for now, then in zip(answered(), before, strict=True)
                )
            )
        finally:
            is_over.set()
        for one in working:
            one.result()
    assert all(
        result == {"success": "2\n"} for one in callers for result in one.results
    )
    for job_id in (job_id for one in callers for job_id in one.accepted):
        assert left.ask("job.result", job_id=job_id, wait=20) == {"success": "1\n"}
