"""What Prometheus is told, and what the log says of a call."""

import json
import re
from datetime import timedelta
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from api import readiness
from api.calls import write_down
from api.codes import Code
from api.metrics import MAX_LABEL, MAX_SERIES, RUNNER_STATUSES, Facts, Metrics
from api.pages import Insight
from api.readiness import Readiness
from api.site import Called
from horus_celery.api_secrets.book import SecretBook
from horus_celery.api_secrets.seal import Seal
from horus_celery.api_secrets.shelf import MemoryShelf
from horus_celery.dag.progress import StepStatus, WorkflowStatus
from horus_celery.errors import ConfigurationError, DamagedError, UnavailableError
from horus_celery.fleet import RunnerView
from horus_celery.lifecycle import Status
from horus_celery.mismatches import Mismatches, Place
from horus_celery.registry import Roster
from horus_celery.routing import all_queues
from horus_celery.store.base import BUCKETS, Histogram, Tally
from horus_celery.store.workflows import WorkflowTally
from horus_celery.supervisor import Info

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
#: In the order in which the tests name their values.
LABELS = ["by", "runner", "executor", "method", "status", "reason", "code", "kind"]
LABELS += ["queue", "version", "python", "what", "le"]
NOTHING = Tally(ended={}, waited={}, ran={}, swept={})
HOSTILE = ['quote" and \\', "two\nlines", "\ud800", "é", "", "x" * 10_000]


def histogram(**counts):
    """Make one of how many took at most as long as a bucket, by the bucket's place."""
    places = [counts.get(f"at_{place}", 0) for place in range(len(BUCKETS) + 1)]
    return Histogram(counts=tuple(places), total=timedelta(seconds=1.5))


def view(name="r1", status="running", executor="python"):
    return RunnerView(
        name=name,
        executor=executor,
        contexts=("billing",),
        concurrency=1,
        status=status,
        last_seen=None,
        queued=0,
        running=0,
        process_manager=None,
    )


NO_WORKFLOWS = WorkflowTally(started=0, ended={}, steps={}, noticed=Histogram.of([]))


class Told:
    """A deployment that says what it was told, and counts the questions."""

    def __init__(
        self,
        *,
        counts=(),
        queues=(),
        tally=NOTHING,
        workflows=NO_WORKFLOWS,
        runners=(),
    ):
        self._info = Info(
            name="supervisor",
            namespace="hero",
            version="1",
            uptime=timedelta(),
            counts={status: dict(counts).get(status, 0) for status in Status},
            queues=dict(queues),
        )
        self._tally = tally
        self._workflows = workflows
        self._runners = runners
        self.errors = {}
        self.asked = []
        self.mismatches = Mismatches()
        self.metrics = Metrics(
            Facts(
                info=self.info,
                tally=self.tally,
                workflows=self.workflows,
                runners=self.runners,
                mismatches=self.mismatches.counts,
            )
        )

    def tell_of(self, tally):
        self._tally = tally

    def info(self):
        return self._say("info", self._info)

    def tally(self):
        return self._say("tally", self._tally)

    def workflows(self):
        return self._say("workflows", self._workflows)

    def runners(self):
        return self._say("runners", self._runners)

    def _say(self, question, answer):
        self.asked.append(question)
        if question in self.errors:
            raise self.errors[question]
        return answer

    def observe(self, **facts):
        usual = {
            "method": "job.status",
            "secret_id": None,
            "job_id": None,
            "context_id": None,
            "code": None,
            "seconds": 0.02,
        }
        self.metrics.observe(Called(**{**usual, **facts}))

    def families(self):
        text = self.metrics.exposition().decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    def samples(self, name):
        """Return the values of all samples of a name, by the values of their labels."""
        return {
            tuple(sample.labels[label] for label in LABELS if label in sample.labels): (
                sample.value
            )
            for family in self.families().values()
            for sample in family.samples
            if sample.name == name
        }


@pytest.fixture
def tell():
    return Told


def test_what_no_runner_signed_is_shown_by_where_it_stands(tell):
    told = tell()
    assert told.samples("horus_receipt_mismatch_total") == {("record",): 0, ("log",): 0}
    told.mismatches.note("a" * 64, Place.LOG)
    told.errors["tally"] = UnavailableError("away")
    assert told.samples("horus_receipt_mismatch_total") == {("record",): 0, ("log",): 1}


