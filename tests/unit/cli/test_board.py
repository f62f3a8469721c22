"""The lines of a workflow's steps: what runs is seen, however many steps there are."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import pytest

from horus_celery.cli.board import Board
from horus_celery.dag.progress import StepStatus, WorkflowStatus
from horus_celery.runs import RunView, StepView

AT = datetime(2026, 1, 1, tzinfo=UTC)
HEIGHT = 10


class Terminal:
    """A stream that says it is a terminal, and what stood on it at last."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        """Nothing is held back."""

    def isatty(self):
        return True


def on_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("LINES", str(HEIGHT))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    return terminal


def no_time():
    return 0.0


def view_of(**steps):
    """Return a view: of each step its status, or its status and how long it took."""
    views = {}
    for name, told in steps.items():
        status, took = (told, None) if isinstance(told, str) else told
        views[name] = StepView(
            status=StepStatus(status),
            reason="exit_code" if status == "failed" else None,
            started_at=None if took is None else AT,
            ended_at=None if took is None else AT + timedelta(seconds=took),
        )
    return RunView(status=WorkflowStatus.RUNNING, reason=None, steps=views)


def test_where_lines_stay_each_change_has_one(capfd):
    board = Board(["a", "long"], seconds=no_time)
    with board:
        board.show(view_of(a="pending", long="queued"))
        board.show(view_of(a="running", long="queued"))
        board.show(view_of(a="running", long="queued"))
        board.show(view_of(a=("failed", 1.25), long="skipped"))
    assert capfd.readouterr().out.splitlines() == [
        "a     running",
        "a     failed     1.2 s  exit_code",
        "long  skipped",
    ]


def test_a_step_that_is_over_at_the_first_look_has_its_line(capfd):
    with Board(["a"], seconds=no_time) as board:
        board.show(view_of(a=("completed", 61)))
    assert capfd.readouterr().out == "a  completed  1:01\n"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 ms"),
        (0.2, "200 ms"),
        (1, "1.0 s"),
        (59.94, "59.9 s"),
        (60, "1:00"),
        (3599, "59:59"),
        (7265, "2:01:05"),
    ],
)
def test_a_duration_is_as_a_clock_shows_it(capfd, seconds, said):
    with Board(["a"], seconds=no_time) as board:
        board.show(view_of(a=("completed", seconds)))
    assert capfd.readouterr().out == f"a  completed  {said}\n"


def test_a_step_elsewhere_says_where(capfd):
    step = StepView(status=StepStatus.RUNNING, supervisor="far")
    view = RunView(status=WorkflowStatus.RUNNING, reason=None, steps={"a": step})
    with Board(["a"], seconds=no_time) as board:
        board.show(view)
    assert capfd.readouterr().out == "a  running    at far\n"


def test_the_totals_name_what_there_is(capfd):
    board = Board(["a", "b", "c"], seconds=no_time)
    assert board.totals == "3 steps"
    board.show(view_of(a="running", b=("completed", 1), c="pending"))
    assert board.totals == "1 pending, 1 running, 1 completed"
    assert board.took == "0 ms"


def test_a_program_is_shown_nothing(capfd):
    with Board(["a"], seconds=no_time, is_silent=True) as board:
        board.show(view_of(a="running"))
    assert capfd.readouterr() == ("", "")


def test_a_terminal_shows_all_steps_at_last(monkeypatch):
    terminal = on_terminal(monkeypatch)
    with Board(["a", "b"], seconds=no_time) as board:
        board.show(view_of(a="running", b="pending"))
        board.show(view_of(a=("completed", 1), b=("completed", 2)))
    assert terminal.text.endswith(
        "a  completed  1.0 s\nb  completed  2.0 s\n2 completed; 0 ms\n"
    )


def test_of_many_steps_a_terminal_shows_what_runs_and_what_ended_last(monkeypatch):
    terminal = on_terminal(monkeypatch)
    names = [f"s{number}" for number in range(100)]
    steps: dict[str, object] = dict.fromkeys(names, "pending")
    steps |= {f"s{number}": ("completed", number) for number in range(50)}
    steps |= {"s20": ("failed", 1), "s60": "running", "s90": "running"}
    board = Board(names, seconds=no_time)
    with board:
        board.show(view_of(**steps))
        shown = terminal.text
    for name in ("s20", "s60", "s90", "s49", "s48"):
        assert f"{name}  " in shown
    assert "s0   " not in shown
    assert "s99" not in shown
    assert "48 pending, 2 running, 49 completed, 1 failed; 0 ms" in shown
    assert len(shown.splitlines()) < HEIGHT + 1
