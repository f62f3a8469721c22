"""How steps elsewhere go on: started there, and waited for by calls that sleep.

Each supervisor elsewhere has a thread that starts its steps, and a few that wait for
their ends. While it is away its steps stay ready, and are tried again ever more seldom.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from horus_celery.errors import HorusError
from horus_celery.store.workflows import Handed
from horus_celery.workflows.conductor import Conductor
from horus_celery.workflows.elsewhere import RemoteSupervisor

#: Steps that are waited for at a time; the others are looked at now and then.
_MOST: Final = 16
#: What one waiting call asks for; proxies often cut an idle request after 30 s.
_WAIT: Final = timedelta(seconds=20)
#: And before a step is said to run: twice as long each time.
_FIRST_WAIT: Final = timedelta(seconds=1)
_EVERY: Final = timedelta(seconds=1)

_logger: Final = structlog.get_logger(__name__)


class Watch:
    """Waits for the ends of steps of one supervisor, a few at a time."""

    def __init__(
        self, supervisor: RemoteSupervisor, *, wait: timedelta = _FIRST_WAIT
    ) -> None:
        """Take what it works with.

        Args:
            supervisor: Where the steps are.
            wait: How long it waits for an end before it asks whether a step runs.
        """
        self._supervisor = supervisor
        self._first_wait = wait
        self._lock = threading.Lock()
        self._watched: set[str] = set()
        self._is_closed = threading.Event()
        #: Called with a workflow and a step whose job is said to be over.
        self.tell: Callable[[str, Handed], None] = lambda workflow, step: None
        #: Called with those whose job is not over; says whether it is told to run.
        self.tell_start: Callable[[str, Handed], bool] = lambda workflow, step: True

    def has(self, step: Handed) -> bool:
        """Whether the end of a step is being waited for."""
        return step.digest in self._watched

    def add(self, workflow: str, step: Handed) -> None:
        """Wait for the end of a step, if there is room; else it is looked at later."""
        with self._lock:
            is_new = step.digest not in self._watched
            if not is_new or len(self._watched) >= _MOST or self._is_closed.is_set():
                return
            self._watched.add(step.digest)
        # A daemon: a call that waits keeps no process from its end.
        threading.Thread(
            target=self._wait, args=(workflow, step), name="horus-watch", daemon=True
        ).start()

    def close(self) -> None:
        """Wait for nothing more."""
        self._is_closed.set()

    def _wait(self, workflow: str, step: Handed) -> None:
        try:
            wait, is_over = self._first_wait, False
            while not self._is_closed.is_set():
                is_over = self._supervisor.wait(step.digest, wait)
                if is_over:
                    break
                if wait < _WAIT:
                    runs = self.tell_start(workflow, step)
                    wait = _WAIT if runs else min(2 * wait, _WAIT)
            if is_over and not self._is_closed.is_set():
                self.tell(workflow, step)
        except HorusError as error:
            # It is looked at again when its time has come.
            _logger.info("step not watched", job_id=step.job_id, reason=error.reason)
        finally:
            with self._lock:
                self._watched.discard(step.digest)


class Outpost:
    """Moves on the steps of one supervisor elsewhere, in threads of its own."""

    def __init__(self, conductor: Conductor, watch: Watch) -> None:
        self._conductor = conductor
        self._watch = watch
        watch.tell, watch.tell_start = conductor.settle, conductor.note_start
        self._lock = threading.Lock()
        self._woken: set[str] = set()
        self._is_woken = threading.Event()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="horus-outpost", daemon=True
        )

    def wake(self, workflow: str) -> None:
        """Say that steps of a workflow wait for this supervisor."""
        with self._lock:
            self._woken.add(workflow)
        self._is_woken.set()

    def start(self) -> None:
        """Begin; call it once."""
        self._thread.start()

    def close(self) -> None:
        """End, and wait for nothing more."""
        self._is_closed.set()
        self._is_woken.set()
        self._watch.close()

    def _run(self) -> None:
        while not self._is_closed.is_set():
            was_woken = self._is_woken.wait(_EVERY.total_seconds())
            self._is_woken.clear()
            with self._lock:
                woken, self._woken = self._woken, set()
            try:
                for workflow in woken:
                    self._conductor.advance(workflow)
                if not was_woken:
                    self._conductor.sweep()
            except Exception as error:  # noqa: BLE001 - without it steps there stay lost
                _logger.warning("outpost put off", error=type(error).__name__)
