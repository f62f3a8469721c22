"""Who waits for a job is told why it waits, and bears that the supervisor restarts."""

from __future__ import annotations

from datetime import timedelta
from typing import cast

import httpx
import pytest

from api import create_app
from horus_celery.cli.run import Reasons
from horus_celery.client import Horus
from horus_celery.client.quiet import LONGEST, QUIET, Quiet
from horus_celery.errors import UnavailableError
from horus_celery.lifecycle import Status


class Time:
    """Goes on as somebody says."""

    def __init__(self):
        self.at = 100.0

    def __call__(self):
        return self.at


class Road(httpx.BaseTransport):
    """The way to a supervisor, which is cut now and then."""

    def __init__(self, app):
        self._inner = httpx.WSGITransport(app=app)
        #: How many requests are lost from now on.
        self.lost = 0

    def handle_request(self, request):
        if self.lost:
            self.lost -= 1
            raise httpx.ConnectError("refused", request=request)
        return self._inner.handle_request(request)


@pytest.fixture(autouse=True)
def _no_time(monkeypatch):
    monkeypatch.setattr("horus_celery.client.absence.RETRY", timedelta(0))


@pytest.fixture
def road(world):
    return Road(create_app(world.services))


@pytest.fixture
def horus(make_horus, world, road):
    with make_horus(world, road) as client:
        yield client


@pytest.fixture
def finished(world, horus):
    submitted = horus.submit("print(5)")
    world.settle(world.claim(world.store.get(submitted.digest)))
    return submitted


# --- in silence --------------------------------------------------------------------


def test_it_is_asked_again_ever_more_seldom():
    time, asked = Time(), []
    quiet = Quiet(lambda: asked.append(time.at - 100), now=time)
    for _ in range(400):
        quiet.pass_on()
        time.at += 1
    assert asked == [2, 6, 14, 30, 62, 122, 182, 242, 302, 362]
    assert QUIET.total_seconds() == asked[0]
    assert LONGEST.total_seconds() == asked[-1] - asked[-2]


def test_what_is_heard_has_it_begin_again():
    time, asked = Time(), []
    quiet = Quiet(lambda: asked.append(time.at - 100), now=time)
    for now in range(20):
        quiet.pass_on()
        if now == 8:
            quiet.heard()
        time.at += 1
    assert asked == [2, 6, 10, 14]


def test_one_waits_no_longer_than_until_it_is_time_to_ask():
    time = Time()
    quiet = Quiet(lambda: None, now=time)
    assert quiet.wait() == 2
    time.at += 1.5
    assert quiet.wait() == 0.5
    time.at += 10
    assert quiet.wait() == 0
    assert Quiet(None, now=time).wait() == 25


class Why:
    """A supervisor's answers, one after the other."""

    def __init__(self, *answers):
        self._answers = iter(answers)

    def why(self, _):
        status, detail = next(self._answers)
        return {"status": status, "detail": detail}


def test_a_reason_is_said_when_it_is_news(capfd):
    answers = [
        ("queued", "no live runner"),
        ("queued", "no live runner"),
        ("queued", "1 job waits before it"),
        ("running", "attempt 1 runs on r1"),
        ("running", "attempt 1 runs on r1"),
        ("queued", "no live runner\x1b[2J"),
    ]
    reasons = Reasons(cast("Horus", Why(*answers)), "1")
    for _ in answers:
        reasons.tell()
    assert capfd.readouterr().err.splitlines() == [
        "waiting: no live runner",
        "waiting: 1 job waits before it",
        "running: attempt 1 runs on r1",
        "waiting: no live runner[2J",
    ]


def test_of_a_job_that_never_waited_for_long_nothing_is_said(capfd):
    reasons = Reasons(cast("Horus", Why(("running", "attempt 1 runs on r1"))), "1")
    reasons.tell()
    assert capfd.readouterr().err == ""


# --- while it is away ---------------------------------------------------------------


def test_a_supervisor_that_restarts_is_waited_for_and_that_is_said(
    horus, road, finished
):
    told: list[str] = []
    road.lost = 3
    outcome = horus.outcome(finished, on_away=told.append)
    assert outcome.status is Status.COMPLETED
    assert outcome.is_verified
    assert told == [
        "waiting: the supervisor does not answer; asked again for 60 s",
        "the supervisor answers again",
    ]


def test_lines_go_on_where_they_were_before_it_was_away(world, horus, road):
    submitted = horus.submit("print(5)")
    record = world.claim(world.store.get(submitted.digest))
    world.print(record, "one")
    lines = horus.logs(submitted, verify=False)
    assert next(lines).text == "one"
    road.lost = 5
    world.print(record, "two")
    world.settle(record)
    assert [line.text for line in lines] == ["two"]


def test_whoever_asks_why_meanwhile_waits_as_well(world, horus, road, monkeypatch):
    monkeypatch.setattr("horus_celery.client.quiet.QUIET", timedelta(milliseconds=10))
    submitted = horus.submit("print(5)")
    record = world.claim(world.store.get(submitted.digest))
    asked: list[str] = []

    def ask():
        if not asked:
            road.lost = 2
        asked.append(submitted.id)
        horus.why(submitted.id)
        world.settle(record)

    told: list[str] = []
    assert horus.outcome(submitted, on_quiet=ask, on_away=told.append).succeeded
    assert (len(told), len(asked)) == (2, 3)


def test_one_that_stays_away_is_given_up_and_it_is_said_what_goes_on(
    horus, road, finished, monkeypatch
):
    monkeypatch.setattr("horus_celery.client.absence.AWAY", timedelta(0))
    road.lost = 1000
    with pytest.raises(UnavailableError) as caught:
        horus.outcome(finished)
    assert caught.value.detail == (
        f"job {finished.id}: the supervisor at http://localhost has been away for 0 s"
        " (the supervisor does not answer); what it was handed goes on without this"
        " command"
    )


def test_one_that_never_answered_is_not_waited_for(horus, road):
    road.lost = 1000
    with pytest.raises(UnavailableError, match="no supervisor answers"):
        horus.outcome("0198f3a0-9a02-7b10-8c3d-5e6f7a8b9c0d")
    assert road.lost == 999
