"""What a worker tells of itself never holds it up."""

from __future__ import annotations

import json
from datetime import timedelta
from math import nan
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.events.receiver import EventReceiver
from structlog.testing import capture_logs

from horus_celery import news


@pytest.fixture
def broker():
    """A broker that may be away, and counts how often it was asked."""
    return SimpleNamespace(is_away=False, asked=0, heard=[])


@pytest.fixture
def dispatcher(broker):
    app = Celery("test", broker="memory://", events=news.News, set_as_current=False)
    connection = app.connection_for_write()
    made = app.events.Dispatcher(
        connection, hostname="here", buffer_group=["task"], on_send_buffered=None
    )

    def publish(event, *, retry, **_):
        assert not retry
        broker.asked += 1
        if broker.is_away:
            raise ConnectionError
        events = event if isinstance(event, list) else [event]
        broker.heard += [one["type"] for one in events]

    made.producer.publish = publish
    yield made
    made.close()
    connection.release()


def test_what_happens_is_told(dispatcher, broker):
    dispatcher.send("worker-heartbeat", retry=True)
    dispatcher.send("task-started")
    dispatcher.flush()
    assert broker.heard == ["worker-heartbeat", "task-started"]


def test_a_broker_that_is_away_is_asked_once_and_then_left_alone(dispatcher, broker):
    broker.is_away = True
    for _ in range(3):
        dispatcher.send("worker-heartbeat", retry=True)
        dispatcher.send("task-started")
        dispatcher.flush()
    assert broker.asked == 1


def test_each_absence_of_the_broker_is_said_once(dispatcher, broker, monkeypatch):
    monkeypatch.setattr(news, "_SILENCE", timedelta(0))
    with capture_logs() as lines:
        for is_away in (True, True, False, True):
            broker.is_away = is_away
            dispatcher.send("worker-heartbeat")
    said = ("news not told", "warning", "ConnectionError")
    assert [(each["event"], each["log_level"], each["error"]) for each in lines] == [
        said,
        said,
    ]


def test_what_was_not_heard_is_not_kept(dispatcher, broker, monkeypatch):
    monkeypatch.setattr(news, "_SILENCE", timedelta(0))
    broker.is_away = True
    dispatcher.send("worker-heartbeat", retry=True)
    dispatcher.send("task-started")
    dispatcher.flush()
    broker.is_away = False
    dispatcher.send("worker-heartbeat", retry=True)
    dispatcher.flush()
    assert broker.heard == ["worker-heartbeat"]


MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture
def heard(monkeypatch):
    """What a process hears, and how something is told to it."""
    # Put back afterwards.
    monkeypatch.setattr(EventReceiver, "_receive", vars(EventReceiver)["_receive"])
    news.take_texts_only()
    app = Celery("test", broker="memory://", set_as_current=False)
    events: list[dict[str, Any]] = []
    with app.connection_for_read() as connection:
        receiver = EventReceiver(connection, handlers={"*": events.append}, app=app)
        (consumer,) = receiver.get_consumers(SimpleNamespace, None)
        (tell,) = consumer.callbacks
        yield SimpleNamespace(events=events, tell=lambda body: tell(body, None))


def make_event(**changes):
    usual = {"type": "task-received", "hostname": "here", "uuid": "1", "name": "n"}
    return {**usual, "timestamp": 1.0, "utcoffset": 0, "clock": 1, **changes}


def test_what_is_told_is_heard(heard):
    loads = [0.5, 1, 2.25]
    heard.tell([make_event(args="a"), make_event(loadavg=loads, retries=3, eta=None)])
    first, second = heard.events
    assert (first["name"], first["args"]) == ("n", "a")
    assert (second["loadavg"], second["retries"], second["eta"]) == (loads, 3, None)


@pytest.mark.parametrize("name", ["name", "args", "kwargs", "result", "sw_ident"])
@pytest.mark.parametrize("value", [[MARKUP], {MARKUP: [MARKUP]}, [[]]])
def test_only_texts_are_shown_in_the_place_of_texts(heard, name, value):
    heard.tell(make_event(**{name: value}))
    [event] = heard.events
    assert event[name] == json.dumps(value)


@pytest.mark.parametrize("value", [MARKUP, [MARKUP], True, None, 1e300, 2**60, nan])
def test_only_numbers_are_shown_in_the_place_of_numbers(heard, value):
    heard.tell(make_event(retries=value, timestamp=value, clock=value, active=value))
    heard.tell(make_event(loadavg=value))
    heard.tell(make_event(loadavg=[value]))
    first, second, third = heard.events
    assert [first[one] for one in ("retries", "active")] == [0, 0]
    assert second["loadavg"] == third["loadavg"] == []


NO_UUIDS: list[Any] = [None, {}, ["1"]]


@pytest.mark.parametrize(
    "body",
    [
        *(None, "x", [MARKUP], {}, {"type": 5}),
        make_event(hostname=None),
        *(make_event(uuid=uuid) for uuid in NO_UUIDS),
    ],
)
def test_what_is_no_event_is_not_heard(heard, body):
    heard.tell(body)
    heard.tell(make_event())
    assert len(heard.events) == 1
