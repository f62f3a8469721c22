"""What the store hears while a script runs, and the stop that comes back from it.

Two threads talk to Redis, so that the loop that serves the script never waits for it.
Most scripts are over before anybody could look: for those there are no threads, and
their lines go to the store together with their end.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from itertools import islice
from typing import Final

import structlog

from horus_celery.errors import ConflictError, NotFoundError, UnavailableError
from horus_celery.instants import to_ms
from horus_celery.lifecycle import Status
from horus_celery.record import LEASE, LEASE_BEAT
from horus_celery.runner.node import Assignment, Node, Unsent
from horus_celery.store.base import Chunk, Hears, Watch

_logger: Final = structlog.get_logger(__name__)

#: Lines that come within this time are sent together; the first goes at once.
_BATCH: Final = timedelta(milliseconds=50)
#: The most lines in one call: the store takes so many at once or not at all, so a call
#: that failed is made again as it was.
_MAX_BATCH: Final = 200
#: So much output waits for the end of a short script; more goes at once.
_MAX_WAITING: Final = 64 * 1024
#: How long after Redis was found away the lines are tried again.
_RETRY: Final = timedelta(seconds=1)


class Attendance:
    """Keeps the lease of a running job, sends its lines, and hears of a stop."""

    def __init__(self, assignment: Assignment, node: Node) -> None:
        self._digest = assignment.digest
        self._attempt = assignment.attempt
        self._node = node
        #: Whether the script has to stop because the job is no longer this runner's.
        self.is_lost = False
        #: Becomes readable when the script has to stop.
        self.stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lines = _Lines(assignment, node)
        self._size = 0
        self._is_over = threading.Event()
        #: What tells of a recall, once somebody listens.
        self._watch: Watch | None = None
        self._heard = ExitStack()

    def say(self, chunk: Chunk) -> None:
        """Send a line, now or when Redis is there again."""
        self._lines.add(chunk)
        self._size += len(chunk.data)
        if self._size > _MAX_WAITING or self._lines.count > _MAX_BATCH:
            self.begin()

    @property
    def last(self) -> tuple[Chunk, ...]:
        """The lines that go to the store together with the end."""
        return () if self._watch else self._lines.waiting

    @property
    def unsent(self) -> Unsent | None:
        """What the store did not take up to the end, if there is any."""
        return self._lines.unsent if self._watch else None

    def begin(self) -> None:
        """Begin to renew the lease, to listen and to send lines, if not done yet."""
        if self._watch is not None:
            return
        watching = self._node.wakes.watch(self._digest, hears=Hears.RECALL)
        self._watch = self._heard.enter_context(watching)
        threading.Thread(
            target=self._keep,
            args=[self._watch],
            name=f"watch {self._digest[:8]}",
            daemon=True,
        ).start()
        self._lines.begin()

    def end(self) -> None:
        """Send the last lines; the lease is left to whoever settles the job."""
        if self._watch is None:
            os.close(self.stop)
            return
        self._is_over.set()
        self._watch.wake()
        self._lines.finish()

    def _keep(self, watch: Watch) -> None:
        with self._heard:
            while not self._is_over.is_set():
                self._renew()
                watch.wait(LEASE_BEAT)
        os.close(self.stop)

    def _renew(self) -> None:
        try:
            until = self._node.lease_clock.now() + LEASE
            status = self._node.store.renew(
                self._digest, attempt=self._attempt, lease_until=until
            )
        except (UnavailableError, NotFoundError):
            # The script goes on: Redis is away, or somebody has emptied it. The
            # outcome is safe in the journal.
            return
        except ConflictError:
            # Given up as lost: somebody else may run it next.
            self.is_lost = True
        if self.is_lost or status is Status.STOPPING:
            os.eventfd_write(self.stop, 1)


class _Lines:
    """Lines on their way to the store, in their order."""

    def __init__(self, assignment: Assignment, node: Node) -> None:
        self._digest = assignment.digest
        self._job_id = assignment.job.id
        self._node = node
        # Bounded by what the console keeps of a script's output.
        self._waiting: deque[Chunk] = deque()
        #: Those before them by which they find their place.
        self._before: tuple[Chunk, ...] = ()
        self._changed = threading.Condition()
        self._is_begun = False
        self._is_finished = False
        self._sending: threading.Thread | None = None

    def add(self, chunk: Chunk) -> None:
        with self._changed:
            self._waiting.append(chunk)
            self._changed.notify()
        # Many scripts say nothing: their jobs need no thread for it.
        if self._is_begun and self._sending is None:
            self._start()

    def begin(self) -> None:
        self._is_begun = True
        if self._waiting:
            self._start()

    def finish(self) -> None:
        with self._changed:
            self._is_finished = True
            self._changed.notify()
        if self._sending is not None:
            # It ends with the last line, or when Redis is found away.
            self._sending.join()
        if kept := len(self._waiting):
            _logger.info("lines kept for later", job_id=self._job_id, lines=kept)

    @property
    def waiting(self) -> tuple[Chunk, ...]:
        return tuple(self._waiting)

    @property
    def count(self) -> int:
        return len(self._waiting)

    @property
    def unsent(self) -> Unsent | None:
        if not self._waiting:
            return None
        return Unsent(before=self._before, chunks=tuple(self._waiting))

    def _start(self) -> None:
        self._sending = threading.Thread(
            target=self._send_all, name=f"lines {self._digest[:8]}", daemon=True
        )
        self._sending.start()

    def _send_all(self) -> None:
        while self._wait_for_lines():
            is_sent = self._send()
            with self._changed:
                if self._is_finished and not is_sent:
                    return
                if is_sent and len(self._waiting) >= _MAX_BATCH:
                    continue
                pause = _BATCH if is_sent else _RETRY
                self._changed.wait_for(lambda: self._is_finished, pause.total_seconds())

    def _wait_for_lines(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_finished)
            return bool(self._waiting)

    def _send(self) -> bool:
        """Send what waits; False if Redis is away."""
        with self._changed:
            batch = tuple(islice(self._waiting, _MAX_BATCH))
        try:
            self._node.logs.append(self._digest, batch)
        except UnavailableError:
            return False
        with self._changed:
            for _ in batch:
                self._waiting.popleft()
        self._before = _landmark((*self._before, *batch))
        return True


def _landmark(sent: Sequence[Chunk]) -> tuple[Chunk, ...]:
    """Return the end of what was sent that stands in the log only once.

    It reaches back to a chunk of another moment than the last one: a script may well
    say the same again within the millisecond that the log keeps.
    """
    last = to_ms(sent[-1].at)
    start = len(sent) - 1
    while start > 0 and to_ms(sent[start].at) == last:
        start -= 1
    return tuple(sent[start:])


@contextmanager
def attendance(assignment: Assignment, node: Node) -> Iterator[Attendance]:
    """Attend to a job for the duration of a block, in which it may `begin`."""
    attending = Attendance(assignment, node)
    try:
        yield attending
    finally:
        attending.end()
