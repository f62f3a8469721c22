"""A HeroScript signs jobs by a key that the node keeps, and submits them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from api import create_app
from horus_celery.client import Horus
from horus_celery.lifecycle import Event
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import Job
from horus_celery.statements.keys import KeyPair
from workers.actors.actor import Cast
from workers.actors.jobs import job_actors
from workers.actors.stage import check, perform
from workers.heroscript.errors import ActionError, ParameterError
from workers.heroscript.reading import parse

WHERE = "url:'http://localhost' caller:alice context:billing"


class Runs(httpx.BaseTransport):
    """Calls the supervisor, and is the runner that at once ends what it let in."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._inner = httpx.WSGITransport(app=create_app(world.services))
        self.end: dict[str, Any] = {"result": "5\n"}
        self.jobs: list[Job] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        call = json.loads(request.content)
        response = self._inner.handle_request(request)
        answer = json.loads(response.read())
        if call["method"] == "create_job" and "result" in answer:
            envelope = dsse.from_wire(call["params"]["job"], dsse.JOB)
            record = self._world.store.get(envelope.digest)
            self.jobs.append(Job.from_wire(canonical.parse(envelope.body)))
            self._world.settle(self._world.claim(record), **self.end)
        return httpx.Response(200, json=answer)


@pytest.fixture
def runs(world, secrets):
    return Runs(world)


@pytest.fixture
def play(world, secrets, runs, tmp_path):
    """Run a script whose job was given two secrets."""
    (tmp_path / "key").write_text(f"{world.caller.seed.hex()}\n")
    (tmp_path / "api").write_text(secrets["user"][0])
    (tmp_path / "short").write_text("abcd")
    (tmp_path / "binary").write_bytes(b"\xff" * 8)

    def client(url: str, secret: str, seed: bytes, **options: Any) -> Horus:
        key = KeyPair.from_seed(seed)
        return Horus(url, secret, key=key, clock=world.clock, transport=runs, **options)

    def run(text: str, folder: Any = tmp_path) -> str:
        cast = Cast.of(job_actors(lambda: folder, client))
        actions = parse(text)
        check(actions, cast)
        return perform(actions, cast, {})

    return run


def test_a_script_gets_the_result_of_a_job_that_the_key_of_a_secret_signed(
    world, play, runs
):
    root = world.root.public.hex()
    result = play(
        f"!!job.create key:key secret:api {WHERE} root:{root} args:a,b timeout:30\n"
        "  payload:'\n    import sys\n    print(sys.argv[1:])\n    '\n"
    )
    assert result == "5\n"
    (job,) = runs.jobs
    assert (job.caller_id, job.context_id, job.executor) == (
        "alice",
        "billing",
        "python",
    )
    assert (job.args, job.timeout.total_seconds()) == (("a", "b"), 30)
    assert job.payload == "import sys\nprint(sys.argv[1:])"


def test_a_script_that_does_not_wait_gets_the_id(play, runs):
    told = play(f"!!job.create key:key secret:api {WHERE} payload:x wait:false")
    assert told == runs.jobs[0].id


def test_a_job_that_does_not_complete_fails_the_action(play, runs):
    runs.end = {"event": Event.FAILED, "reason": "exit_code", "exit_code": 3}
    with pytest.raises(ActionError, match=r"job.create: .*exit_code.* \(line 1\)"):
        play(f"!!job.create key:key secret:api {WHERE} payload:x")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("key:none secret:api", "the job has no secret 'none': sign the job with it"),
        ("key:key secret:'../api'", "the job has no secret '../api'"),
        ("key:key secret:'.'", "the job has no secret '.'"),
        ("key:short secret:api", "the secret short is no key: 64 hex digits"),
        ("key:api secret:api", "the secret api is no key: 64 hex digits"),
        ("key:binary secret:api", "the secret binary cannot be read"),
        ("key:key secret:key", "needs a secret"),
    ],
)
def test_a_secret_that_does_not_serve_is_named(play, given, said):
    with pytest.raises(ActionError) as refused:
        play(f"!!job.create {given} {WHERE} payload:x")
    assert said in str(refused.value)


def test_a_job_without_secrets_signs_nothing(play):
    with pytest.raises(ActionError, match="the job has no secret 'key'"):
        play(f"!!job.create key:key secret:api {WHERE} payload:x", None)


def test_a_root_key_that_is_none_is_refused_before_anything(play, runs):
    with pytest.raises(
        ParameterError, match=r"root of job\.create must be a public key"
    ):
        play(f"!!job.create key:key secret:api {WHERE} payload:x root:zz")
    assert runs.jobs == []


def test_the_client_of_horus_is_what_calls_the_supervisor(tmp_path):
    (tmp_path / "key").write_text("00" * 32)
    (tmp_path / "api").write_text("a-secret-0123456789")
    actions = parse(
        "!!job.create key:key secret:api url:'http://127.0.0.1:9' payload:x"
    )
    with pytest.raises(ActionError, match=r"no supervisor answers at .*:9"):
        perform(actions, Cast.of(job_actors(lambda: tmp_path)), {})
