"""How a test waits for what has to hold again within some time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

#: Seconds between two looks.
_STEP: Final = 0.02


def within(seconds: float, holds: Callable[[], object]) -> None:
    """Wait until something holds; it has to within so many seconds."""
    began = time.monotonic()
    ticks = threading.Event()
    while not holds():
        assert time.monotonic() - began < seconds
        ticks.wait(_STEP)
