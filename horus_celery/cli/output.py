"""What is printed: the one module of the command line that prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any

from horus_celery.store.base import LogLine, Stream


def line(text: str = "") -> None:
    """Print a line for a person."""
    print(text, flush=True)


def note(text: str) -> None:
    """Print a line that is not the command's result."""
    print(text, file=sys.stderr, flush=True)


def error(text: str) -> None:
    """Print why a command failed, as one line."""
    print(f"horus: {printable(text)}", file=sys.stderr, flush=True)


def data(value: object) -> None:
    """Print JSON for a program."""
    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)


def text(value: str) -> None:
    """Print what a script gave, without a newline of ours unless it lacks its own."""
    shown = printable(value, keep="\n\t") if sys.stdout.isatty() else value
    print(shown, end="" if shown.endswith("\n") or not shown else "\n", flush=True)


def script(said: LogLine) -> None:
    """Print a line of a script's output on the stream that it came from."""
    stream: IO[str] = sys.stdout if said.stream is Stream.STDOUT else sys.stderr
    shown = printable(said.text, keep="\t") if stream.isatty() else said.text
    print(shown, file=stream, flush=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under headings: aligned on a terminal, else tabs between them."""
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in [list(columns), *texts]:
            print("\t".join(printable(cell) for cell in row))
        return
    from rich.console import Console  # noqa: PLC0415 - 40 ms, only for tables
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in texts:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    Console(highlight=False).print(shown)


def fields(values: Iterable[tuple[str, Any]]) -> None:
    """Print names and values below each other."""
    pairs = [(name, "" if value is None else str(value)) for name, value in values]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print(f"{name:<{width}}  {printable(value)}".rstrip(), flush=True)


def printable(text: str, *, keep: str = "") -> str:
    """Return a text without what could command a terminal."""
    return "".join(char for char in text if char.isprintable() or char in keep)
