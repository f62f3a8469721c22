from __future__ import annotations

import json
from base64 import b64decode
from datetime import UTC, datetime
from uuid import UUID

import pytest
from celery import Celery
from kombu.transport.redis import Channel as RedisChannel

from horus_celery import dispatch
from horus_celery.store import keys, runner_bell

JOB_ID = "11111111-2222-3333-4444-555555555555"
AT = datetime(2026, 1, 1, tzinfo=UTC)
#: What differs from message to message, or says who wrote it.
OWN = {"id", "root_id", "correlation_id", "delivery_tag", "origin", "reply_to"}


@pytest.fixture
def by_celery():
    """What `app.send_task` puts into a queue."""
    with Celery(broker="memory://", set_as_current=False) as app:
        app.send_task(
            "horus.run_job",
            args=[JOB_ID],
            queue="python",
            priority=3,
            ignore_result=True,
        )
        with app.connection_for_read() as connection:
            channel = connection.default_channel
            raw = channel._get("python")  # noqa: SLF001 - the bytes before decoding
            channel.queue_delete("python")
    return raw


@pytest.fixture
def by_us():
    return json.loads(runner_bell.message(JOB_ID, "python", 3, at=AT))


def without_own(part):
    return {name: value for name, value in part.items() if name not in OWN}


def test_our_message_has_the_parts_of_celerys(by_us, by_celery):
    assert by_us.keys() == by_celery.keys()
    for name in ("content-type", "content-encoding"):
        assert by_us[name] == by_celery[name]


def test_our_body_is_celerys(by_us, by_celery):
    ours, celerys = (json.loads(b64decode(each["body"])) for each in (by_us, by_celery))
    assert ours == celerys
    assert ours[0] == [JOB_ID]


def test_our_headers_are_celerys_and_the_time_of_the_bell(by_us, by_celery):
    assert by_us["headers"].pop("rung_at") == 1767225600000
    assert by_us["headers"].keys() == by_celery["headers"].keys()
    assert without_own(by_us["headers"]) == without_own(by_celery["headers"])


def test_our_properties_are_celerys(by_us, by_celery):
    assert by_us["properties"].keys() == by_celery["properties"].keys()
    assert without_own(by_us["properties"]) == without_own(by_celery["properties"])


def test_each_message_has_an_id_of_its_own(by_us):
    other = json.loads(runner_bell.message(JOB_ID, "python", 3, at=AT))
    headers, properties = by_us["headers"], by_us["properties"]
    assert UUID(headers["id"]).version == 4
    assert headers["id"] == headers["root_id"] == properties["correlation_id"]
    assert headers["id"] != other["headers"]["id"]
    assert properties["delivery_tag"] != other["properties"]["delivery_tag"]


@pytest.mark.parametrize("priority", range(10))
def test_a_priority_stands_in_the_queue_where_celery_looks_for_it(priority):
    channel = RedisChannel.__new__(RedisChannel)
    expected = channel._q_for_pri("python", priority)  # noqa: SLF001 - what must agree
    assert keys.queue("python", priority) == expected


def test_the_memory_dispatcher_gives_the_most_urgent_bell_first(clock):
    dispatcher = dispatch.MemoryDispatcher(clock)
    for job_id, priority in [("a", 4), ("b", 0), ("c", 5)]:
        dispatcher.ring(job_id, "python", priority)
    taken = [dispatcher.take("python") for _ in range(4)]
    assert taken == ["b", "a", "c", None]
