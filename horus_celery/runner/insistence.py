"""How the journal gets what must not be forgotten: as soon as it can be written."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final, TypeVar

import structlog

from horus_celery.errors import UnavailableError

_logger: Final = structlog.get_logger(__name__)

#: How long after the journal could not be written it is tried again.
_RETRY: Final = timedelta(seconds=1)
_T = TypeVar("_T")


def until_written(
    write: Callable[[], _T], *, meanwhile: Callable[[], None] = lambda: None
) -> _T:
    """Write into the journal, as soon as it can be written, what must not be forgotten.

    Nothing else starts in this process meanwhile, and nothing else could be claimed.
    """
    is_told = False
    while True:
        try:
            return write()
        except UnavailableError as error:
            if not is_told:
                _logger.error("runner degraded", detail=error.detail)  # noqa: TRY400 - it is ours
            is_told = True
        meanwhile()
        # A disk tells nobody that it has room again.
        time.sleep(_RETRY.total_seconds())
