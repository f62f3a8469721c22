"""How a workflow's steps are shown while they run: a line for each, and the totals.

On a terminal the lines stand still and change; everywhere else a line is written when a
step starts to run and when it is over.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from horus_celery.cli import output
from horus_celery.dag.progress import StepStatus
from horus_celery.runs import RunView, StepView

#: The order in which the totals name what there is.
_STATUSES: Final = tuple(StepStatus)
#: What is worth a line where lines stay.
_TOLD: Final = frozenset(
    {
        StepStatus.RUNNING,
        StepStatus.COMPLETED,
        StepStatus.FAILED,
        StepStatus.STOPPED,
        StepStatus.REJECTED,
        StepStatus.SKIPPED,
    }
)


class Board:
    """Shows where the steps of one workflow stand; a context manager."""

    def __init__(
        self,
        names: Sequence[str],
        *,
        is_silent: bool = False,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show nothing yet.

        Args:
            names: The steps in their order.
            is_silent: Whether nothing is to be shown at all.
            seconds: Tells the time, from whatever moment on.
        """
        self._names = names
        self._width = max(map(len, names))
        self._seen: dict[str, StepStatus] = {}
        self._view: RunView | None = None
        self._seconds = seconds
        self._began = seconds()
        self._is_silent = is_silent
        self._window: output.Window | None = None

    def __enter__(self) -> Self:
        if not self._is_silent:
            self._window = output.window()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._window is not None:
            self._window.close(self._lines(len(self._names) + 1))

    def show(self, view: RunView) -> None:
        """Show where the steps stand now."""
        self._view = view
        if self._window is not None:
            self._window.show(self._lines(self._window.height - 1))
        elif not self._is_silent:
            self._tell_changes(view)
        self._seen = {name: step.status for name, step in view.steps.items()}

    @property
    def totals(self) -> str:
        """How many steps there are of each status."""
        if self._view is None:
            return f"{len(self._names):,} steps"
        counts = Counter(step.status for step in self._view.steps.values())
        told = [f"{counts[one]:,} {one.value}" for one in _STATUSES if counts[one]]
        return ", ".join(told)

    @property
    def took(self) -> str:
        """How long the workflow took; while it runs, how long it has been shown."""
        view = self._view
        if view is not None and view.started_at and view.ended_at:
            return _duration(view.ended_at - view.started_at)
        return _duration(timedelta(seconds=self._seconds() - self._began))

    def _tell_changes(self, view: RunView) -> None:
        for name in self._names:
            step = view.steps[name]
            if step.status in _TOLD and self._seen.get(name) is not step.status:
                output.line(self._line(name, step))

    def _lines(self, height: int) -> list[str]:
        """Return lines that fit, of the steps that are most to be seen."""
        view = self._view
        if view is None:
            return []
        names = list(self._names)
        room = max(1, height - 1)
        if len(names) > room:
            names.sort(key=lambda name: _rank(view.steps[name]))
            kept = set(names[:room])
            names = [name for name in self._names if name in kept]
        lines = [self._line(name, view.steps[name]) for name in names]
        return [*lines, f"{self.totals}; {self.took}"]

    def _line(self, name: str, step: StepView) -> str:
        parts = [f"{name:<{self._width}}", f"{step.status.value:<9}"]
        if step.started_at is not None and step.ended_at is not None:
            parts.append(_duration(step.ended_at - step.started_at))
        if step.reason:
            parts.append(output.printable(step.reason))
        if step.supervisor:
            parts.append(f"at {output.printable(step.supervisor)}")
        return "  ".join(parts).rstrip()


def _rank(step: StepView) -> tuple[int, float]:
    """Return how much a step is to be seen: the smaller, the more."""
    if step.status in {StepStatus.RUNNING, StepStatus.STOPPING}:
        return 0, 0.0
    if step.status in {StepStatus.FAILED, StepStatus.REJECTED, StepStatus.STOPPED}:
        return 1, 0.0
    if step.ended_at is not None:
        return 2, -step.ended_at.timestamp()
    return 3, 0.0


def _duration(took: timedelta) -> str:
    seconds = max(0.0, took.total_seconds())
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
