"""What Flower is told of a worker: nothing while the broker is away, and no markup.

Celery's own dispatcher tries again until it is heard, in the very loop that takes bells
and hears of the pool. So a broker that is back would wait for news of its absence.

Anybody who writes to Redis tells Flower what he likes. It shows texts as texts, but
whatever else stands in their place it writes into its pages as it came.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

import structlog
from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher
from celery.events.receiver import EventReceiver

_logger: Final = structlog.get_logger(__name__)

#: How long nothing is told once the broker did not take something.
_SILENCE: Final = timedelta(seconds=10)
#: What is told in numbers.
_NUMBERS: Final = frozenset(
    {
        *("active", "clock", "freq", "local_received", "pid", "processed", "retries"),
        *("runtime", "timestamp", "utcoffset"),
    }
)
_LOADS: Final = "loadavg"
#: Greater ones are no times, and nothing that is counted.
_MOST: Final = 2**53


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


def take_texts_only() -> None:
    """Have this process hear nothing but texts and numbers, whoever tells it."""
    EventReceiver._receive = _receive  # noqa: SLF001 - Flower names this very class


def plain_events(told: object) -> Iterator[dict[str, Any]]:
    """Yield what is told as texts and numbers; what is no event is nothing."""
    for event in told if isinstance(told, list) else [told]:
        if isinstance(event, dict) and _is_about_somebody(event):
            yield {name: _plain(name, value) for name, value in event.items()}


def _receive(receiver: Any, body: object, _: object) -> None:  # noqa: ANN401 - Celery's
    for event in plain_events(body):
        receiver.process(*receiver.event_from_message(event))


def _is_about_somebody(event: Mapping[str, object]) -> bool:
    kind = event.get("type")
    if not isinstance(kind, str) or not isinstance(event.get("hostname"), str):
        return False
    return not kind.startswith("task-") or isinstance(event.get("uuid"), str)


def _plain(name: str, value: object) -> object:
    if name in _NUMBERS:
        return value if _is_number(value) else 0
    if name == _LOADS:
        return value if isinstance(value, list) and all(map(_is_number, value)) else []
    if value is None or isinstance(value, str | bool) or _is_number(value):
        return value
    return json.dumps(value)


def _is_number(value: object) -> bool:
    return type(value) in {int, float} and -_MOST <= value <= _MOST  # type: ignore[operator] # by its type