# --- the deployment's numbers --------------------------------------------------------


def test_records_queues_and_runners_are_shown_as_they_are(tell):
    told = tell(
        counts={Status.QUEUED: 3, Status.COMPLETED: 7},
        queues={"python": 2, "python.at.r1": 1},
        runners=[view("r1"), view("r2"), view("r3", "lost")],
    )
    assert told.samples("horus_jobs") == {
        (status.value,): {"queued": 3, "completed": 7}.get(status.value, 0)
        for status in Status
    }
    lengths = {("python",): 2, ("python.at.r1",): 1}
    assert told.samples("horus_queue_length") == lengths
    assert told.samples("horus_runners") == {
        (status,): {"running": 2, "lost": 1}.get(status, 0)
        for status in RUNNER_STATUSES
    }
    up = told.samples("horus_runner_up")
    assert up == {("r1", "python"): 1, ("r2", "python"): 1, ("r3", "python"): 0}
    assert told.samples("horus_store_up") == {(): 1}
    assert [*told.samples("horus_build_info").values()] == [1]


def test_what_happened_so_far_is_shown_as_it_was_counted(tell):
    tally = Tally(
        ended={
            ("python", "completed", ""): 3,
            ("python", "failed", "exit_code"): 1,
            ("system", "rejected", "auth.key"): 2,
            ("python", "rejected", "auth.key"): 1,
        },
        waited={"python": histogram(at_0=1, at_2=3)},
        ran={"python": histogram(at_11=1)},
        swept={"due": 5, "expired": 0},
    )
    told = tell(tally=tally)
    assert told.samples("horus_jobs_ended_total") == dict(tally.ended)
    assert told.samples("horus_rejections_total") == {("runner", "auth.key"): 3}
    assert told.samples("horus_sweep_findings_total") == {("due",): 5, ("expired",): 0}
    assert told.samples("horus_job_wait_seconds_count") == {("python",): 4}
    assert told.samples("horus_job_wait_seconds_sum") == {("python",): 1.5}
    waited = told.samples("horus_job_wait_seconds_bucket")
    assert [waited["python", bound] for bound in ("0.01", "0.05", "0.1")] == [1, 1, 4]
    ran = told.samples("horus_job_run_seconds_bucket")
    assert (ran["python", "7200.0"], ran["python", "+Inf"]) == (0, 1)


def test_no_context_is_named(tell):
    told = tell(
        queues={
            "python.ctx.billing": 2,
            "python.ctx.a.at.b": 3,
            "python.ctx.x.ctx.y": 1,
        },
        runners=[view()],
    )
    assert told.samples("horus_queue_length") == {("python.ctx",): 6}
    assert b"billing" not in told.metrics.exposition()


def test_what_stands_in_redis_cannot_break_the_page(tell):
    ended = dict.fromkeys(product(HOSTILE, HOSTILE, HOSTILE), 1)
    told = tell(
        tally=Tally(
            ended=ended,
            waited={text: histogram(at_0=1) for text in HOSTILE},
            ran={},
            swept=dict.fromkeys(HOSTILE, 1),
        ),
        queues=dict.fromkeys(HOSTILE, 1),
        runners=[view(text, text) for text in HOSTILE],
    )
    shown = {one.encode("utf-8", "replace").decode()[:MAX_LABEL] for one in HOSTILE}
    assert {labels[0] for labels in told.samples("horus_queue_length")} == shown
    assert sum(told.samples("horus_jobs_ended_total").values()) == len(ended)


def test_any_number_of_names_makes_a_bounded_number_of_series(tell):
    names = [f"executor{number}" for number in range(1000)]
    ended = {(name, "completed", ""): 1 for name in names} | {("big", "failed", "x"): 9}
    tally = Tally(
        ended=ended,
        waited={name: histogram(at_0=1) for name in names},
        ran={},
        swept=dict.fromkeys(names, 1),
    )
    told = tell(tally=tally, queues=dict.fromkeys(names, 1))
    shown = told.samples("horus_jobs_ended_total")
    assert len(shown) == MAX_SERIES
    assert shown["big", "failed", "x"] == 9
    assert shown["other", "other", "other"] == len(ended) - MAX_SERIES + 1
    for name in ("horus_sweep_findings_total", "horus_queue_length"):
        assert len(told.samples(name)) == MAX_SERIES
        assert sum(told.samples(name).values()) == len(names)
    waited = told.samples("horus_job_wait_seconds_count")
    assert (len(waited), sum(waited.values())) == (MAX_SERIES, len(names))


