"""What was shown of a job's output, compared with what its runner signed."""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import create_app
from horus_celery.client import Agreement, Horus, Transcript
from horus_celery.errors import ReceiptError, UnavailableError
from horus_celery.instants import from_ms
from horus_celery.lifecycle import Event, Status
from horus_celery.record import Change
from horus_celery.statements.receipt import OutputDigest, ResultDigest
from horus_celery.store.base import Chunk, Filter, LogLine, Stream
from horus_celery.supervisor import Limits

OUT, ERR = Stream.STDOUT, Stream.STDERR
PIECE = 16 * 1024


class Script:
    """A job, its runner, and who else writes into its log."""

    def __init__(self, world, client):
        self.world, self.client = world, client
        self._said = {OUT: b"", ERR: b""}
        self.digest = None

    def submit(self, **options):
        self.job = self.client.submit("print(5)", **options)
        self.digest = self.job.digest
        self.record = self.world.claim(self.world.store.get(self.digest))
        return self.job

    def forge(self, data, stream=OUT):
        """Write into the log what the script did not say."""
        chunk = Chunk(at=self.world.clock.at, stream=stream, data=data)
        self.world.logs.append(self.digest, [chunk])

    def say(self, data, stream=OUT):
        """Say a line, or a piece of one, which the runner passes on."""
        self.lose(data, stream)
        self.forge(data, stream)

    def lose(self, data, stream=OUT):
        """Say what never comes into the log."""
        self._said[stream] += data

    def forget(self):
        """Be started again: the receipt will not speak of what was said before."""
        self._said = {OUT: b"", ERR: b""}

    def end(self, *, result=None, **options):
        text = self._said[OUT].decode("utf-8", "replace")
        signed = {
            "stdout": dict(OutputDigest.of(self._said[OUT])),
            "stderr": dict(OutputDigest.of(self._said[ERR])),
        }
        self.world.settle(
            self.record,
            result=text if result is None else result,
            signed=signed,
            **options,
        )

    def shown(self):
        """Return what a follower is shown, and how it agrees with the receipt."""
        transcript = Transcript.of(self.job)
        shown = {OUT: b"", ERR: b""}
        for line in self.client.logs(self.job, verify=False):
            transcript.add(line)
            shown[line.stream] += line.data
        return shown, transcript.agreement(self.client.outcome(self.job))

    def agreement(self):
        return self.shown()[1]


class Wire(httpx.BaseTransport):
    """Carries the calls, and does first what it was told to do at a method."""

    def __init__(self, app):
        self._inner = httpx.WSGITransport(app=app)
        self.calls = []
        self.at = {}

    def handle_request(self, request):
        method = json.loads(request.content)["method"]
        self.calls.append(method)
        if method in self.at:
            self.at[method]()
        response = self._inner.handle_request(request)
        return httpx.Response(200, json=json.loads(response.read()))


@pytest.fixture
def connected(make_horus):
    def connect(world):
        wire = Wire(create_app(world.services))
        return make_horus(world, wire), wire

    return connect


@pytest.fixture
def script(world, connected):
    client, _ = connected(world)
    with client:
        yield Script(world, client)


def test_a_line_that_goes_on_is_marked_by_its_cursor_alone(world, client):
    record = world.claim(world.submit())
    digest = record.summary.digest
    for data in (b"one ", b"line\n", b"end"):
        world.logs.append(digest, [Chunk(at=world.clock.at, stream=OUT, data=data)])
    lines = client.call("job.logs", job_id=digest)["lines"]
    assert [line["text"] for line in lines] == ["one ", "line", "end"]
    assert [line["cursor"] for line in lines] == ["1-0+", "2-0", "3-0+"]
    assert {*lines[0]} == {"cursor", "at", "stream", "text"}


@pytest.mark.parametrize("after", ["1-0", "1-0+"])
def test_reading_goes_on_behind_the_cursor_of_any_line(world, client, after):
    record = world.claim(world.submit())
    for data in (b"one ", b"line\n"):
        chunk = Chunk(at=world.clock.at, stream=OUT, data=data)
        world.logs.append(record.summary.digest, [chunk])
    page = client.call("job.logs", job_id=record.summary.id, after=after)
    assert [line["text"] for line in page["lines"]] == ["line"]


@pytest.mark.parametrize("after", ["+", "1-0++", "+1-0"])
def test_a_mark_alone_is_no_cursor(world, client, after):
    record = world.submit()
    error = client.error("job.logs", job_id=record.summary.id, after=after)
    assert error["code"] == -32602


