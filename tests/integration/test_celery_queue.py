from __future__ import annotations

import json

import pytest
from celery import Celery

from horus_celery.dispatch import RedisDispatcher
from horus_celery.store.connection import broker, connect

pytestmark = pytest.mark.integration

JOB_ID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def app(redis_url):
    with Celery(broker=broker(redis_url).url, set_as_current=False) as celery:
        yield celery


@pytest.fixture
def dispatcher(redis_url, clock):
    with connect(redis_url) as client:
        yield RedisDispatcher(client, clock)


@pytest.mark.parametrize("priority", range(10))
def test_kombu_takes_and_decodes_our_message(app, dispatcher, priority):
    dispatcher.ring(JOB_ID, "python", priority)
    with app.connection_for_read() as connection:
        message = connection.default_channel.basic_get("python", no_ack=True)
    args, kwargs, _ = message.decode()
    assert (args, kwargs) == ([JOB_ID], {})
    assert message.headers["task"] == "horus.run_job"
    assert message.delivery_info["routing_key"] == "python"
    assert message.properties["priority"] == priority


@pytest.mark.parametrize("queue", ["python.at.r:1@x_y-z", "python.ctx." + "c" * 128])
def test_kombu_takes_our_message_from_every_kind_of_queue(app, dispatcher, queue):
    for priority in (0, 9):
        dispatcher.ring(JOB_ID, queue, priority)
        with app.connection_for_read() as connection:
            message = connection.default_channel.basic_get(queue, no_ack=True)
        assert message.decode()[0] == [JOB_ID]
        assert message.delivery_info["routing_key"] == queue


def test_a_message_of_celery_stands_where_ours_stands(app, dispatcher):
    for priority in (0, 3, 9):
        app.send_task("horus.run_job", args=[JOB_ID], queue="python", priority=priority)
        assert dispatcher.front("python", priority).rung_at is None
    assert dispatcher.queue_lengths(["python"]) == {"python": 3}


def test_celery_reaches_the_database_that_we_mean(redis_url):
    url = f"{redis_url}?db=3"
    with (
        Celery(broker=broker(url).url, set_as_current=False) as app,
        connect(url) as client,
    ):
        app.send_task("horus.run_job", args=[JOB_ID], queue="python", priority=0)
        raw = client.rpop("python")
        client.flushdb()
    assert json.loads(raw)["headers"]["task"] == "horus.run_job"
