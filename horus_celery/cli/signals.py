"""Which signals end a command, and which exit code it then has.

What serves others, as `horus up`, was asked to end and does: 0. What waits for a job or
a workflow stops that, and says by which signal, as a shell does: 128 and its number. A
later signal changes neither.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from horus_celery.cli import output
from horus_celery.errors import HorusError

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: A job goes on when the terminal goes away in which somebody waits for it.
_INTERRUPTING: Final = (signal.SIGINT, signal.SIGTERM)


class EndAsked(BaseException):
    """Somebody pressed Ctrl-C, or sent TERM: not an error."""


class Interrupted(KeyboardInterrupt):
    """Somebody pressed Ctrl-C, or sent TERM, while a command waited for others."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        #: As a shell has it.
        self.exit_code = 128 + number


@contextmanager
def until_asked() -> Iterator[None]:
    """Let the first signal that asks for the end leave the block, and no second one.

    Behind a block that was left so none is heard, either: what is left to do is to
    exit, and the exit code is not to change any more.
    """
    earlier = {number: signal.getsignal(number) for number in _ENDING}
    for number, handler in earlier.items():
        # What nohup starts is to go on when its terminal goes away.
        if (number, handler) != (signal.SIGHUP, signal.SIG_IGN):
            signal.signal(number, _end)
    is_asked = False
    try:
        yield
    except EndAsked:
        is_asked = True
    finally:
        if not is_asked:
            _restore(earlier)


def ignore() -> None:
    """Hear no signal any more that asks for the end."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


def is_end_asked() -> bool:
    """Whether no signal is heard any more, because one was.

    What it raises is lost where it comes in the middle of a finalizer.
    """
    return signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def follow(wait: Callable[[], int], *, stop: Callable[[], str], later: str) -> int:
    """Wait for something, and return its exit code; a signal has it stopped.

    A second signal does not wait for the stop either.

    Args:
        wait: Waits, and returns the exit code.
        stop: Has it stopped, and returns what a person is told of that.
        later: The command that stops it, should it not be stopped now.
    """
    earlier = {number: signal.getsignal(number) for number in _INTERRUPTING}
    for number, handler in earlier.items():
        # A shell has what it starts with `&` hear no Ctrl-C.
        if handler is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    is_asked = False
    try:
        return wait()
    except Interrupted as asked:
        is_asked = True
        _stop(stop, later)
        return asked.exit_code
    finally:
        if not is_asked:
            _restore(earlier)


def _stop(stop: Callable[[], str], later: str) -> None:
    try:
        told = stop()
    except HorusError as error:
        told = f"not stopped: {error.detail}\nit may go on; to stop it later: {later}"
    except Interrupted:
        told = f"not waited for its stop; to see that it is stopped: {later}"
    ignore()
    output.note(told)


def _end(_number: int, _frame: FrameType | None) -> None:
    ignore()
    raise EndAsked


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(number)


def _restore(earlier: Mapping[signal.Signals, Any]) -> None:
    for number, handler in earlier.items():
        signal.signal(number, handler)
