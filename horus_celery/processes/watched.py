"""How supervisord starts a program again: by our policy instead of its own.

Its own starts what had begun well again at once and for ever, and counts only those
that end at their very start.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from supervisor import process
from supervisor.states import ProcessStates, SupervisorStates

from horus_celery.journal import ProcessMark, is_alive, process_mark
from horus_celery.processes import tree
from horus_celery.processes.base import GRACE
from horus_celery.processes.policy import Policy, Series

#: Above every number of seconds that a program waits: supervisord compares the two.
RETRIES: Final = 1000


class WatchedProgram(process.Subprocess):  # type: ignore[misc]  # it ships no types
    """A program of supervisord; every end that nobody asked for is one for the policy.

    supervisord goes through its states as ever; here is decided what `delay` and
    `backoff` are, by which it starts again (BACKOFF) or gives up (FATAL).
    """

    policy = Policy()
    delay: float
    backoff: float

    def __init__(self, config: Any) -> None:  # noqa: ANN401 - supervisor ships no types
        super().__init__(config)
        self._series = Series()
        self._born_at = timedelta()
        #: What stood below it when it was last asked for its end.
        self._below: tuple[ProcessMark, ...] = ()

    def spawn(self) -> int | None:
        if self.state != ProcessStates.BACKOFF:
            # Somebody asked for it.
            self._series = Series()
        self._born_at = _now()
        pid: int | None = super().spawn()
        return pid

    def change_state(self, new_state: int, expected: bool = True) -> Any:  # noqa: ANN401, FBT001, FBT002 - supervisor's signature
        if new_state == ProcessStates.EXITED:
            new_state = ProcessStates.BACKOFF
        changed = super().change_state(new_state, expected)
        if new_state == ProcessStates.BACKOFF:
            self._put_off()
        return changed

    def kill(self, sig: int) -> Any:  # noqa: ANN401 - supervisor ships no types
        # What a runner runs has sessions, and so groups, of its own.
        below = tree.descendants(self.pid) if self.pid else []
        self._below = tuple(_marks(below))
        refusal = super().kill(sig)
        if sig == signal.SIGKILL:
            tree.signal_all(below, signal.SIGKILL)
        self._hurry()
        return refusal

    def finish(self, pid: int, sts: int) -> None:
        # A script around a program may end without it, and supervisord takes that for
        # the end of both.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        left = [one.pid for one in self._below if is_alive(one)]
        tree.signal_all(left, signal.SIGKILL)
        self._below = ()
        super().finish(pid, sts)

    def transition(self) -> None:
        self._hurry()
        super().transition()

    def _put_off(self) -> None:
        self._series = self.policy.after_end(
            self._series, born_at=self._born_at, ended_at=_now()
        )
        wait = self.policy.wait(self._series)
        if wait is None:
            # More than it may be: supervisord gives up at its next look.
            self.backoff = RETRIES + 1
            self.delay = 0
        else:
            # Should the clock be set back, `backoff` is how long it waits anew.
            self.backoff = wait.total_seconds()
            self.delay = time.time() + self.backoff

    def _hurry(self) -> None:
        """Give nobody at the end of all as long as when he alone is stopped."""
        is_ending = self.config.options.mood < SupervisorStates.RUNNING
        if is_ending and self.state == ProcessStates.STOPPING:
            self.delay = min(self.delay, time.time() + GRACE.total_seconds())


def put_in_place(policy: Policy | None = None) -> None:
    """Have supervisord make its programs of our kind from now on, in this process."""
    WatchedProgram.policy = policy or Policy()
    process.Subprocess = WatchedProgram


def _marks(pids: Iterable[int]) -> Iterator[ProcessMark]:
    for pid in pids:
        with suppress(ProcessLookupError):
            yield process_mark(pid)


def _now() -> timedelta:
    return timedelta(seconds=time.monotonic())
