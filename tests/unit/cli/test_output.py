"""What is printed: nothing commands a terminal, and an outcome is one true line."""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from horus_celery.cli import output
from horus_celery.cli.run import exit_code, summary, to_json
from horus_celery.client import Outcome
from horus_celery.instants import to_ms
from horus_celery.lifecycle import Status
from horus_celery.statements.keys import KeyPair
from horus_celery.statements.receipt import Receipt
from horus_celery.store.base import LogLine, Stream

AT = datetime(2026, 1, 1, tzinfo=UTC)


def said(text, stream=Stream.STDOUT, *, ends_line=True):
    return LogLine(cursor="1", at=AT, stream=stream, text=text, ends_line=ends_line)


class Terminal:
    """A stream that says it is a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        """Nothing is held back."""

    def isatty(self):
        return True


def test_a_terminal_is_commanded_by_no_script(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    output.script(said("\x1b]0;title\x07red\x1b[31m\ttab\x9b\u202e"))
    assert terminal.text == "]0;titlered[31m\ttab\n"


def test_a_pipe_gets_what_the_script_wrote(capfd):
    output.script(said("\x1b[31mred"))
    output.script(said("wrong", Stream.STDERR))
    assert capfd.readouterr() == ("\x1b[31mred\n", "wrong\n")


def test_a_piece_of_a_line_gets_no_newline(monkeypatch, capfd):
    output.script(said("one ", ends_line=False))
    output.script(said("line"))
    output.script(said("k\u00e4se\r", ends_line=False))
    output.end_of_script(said("k\u00e4se\r", ends_line=False))
    assert capfd.readouterr().out == "one line\nk\u00e4se\r"
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    output.script(said("one ", ends_line=False))
    output.script(said("line"))
    assert terminal.text == "one line\n"


def test_on_a_terminal_what_follows_a_script_begins_on_a_line_of_its_own(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    output.script(said("open", ends_line=False))
    output.end_of_script(said("open", ends_line=False))
    output.end_of_script(said("closed"))
    assert terminal.text == "open\n"


@pytest.fixture
def unheard():
    """A stream whose reader has gone, as a terminal does."""
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    yield stream
    with suppress(BrokenPipeError):
        stream.close()


@pytest.mark.parametrize("tell", [output.note, output.error])
def test_what_nobody_can_be_told_any_more_ends_nothing(monkeypatch, unheard, tell):
    monkeypatch.setattr(sys, "stderr", unheard)
    tell("runner ended and is started again")
    tell("nor does it so the next time")


def test_a_table_in_a_pipe_has_a_row_on_each_line(capfd):
    output.table(["a", "b"], [["1\n2", None], [3, "\x1b"]])
    assert capfd.readouterr().out == "a\tb\n12\t\n3\t\n"


def test_a_value_of_several_lines_keeps_them_and_cannot_pass_for_a_field(capfd):
    output.fields([("payload", "if a:\n\tb\nstatus  completed\x1b\n"), ("id", None)])
    assert capfd.readouterr().out == (
        "payload  if a:\n         \tb\n         status  completed\nid\n"
    )


def test_a_table_on_a_terminal_shows_no_markup(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    output.table(["name"], [["[bold]x[/bold]"]])
    assert "[bold]x[/bold]" in terminal.text


@pytest.mark.parametrize("columns", ["20", "80", "200"])
def test_a_row_is_one_line_on_a_terminal_however_narrow(monkeypatch, columns):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", columns)
    ids = [str(uuid.UUID(int=number)) for number in range(2)]
    output.table(["id", "created_at"], [[one, f"{AT} UTC"] for one in ids])
    _, *rows = terminal.text.splitlines()
    assert [row.partition(" ")[0] for row in rows] == ids
    assert {row.index(f"{AT} UTC") for row in rows} == {len(ids[0]) + 2}


def make_outcome(
    status, reason=None, code=None, *, has_receipt=True, size=0, truncated=False
):
    nothing = {"sha256": hashlib.sha256().hexdigest(), "bytes": 0}
    output_of = {**nothing, "bytes": size, "truncated": False}
    receipt = Receipt.from_wire(
        {
            "v": 1,
            "aud": "hero",
            "runner": "python_runner_1",
            "seq": 1,
            "prev": None,
            "job": "0" * 64,
            "job_id": "00000000-0000-4000-8000-000000000000",
            "attempt": 1,
            "status": status.value,
            "reason": reason,
            "exit_code": code,
            "started_at": to_ms(AT) + 100,
            "ended_at": to_ms(AT) + 350,
            "inputs": [],
            "stdout": output_of,
            "stderr": {**output_of, "truncated": truncated},
            "result": nothing,
            "sandbox": "plain",
            "software": "test",
        }
    )
    return Outcome(
        job_id=receipt.job_id,
        digest=receipt.job,
        status=status,
        reason=reason,
        exit_code=code,
        result="",
        created_at=AT,
        queued_at=AT,
        started_at=AT.replace(microsecond=90_000),
        ended_at=AT.replace(microsecond=350_000),
        signed_by=(KeyPair.from_seed(b"0" * 32).keyid,),
        receipt=receipt if has_receipt else None,
    )


@pytest.mark.parametrize(
    ("outcome", "code", "line"),
    [
        (make_outcome(Status.COMPLETED, code=0), 0, "completed; signed by "),
        (make_outcome(Status.FAILED, "exit_code", 7), 7, "failed: exit code 7; "),
        (make_outcome(Status.FAILED, "exit_code", -9), 137, "failed: exit code -9; "),
        (make_outcome(Status.FAILED, "timeout", 137), 124, "failed: timeout; "),
        (make_outcome(Status.FAILED, "executor"), 1, "failed: executor; "),
        (make_outcome(Status.STOPPED), 1, "stopped; "),
        (
            make_outcome(Status.REJECTED, "sig.none"),
            3,
            "rejected: sig.none; refused by ",
        ),
        (
            make_outcome(Status.FAILED, "worker_lost", has_receipt=False),
            1,
            "failed: worker_lost; no runner answers for it",
        ),
    ],
)
def test_an_outcome_has_a_line_and_an_exit_code(outcome, code, line):
    assert exit_code(outcome) == code
    assert summary(outcome).startswith(line)


def test_what_nobody_signed_does_not_command_the_terminal_that_shows_it():
    lie = "\x1b[2K\rcompleted; signed by alice, verified by supervisor and r1\x1b[8m"
    line = summary(make_outcome(Status.STOPPED, lie, has_receipt=False))
    assert line.isprintable()
    assert line.startswith("stopped: ")
    signed = replace(make_outcome(Status.COMPLETED, code=0), signed_by=(lie,))
    assert summary(signed).isprintable()


def test_the_line_tells_how_long_what_took():
    line = summary(make_outcome(Status.COMPLETED, code=0))
    assert line.endswith(
        "verified by supervisor and python_runner_1, queued 90 ms, start 10 ms,"
        " run 250 ms"
    )


def test_output_that_was_cut_is_told_to_people_and_programs():
    cut = make_outcome(Status.COMPLETED, code=0, size=512, truncated=True)
    whole = make_outcome(Status.COMPLETED, code=0)
    unsigned = make_outcome(Status.STOPPED, has_receipt=False)
    assert summary(cut).endswith("run 250 ms, output cut at 1024 bytes")
    assert "cut" not in summary(whole)
    assert [to_json(one)["truncated"] for one in (cut, whole, unsigned)] == [
        True,
        False,
        None,
    ]
