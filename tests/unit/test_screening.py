import base64
import itertools
import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from kombu.connection import Connection
from kombu.transport.virtual import Message
from kombu.utils import functional
from structlog.testing import capture_logs

from horus_celery.screening import (
    MAX_ITEM,
    MAX_STEP_ITEM,
    LockedConsumer,
    Refused,
    ScreeningClient,
    screen,
    screen_bell,
)
from horus_celery.store import bell
from horus_celery.store.runner_bell import TASK, message

JOB_ID = "0b5e8d6e-6f3c-4c8f-9a53-6a7f0f6f2f11"
OURS = json.loads(message(JOB_ID, "python", 4, at=datetime.now(UTC)))


def encoded(body):
    return base64.b64encode(json.dumps(body).encode()).decode()


def item(**changes):
    return json.dumps({**OURS, **changes}).encode()


def with_header(**headers):
    return item(headers={**OURS["headers"], **headers})


def with_property(**properties):
    return item(properties={**OURS["properties"], **properties})


def with_body(body):
    return item(body=encoded(body))


def published_by_celery():
    """Return what plain Celery would put on the queue."""
    app = Celery("elsewhere", broker="memory://", set_as_current=False)
    with app.connection_for_write() as connection:
        options = {"connection": connection, "queue": "python", "priority": 3}
        app.send_task(TASK, args=[JOB_ID], **options)
        payload = connection.default_channel._get("python")  # noqa: SLF001 - the raw message
    return json.dumps(payload).encode()


def test_our_own_message_passes():
    assert b64_body(screen(item())) == JOB_ID


def test_a_message_of_plain_celery_passes():
    assert b64_body(screen(published_by_celery())) == JOB_ID


def b64_body(screened):
    [[job_id], kwargs, embed] = json.loads(
        base64.b64decode(json.loads(screened)["body"])
    )
    assert kwargs == {}
    assert set(embed.values()) == {None}
    return job_id


def test_nothing_of_the_sender_but_the_job_id_is_left():
    marked = with_header(
        id="SENDER",
        root_id="SENDER",
        parent_id="SENDER",
        group="SENDER",
        shadow="SENDER",
        argsrepr="SENDER\n\x1b[31m",
        kwargsrepr="SENDER",
        origin="SENDER",
        reply_to="SENDER",
        timelimit=["SENDER", "SENDER"],
        eta="SENDER",
        expires="SENDER",
        retries="SENDER",
        stamps={"SENDER": "SENDER"},
        ignore_result=False,
    )
    loud = json.loads(marked)
    loud["properties"] = {
        **loud["properties"],
        "reply_to": "SENDER",
        "correlation_id": "SENDER",
        "delivery_tag": "SENDER",
        "delivery_info": {"exchange": "SENDER", "routing_key": "SENDER"},
        "priority": "SENDER",
    }
    loud["body"] = encoded(
        [
            [JOB_ID],
            {},
            {
                "callbacks": ["SENDER"],
                "errbacks": ["SENDER"],
                "chain": ["SENDER"],
                "chord": "SENDER",
            },
        ]
    )
    screened = screen(json.dumps(loud).encode())
    assert b"SENDER" not in screened
    assert b64_body(screened) == JOB_ID


# --- a coordinator's bells -------------------------------------------------------

WORKFLOW, JOB = "ab" * 32, "cd" * 32


def rung(**changes):
    return json.dumps({**json.loads(bell.message(WORKFLOW, JOB)), **changes}).encode()


@pytest.mark.parametrize("job", [JOB, None])
def test_a_bell_passes_with_its_digests_and_nothing_else(job):
    loud = json.loads(bell.message(WORKFLOW, job))
    loud["headers"] |= {"id": "SENDER", "eta": "SENDER", "timelimit": ["SENDER"] * 2}
    loud["properties"] |= {"reply_to": "SENDER", "delivery_tag": "SENDER"}
    args, kwargs, _ = json.loads(loud["body"])
    loud["body"] = json.dumps([args, kwargs, {"chain": ["SENDER"]}])

    screened = screen_bell(json.dumps(loud).encode())

    assert b"SENDER" not in screened
    args, kwargs, embed = json.loads(json.loads(screened)["body"])
    assert (args, kwargs) == ([WORKFLOW, job], {})
    assert set(embed.values()) == {None}


