"""How many jobs of a runner run at a time on this node, whichever worker has them.

A slot is a lock of the kernel's on a file: it goes with the process that holds it,
however that ends, and no script inherits it.
"""

from __future__ import annotations

import fcntl
import os
import select
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from horus_celery.errors import ConfigurationError

#: Between two looks for a free slot, while another worker of this runner has them all.
_STEP: Final = timedelta(milliseconds=50)
_MS: Final = timedelta(milliseconds=1)
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Slots:
    """The slots of one runner, as one worker's main process and children see them."""

    def __init__(self, folder: Path, *, count: int) -> None:
        self._folder = folder
        self._count = count
        # Children inherit it: it becomes readable when the worker is to end.
        self._ending = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def prepare(self) -> None:
        """Make their place.

        Raises:
            ConfigurationError: if it cannot be made.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._folder, _FOLDER))
        except OSError as error:
            raise self._unusable(error) from None

    def end(self) -> None:
        """Let nobody wait for a slot any more."""
        os.eventfd_write(self._ending, 1)

    @contextmanager
    def taken(self, *, before_waiting: Callable[[], None]) -> Iterator[bool]:
        """Hold a slot for the duration of a block, as soon as one is free.

        False if the worker is to end first: then none is held.

        Args:
            before_waiting: Called once if no slot is free at once.

        Raises:
            ConfigurationError: if the slots cannot be used.
        """
        with ExitStack() as held:
            slot = self._try()
            if slot is None:
                before_waiting()
                slot = self._wait()
            if slot is not None:
                held.callback(os.close, slot)
            yield slot is not None

    def _wait(self) -> int | None:
        ending = select.poll()
        ending.register(self._ending, select.POLLIN)
        while not ending.poll(_STEP / _MS):
            slot = self._try()
            if slot is not None:
                return slot
        return None

    def _try(self) -> int | None:
        """Return the descriptor of a slot that was free."""
        try:
            folder = os.open(self._folder, _FOLDER)
            try:
                return self._first_free(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._unusable(error) from None

    def _first_free(self, folder: int) -> int | None:
        for number in range(self._count):
            slot = os.open(str(number), _FILE, 0o600, dir_fd=folder)
            try:
                fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(slot)
            else:
                return slot
        return None

    def _unusable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"what keeps a runner to its number of jobs cannot be used in"
            f" {self._folder}: {error.strerror}; mend its owner and mode, and put no"
            " link there"
        )