def test_no_counter_goes_back_whichever_of_many_series_grows(tell):
    numbers = {f"executor{number:03}": number for number in range(1, 150)}

    def counted():
        return Tally(
            ended={(name, "completed", ""): n for name, n in numbers.items()},
            waited={name: histogram(at_0=n) for name, n in numbers.items()},
            ran={},
            swept=numbers,
        )

    told = tell(tally=counted())
    names = (
        "horus_jobs_ended_total",
        "horus_job_wait_seconds_count",
        "horus_sweep_findings_total",
    )
    before = {name: told.samples(name) for name in names}
    numbers |= {"executor001": 1000, "executor002": 1000, "new": 2000}
    told.tell_of(counted())
    for name in names:
        after = told.samples(name)
        assert len(after) == MAX_SERIES
        assert all(after[labels] >= number for labels, number in before[name].items())
        assert sum(after.values()) == sum(numbers.values())


# --- the calls of this process -------------------------------------------------------


def test_calls_are_measured_by_method(tell):
    told = tell()
    told.observe(method="job.status")
    told.observe(method="job.status", code=Code.NOT_FOUND.value)
    told.observe(method="jobs.list", seconds=20.0)
    counts = told.samples("horus_api_request_seconds_count")
    assert counts == {("job.status",): 2, ("jobs.list",): 1}
    buckets = told.samples("horus_api_request_seconds_bucket")
    assert (buckets["job.status", "0.01"], buckets["job.status", "0.025"]) == (0, 2)
    errors = told.samples("horus_api_errors_total")
    assert errors == {("job.status", "-32004"): 1}


def test_methods_that_do_not_exist_are_one(tell, make_client, world):
    told = tell()
    client = make_client(world, observe=told.metrics.observe)
    for number in range(100):
        client.error(f"hostile\n{number}")
    client.post("no call")
    assert told.samples("horus_api_request_seconds_count") == {("other",): 101}
    errors = {("other", "-32601"): 100, ("other", "-32600"): 1}
    assert told.samples("horus_api_errors_total") == errors


def test_jobs_that_are_refused_at_once_are_rejections(tell):
    told = tell()
    refused = {"code": Code.NOT_COVERED.value, "reason": "auth.key"}
    told.observe(method="create_job", **refused)
    told.observe(method="job.run", **refused)
    told.observe(method="register_runner", **refused)
    told.observe(method="create_job", code=Code.UNAUTHENTICATED.value)
    rejected = told.samples("horus_rejections_total")
    assert rejected == {("supervisor", "auth.key"): 2}


def test_nothing_says_when_a_series_began(tell):
    told = tell()
    told.observe(code=Code.NOT_FOUND.value)
    assert b"_created" not in told.metrics.exposition()


# --- what is not there ---------------------------------------------------------------


def test_without_redis_the_process_still_speaks_for_itself(tell):
    told = tell(counts={Status.QUEUED: 3})
    told.errors = {"info": UnavailableError("gone")}
    told.observe(method="create_job", code=Code.TIME.value, reason="time.expired")
    assert told.samples("horus_store_up") == {(): 0}
    assert told.samples("horus_jobs") == {}
    assert told.samples("horus_api_request_seconds_count") == {("create_job",): 1}
    rejected = told.samples("horus_rejections_total")
    assert rejected == {("supervisor", "time.expired"): 1}


def test_without_redis_nothing_more_is_asked(tell):
    told = tell()
    told.errors = {"info": UnavailableError("gone")}
    told.metrics.exposition()
    assert told.asked == ["info"]


@pytest.mark.parametrize("error", [DamagedError("x"), ConfigurationError("x")])
def test_what_cannot_be_read_hides_nothing_else(tell, error):
    told = tell(runners=[view()])
    told.errors = {"info": error}
    assert told.samples("horus_jobs") == {}
    assert told.samples("horus_store_up") == {(): 1}
    assert told.samples("horus_runner_up") == {("r1", "python"): 1}


def test_a_silent_process_manager_is_not_a_silent_redis(tell):
    told = tell()
    told.errors = {"runners": UnavailableError("supervisord")}
    assert told.samples("horus_store_up") == {(): 1}


