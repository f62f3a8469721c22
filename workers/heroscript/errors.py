"""What can be wrong with a script, as a small tree; each error knows its line.

HeroScriptError
├── ParseError           the text is no HeroScript
├── ParameterError       a parameter is missing, unknown, or not of its kind
├── UnknownActionsError  there is nobody for some actions; all of them are listed
├── ActionError          an action was run and failed
└── UnwritableError      a value that no HeroScript says
"""

from __future__ import annotations


class HeroScriptError(Exception):
    """The root; `line` counts from 1, and is None of what no text says."""

    def __init__(
        self, message: str, line: int | None = None, column: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        #: Where in the line, from 1; a tab counts as the four spaces that it becomes.
        self.column = column

    def __str__(self) -> str:
        if self.line is None:
            return self.message
        column = "" if self.column is None else f", column {self.column}"
        return f"{self.message} (line {self.line}{column})"


class ParseError(HeroScriptError):
    """The text is no HeroScript."""


class ParameterError(HeroScriptError):
    """A parameter is missing, unknown, or not of its kind."""


class UnknownActionsError(HeroScriptError):
    """There is nobody for some actions; the text has a line for each of them."""

    def __str__(self) -> str:
        return self.message


class ActionError(HeroScriptError):
    """An action was run and failed."""


class UnwritableError(HeroScriptError):
    """A value that no HeroScript says; the text names it."""
