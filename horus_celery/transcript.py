"""Whether the output that was shown of a job is what its runner signed."""

from __future__ import annotations

import hashlib
from collections import deque
from enum import StrEnum
from typing import Final, Self

from horus_celery.outcome import Outcome, Submitted
from horus_celery.statements.receipt import OutputDigest, Receipt, ResultDigest
from horus_celery.store.base import LogLine, Stream

#: Of each stream of a job that may be started again; no runner signs more of one start.
_REMEMBERED: Final = 4 * 1024 * 1024
#: What stands for bytes that are no UTF-8.
_REPLACEMENT: Final = "\ufffd".encode()


class Agreement(StrEnum):
    """How the output that was shown agrees with what the runner signed."""

    #: It is what the runner signed, all of it and nothing else.
    SIGNED = "signed"
    #: What the runner signed is its end; the rest is of earlier attempts, or forged.
    ENDS_SIGNED = "ends signed"
    #: It holds replacements for bytes that are no UTF-8, and agrees but for them.
    NOT_COMPARABLE = "not comparable"
    #: Something was added, changed or left out.
    DIFFERENT = "different"
    #: No verified receipt speaks of it.
    UNSIGNED = "unsigned"


class Transcript:
    """What was shown of a job's output, to be compared with what its runner signed.

    Only digests of it are kept; with `may_repeat` also the end of each stream.
    """

    def __init__(self, *, may_repeat: bool = False) -> None:
        """Begin with nothing shown.

        Args:
            may_repeat: Whether the job may have been started more than once: its log
                holds the output of every attempt, its receipt speaks of the last.
        """
        self._shown = {stream: _Shown(may_repeat=may_repeat) for stream in Stream}

    @classmethod
    def of(cls, job: Submitted) -> Self:
        """Begin the transcript of a job that this client signed."""
        return cls(may_repeat=job.job.attempts > 1)

    def add(self, line: LogLine) -> None:
        """Note that a line was shown."""
        self._shown[line.stream].add(line.data)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was shown."""
        return all(shown.is_empty for shown in self._shown.values())

    def agreement(self, outcome: Outcome) -> Agreement:
        """Return how the shown output, to the end, agrees with an outcome's receipt."""
        return self.agreement_with(outcome.receipt)

    def agreement_with(self, receipt: Receipt | None) -> Agreement:
        """Return how the shown output, to the end, agrees with a receipt.

        It is that of the stream that agrees less.
        """
        if receipt is None:
            return Agreement.UNSIGNED
        found = {
            self._shown[Stream.STDOUT].agreement(receipt.stdout, text=receipt.result),
            self._shown[Stream.STDERR].agreement(receipt.stderr, text=None),
        }
        return max(found, key=list(Agreement).index)


class _Shown:
    """What was shown of one stream."""

    def __init__(self, *, may_repeat: bool) -> None:
        self._hash = hashlib.sha256()
        self._size = 0
        self._replaced = 0
        self._may_repeat = may_repeat
        self._end: deque[bytes] = deque()
        self._end_size = 0

    @property
    def is_empty(self) -> bool:
        return self._size == 0

    def add(self, data: bytes) -> None:
        self._hash.update(data)
        self._size += len(data)
        self._replaced += data.count(_REPLACEMENT)
        if self._may_repeat:
            self._end.append(data)
            self._end_size += len(data)
            while self._end_size > _REMEMBERED:
                self._end_size -= len(self._end.popleft())

    def agreement(
        self, signed: OutputDigest, *, text: ResultDigest | None
    ) -> Agreement:
        """Compare with what was signed of this stream.

        Args:
            signed: The bytes of the script.
            text: Perhaps the same with bytes replaced that are no UTF-8, as shown.
        """
        # Where text and bytes are the same, no byte had to be replaced.
        has_bad = text is None or (text.sha256, text.bytes) != (
            signed.sha256,
            signed.bytes,
        )
        is_lossy = has_bad and self._replaced > 0 and self._may_stand_for(signed.bytes)
        wanted: list[OutputDigest | ResultDigest] = [signed]
        if is_lossy and text is not None:
            wanted.append(text)
        if any(self._is(one) for one in wanted):
            return Agreement.SIGNED
        if self._may_repeat and any(self._ends_with(one) for one in wanted):
            return Agreement.ENDS_SIGNED
        return Agreement.NOT_COMPARABLE if is_lossy else Agreement.DIFFERENT

    def _may_stand_for(self, size: int) -> bool:
        """Say whether it may be so many bytes: a replacement is three, for 1 to 3."""
        least = 0 if self._may_repeat else self._size - 2 * self._replaced
        return least <= size <= self._size

    def _is(self, signed: OutputDigest | ResultDigest) -> bool:
        return (self._size, self._hash.hexdigest()) == (signed.bytes, signed.sha256)

    def _ends_with(self, signed: OutputDigest | ResultDigest) -> bool:
        end: deque[bytes] = deque()
        missing = signed.bytes
        for data in reversed(self._end):
            if missing <= 0:
                break
            end.appendleft(data)
            missing -= len(data)
        found = hashlib.sha256(b"".join(end)).hexdigest()
        return missing == 0 and found == signed.sha256
