"""What is kept of a script's output, and when the script has to end.

Most scripts are over in a moment. For all others one loop waits for both pipes, the end
of the script, a request to stop and the deadline at once; it never waits for anything
that may be away.
"""

from __future__ import annotations

import hashlib
import math
import os
import select
import selectors
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from horus_celery.clock import Clock
from horus_celery.statements.receipt import OutputDigest
from horus_celery.store.base import Chunk, Stream
from workers.launch import Process
from workers.masking import NO_MASK, Mask
from workers.meter import Excess, Meter

#: A longer line is passed on in pieces of this size.
MAX_LINE: Final = 16 * 1024
#: Between asking a script to stop and ending it, unless a deployment chose another.
STOP_GRACE: Final = timedelta(seconds=5)
#: A script that is over by then has its standard output read at once.
_AT_ONCE: Final = timedelta(milliseconds=10)
#: A script that is over by then is not attended to while it runs.
_SOON: Final = timedelta(milliseconds=20)
#: What one read takes at most: as much as a pipe holds.
_READ: Final = 64 * 1024
#: So many reads empty a pipe that was made as large as a user may make it (1 MiB).
_PIPE_READS: Final = 32


class End(Enum):
    """Why the script is no longer running."""

    BY_ITSELF = auto()
    TIMEOUT = auto()
    STOPPED = auto()


class Console:
    """A script's output as far as it is kept: the first bytes of both streams together.

    Whole lines are passed on at once.
    """

    def __init__(
        self,
        *,
        limit: int,
        clock: Clock,
        pass_on: Callable[[Chunk], None],
        mask: Mask = NO_MASK,
    ) -> None:
        self._left = limit
        self._clock = clock
        self._pass_on = pass_on
        #: Masks what belongs to the script and does not come through here.
        self.mask = mask
        self._maskers = {stream: mask.masker() for stream in Stream}
        self._hashes = {stream: hashlib.sha256() for stream in Stream}
        self._sizes = dict.fromkeys(Stream, 0)
        self._truncated = dict.fromkeys(Stream, False)
        self._open_lines = {stream: bytearray() for stream in Stream}
        self._stdout = bytearray()

    def write(self, stream: Stream, data: bytes) -> None:
        """Take output as it came, or what the runner itself has to say."""
        self._keep(stream, self._maskers[stream].feed(data))

    def _keep(self, stream: Stream, data: bytes) -> None:
        kept = data[: self._left]
        if len(kept) < len(data):
            self._truncated[stream] = True
        if not kept:
            return
        self._left -= len(kept)
        self._sizes[stream] += len(kept)
        self._hashes[stream].update(kept)
        if stream is Stream.STDOUT:
            self._stdout += kept
        self._open_lines[stream] += kept
        for line in _take_lines(self._open_lines[stream]):
            self._say(stream, line)

    def finish(self) -> None:
        """Pass on what had no newline at its end."""
        for stream, masker in self._maskers.items():
            self._keep(stream, masker.finish())
        for stream, rest in self._open_lines.items():
            if rest:
                self._say(stream, bytes(rest))
                rest.clear()

    def digest(self, stream: Stream) -> OutputDigest:
        """Return the digest of what was kept of a stream."""
        return OutputDigest(
            sha256=self._hashes[stream].hexdigest(),
            bytes=self._sizes[stream],
            truncated=self._truncated[stream],
        )

    @property
    def stdout(self) -> bytes:
        """What was kept of the standard output."""
        return bytes(self._stdout)

    def _say(self, stream: Stream, line: bytes) -> None:
        self._pass_on(Chunk(at=self._clock.now(), stream=stream, data=line))


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """What may end a script from outside, and who is told how it goes on."""

    #: A descriptor that becomes readable when the script is to stop.
    stop: int
    timeout: timedelta
    meter: Meter
    #: Called once if the script is not over soon.
    begin: Callable[[], None]
    #: Between asking the script to stop and ending it.
    grace: timedelta = STOP_GRACE


