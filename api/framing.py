"""Where a request ends: what the bytes that have come so far say about it.

This decides when a request is worth a thread, and nothing more: gunicorn reads the
same bytes again, strictly, and what it takes for something else ends the connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Final

#: The most bytes before the body; gunicorn takes single lines of 8190 at most.
MAX_HEAD: Final = 64 * 1024
#: The most bytes of a line with the size of a chunk.
MAX_CHUNK_LINE: Final = 8190
#: A request is handed on in pieces: gunicorn copies what it has not read yet.
PIECE: Final = 64 * 1024

_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([^\r\n]*)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
_SECRET: Final = re.compile(rb"\r\nauthorization:[ \t]*([^\r\n]*)", re.IGNORECASE)
_EXPECT: Final = re.compile(
    rb"\r\n(expect):[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE
)
_IS_1_1: Final = re.compile(rb"(?:\r\n)?[^\r\n]* HTTP/1\.1\r\n")
_DECIMAL: Final = re.compile(rb"[0-9]{1,15}")
_CHUNK_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,12})[ \t]*(?:;.*)?", re.DOTALL)

#: Returns the largest body that a request with this Authorization header may have.
BodyLimit = Callable[[str | None], int]


class Stage(Enum):
    """How far a request has come."""

    #: The rest is still on its way.
    PARTIAL = auto()
    #: All of it is here.
    WHOLE = auto()
    #: It is wrong or too large; what follows is nobody's request.
    CUT = auto()


class Arrival:
    """The bytes of one request as they come in, and perhaps some of the next."""

    def __init__(self, data: bytes, body_limit: BodyLimit) -> None:
        self.data = bytearray(data)
        self._body_limit = body_limit
        self._limit = 0
        #: Where the head ends; 0 until it is here.
        self._head = 0
        #: Where the body ends, or None as long as its chunks do not say.
        self._end: int | None = None
        #: Where the next chunk begins.
        self._chunk = 0
        self._is_refused = False
        #: Whether the sender waits for `100 Continue`.
        self._is_expecting = False

    def stage(self) -> Stage:
        """Say how far the request has come."""
        if not self._head:
            found = self.data.find(_END)
            if found < 0:
                return Stage.CUT if len(self.data) > MAX_HEAD else Stage.PARTIAL
            self._read_head(bytes(self.data[: found + len(_END)]))
        if self._is_refused:
            return Stage.CUT
        if self._end is None:
            return self._stage_of_chunks()
        return Stage.WHOLE if len(self.data) >= self._end else Stage.PARTIAL

    def take_expectation(self) -> bool:
        """Say, once, whether the sender waits for `100 Continue` before the body."""
        is_expecting, self._is_expecting = self._is_expecting, False
        return is_expecting

    def rest(self) -> bytes:
        """Return what lies behind this request, if it is whole."""
        return b"" if self._end is None else bytes(self.data[self._end :])

    def pieces(self) -> Iterator[bytes]:
        """Return the bytes of this request, as far as they are here; they go by that.

        A caller may wait for minutes, and his request shall not lie here meanwhile.
        """
        if self._end is not None:
            del self.data[self._end :]
        while self.data:
            piece = bytes(self.data[:PIECE])
            del self.data[:PIECE]
            yield piece

    def _read_head(self, head: bytes) -> None:
        self._head = self._chunk = self._end = len(head)
        expectations = [found.span(1) for found in _EXPECT.finditer(head)]
        for start, end in expectations:
            # Renamed: it is said here or not at all, and never by gunicorn.
            self.data[start:end] = b"x-done"
        lengths = _LENGTH.findall(head)
        is_chunked = _CHUNKED.search(head) is not None
        if not lengths and not is_chunked:
            return
        secret = _SECRET.search(head)
        self._limit = self._body_limit(secret and secret[1].decode("latin-1"))
        self._is_expecting = bool(expectations and _IS_1_1.match(head))
        if len(lengths) + is_chunked > 1:
            # Two lengths are two readings, of which gunicorn takes none.
            self._is_refused = True
        elif is_chunked:
            self._end = None
        else:
            length = _DECIMAL.fullmatch(lengths[0].rstrip(b" \t"))
            self._is_refused = length is None or int(length[0]) > self._limit
            self._end += 0 if length is None else int(length[0])

    def _stage_of_chunks(self) -> Stage:
        # The limit is for what the chunks hold; this much their sizes may add.
        if len(self.data) - self._head > self._limit + self._limit // 8 + PIECE:
            return Stage.CUT
        while self._chunk <= len(self.data):
            line_end = self.data.find(b"\r\n", self._chunk)
            if line_end < 0:
                is_long = len(self.data) - self._chunk > MAX_CHUNK_LINE
                return Stage.CUT if is_long else Stage.PARTIAL
            size = _CHUNK_SIZE.fullmatch(self.data, self._chunk, line_end)
            if size is None:
                return Stage.CUT
            if int(size[1], 16) == 0:
                return self._stage_of_trailers(line_end)
            self._chunk = line_end + 2 + int(size[1], 16) + 2
        return Stage.PARTIAL

    def _stage_of_trailers(self, start: int) -> Stage:
        found = self.data.find(_END, start)
        if found < 0:
            return Stage.PARTIAL
        self._end = found + len(_END)
        return Stage.WHOLE
