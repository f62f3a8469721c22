"""Which names a pattern of a script fits, as Redis has it.

Redis itself compares no pattern of a script's: one of a million letters with a name of
a million takes it hours, in which it does nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from horus_celery.herodb.commands import BadRequest

#: Bytes of a pattern, and of a name that one is compared with.
MOST_PATTERN: Final = 256
MOST_NAME: Final = 64 * 1024
_EVERY_BYTE: Final = range(256)


def matcher(pattern: bytes) -> Callable[[bytes], bool]:
    """Return what tells whether a pattern fits a name.

    It raises `BadRequest` for a name that is too long.

    Raises:
        BadRequest: if the pattern is too long.
    """
    if not pattern.strip(b"*") and pattern:
        return lambda _: True
    if len(pattern) > MOST_PATTERN:
        raise BadRequest(f"ERR a pattern has at most {MOST_PATTERN} bytes")
    fits = re.compile(_expression(pattern), re.DOTALL).fullmatch

    def is_fit(name: bytes) -> bool:
        if len(name) > MOST_NAME:
            raise BadRequest(
                f"ERR there is a name of more than {MOST_NAME} bytes: ask without a"
                " pattern"
            )
        return fits(name) is not None

    return is_fit


def _expression(pattern: bytes) -> bytes:
    """Write a pattern as a regular expression that never tries a part twice."""
    first, *others = _parts(pattern)
    if not others:
        return first
    *middle, last = others
    # What stands between two stars is taken where it is first found, for good.
    return first + b"".join(b"(?>.*?%b)" % one for one in middle) + b".*" + last


def _parts(pattern: bytes) -> list[bytes]:
    """Return what stands before, between and behind the stars."""
    parts, at = [b""], 0
    while at < len(pattern):
        match pattern[at : at + 1]:
            case b"*":
                parts.append(b"")
                at += 1
                continue
            case b"?":
                made, at = b".", at + 1
            case b"[":
                made, at = _one_of(pattern, at + 1)
            case b"\\" if at + 1 < len(pattern):
                made, at = re.escape(pattern[at + 1 : at + 2]), at + 2
            case letter:
                made, at = re.escape(letter), at + 1
        parts[-1] += made
    # Stars beside each other are one.
    return [
        one for place, one in enumerate(parts) if one or place in {0, len(parts) - 1}
    ]


def _one_of(pattern: bytes, at: int) -> tuple[bytes, int]:
    """Read what stands between brackets, and where that ends."""
    is_other = pattern[at : at + 1] == b"^"
    at += is_other
    known: set[int] = set()
    while at < len(pattern) and pattern[at : at + 1] != b"]":
        if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
            known.add(pattern[at + 1])
            at += 2
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            low, high = sorted((pattern[at], pattern[at + 2]))
            known.update(range(low, high + 1))
            at += 3
        else:
            known.add(pattern[at])
            at += 1
    if is_other:
        known = {*_EVERY_BYTE} - known
    if not known:
        return b"(?!)", at + 1
    return b"[%b]" % b"".join(b"\\x%02x" % one for one in sorted(known)), at + 1
