"""What a worker tells of itself never holds it up."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from celery import Celery
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