def test_workflows_and_their_steps_are_counted(tell):
    noticed = Histogram.of([timedelta(milliseconds=4), timedelta(seconds=2)])
    told = tell(
        workflows=WorkflowTally(
            started=3,
            ended={WorkflowStatus.COMPLETED: 1, WorkflowStatus.STOPPED: 1},
            steps={StepStatus.COMPLETED: 5, StepStatus.SKIPPED: 2},
            noticed=noticed,
        )
    )
    assert told.samples("horus_workflows_started_total") == {(): 3}
    assert told.samples("horus_workflows_ended_total") == {
        ("completed",): 1,
        ("stopped",): 1,
    }
    assert told.samples("horus_workflow_steps_total") == {
        ("completed",): 5,
        ("skipped",): 2,
    }
    assert told.samples("horus_step_notice_seconds_count") == {(): 2}
    assert told.samples("horus_step_notice_seconds_sum") == {(): 2.004}


# --- the document --------------------------------------------------------------------


def test_the_document_lists_every_metric_with_its_labels(tell):
    one = {"python": histogram(at_0=1)}
    tally = Tally(
        ended={("python", "rejected", "x"): 1}, waited=one, ran=one, swept={"due": 1}
    )
    workflows = WorkflowTally(
        started=1,
        ended={WorkflowStatus.COMPLETED: 1},
        steps={StepStatus.COMPLETED: 1},
        noticed=histogram(at_0=1),
    )
    told = tell(
        tally=tally, workflows=workflows, queues={"python": 1}, runners=[view()]
    )
    told.observe(code=Code.NOT_FOUND.value)
    suffixes = ("_count", "_sum")
    shown = {
        (sample.name.removesuffix("_bucket"), *(sample.labels.keys() - {"le"}))
        for family in told.families().values()
        for sample in family.samples
        if not sample.name.endswith(suffixes)
    }
    rows = re.findall(
        r"^\| `(horus_\w+)(?:\{([\w,]+)\})?` \|", OPERATIONS.read_text(), re.MULTILINE
    )
    listed = {(name, *filter(None, labels.split(","))) for name, labels in rows}
    assert {(name, frozenset(labels)) for name, *labels in listed} == {
        (name, frozenset(labels)) for name, *labels in shown
    }


# --- a line for each call ------------------------------------------------------------


def called(**facts):
    usual = {
        "method": "job.status",
        "secret_id": "sec_0123456789abcdef",
        "job_id": "6f8c1c0e-7a57-4a57-8a3c-0d6ad1f9d1f0",
        "context_id": "billing",
        "code": None,
        "seconds": 0.0123456,
    }
    with structlog.testing.capture_logs() as lines:
        write_down(Called(**{**usual, **facts}))
    [line] = lines
    return line


def test_a_call_is_one_line():
    assert called() == {
        "event": "api call",
        "log_level": "info",
        "method": "job.status",
        "secret": "sec_0123456789abcdef",
        "job_id": "6f8c1c0e-7a57-4a57-8a3c-0d6ad1f9d1f0",
        "context_id": "billing",
        "code": None,
        "reason": None,
        "ms": 12.346,
    }


def test_the_document_shows_such_a_line():
    [shown] = re.findall(r"```json\n(.*)\n```", OPERATIONS.read_text())
    fields = [name for name in called() if name not in {"event", "log_level"}]
    assert list(json.loads(shown)) == ["at", "level", "event", *fields]


@pytest.mark.parametrize("code", Code)
def test_what_went_wrong_here_is_an_error(code):
    is_fault = code in {Code.INTERNAL, Code.UNAVAILABLE}
    assert called(code=code.value)["log_level"] == ("error" if is_fault else "info")


def test_what_is_no_method_and_no_job_is_not_written():
    line = called(method="", job_id="a secret by mistake")
    assert (line["method"], line["job_id"]) == ("other", None)


# --- the pages -----------------------------------------------------------------------


@pytest.fixture
def show(tell, world, make_client):
    """Serve the pages to a caller on this machine, or on another."""

    def serve(*, is_local=True):
        ready = Readiness(
            store=world.store,
            dispatcher=world.dispatcher,
            roster=Roster(world.registry, world.trust, world.clock),
            trust=world.trust,
            secrets=world.book,
            clock=world.clock,
        )
        insight = Insight(
            readiness=ready, metrics=tell().metrics, is_local=lambda _: is_local
        )
        return make_client(world, insight=insight).http

    return serve


