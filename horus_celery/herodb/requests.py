"""How the bytes of a script are read as requests, and answers are written (RESP 2).

A request comes from whoever can reach the socket, so nothing is believed of it: what it
announces is bounded before anything is kept for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

#: Bytes of one request, all words together.
MAX_REQUEST: Final = 16 * 1024 * 1024
#: Words of one request.
MAX_WORDS: Final = 64 * 1024
#: Bytes of a line that announces something; no honest one is longer.
_MAX_LINE: Final = 32
_NUMBER: Final = re.compile(rb"[0-9]{1,10}")
_END: Final = b"\r\n"


class BadProtocol(Exception):
    """What came is no request, and nothing behind it can be read; says why."""


class Requests:
    """Takes bytes as they come, and gives requests as they are complete."""

    def __init__(self) -> None:
        self._data = bytearray()
        #: Where the next word begins, and what was read of the request so far.
        self._at = 0
        self._words: list[bytes] = []
        self._missing = 0
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes that are kept of requests that are not complete."""
        return len(self._data) + self._size

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        self._data += data

    def next(self) -> list[bytes] | None:
        """Return the next request; None while there is no whole one.

        Raises:
            BadProtocol: if there will be none any more.
        """
        while not self._missing:
            line = self._line(b"*")
            if line is None:
                return None
            if line > MAX_WORDS:
                raise BadProtocol("too many words in one request")
            # A request of no words is none, and is passed over as Redis does.
            self._missing, self._size = line, 0
            if not line:
                self._forget()
        while self._missing:
            word = self._word()
            if word is None:
                return None
            self._words.append(word)
            self._missing -= 1
        words, self._words, self._size = self._words, [], 0
        self._forget()
        return words

    def _word(self) -> bytes | None:
        before = self._at
        length = self._line(b"$")
        if length is None:
            return None
        if self._size + length > MAX_REQUEST:
            raise BadProtocol("the request is too large")
        end = self._at + length
        if len(self._data) < end + len(_END):
            self._at = before
            return None
        if self._data[end : end + len(_END)] != _END:
            raise BadProtocol("a word is not as long as it says")
        word = bytes(self._data[self._at : end])
        self._at = end + len(_END)
        self._size += length
        return word

    def _line(self, kind: bytes) -> int | None:
        """Read a line that announces a number of something."""
        end = self._data.find(_END, self._at, self._at + _MAX_LINE)
        if self._data[self._at : self._at + 1] not in (b"", kind):
            raise BadProtocol(f"expected {kind.decode()!r}")
        if end < 0:
            if len(self._data) - self._at >= _MAX_LINE:
                raise BadProtocol("a number that is too long")
            return None
        number = bytes(self._data[self._at + 1 : end])
        if not _NUMBER.fullmatch(number):
            raise BadProtocol("a length that is no number")
        self._at = end + len(_END)
        return int(number)

    def _forget(self) -> None:
        del self._data[: self._at]
        self._at = 0


def simple(text: str) -> bytes:
    """Write a word of agreement."""
    return f"+{text}\r\n".encode()


def error(text: str) -> bytes:
    """Write an error, in one line."""
    line = " ".join(text.split())
    return f"-{line}\r\n".encode("utf-8", "replace")


def number(value: int) -> bytes:
    """Write a number."""
    return b":%d\r\n" % value


def bulk(value: bytes | None) -> bytes:
    """Write a value, or that there is none."""
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


def array(answers: Iterable[bytes]) -> bytes:
    """Write a list of answers that are written already."""
    parts = list(answers)
    return b"*%d\r\n%s" % (len(parts), b"".join(parts))
