"""How the text of a parameter is read as a value of a kind: strictly, or not at all.

Each function raises `ValueError` with what would be right.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from workers.heroscript.names import lower

_DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,40}")
_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_TRUE: Final = frozenset({"", "1", "true", "y", "yes"})
_FALSE: Final = frozenset({"", "0", "false", "n", "no"})
_STEP: Final = re.compile(r"([+-]?)\s*([0-9]{1,9})\s*([smhdwMQY])")
_UNITS: Final[Mapping[str, timedelta]] = MappingProxyType(
    {
        "s": timedelta(seconds=1),
        "m": timedelta(minutes=1),
        "h": timedelta(hours=1),
        "d": timedelta(days=1),
        "w": timedelta(weeks=1),
        "M": timedelta(days=30),
        "Q": timedelta(days=90),
        "Y": timedelta(days=365),
    }
)
_DATE: Final = re.compile(
    r"(?:(?P<year>[0-9]{4})[-/](?P<month>[0-9]{1,2})[-/](?P<day>[0-9]{1,2})"
    r"|(?P<day_>[0-9]{1,2})[-/](?P<month_>[0-9]{1,2})[-/](?P<year_>[0-9]{4}))"
    r"(?: +(?P<hour>[0-9]{1,2})"
    r"(?::(?P<minute>[0-9]{1,2})(?::(?P<second>[0-9]{1,2}))?)?)?"
)
_TIME_OF_DAY: Final = re.compile(r"([0-9]{1,2})(?::([0-9]{1,2}))?\s*([AaPp][Mm])?")
_NOON: Final = 12
_MIDNIGHT: Final = timedelta(hours=24)
_STORAGE: Final = re.compile(r"([0-9]{1,18})\s*(|kb|mb|gb)")
_FACTORS: Final[Mapping[str, int]] = MappingProxyType(
    {"": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}
)
_GIGABYTE: Final = 1 << 30


def integer(least: int, most: int) -> Callable[[str], int]:
    """Return how a decimal number of a range is read."""

    def read(text: str) -> int:
        if _DECIMAL.fullmatch(text) is None or not least <= int(text) <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return int(text)

    return read


read_int: Final = integer(-(1 << 31), (1 << 31) - 1)
read_i8: Final = integer(-(1 << 7), (1 << 7) - 1)
read_i16: Final = integer(-(1 << 15), (1 << 15) - 1)
read_i64: Final = integer(-(1 << 63), (1 << 63) - 1)
read_u8: Final = integer(0, (1 << 8) - 1)
read_u16: Final = integer(0, (1 << 16) - 1)
read_u32: Final = integer(0, (1 << 32) - 1)
read_u64: Final = integer(0, (1 << 64) - 1)


def read_float(text: str) -> float:
    """Read a number; with `%` behind it, hundredths."""
    number = text.removesuffix("%")
    if _FLOAT.fullmatch(number) is None or not math.isfinite(value := float(number)):
        raise ValueError("a number, perhaps with % behind it")
    return value / 100 if number != text else value


def read_percentage(text: str) -> float:
    """Read 0 to 100, with or without `%`, as 0 to 1."""
    number = text.removesuffix("%")
    if _FLOAT.fullmatch(number) is None or not 0 <= float(number) <= 100:  # noqa: PLR2004 - per cent
        raise ValueError("0 to 100, with or without %")
    return float(number) / 100


def read_list(text: str) -> tuple[str, ...]:
    """Read items between commas, quoted or not; empty ones are dropped."""
    items = (item.strip("\"' ") for item in text.strip("[] ").split(","))
    return tuple(item for item in items if item)


def read_unless_false(text: str) -> bool:
    """Read what is false only if it says so; `off` does not."""
    return lower(text) not in _FALSE


def read_if_true(text: str) -> bool:
    """Read what is true only if it says so; `on` does not."""
    return lower(text) in _TRUE


def read_bool(text: str) -> bool:
    """Read what says whether it is true or false, and nothing else.

    Stricter than the two getters of the format, of which either takes a misspelt word
    for an answer.
    """
    word = lower(text)
    if word and word in _TRUE | _FALSE:
        return word in _TRUE
    raise ValueError("true or false")


def read_time(text: str, *, now: datetime) -> datetime:
    """Read a point in time: relative to now, or a date; empty is now."""
    if not text:
        return now
    date = _DATE.fullmatch(text)
    try:
        return now + _relative(text) if date is None else _absolute(date)
    except (ValueError, OverflowError):
        raise ValueError(
            "a time as in `+1w -4h` (s m h d w M Q Y) or `2026-01-31 14:30`"
        ) from None


def read_timestamp(text: str) -> timedelta:
    """Read a time of day, as the time since midnight."""
    found = _TIME_OF_DAY.fullmatch(text)
    if found is not None:
        hours, minutes = int(found[1]), int(found[2] or 0)
        if found[3] is None or 1 <= hours <= _NOON:
            if found[3] is not None:
                is_afternoon = found[3] in {"PM", "pm", "Pm", "pM"}
                hours = hours % _NOON + (_NOON if is_afternoon else 0)
            told = timedelta(hours=hours, minutes=minutes)
            if minutes < 60 and told <= _MIDNIGHT:  # noqa: PLR2004 - minutes
                return told
    raise ValueError("a time of day as in `14:30` or `2:30PM`")


def read_storage(text: str) -> int:
    """Read an amount of storage in bytes."""
    found = _STORAGE.fullmatch(lower(text))
    if found is None:
        raise ValueError("an amount of storage as in `10`, `10KB`, `10MB` or `10GB`")
    return int(found[1]) * _FACTORS[found[2]]


def read_gigabytes(text: str) -> int:
    """Read an amount of storage in gigabytes, rounded up."""
    return -(-read_storage(text) // _GIGABYTE)


def _relative(text: str) -> timedelta:
    total = timedelta()
    place = 0
    while place < len(text):
        step = _STEP.match(text, place)
        if step is None:
            raise ValueError(text)
        told = int(step[2]) * _UNITS[step[3]]
        total = total - told if step[1] == "-" else total + told
        place = step.end()
        while text[place : place + 1] == " ":
            place += 1
    return total


def _absolute(date: re.Match[str]) -> datetime:
    def part(name: str) -> int:
        groups = date.groupdict()
        return int(groups.get(name) or groups.get(f"{name}_") or 0)

    words = ("year", "month", "day", "hour", "minute", "second")
    year, month, day, hour, minute, second = map(part, words)
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
