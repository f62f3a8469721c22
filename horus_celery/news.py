"""What Flower is told of a worker: nothing while the broker is away.

Celery's own dispatcher tries again until it is heard, in the very loop that takes bells
and hears of the pool. So a broker that is back would wait for news of its absence.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, Final

import structlog
from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher

_logger: Final = structlog.get_logger(__name__)

#: How long nothing is told once the broker did not take something.
_SILENCE: Final = timedelta(seconds=10)


class PatientDispatcher(EventDispatcher):  # type: ignore[misc] # Celery is untyped
    """Tells what happened once, or not at all."""

    #: By the monotonic clock.
    _silent_until = 0.0
    _was_heard = True

    def __init__(self, *args: object, **options: object) -> None:
        # What was not heard is old news; kept, it would grow as long as nobody hears.
        super().__init__(*args, **{**options, "buffer_while_offline": False})

    def _publish(
        self,
        event: object,
        producer: object,
        routing_key: str,
        retry: bool = False,  # noqa: FBT001, FBT002 - Celery's
        **options: Any,  # noqa: ANN401 - whatever else its caller wants
    ) -> None:
        if time.monotonic() < self._silent_until:
            return
        try:
            super()._publish(event, producer, routing_key)
        except Exception as error:  # noqa: BLE001 - whatever it is, no job may wait for it
            if self._was_heard:
                _logger.warning("news not told", error=type(error).__name__)
            self._was_heard = False
            self._silent_until = time.monotonic() + _SILENCE.total_seconds()
        else:
            self._was_heard = True


class News(Events):  # type: ignore[misc] # as above
    """Celery's events, with that dispatcher."""

    dispatcher_cls = PatientDispatcher
