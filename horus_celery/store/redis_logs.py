"""The output lines of jobs on Redis: one list for each job."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self

import redis

from horus_celery.errors import MalformedError, UnavailableError
from horus_celery.instants import from_ms, to_ms
from horus_celery.store.base import Chunk, LogLine, Stream
from horus_celery.store.connection import ask
from horus_celery.store.keys import Keys
from horus_celery.store.scripts import make_scripts

#: Lines that a log keeps: more than a runner lets any job write (4 MiB, a byte each),
#: so it bounds what others append and cuts no honest log.
_LOG_CAP: Final = 4 * 1024 * 1024
#: Chunks that one script appends.
_APPEND_SIZE: Final = 200
_STREAMS: Final[Mapping[bytes, Stream]] = MappingProxyType(
    {b"o": Stream.STDOUT, b"e": Stream.STDERR}
)
_CURSOR: Final = re.compile(r"[0-9]{1,15}-0", re.ASCII)


class RedisLogs:
    """A `LogStore` on Redis: one list per job."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        self._keys = Keys.of(namespace)
        self._append = make_scripts(namespace)["append"]
        #: What was sent last without an answer, so that it is not sent twice.
        self._unsure: dict[str, _Sending] = {}

    def append(self, digest: str, chunks: Iterable[Chunk]) -> None:
        rest = list(chunks)
        while rest:
            sent = self._unsure.pop(digest, None)
            if sent is None or not sent.begins(rest):
                sent = _Sending.of(rest[:_APPEND_SIZE])
            try:
                self._send(digest, rest[: sent.count], sent.token)
            except UnavailableError:
                self._unsure[digest] = sent
                raise
            del rest[: sent.count]

    def read(self, digest: str, *, after: str | None, limit: int) -> Sequence[LogLine]:
        if after is not None and _CURSOR.fullmatch(after) is None:
            raise MalformedError("schema.after", "after is no cursor of a log line")
        key = self._keys.log + digest
        start = 0 if after is None else int(after.partition("-")[0])
        lines: list[LogLine] = []
        while count := limit - len(lines):
            entries = ask(self._client, "LRANGE", key, start, start + count - 1)
            lines.extend(_lines(entries, start + 1))
            if len(entries) < count:
                break
            start += count
        return lines

    def _send(self, digest: str, chunks: Sequence[Chunk], token: str) -> None:
        entries = [entry_of(chunk) for chunk in chunks[:-1]]
        entries.append(entry_of(chunks[-1], token))
        self._append.run(self._client, (), [digest, token, _LOG_CAP, *entries])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sending:
    """Some chunks on their way, by a name that the log knows them by."""

    token: str
    count: int
    first: Chunk
    last: Chunk

    @classmethod
    def of(cls, chunks: Sequence[Chunk]) -> Self:
        token = secrets.token_urlsafe(9)
        return cls(token=token, count=len(chunks), first=chunks[0], last=chunks[-1])

    def begins(self, chunks: Sequence[Chunk]) -> bool:
        """Whether these very chunks stand at the beginning."""
        return (
            len(chunks) >= self.count
            and chunks[0] is self.first
            and chunks[self.count - 1] is self.last
        )


def entry_of(chunk: Chunk, token: str = "") -> bytes:
    """Write a chunk as a log keeps it, with the name of what it was sent with."""
    letter = "o" if chunk.stream is Stream.STDOUT else "e"
    return f"{letter}{to_ms(chunk.at)} {token} ".encode() + chunk.data


def _lines(entries: Iterable[bytes], first: int) -> Iterator[LogLine]:
    """Read those entries that a runner may have written."""
    for number, entry in enumerate(entries, first):
        try:
            yield _line(number, entry)
        except (ValueError, KeyError):
            continue


def _line(number: int, entry: bytes) -> LogLine:
    head, _, data = entry.split(b" ", 2)
    return LogLine(
        cursor=f"{number}-0",
        at=from_ms(int(head[1:])),
        stream=_STREAMS[head[:1]],
        text=data.decode("utf-8", "replace").removesuffix("\n"),
        ends_line=data.endswith(b"\n"),
    )
