"""What a script of the tables is expected to come to, besides a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fails:
    """The script fails, and its message holds this text."""

    text: str


@dataclass(frozen=True)
class Refused:
    """The script cannot be compiled, and the message holds this text."""

    text: str


@dataclass(frozen=True)
class Limited:
    """The script goes over a limit, and the message holds this text."""

    text: str


@dataclass(frozen=True)
class Near:
    """A float, but for its last digits."""

    number: float
