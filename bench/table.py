"""The table that a benchmark prints: each figure beside its peer's, with the ratio."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime


class Table:
    """Collects figures, shows each at once on standard error, and all at the end."""

    def __init__(self, rounds: int, *, peer: str = "stock Celery") -> None:
        self._rounds = rounds
        head = ("what", "goal", "Horus", peer, "ratio")
        self._rows: list[tuple[str, ...]] = [head, ("---",) * len(head)]

    def add(
        self, what: str, goal: str, ours: float, theirs: float | None, unit: str
    ) -> None:
        """Add a figure; without one of the peer there is no ratio."""
        digits = 2 if unit == "s" else 0 if ours >= 100 else 1  # noqa: PLR2004 - shown digits
        peer = "-" if theirs is None else f"{theirs:,.{digits}f} {unit}"
        ratio = "-" if theirs is None else f"{ours / theirs:.2f}"
        self._rows.append((what, goal, f"{ours:,.{digits}f} {unit}", peer, ratio))
        print("\t".join(self._rows[-1]), file=sys.stderr)

    def show(self) -> None:
        """Print the table as Markdown, with the day and the machine."""
        print(
            f"\n{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores,"
            f" Python {platform.python_version()}, median of {self._rounds} rounds\n"
        )
        for row in self._rows:
            print(f"| {' | '.join(row)} |")