@pytest.mark.parametrize(
    "forged",
    [
        item(),
        b"{",
        b"[" * 100_000,
        rung(headers={"task": TASK}),
        rung(headers={"task": "celery.chord_unlock"}),
        rung(headers={"task": bell.TASK, "compression": "zlib"}),
        rung(body=json.dumps([[WORKFLOW], {}, {}])),
        rung(body=json.dumps([[WORKFLOW, JOB, JOB], {}, {}])),
        rung(body=json.dumps([[WORKFLOW, JOB], {"job": JOB}, {}])),
        rung(body=json.dumps([[WORKFLOW, 1], {}, {}])),
        rung(body=json.dumps([[None, JOB], {}, {}])),
        rung(body=json.dumps([[WORKFLOW.upper(), JOB], {}, {}])),
        rung(body=json.dumps([[WORKFLOW + "\n", JOB], {}, {}])),
        rung(body=json.dumps([["", ""], {}, {}])),
        rung(body="no json"),
        rung(body=["x"]),
        rung(properties={"body_encoding": "base64"}),
        rung(**{"content-type": "application/x-python-serialize"}),
        rung(body=json.dumps([[WORKFLOW, JOB], {}, {"chain": "x" * MAX_ITEM}])),
    ],
)
def test_what_is_no_bell_of_a_coordinator_does_not_pass(forged):
    with pytest.raises(Refused):
        screen_bell(forged)


def step_of(workflow, index, *, is_sent, **embed):
    """Return a message of canvas: as a bell is rung, or as Celery sends it."""
    said = json.loads(bell.step_message(WORKFLOW, 0))
    body = json.dumps([[workflow, index], {}, {"chain": None, "chord": None} | embed])
    if is_sent:
        said["properties"]["body_encoding"] = "base64"
        body = base64.b64encode(body.encode()).decode()
    return json.dumps({**said, "body": body}).encode()


@pytest.mark.parametrize("is_sent", [False, True])
@pytest.mark.parametrize("index", [None, 0, 1, 99_999])
def test_of_a_message_of_canvas_workflow_and_step_pass_and_nothing_else(index, is_sent):
    behind = [{"task": bell.STEP, "args": ["SENDER", 1]}] * 1000
    sent = step_of(
        WORKFLOW, index, is_sent=is_sent, chain=behind, chord={"task": "SENDER"}
    )

    screened = json.loads(screen_bell(sent))

    assert len(sent) > MAX_ITEM
    args, kwargs, embed = json.loads(screened["body"])
    assert (args, kwargs) == ([WORKFLOW, index], {})
    assert set(embed.values()) == {None}
    assert screened["headers"]["task"] == bell.STEP
    assert "SENDER" not in json.dumps(screened)
    assert json.loads(sent)["headers"]["id"] != screened["headers"]["id"]


@pytest.mark.parametrize("is_sent", [False, True])
@pytest.mark.parametrize(
    ("workflow", "index"),
    [
        (WORKFLOW, True),
        (WORKFLOW, -1),
        (WORKFLOW, 100_000),
        (WORKFLOW, "1"),
        (WORKFLOW, 1.0),
        (WORKFLOW.upper(), 1),
        (None, 1),
    ],
)
def test_what_names_no_step_does_not_pass(workflow, index, is_sent):
    with pytest.raises(Refused, match="arguments"):
        screen_bell(step_of(workflow, index, is_sent=is_sent))


@pytest.mark.parametrize(
    "changes",
    [
        {"headers": {"task": bell.STEP, "compression": "zlib"}},
        {"content-type": "application/x-python-serialize"},
        {"body": 5},
        {"body": "{"},
        {"properties": {"body_encoding": "hex"}},
        {"properties": {"body_encoding": "base64"}},
        {"properties": 5},
        {"padding": "x" * MAX_STEP_ITEM},
    ],
)
def test_no_other_form_of_a_message_of_canvas_passes(changes):
    said = json.loads(bell.step_message(WORKFLOW, 1))
    with pytest.raises(Refused):
        screen_bell(json.dumps({**said, **changes}).encode())


def test_a_runner_hears_no_bell_of_a_coordinator():
    with pytest.raises(Refused):
        screen(bell.message(WORKFLOW, JOB))


# --- a runner's bells ------------------------------------------------------------


def test_the_task_gets_a_new_id_each_time():
    first, second = (json.loads(screen(item()))["headers"]["id"] for _ in range(2))
    assert len({first, second, OURS["headers"]["id"]}) == 3


def test_the_job_id_is_what_a_monitor_shows():
    assert json.loads(screen(item()))["headers"]["argsrepr"] == JOB_ID


