"""How requests are written, and the answers to them are read (RESP 2).

Own code where hiredis would do: as soon as that is installed, redis-py takes it for all
of its connections, and those then fail with TLS 1.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

#: What an answer says: nothing, a number, bytes, an error, or a list of such.
Value: TypeAlias = "bytes | int | ErrorReply | list[Value] | None"
_END: Final = b"\r\n"


class ErrorReply(Exception):
    """An answer that is an error: a value, which nobody raises."""


class BadReply(Exception):
    """What came is no answer, and nothing behind it can be read."""


class NotYet:
    """What stands for an answer that has not come as a whole."""


NOT_YET: Final = NotYet()


class _List:
    """A list of which not all has come."""

    # No data class: that would be most of what a script's process imports for this.
    __slots__ = ("items", "missing")

    def __init__(self, count: int) -> None:
        self.items: list[Value] = []
        self.missing = count


def packed(words: Iterable[bytes | str | int]) -> bytes:
    """Write a request."""
    parts = [b""]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    parts[0] = b"*%d\r\n" % (len(parts) - 1)
    return b"".join(parts)


class Replies:
    """Takes bytes as they come, and gives answers as they are complete."""

    def __init__(self) -> None:
        self._data = bytearray()
        #: Where the next line begins.
        self._at = 0
        #: From the outermost in.
        self._lists: list[_List] = []

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        self._data += data

    def next(self) -> Value | NotYet:
        """Return the next answer.

        Raises:
            BadReply: if there will be none any more.
        """
        while True:
            try:
                value = self._item()
            except ValueError:
                raise BadReply("a length that is no number") from None
            if isinstance(value, NotYet):
                return value
            if isinstance(value, _List) and value.missing > 0:
                self._lists.append(value)
                continue
            whole = self._put(value.items if isinstance(value, _List) else value)
            if not isinstance(whole, NotYet):
                del self._data[: self._at]
                self._at = 0
                return whole

    def _item(self) -> Value | NotYet | _List:
        """Read a line, with what belongs to it."""
        end = self._data.find(_END, self._at)
        if end < 0:
            return NOT_YET
        kind = self._data[self._at : self._at + 1]
        line = bytes(self._data[self._at + 1 : end])
        behind = end + len(_END)
        if kind == b"$":
            return self._bulk(int(line), behind)
        self._at = behind
        match bytes(kind):
            case b":":
                return int(line)
            case b"+":
                return line
            case b"-":
                return ErrorReply(line.decode("utf-8", "replace"))
            case b"*":
                count = int(line)
                return None if count < 0 else _List(count)
            case _:
                raise BadReply("no kind of answer")

    def _bulk(self, length: int, at: int) -> Value | NotYet:
        if length < 0:
            self._at = at
            return None
        end = at + length
        if len(self._data) < end + len(_END):
            return NOT_YET
        self._at = end + len(_END)
        return bytes(self._data[at:end])

    def _put(self, value: Value) -> Value | NotYet:
        """Put a value where it belongs; return the answer if that makes it whole."""
        while self._lists:
            inner = self._lists[-1]
            inner.items.append(value)
            inner.missing -= 1
            if inner.missing:
                return NOT_YET
            value = self._lists.pop().items
        return value
