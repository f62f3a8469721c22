"""Where added and removed secrets lie, for all supervisors of a deployment."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final, Protocol

import redis

from horus_celery.errors import UnavailableError
from horus_celery.store.connection import ask


class SecretShelf(Protocol):
    """Keeps an entry for each id; what one says is judged by whoever reads it.

    Every method raises `UnavailableError` as `RecordStore` does.
    """

    def read(self) -> Mapping[str, bytes]:
        """Return every entry, by id."""
        ...

    def swap(
        self,
        secret_id: str,
        *,
        old: bytes | None,
        new: bytes | None,
        standing: Mapping[str, bytes | None] | None = None,
    ) -> bool:
        """Put an entry in place of another, in one atomic step; None is no entry.

        Returns False, with nothing changed, if something else than `old` is there, or
        if not one entry of `standing` is as it says.
        """
        ...


class RedisShelf:
    """A `SecretShelf` on Redis: one hash."""

    def __init__(self, client: redis.Redis, key: str) -> None:
        self._client = client
        self._key = key

    def read(self) -> Mapping[str, bytes]:
        found = ask(self._client, "HGETALL", self._key)
        return {_text(secret_id): entry for secret_id, entry in found.items()}

    def swap(
        self,
        secret_id: str,
        *,
        old: bytes | None,
        new: bytes | None,
        standing: Mapping[str, bytes | None] | None = None,
    ) -> bool:
        witnesses: list[str | bytes] = []
        for other, entry in (standing or {}).items():
            witnesses += (other, entry or b"")
        asked = int(standing is not None)
        args = (secret_id, old or b"", new or b"", asked, *witnesses)
        return bool(ask(self._client, "EVAL", _SWAP, 1, self._key, *args))


#: ARGV: id, old, new, whether somebody must stand, then pairs of id and entry.
_SWAP: Final = """
local function holds(id, entry)
  return (redis.call('HGET', KEYS[1], id) or '') == entry
end
if not holds(ARGV[1], ARGV[2]) then return 0 end
local stands = ARGV[4] == '0'
for i = 5, #ARGV, 2 do stands = stands or holds(ARGV[i], ARGV[i + 1]) end
if not stands then return 0 end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1
"""


class MemoryShelf:
    """A `SecretShelf` within this process."""

    def __init__(self) -> None:
        #: Set it to see what others do when the shelf does not answer.
        self.is_away = False
        #: How often it was read.
        self.reads = 0
        self._entries: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def read(self) -> Mapping[str, bytes]:
        with self._lock:
            self.reads += 1
            self._answer()
            return dict(self._entries)

    def swap(
        self,
        secret_id: str,
        *,
        old: bytes | None,
        new: bytes | None,
        standing: Mapping[str, bytes | None] | None = None,
    ) -> bool:
        with self._lock:
            self._answer()
            if self._entries.get(secret_id) != old:
                return False
            if standing is not None and not any(
                self._entries.get(other) == entry for other, entry in standing.items()
            ):
                return False
            if new is None:
                self._entries.pop(secret_id, None)
            else:
                self._entries[secret_id] = new
            return True

    def _answer(self) -> None:
        if self.is_away:
            raise UnavailableError("the shelf in memory was told to be away")


def _text(raw: bytes) -> str:
    # Anybody may have written it; what is no text stays different from every id.
    return raw.decode("utf-8", "backslashreplace")