def test_output_is_shown_as_it_was_and_agrees(script):
    script.submit()
    script.say(b"a" * PIECE)
    script.say(b"b\n")
    script.say(b"\n")
    script.say(b"oops\r\n", ERR)
    script.say("ohne Zeilenende: ä".encode())
    script.end()
    shown, agreement = script.shown()
    assert agreement is Agreement.SIGNED
    assert shown == {
        OUT: b"a" * PIECE + "b\n\nohne Zeilenende: ä".encode(),
        ERR: b"oops\r\n",
    }


def test_a_script_that_says_nothing_agrees(script):
    script.submit()
    script.end()
    assert script.agreement() is Agreement.SIGNED


@pytest.mark.parametrize("stream", [OUT, ERR])
def test_a_line_that_was_added_is_noticed(script, stream):
    script.submit()
    script.say(b"true\n")
    script.forge(b"forged\n", stream)
    script.end()
    assert script.agreement() is Agreement.DIFFERENT


@pytest.mark.parametrize("stream", [OUT, ERR])
def test_a_line_that_is_missing_is_noticed(script, stream):
    script.submit()
    script.say(b"true\n")
    script.lose(b"lost\n", stream)
    script.end()
    assert script.agreement() is Agreement.DIFFERENT


def test_a_newline_that_was_added_is_noticed(script):
    script.submit()
    script.lose(b"end")
    script.forge(b"end\n")
    script.end()
    assert script.agreement() is Agreement.DIFFERENT


def test_a_result_of_its_own_is_not_taken_for_output(script):
    script.submit()
    script.lose(b"output\n")
    script.forge(b"result\n")
    script.end(result="result\n")
    assert script.agreement() is Agreement.DIFFERENT


def test_the_receipt_of_another_end_of_the_output_is_not_enough(script):
    script.submit()
    script.forge(b"forged\n")
    script.say(b"true\n")
    script.end()
    assert script.agreement() is Agreement.DIFFERENT


def test_output_with_bad_utf_8_agrees_by_its_result(script):
    script.submit()
    script.say(b"\xff\xfe caf\xe9\n")
    script.end()
    assert script.agreement() is Agreement.SIGNED


def test_a_replacement_that_the_script_wrote_itself_agrees(script):
    script.submit()
    script.say("\ufffd\n".encode(), ERR)
    script.end()
    assert script.agreement() is Agreement.SIGNED


@pytest.mark.parametrize(("stream", "result"), [(ERR, None), (OUT, "other")])
def test_bad_utf_8_that_no_result_shows_cannot_be_compared(script, stream, result):
    script.submit()
    script.say(b"\xff\n", stream)
    script.end(result=result)
    assert script.agreement() is Agreement.NOT_COMPARABLE


def test_bad_utf_8_hides_no_line_that_was_added(script):
    script.submit()
    script.say(b"\xff\n", ERR)
    script.forge(b"forged\n", ERR)
    script.end()
    assert script.agreement() is Agreement.DIFFERENT


def test_bad_utf_8_that_the_script_never_wrote_is_noticed(script):
    script.submit()
    script.lose(b"abcdef\n")
    script.forge(b"ab\xff\n")
    script.end()
    assert script.agreement() is Agreement.DIFFERENT


def test_of_a_job_that_was_started_again_the_end_agrees(script):
    script.submit(attempts=2)
    script.say(b"first\n")
    script.say(b"first\n", ERR)
    script.forget()
    script.say(b"second\n")
    script.end()
    assert script.agreement() is Agreement.ENDS_SIGNED


def test_of_a_job_that_could_be_started_again_a_forged_end_is_noticed(script):
    script.submit(attempts=2)
    script.say(b"true\n")
    script.forge(b"forged\n")
    script.end()
    assert script.agreement() is Agreement.DIFFERENT


def test_a_job_whose_runner_died_agrees_with_nothing(script, world):
    script.submit()
    script.say(b"true\n")
    lost = Change(event=Event.FAILED, at=world.clock.at, reason="worker_lost")
    world.store.apply(script.job.digest, lost)
    assert script.agreement() is Agreement.UNSIGNED


def said_in(pieces, stream):
    return b"".join(data for of, data in pieces if of is stream)


