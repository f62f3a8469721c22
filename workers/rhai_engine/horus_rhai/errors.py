"""What can go wrong with a script.

RhaiError                what a script came to that failed
├── RhaiSyntaxError      it cannot be compiled
├── RhaiLimitError       it went over a limit, which it cannot catch
└── RhaiTerminated       it was ended from outside

RhaiValueError is raised for a value that cannot leave its script.
NoSuchFunction and NoSuchProperty are raised by objects that a script holds, for
what they do not have; the script sees Rhai's own error instead.
"""

from __future__ import annotations

from typing import Literal


class RhaiError(Exception):
    """A script failed; the message names neither line nor column."""

    def __init__(
        self,
        message: str,
        *,
        line: int | None = None,
        column: int | None = None,
        value: object = None,
    ) -> None:
        super().__init__(message)
        #: Where it happened, from 1; None where nobody knows.
        self.line = line
        self.column = column
        #: What the script threw.
        self.value = value


class RhaiSyntaxError(RhaiError):
    """A script cannot be compiled."""


class RhaiLimitError(RhaiError):
    """A script went over one of its engine's limits."""


class RhaiTerminated(RhaiError):
    """A run was ended from outside."""

    #: What ended it.
    reason: Literal["timeout", "cancelled"]

    def __init__(
        self,
        message: str,
        *,
        line: int | None = None,
        column: int | None = None,
        reason: Literal["timeout", "cancelled"] = "cancelled",
    ) -> None:
        super().__init__(message, line=line, column=column)
        self.reason = reason


class RhaiValueError(ValueError):
    """A value of a script has no form outside of it."""


class NoSuchFunction(LookupError):
    """An object has no function of this name that takes these arguments."""


class NoSuchProperty(LookupError):
    """An object has no property of this name, or none that may be written."""