def follow(process: Process, console: Console, watcher: Watcher) -> End | Excess:
    """Take a script's output until it has ended or must end; nothing of it is left.

    The timeout is wall time by the monotonic clock, so a clock that is set changes
    nothing.
    """
    begun = time.monotonic()
    soon = min(begun + _AT_ONCE.total_seconds(), watcher.meter.due)
    if _is_over(process, by=soon):
        end: End | Excess = End.BY_ITSELF
    else:
        with _selector(process, watcher) as selector:
            end = _until_end(process, console, watcher, selector, begun=begun)
    process.kill()
    _drain(process.stdout, Stream.STDOUT, console)
    _drain(process.stderr, Stream.STDERR, console)
    console.finish()
    return end


def _is_over(process: Process, *, by: float) -> bool:
    """Whether the script ends by then, and says nothing on its standard error before.

    The place of that among its other words would be lost.
    """
    first = select.poll()
    for descriptor in (process.reports, process.stderr):
        first.register(descriptor, select.POLLIN)
    while (left := by - time.monotonic()) > 0:
        ready = dict(first.poll(left * 1000))
        if process.stderr in ready:
            return False
        if ready and process.has_ended():
            return True
    return False


def _until_end(
    process: Process,
    console: Console,
    watcher: Watcher,
    selector: selectors.BaseSelector,
    *,
    begun: float,
) -> End | Excess:
    meter = watcher.meter
    deadline = begun + watcher.timeout.total_seconds()
    stop_deadline: float | None = None
    begin_at = begun + _SOON.total_seconds()
    while True:
        now = time.monotonic()
        if now >= begin_at:
            watcher.begin()
            begin_at = math.inf
        if stop_deadline is not None and now >= stop_deadline:
            return End.STOPPED
        if now >= deadline:
            return End.TIMEOUT if stop_deadline is None else End.STOPPED
        if now >= meter.due and (excess := meter.look()) is not None:
            return excess
        until = min(deadline, stop_deadline or deadline, meter.due, begin_at)
        keys = [key for key, _ in selector.select(max(0.0, until - now))]
        ready = [key.fd for key in keys]
        if process.reports in ready and process.has_ended():
            return End.BY_ITSELF if stop_deadline is None else End.STOPPED
        if watcher.stop in ready:
            selector.unregister(watcher.stop)
            process.terminate()
            stop_deadline = time.monotonic() + watcher.grace.total_seconds()
        for key in keys:
            if key.data is not None and _read(key.fd, key.data, console) == b"":
                selector.unregister(key.fd)


def _selector(process: Process, watcher: Watcher) -> selectors.BaseSelector:
    selector = selectors.DefaultSelector()
    selector.register(process.stdout, selectors.EVENT_READ, Stream.STDOUT)
    selector.register(process.stderr, selectors.EVENT_READ, Stream.STDERR)
    selector.register(process.reports, selectors.EVENT_READ)
    selector.register(watcher.stop, selectors.EVENT_READ)
    return selector


def _read(pipe: int, stream: Stream, console: Console) -> bytes | None:
    """Read once from a pipe; None if there is nothing now, b"" if nothing comes."""
    try:
        data = os.read(pipe, _READ)
    except BlockingIOError:
        return None
    if data:
        console.write(stream, data)
    return data


def _drain(pipe: int, stream: Stream, console: Console) -> None:
    """Read what a pipe still holds; whoever wrote it is gone."""
    # Bounded, should somebody outside have been handed the other end.
    for _ in range(_PIPE_READS):
        if not _read(pipe, stream, console):
            break


def _take_lines(buffer: bytearray) -> Iterator[bytes]:
    """Take whole lines out of a buffer, and pieces of lines that are too long."""
    while buffer:
        newline = buffer.find(b"\n", 0, MAX_LINE)
        if newline < 0 and len(buffer) < MAX_LINE:
            return
        size = newline + 1 if newline >= 0 else _size_of_piece(buffer)
        yield bytes(buffer[:size])
        del buffer[:size]


def _size_of_piece(line: bytearray) -> int:
    """Return how much of a long line is a piece: no character of UTF-8 is cut."""
    for back, byte in enumerate(reversed(line[MAX_LINE - 3 : MAX_LINE]), 1):
        if byte < 0x80:  # noqa: PLR2004 - ASCII
            break
        if byte >= 0xC0:  # noqa: PLR2004 - the first byte of 2, 3 or 4
            wanted = 2 + (byte >= 0xE0) + (byte >= 0xF0)  # noqa: PLR2004
            return MAX_LINE - back if wanted > back else MAX_LINE
    return MAX_LINE