HOSTILE = {
    "empty": b"",
    "no JSON": b"\x00\xff",
    "a number": b"5",
    "a list": b"[]",
    "deep": b"[" * 15_000,
    "too large": item(padding="x" * MAX_ITEM),
    "no headers": item(headers=None),
    "headers a list": item(headers=[]),
    "no properties": item(properties=None),
    "no body": item(body=None),
    "body a list": item(body=[]),
    "body no base64": item(body="%%%"),
    "body lax base64": item(body=f"{OURS['body']}\n"),
    "body no JSON": item(body=base64.b64encode(b"{").decode()),
    "body a number": with_body(5),
    "body empty": with_body([]),
    "body of two": with_body([[JOB_ID], {}]),
    "body of four": with_body([[JOB_ID], {}, {}, {}]),
    "no argument": with_body([[], {}, {}]),
    "two arguments": with_body([[JOB_ID, JOB_ID], {}, {}]),
    "argument a number": with_body([[5], {}, {}]),
    "argument an object": with_body([[{"__type__": "uuid"}], {}, {}]),
    "argument no job id": with_body([["../../etc/passwd"], {}, {}]),
    "argument upper case": with_body([[JOB_ID.upper()], {}, {}]),
    "argument and newline": with_body([[f"{JOB_ID}\n"], {}, {}]),
    "keyword arguments": with_body([[JOB_ID], {"job_id": JOB_ID}, {}]),
    "embed a list": with_body([[JOB_ID], {}, []]),
    "task celery.map": with_header(task="celery.map"),
    "task celery.backend_cleanup": with_header(task="celery.backend_cleanup"),
    "task a list": with_header(task=["horus.run_job"]),
    "no task": item(headers={"id": str(uuid4())}),
    "pickle": item(**{"content-type": "application/x-python-serialize"}),
    "yaml": item(**{"content-type": "application/x-yaml"}),
    "binary": item(**{"content-encoding": "binary"}),
    "compressed": with_header(compression="application/x-gzip"),
    "body not encoded": with_property(body_encoding="utf-8"),
    "protocol 1": json.dumps({"task": TASK, "id": "x", "args": [JOB_ID]}).encode(),
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_anything_else_is_refused(raw):
    with pytest.raises(Refused):
        screen(raw)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_without_any_other_error(raw):
    with pytest.raises(Refused):
        screen(raw)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner)
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(OURS)), _JSON)
def test_a_field_of_any_shape_is_screened_without_any_other_error(field, value):
    try:
        screened = screen(item(**{field: value}))
    except Refused:
        return
    assert b64_body(screened) == JOB_ID


@given(_JSON)
def test_a_body_of_any_shape_is_refused(body):
    with pytest.raises(Refused):
        screen(with_body(body))


class Answering(ScreeningClient):
    """A client whose server answers what the test says."""

    def __init__(self, answer):
        super().__init__()
        self._answer = answer

    def read_response(self, **_):
        return self._answer

    def popped(self, command):
        # It stands in for its own connection.
        return self.parse_response(self, command)


def test_a_refused_item_is_as_if_the_queue_had_been_empty():
    assert Answering([b"python", b"hostile"]).popped("BRPOP") is None
    assert Answering(b"hostile").popped("RPOP") is None


def test_an_item_that_passes_is_replaced_on_its_way():
    queue, screened = Answering([b"python", item()]).popped("BRPOP")
    assert queue == b"python"
    assert b64_body(screened) == JOB_ID
    assert OURS["headers"]["id"].encode() not in screened
    assert b64_body(Answering(item()).popped("RPOP")) == JOB_ID


def test_other_answers_are_left_alone():
    assert Answering(b"hostile").popped("GET") == b"hostile"
    assert Answering(None).popped("BRPOP") is None


def test_kombu_reads_what_the_screen_makes():
    class Channel:
        def decode_body(self, body, encoding):
            assert encoding == "base64"
            return base64.b64decode(body)

    read = Message(json.loads(screen(item())), channel=Channel())
    assert read.decode()[0] == [JOB_ID]


def test_nothing_that_listens_to_others_is_a_step_of_the_consumer():
    steps = " ".join(LockedConsumer.Blueprint.default_steps)
    for step in ("control", "gossip", "mingle", "agent", "delayed"):
        assert step not in steps


def test_a_broker_that_is_away_is_tried_every_second_and_that_is_said_once(
    monkeypatch,
):
    slept: list[float] = []
    monkeypatch.setattr(functional, "sleep", slept.append)
    consumer = LockedConsumer.__new__(LockedConsumer)
    consumer.app = Celery(set_as_current=False)
    consumer.first_connection_attempt = True
    tries = itertools.count()

    def connect():
        if next(tries) < 30:
            raise OSError
        return object()

    connection = Connection("redis://")
    monkeypatch.setattr(connection, "_connection_factory", connect)
    with capture_logs() as lines:
        assert consumer.ensure_connected(connection) is connection
    assert sum(slept) == 30
    assert max(slept) == 1
    assert [line["event"] for line in lines] == ["broker not reached"]
