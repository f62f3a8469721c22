"""How often somebody may call: wrong secrets per address, calls per secret.

Both decide on the time that they are given: seconds of a clock that never goes back.
Each remembers a bounded number of callers, of whom the longest silent goes first.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final, Generic, TypeVar

#: How many addresses, or secrets, are remembered.
MAX_REMEMBERED: Final = 10_000
#: So many wrong secrets may come from one address in a minute.
MAX_FAILURES: Final = 10
MINUTE: Final = 60.0
#: A network that one caller usually has for himself.
_IPV6_PREFIX: Final = 64

_T = TypeVar("_T")


class Failures:
    """Counts the wrong secrets that came from each address in the last minute."""

    def __init__(
        self, *, limit: int = MAX_FAILURES, remembered: int = MAX_REMEMBERED
    ) -> None:
        self._latest: _Recent[deque[float]] = _Recent(
            lambda: deque(maxlen=limit), remembered
        )

    def note(self, address: str, now: float) -> float:
        """Count a wrong secret.

        Returns:
            How many seconds this address has to wait before another one counts as a
            mistake; 0 if this one does.
        """
        latest = self._latest.of(neighbourhood(address))
        if len(latest) == latest.maxlen and now - latest[0] < MINUTE:
            return MINUTE - (now - latest[0])
        latest.append(now)
        return 0.0

    def __len__(self) -> int:
        return len(self._latest)


class TokenBuckets:
    """Lets everybody do so much a second, and a little more after a while of rest."""

    def __init__(
        self, *, rate: float, burst: float, remembered: int = MAX_REMEMBERED
    ) -> None:
        """Say how much.

        Args:
            rate: Calls a second, for long.
            burst: Calls at once, after a rest.
            remembered: How many callers are told apart.
        """
        self._rate = rate
        self._burst = burst
        #: What is left in a bucket, and since when.
        self._buckets: _Recent[list[float]] = _Recent(
            lambda: [burst, float("-inf")], remembered
        )

    def take(self, who: str, now: float) -> float:
        """Take one call out of somebody's bucket.

        Returns:
            0 if there was one, else the seconds until there will be.
        """
        bucket = self._buckets.of(who)
        left, since = bucket
        left = min(self._burst, left + max(0.0, now - since) * self._rate)
        bucket[1] = max(now, since)
        if left < 1:
            bucket[0] = left
            return (1 - left) / self._rate
        bucket[0] = left - 1
        return 0.0

    def __len__(self) -> int:
        return len(self._buckets)


def neighbourhood(address: str) -> str:
    """Return what stands for an address: of the sixth version, its network."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Network((int(found), _IPV6_PREFIX), strict=False))


class _Recent(Generic[_T]):
    """What is remembered of the latest callers."""

    def __init__(self, make: Callable[[], _T], limit: int) -> None:
        self._make = make
        self._limit = limit
        self._kept: OrderedDict[str, _T] = OrderedDict()

    def of(self, who: str) -> _T:
        if who in self._kept:
            self._kept.move_to_end(who)
            return self._kept[who]
        if len(self._kept) >= self._limit:
            self._kept.popitem(last=False)
        kept = self._kept[who] = self._make()
        return kept

    def __len__(self) -> int:
        return len(self._kept)
