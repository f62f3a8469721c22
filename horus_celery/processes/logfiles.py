"""How supervisord writes what programs say: a disk that takes nothing ends nothing.

Its own tells of each line that is lost with a traceback, and ends when nobody takes
that, as on a disk on which its standard error lies, too.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from supervisor import loggers


class LogFile(loggers.RotatingFileHandler):  # type: ignore[misc]  # it ships no types
    """A log of supervisord; what cannot be written is lost, which is said once."""

    stream: Any
    baseFilename: str  # noqa: N815 - supervisor's name
    _is_failing = False
    _has_failed = False

    def emit(self, record: object) -> None:
        self._has_failed = False
        try:
            if self.stream.closed:
                # It could not be put aside.
                self.closed = True
                self.reopen()
            super().emit(record)
        except OSError:
            self.handleError()
        self._is_failing = self._has_failed

    def handleError(self) -> None:  # noqa: N802 - supervisor's name
        self._has_failed = True
        if self._is_failing:
            return
        error = sys.exc_info()[1]
        why = error.strerror if isinstance(error, OSError) else type(error).__name__
        with suppress(OSError):
            sys.stderr.write(
                f"{self.baseFilename} cannot be written ({why}): make room or mend"
                " that, what is said until then is lost\n"
            )
            sys.stderr.flush()


def put_in_place() -> None:
    """Have supervisord make its logs of our kind from now on, in this process."""
    loggers.RotatingFileHandler = LogFile