def test_the_metrics_are_text_for_prometheus(show):
    response = show().get("/metrics")
    assert response.status_code == 200
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("scope", ["user", "admin"])
def test_from_another_machine_a_secret_shows_the_metrics(show, secrets, scope):
    headers = {"Authorization": f"Bearer {secrets[scope][0]}"}
    response = show(is_local=False).get("/metrics", headers=headers)
    assert response.status_code == 200


def authorizations(secrets):
    yield {}
    yield {"Authorization": "Bearer wrong-secret-0123456789"}
    yield {"Authorization": f"Bearer {secrets['register'][0]}"}
    yield {"Authorization": f"Basic {secrets['user'][0]}"}


def test_from_another_machine_nobody_else_sees_them(show, secrets, world):
    page = show(is_local=False)
    bound = {"Authorization": f"Bearer {world.bound_secret('billing')}"}
    for headers in (bound, *authorizations(secrets)):
        response = page.get("/metrics", headers=headers)
        assert (response.status_code, response.mimetype) == (401, "text/plain")
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert "horus_" not in response.get_data(as_text=True)


def test_secrets_are_guessed_at_the_metrics_as_slowly_as_elsewhere(show, secrets):
    page = show(is_local=False)
    for number in range(11):
        headers = {"Authorization": f"Bearer wrong-secret-{number:010}"}
        page.get("/metrics", headers=headers)
    call = {"jsonrpc": "2.0", "method": "jobs.list", "id": 1}
    answer = page.post("/", json=call, headers=headers).get_json()
    assert answer["error"]["code"] == Code.TOO_MANY


def missing(response):
    body = response.get_json()
    assert (response.status_code, body["status"]) == (503, "not ready")
    return body["missing"].keys()


def test_a_deployment_with_a_runner_is_ready(show, world):
    world.beat()
    response = show().get("/readyz")
    assert (response.status_code, response.get_json()) == (200, {"status": "ready"})


def test_without_a_runner_that_is_alive_it_is_not(show, world):
    assert missing(show().get("/readyz")) == {"runners"}
    world.beat(at=world.clock.at - timedelta(minutes=1))
    assert missing(show().get("/readyz")) == {"runners"}


def test_without_redis_it_is_not(show, world):
    def fail(*_, **__):
        raise UnavailableError("gone")

    world.beat()
    world.store.counts = fail
    assert missing(show().get("/readyz")) == {"redis"}


def test_with_a_redis_that_can_only_be_read_it_is_not(show, world):
    def fail():
        raise UnavailableError("Redis does not serve: it is read-only; try again")

    world.beat()
    world.store.require_writable = fail
    response = show().get("/readyz")
    assert missing(response) == {"redis"}
    why = response.get_json()["missing"]["redis"]
    assert why == "Redis takes nothing new: it is read-only"


def test_with_a_damaged_redis_it_is_not(show, world):
    def fail(*_, **__):
        raise DamagedError("the key hero:x")

    world.store.counts = fail
    response = show().get("/readyz")
    assert missing(response) == {"redis"}
    assert "hero:x" not in response.get_data(as_text=True)


def test_without_a_bundle_to_believe_it_is_not(show, world):
    world.trust.error = ConfigurationError("/a/path cannot be read")
    response = show().get("/readyz")
    assert missing(response) == {"trust"}
    assert "/a/path" not in response.get_data(as_text=True)


class Shelf(MemoryShelf):
    """One that answers until it is away."""

    is_away = False

    def read(self):
        if self.is_away:
            raise UnavailableError("no rights for the key hero:secrets")
        return super().read()


def test_as_long_as_no_list_of_secrets_could_be_read_it_is_not(show, world):
    shelf = Shelf()
    shelf.is_away = True
    world.book = SecretBook([], shelf, Seal(bytes(32), "hero"))
    world.beat()
    response = show().get("/readyz")
    assert missing(response) == {"secrets"}
    assert "hero:secrets" not in response.get_data(as_text=True)


def test_with_the_last_list_of_secrets_it_is(show, world):
    shelf, seconds = Shelf(), [0.0]
    seal = Seal(bytes(32), "hero")
    world.book = SecretBook([], shelf, seal, now=lambda: seconds[0])
    world.book.read()
    shelf.is_away = True
    seconds[0] += 60
    world.beat()
    assert show().get("/readyz").status_code == 200