def compared(pieces, make_outcome):
    """Return how pieces of output agree with the receipt of all of them."""
    transcript = Transcript()
    for stream, data in pieces:
        line = LogLine(
            cursor="1-0",
            at=from_ms(0),
            stream=stream,
            text=data.decode("utf-8", "replace").removesuffix("\n"),
            ends_line=data.endswith(b"\n"),
        )
        transcript.add(line)
    return transcript.agreement(
        make_outcome(said_in(pieces, OUT), said_in(pieces, ERR))
    )


@pytest.fixture(scope="module")
def make_outcome():
    """Make an outcome whose receipt signs both streams."""

    def make(stdout, stderr):
        result = stdout.decode("utf-8", "replace").encode()
        receipt = SimpleNamespace(
            stdout=OutputDigest.of(stdout),
            stderr=OutputDigest.of(stderr),
            result=ResultDigest.of(result),
        )
        return SimpleNamespace(receipt=receipt)

    return make


STREAMS = st.sampled_from(Stream)


@given(pieces=st.lists(st.tuples(STREAMS, st.text().map(str.encode))))
def test_whatever_text_a_script_says_agrees(make_outcome, pieces):
    assert compared(pieces, make_outcome) is Agreement.SIGNED


@given(pieces=st.lists(st.tuples(STREAMS, st.binary())))
def test_whatever_bytes_a_script_says_they_are_not_called_forged(make_outcome, pieces):
    assert compared(pieces, make_outcome) is not Agreement.DIFFERENT


# --- what a follower is told -------------------------------------------------------


@pytest.mark.parametrize("forged", [b"", b"forged\n"])
def test_a_run_whose_lines_differ_from_the_receipt_is_an_error(
    world, connected, forged
):
    client, wire = connected(world)
    script = Script(world, client)

    def begin_and_end():
        del wire.at["job.logs"]
        (script.record,) = world.store.list(Filter(), limit=1)
        script.digest = script.record.summary.digest
        world.claim(script.record)
        script.say(b"true\n")
        script.forge(forged)
        script.end()

    wire.at["job.logs"] = begin_and_end
    lines: list[LogLine] = []
    with client:
        if forged:
            with pytest.raises(ReceiptError, match="runner signed"):
                client.run("print(5)", on_line=lines.append)
        else:
            assert client.run("print(5)", on_line=lines.append).is_verified
    assert lines[0].text == "true"


def test_an_error_after_acceptance_names_the_job(world, connected, monkeypatch):
    for name in ("AWAY", "RETRY"):
        monkeypatch.setattr(f"horus_celery.client.absence.{name}", timedelta(0))
    client, wire = connected(world)
    with client:
        job = client.submit("print(5)")
        world.store.is_away = True
        with pytest.raises(UnavailableError, match=f"job {job.id}: .* been away for"):
            client.outcome(job)
        with pytest.raises(UnavailableError, match=f"job {job.id}: .* been away for"):
            list(client.logs(job.id))
    assert "job.result" in wire.calls


@pytest.mark.parametrize("method", ["job.logs", "job.result"])
def test_who_is_sent_away_because_too_many_wait_asks_again(
    make_world, connected, method
):
    world = make_world(Limits(max_waiters=0))
    client, wire = connected(world)
    with client:
        script = Script(world, client)
        job = script.submit()

        def end_at_the_second_call():
            if wire.calls.count(method) == 2:
                script.end()

        wire.at[method] = end_at_the_second_call
        if method == "job.logs":
            assert list(client.logs(job.id)) == []
        else:
            assert client.outcome(job).status is Status.COMPLETED
    assert wire.calls.count(method) == 2


@pytest.mark.parametrize("follow", [Horus.logs, Horus.outcome])
def test_who_hears_nothing_for_a_while_is_called(world, connected, monkeypatch, follow):
    monkeypatch.setattr("horus_celery.client.quiet.QUIET", timedelta(milliseconds=20))
    client, _ = connected(world)
    with client:
        script = Script(world, client)
        script.submit()
        called = []

        def be_called():
            called.append(client.why(script.job.id)["gate"])
            script.end()

        given = script.job.id if follow is Horus.logs else script.job
        found = follow(client, given, on_quiet=be_called)
        assert follow is Horus.outcome or list(found) == []
    assert called == ["running"]


def test_who_hears_lines_is_not_called(world, connected, monkeypatch):
    monkeypatch.setattr("horus_celery.client.quiet.QUIET", timedelta(0))
    client, _ = connected(world)
    with client:
        script = Script(world, client)
        script.submit()
        script.say(b"early\n")
        called = []
        for _ in client.logs(script.job.id, on_quiet=lambda: called.append(1)):
            script.end()
    assert called == []
