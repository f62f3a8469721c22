"""What Prometheus, probes and the log are told of what really ran."""

import json
import time
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import pytest
from prometheus_client.parser import text_string_to_metric_families

from horus_celery.statements import dsse
from horus_celery.statements.job import make_job
from horus_celery.statements.keys import KeyPair
from horus_celery.store.connection import damaged
from horus_celery.store.keys import queue

pytestmark = pytest.mark.integration

#: What an answer may take while Redis is silent, in seconds; some for a busy machine.
IN_TIME = 2.5
UNUSABLE = "queue cannot be used"
MARK = "planted-0123456789abcdef"


class Scrape:
    """One look at the metrics."""

    def __init__(self, api, **headers):
        begun = time.monotonic()
        response = api.http.get(f"{api.url}/metrics", headers=headers)
        self.took = time.monotonic() - begun
        assert response.status_code == 200, response.text + api.log()
        self.samples = [
            sample
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
        ]

    def of(self, name, **labels):
        """Return the sum of all samples of a name that have these labels."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def names(self):
        return {sample.name for sample in self.samples}


def ready(api):
    begun = time.monotonic()
    response = api.http.get(f"{api.url}/readyz")
    assert time.monotonic() - begun < IN_TIME
    return response.status_code, response.json().get("missing", {}).keys()


def by_a_stranger(deployment):
    """Return a job that nobody known has signed."""
    job = make_job(
        aud=deployment.namespace,
        caller_id="default",
        context_id="default",
        executor="python",
        payload=MARK,
        now=datetime.now(UTC),
    )
    return dsse.to_wire(dsse.sign(dsse.JOB, job.body(), [KeyPair.generate()]))


def events(log):
    """Return what the log says in JSON; each line of ours is."""
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


# --- with a runner -------------------------------------------------------------------


def test_the_metrics_agree_with_what_was_run(deployment, api_of):
    deployment.start_worker("-c", "1", "-n", "python_runner_1@%h")
    api = api_of(deployment)
    before = Scrape(api)
    for _ in range(3):
        assert "success" in api.run("pass")
    assert "error" in api.run("raise SystemExit(3)")
    needs = ("0" * 64,)
    assert "error" in api.run("pass", needs=needs)
    stranger = api.call("create_job", job=by_a_stranger(deployment))
    assert stranger["error"]["code"] == -32011
    after = Scrape(api)

    def grown(name, **labels):
        return after.of(name, **labels) - before.of(name, **labels)

    ended = "horus_jobs_ended_total"
    assert grown(ended, executor="python") == 5
    assert grown(ended, status="completed", reason="") == 3
    assert grown(ended, status="failed", reason="exit_code") == 1
    assert grown(ended, status="rejected", reason="input.missing") == 1
    assert grown("horus_rejections_total", by="runner", code="input.missing") == 1
    assert grown("horus_rejections_total", by="supervisor", code="sig.none") == 1
    # Who was refused at once was never claimed.
    assert grown("horus_job_wait_seconds_count", executor="python") == 4
    assert grown("horus_job_run_seconds_count", executor="python") == 4
    assert grown("horus_job_run_seconds_bucket", le="+Inf") == 4
    assert 0 < grown("horus_job_run_seconds_sum") < 4 * IN_TIME
    assert after.of("horus_jobs") - before.of("horus_jobs") == 5
    assert after.of("horus_jobs", status="completed") == 3
    assert grown("horus_api_request_seconds_count", method="job.run") == 5
    assert grown("horus_api_errors_total", method="create_job", code="-32011") == 1
    assert after.of("horus_runners", status="running") == 1
    assert after.of("horus_runner_up", runner="python_runner_1") == 1
    assert after.of("horus_queue_length") == 0
    assert after.of("horus_store_up") == 1
    assert ready(api) == (200, set())


def test_no_secret_and_nothing_of_a_job_is_in_a_log(private_deployment, api_of):
    deployment = private_deployment
    worker = deployment.start_worker("-n", "python_runner_1@%h", "-l", "debug")
    api = api_of(deployment)
    payload = f"import sys; print({MARK!r}); print({MARK!r}, file=sys.stderr); exit(3)"
    api.run(payload, args=(MARK,), env_vars={"MARK": MARK})
    api.call("create_job", job=by_a_stranger(deployment))
    api.call("create_job", job=MARK)
    api.call(MARK)
    api.call("job.status", job_id=MARK)
    api.call("jobs.list", **{MARK: MARK})
    headers = {"Authorization": f"Bearer {MARK}"}
    api.http.post(api.url, content=f'{{"{MARK}', headers=headers)
    api.http.get(f"{api.url}/{MARK}?{MARK}", headers=headers)
    Scrape(api, **headers)
    added = api.call("add_secret", scope="admin")
    secrets = [
        deployment.state.secret(scope) for scope in ("admin", "user", "register")
    ]
    secrets += [added["result"]["secret"]] if "result" in added else []
    deployment.end(worker)
    logs = api.log(), deployment.log_of(worker)
    for planted in (MARK, *secrets):
        assert not any(planted in log for log in logs)
    assert all(events(log) for log in logs)


def test_each_call_is_a_line_of_the_log(private_deployment, api_of):
    api = api_of(private_deployment)
    job = api.envelope("pass")
    job_id = api.ask("create_job", job=job)
    api.call("job.status", job_id=job_id)
    api.call("job.status", job_id="6f8c1c0e-7a57-4a57-8a3c-0d6ad1f9d1f0")
    calls = [one for one in events(api.log()) if one["event"] == "api call"]
    seen = [(one["method"], one["code"], one["context_id"]) for one in calls]
    assert seen == [
        ("create_job", None, "default"),
        ("job.status", None, "default"),
        ("job.status", -32004, None),
    ]
    assert [one["job_id"] for one in calls[:2]] == [job_id, job_id]
    assert {one["level"] for one in calls} == {"info"}
    assert all(one["secret"].startswith("sec_") and one["ms"] > 0 for one in calls)


def test_every_line_of_a_runner_is_json(private_deployment):
    deployment = private_deployment
    worker = deployment.start_worker("-n", "python_runner_1@%h", "-l", "info")
    deployment.run("pass", needs=("0" * 64,))
    deployment.end(worker)
    said = events(deployment.log_of(worker))
    refused = [one for one in said if one["event"] == "job refused"]
    assert [one["reason"] for one in refused] == ["input.missing"]
    assert any(one["event"].endswith(" ready.") for one in said)
    stamped = [one for one in deployment.log_of(worker).splitlines() if "/Main" in one]
    assert stamped == []


# --- with nobody ---------------------------------------------------------------------


def test_without_a_runner_jobs_wait_and_nothing_is_ready(private_deployment, api_of):
    api = api_of(private_deployment)
    api.ask("create_job", job=api.envelope("pass"))
    api.ask("create_job", job=api.envelope("pass", runner="nobody"))
    seen = Scrape(api)
    assert seen.of("horus_queue_length", queue="python") == 1
    assert seen.of("horus_queue_length", queue="python.at.nobody") == 1
    assert seen.of("horus_jobs", status="queued") == 2
    assert seen.of("horus_runners", status="running") == 0
    assert ready(api) == (503, {"runners"})


@pytest.mark.parametrize("how", ["pause", "kill"])
def test_a_silent_redis_is_told_in_time(private_deployment, private_redis, api_of, how):
    api = api_of(private_deployment)
    api.call("jobs.list")
    getattr(private_redis, how)()
    try:
        seen = Scrape(api)
        private_deployment.until(lambda: ready(api) == (503, {"redis"}))
    finally:
        private_redis.resume()
    assert seen.took < IN_TIME
    assert seen.of("horus_store_up") == 0
    assert seen.of("horus_api_request_seconds_count", method="jobs.list") == 1
    assert "horus_jobs" not in seen.names()
    if how == "kill":
        private_redis.start()
    private_deployment.until(lambda: Scrape(api).of("horus_store_up") == 1)
    private_deployment.until(lambda: ready(api) == (503, {"runners"}))


def test_what_stands_in_the_place_of_a_queue_is_named(private_deployment, api_of):
    api = api_of(private_deployment)
    private_deployment.start_worker("-Q", "python", "-c", "1")
    private_deployment.until(lambda: ready(api)[0] == HTTPStatus.OK)
    redis = private_deployment.redis
    for key in ("python", queue("python.at.python_runner_1", 9)):
        redis.set(key, "something else")
        private_deployment.until(lambda: ready(api) == (503, {"queues"}))
        said = [one for one in events(api.log()) if one["event"] == UNUSABLE]
        assert said[-1]["detail"] == damaged(key).detail
        redis.delete(key)
        private_deployment.until(lambda: ready(api)[0] == HTTPStatus.OK)


def test_a_bundle_that_is_not_to_be_believed_is_named(private_deployment, api_of):
    api = api_of(private_deployment)
    private_deployment.state.trust_file.write_text("{}")
    private_deployment.until(lambda: ready(api) == (503, {"trust"}))
    assert str(private_deployment.folder) not in api.http.get(f"{api.url}/readyz").text


def test_a_bundle_that_has_expired_is_named(private_deployment, api_of):
    long_ago = datetime.now(UTC) - timedelta(days=400)
    private_deployment.state.reissue(lambda body: body, now=long_ago)
    api = api_of(private_deployment)
    private_deployment.until(lambda: ready(api) == (503, {"trust"}))


# --- who may look --------------------------------------------------------------------


def test_whoever_comes_through_a_proxy_needs_a_secret(private_deployment, api_of):
    api = api_of(private_deployment)
    passed_on = {"X-Forwarded-For": "192.0.2.1"}
    response = api.http.get(f"{api.url}/metrics", headers=passed_on)
    assert response.status_code == 401
    user = {"Authorization": f"Bearer {private_deployment.state.secret('user')}"}
    assert Scrape(api, **passed_on, **user).of("horus_store_up") == 1


def test_no_context_caller_or_job_is_named(private_deployment, api_of):
    api = api_of(private_deployment)
    job_id = api.ask("create_job", job=api.envelope("pass"))
    text = api.http.get(f"{api.url}/metrics").text
    assert job_id not in text
    assert '"default"' not in text