def test_with_an_expired_bundle_it_is_not(show, world):
    world.clock.at += timedelta(days=91)
    world.beat()
    assert missing(show().get("/readyz")) == {"trust"}


def test_every_part_that_is_missing_is_named(show, world):
    def fail(*_, **__):
        raise UnavailableError("gone")

    world.store.counts = fail
    world.trust.error = ConfigurationError("x")
    assert missing(show().get("/readyz")) == {"redis", "trust"}


@pytest.fixture
def looked_at(world, monkeypatch):
    """The queues of each look; a test may have the dispatcher raise something."""
    looks = []
    answers = world.dispatcher.queue_lengths

    def look(queues):
        looks.append(list(queues))
        if looked.error is not None:
            raise looked.error
        return answers(queues)

    looked = SimpleNamespace(looks=looks, error=None)
    monkeypatch.setattr(world.dispatcher, "queue_lengths", look)
    return looked


def test_with_something_else_in_a_queues_place_it_is_not(show, world, looked_at):
    looked_at.error = DamagedError("the key python.ctx.billing: `DEL` it")
    world.beat()
    with structlog.testing.capture_logs() as lines:
        response = show().get("/readyz")
    assert missing(response) == {"queues"}
    assert "remove the key" in response.get_json()["missing"]["queues"]
    assert "billing" not in response.get_data(as_text=True)
    (line,) = lines
    assert (line["log_level"], line["detail"]) == ("error", looked_at.error.detail)


def test_what_is_wrong_with_a_queue_is_logged_once(show, world, looked_at, monkeypatch):
    monkeypatch.setattr(readiness, "LIFETIME", timedelta(0))
    looked_at.error = DamagedError("the key python")
    world.beat()
    page = show()
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            page.get("/readyz")
        looked_at.error = None
        assert page.get("/readyz").status_code == 200
        looked_at.error = DamagedError("the key python")
        page.get("/readyz")
    assert [line["detail"] for line in lines] == ["the key python"] * 2


def test_without_redis_nobody_knows_whether_queues_can_be_used(show, world, looked_at):
    looked_at.error = UnavailableError("gone")
    world.beat()
    assert missing(show().get("/readyz")) == {"queues"}


def test_the_queues_that_live_runners_serve_are_looked_at(show, world, looked_at):
    world.beat(executors=("python",))
    show().get("/readyz")
    (queues,) = looked_at.looks
    assert set(queues) == set(all_queues(["python"], world.trust.current()))
    assert queues[0] == "python"


def test_of_very_many_queues_only_some_are_looked_at(
    show, world, looked_at, monkeypatch
):
    monkeypatch.setattr(readiness, "MAX_QUEUES", 1)
    world.beat()
    show().get("/readyz")
    assert looked_at.looks == [["python"]]


def test_whoever_asks_often_gets_the_same_answer(show, world):
    page = show()
    assert page.get("/readyz").status_code == 503
    world.beat()
    assert page.get("/readyz").status_code == 503


def front(http, **headers):
    return http.get("/", headers=headers).get_data(as_text=True)


def test_the_page_for_a_person_is_the_dashboard(show, world):
    world.beat()
    world.claim(world.submit())
    page = front(show())
    assert "<p>Ready.</p>" in page
    assert "<td>r1</td><td>python</td><td>running</td>" in page
    assert "<td>running</td><td>1</td>" in page
    assert "billing" not in page


def test_the_dashboard_says_what_is_missing(show, world):
    assert "Not ready: no runner is alive." in front(show())
    world.trust.error = ConfigurationError("no bundle")
    page = front(show())
    assert "the trust bundle cannot be read" in page
    assert "<table" not in page


def test_from_another_machine_the_dashboard_is_shown_for_a_secret(show, secrets, world):
    page = show(is_local=False)
    bound = {"Authorization": f"Bearer {world.bound_secret('billing')}"}
    for headers in (bound, *authorizations(secrets)):
        assert "<h2>Dashboard</h2>" not in front(page, **headers)
        assert "get_supervisor_info" in front(page, **headers)
    user = {"Authorization": f"Bearer {secrets['user'][0]}"}
    assert "<h2>Dashboard</h2>" in front(page, **user)
