"""The whole log of a job that is over: how it ends, and whether a runner signed it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from horus_celery.proof import Shown
from horus_celery.store.base import LogLine, LogStore, Stream
from horus_celery.transcript import Agreement, Transcript

#: How much of the error output is shown of a job that failed, in characters.
MAX_TAIL: Final = 2048
#: How many lines are read at a time in search of the end, and how often.
PAGE: Final = 1000
PAGES: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeLog:
    """What is known of a log that was read to its end."""

    #: The last lines of the error output, at most `MAX_TAIL` characters.
    stderr_tail: str
    #: Whether it differs from what a runner signed.
    is_forged: bool


def read_whole_log(logs: LogStore, shown: Shown) -> WholeLog:
    """Read a log to its end.

    Nothing is known of one that is so long that its end is not found with reasonable
    effort: who shows all of it compares it as well.
    """
    digest = shown.record.summary.digest
    transcript = Transcript(may_repeat=shown.job is None or shown.job.attempts > 1)
    tail, after = _Tail(), None
    for _ in range(PAGES):
        lines = logs.read(digest, after=after, limit=PAGE)
        for line in lines:
            transcript.add(line)
            tail.add(line)
        if len(lines) < PAGE:
            agreement = transcript.agreement_with(shown.receipt)
            is_forged = agreement is Agreement.DIFFERENT
            return WholeLog(stderr_tail=tail.text, is_forged=is_forged)
        after = lines[-1].cursor
    return WholeLog(stderr_tail="", is_forged=False)


class _Tail:
    """The last lines of the error output, as far as they fit."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._size = 0

    def add(self, line: LogLine) -> None:
        if line.stream is not Stream.STDERR:
            return
        self._lines.append(line.text)
        self._size += len(line.text) + 1
        while self._size > MAX_TAIL and len(self._lines) > 1:
            self._size -= len(self._lines.popleft()) + 1

    @property
    def text(self) -> str:
        return "\n".join(self._lines)[-MAX_TAIL:]
