"""How the numbers of a tally are read: those that our scripts may have written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from horus_celery.store.base import Histogram
from horus_celery.store.scripts import BUCKETS_MS

#: A field of the tally, and what stands in it.
_NAME: Final = re.compile(rb"[0-9A-Za-z._@:|-]+")
_NUMBER: Final = re.compile(rb"[0-9]{1,15}")


def read_tally(said: Mapping[bytes, bytes]) -> Mapping[tuple[str, ...], int]:
    """Return the numbers by the words of their names."""
    return {
        tuple(name.decode().split("|")): int(number)
        for name, number in said.items()
        if _NAME.fullmatch(name) and _NUMBER.fullmatch(number)
    }


def read_histogram(numbers: Mapping[str, int]) -> Histogram:
    """Return how long something took, from its numbers by bucket."""
    counts = [numbers.get(str(bucket), 0) for bucket in (*BUCKETS_MS, "more")]
    total = timedelta(milliseconds=numbers.get("total", 0))
    return Histogram(counts=tuple(counts), total=total)
