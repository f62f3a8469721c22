"""How a test waits for what has to hold again within some time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from horus_celery.errors import UnavailableError

#: Seconds between two looks.
_STEP: Final = 0.02


def within(seconds: float, holds: Callable[[], object]) -> None:
    """Wait until something holds; it has to within so many seconds.

    On a busy machine Redis may not answer in time: that does not say that it does not
    hold, and it is asked again.
    """
    began = time.monotonic()
    ticks = threading.Event()
    while True:
        with suppress(UnavailableError):
            if holds():
                return
        assert time.monotonic() - began < seconds
        ticks.wait(_STEP)
