"""How points in time are written: ms since the epoch outside, datetimes inside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, overload

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """Read milliseconds since the epoch.

    Raises:
        ValueError: if there is no such point in time before the year 10000.
    """
    try:
        return _EPOCH + timedelta(milliseconds=ms)
    except OverflowError:
        raise ValueError("not a point in time before the year 10000") from None


def shown(at: datetime) -> str:
    """Write a point in time for a person, to the second."""
    return at.isoformat(timespec="seconds")


@overload
def to_ms(at: datetime) -> int: ...
@overload
def to_ms(at: None) -> None: ...
def to_ms(at: datetime | None) -> int | None:
    """Write a point in time as whole milliseconds since the epoch; None stays None."""
    return None if at is None else (at - _EPOCH) // _MS
