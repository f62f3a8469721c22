"""What is printed: the one module of the command line that prints."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO

from horus_celery import cli
from horus_celery.errors import ConfigurationError
from horus_celery.store.base import LogLine, Stream

#: More columns than any table has.
_UNBOUNDED: Final = 1 << 20


def line(text: str = "") -> None:
    """Print a line for a person."""
    with _writing():
        print(text, flush=True)


def note(text: str) -> None:
    """Print a line that is not the command's result, for whom it still reaches."""
    # A terminal that went away, or a full disk, must not end what runs for others.
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


@contextmanager
def noted_if_unread(text: str) -> Iterator[None]:
    """Note this as well when standard output takes no more, or nobody reads it."""
    try:
        yield
    except (BrokenPipeError, ConfigurationError):
        note(text)
        raise


def error(text: str) -> None:
    """Print why a command failed, as one line; its exit code says so in any case."""
    note(f"horus: {printable(text)}")


def data(value: object) -> None:
    """Print JSON for a program: ASCII, unless the locale has every letter."""
    has_all = codecs.lookup(sys.stdout.encoding).name.startswith("utf")
    with _writing():
        print(json.dumps(value, indent=2, ensure_ascii=not has_all), flush=True)


def text(value: str) -> None:
    """Print what a script gave, without a newline of ours unless it lacks its own."""
    shown = printable(value, keep="\n\t") if sys.stdout.isatty() else value
    with _writing():
        print(shown, end="" if shown.endswith("\n") or not shown else "\n", flush=True)


def script(said: LogLine) -> None:
    """Print a line of a script's output, or a piece of one, on its own stream.

    A terminal is given what cannot command it, everybody else the output as it is.
    """
    stream = _stream(said)
    with _writing(stream):
        if stream.isatty():
            end = "\n" if said.ends_line else ""
            print(printable(said.text, keep="\t"), file=stream, end=end, flush=True)
            return
        stream.flush()
        stream.buffer.write(said.data)
        stream.buffer.flush()


def end_of_script(last: LogLine) -> None:
    """Have what follows a script's output begin on a line of its own, on a terminal."""
    stream = _stream(last)
    if stream.isatty() and not last.ends_line:
        with _writing(stream):
            print(file=stream, flush=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under headings: aligned on a terminal, else tabs between them."""
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    with _writing():
        if sys.stdout.isatty():
            _print_aligned(columns, texts)
            return
        for row in [list(columns), *texts]:
            print("\t".join(printable(cell) for cell in row))
        sys.stdout.flush()


def _print_aligned(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - 40 ms, only for tables
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, no_wrap=True)
    for row in rows:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(highlight=False)
    # A row is as long as it is, and the terminal wraps it: an id that is folded within
    # its column can neither be read nor copied.
    unbounded = console.options.update(max_width=_UNBOUNDED)
    natural = console.measure(shown, options=unbounded).maximum
    console.width = max(console.width, natural)
    console.print(shown)


def fields(values: Iterable[tuple[str, Any]]) -> None:
    """Print names and values below each other."""
    pairs = [(name, "" if value is None else str(value)) for name, value in values]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        # Further lines of a value stand below its first, where no name can stand.
        shown = printable(value, keep="\n\t").replace("\n", f"\n{'':<{width}}  ")
        line(f"{name:<{width}}  {shown}".rstrip())


class Window:
    """Some lines at the end of a terminal that change while a command waits."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - 40 ms, only where it waits
        from rich.live import Live  # noqa: PLC0415

        self._console = Console(highlight=False, markup=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    @property
    def height(self) -> int:
        """How many lines the terminal has."""
        return self._console.height

    def show(self, lines: Sequence[str]) -> None:
        """Show these lines instead of those before."""
        from rich.text import Text  # noqa: PLC0415

        self._live.update(
            Text("\n".join(lines), no_wrap=True, overflow="ellipsis"), refresh=True
        )

    def close(self, lines: Sequence[str]) -> None:
        """Leave these lines where the changing ones were."""
        self._live.stop()
        for one in lines:
            line(one)


def window() -> Window | None:
    """Open a window on the terminal; None if standard output is none."""
    return Window() if sys.stdout.isatty() else None


@contextmanager
def _writing(stream: TextIO | None = None) -> Iterator[None]:
    """Tell it in words when standard output takes no more.

    Raises:
        HorusError: which says why.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # that is for the reader to decide
    except OSError as error:
        if stream is sys.stderr:
            raise
        raise cli.unwritable(error) from None


def _stream(said: LogLine) -> TextIO:
    return sys.stdout if said.stream is Stream.STDOUT else sys.stderr


def printable(text: str, *, keep: str = "") -> str:
    """Return a text without what could command a terminal."""
    return "".join(char for char in text if char.isprintable() or char in keep)
