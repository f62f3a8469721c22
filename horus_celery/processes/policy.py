"""When a program that ended by itself is started again, and when it is given up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Ends of a program by itself, none of them after a long life."""

    length: int = 0
    #: When the latest were, on a clock that only goes forward.
    ends: tuple[timedelta, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long a program waits for its next start: longer after every end."""

    first: timedelta = timedelta(seconds=1)
    longest: timedelta = timedelta(seconds=60)
    #: Who has lived so long begins anew.
    long_life: timedelta = timedelta(seconds=60)
    #: So many ends within the period, and it is given up.
    most: int = 5
    period: timedelta = timedelta(seconds=60)

    def after_end(
        self, series: Series, *, born_at: timedelta, ended_at: timedelta
    ) -> Series:
        """Return the series with one more end in it, or a new one after a long life."""
        if ended_at - born_at >= self.long_life:
            series = Series()
        latest = (*series.ends, ended_at)[-self.most :]
        return Series(length=series.length + 1, ends=latest)

    def wait(self, series: Series) -> timedelta | None:
        """Return how long it waits after the latest end; None: it is given up."""
        ends = series.ends
        if len(ends) == self.most and ends[-1] - ends[0] <= self.period:
            return None
        wait = self.first
        for _ in range(1, series.length):
            if wait >= self.longest:
                break
            wait *= 2
        return min(wait, self.longest)
