"""What of a script's output is masked: every byte that belongs to a secret's value.

However the output is split into reads, the masked output is the same. What may be the
beginning of a value is held back until it is known to be one or not.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import quote_from_bytes

from pydantic import SecretBytes

from horus_celery.node_secrets import SHORTEST

#: What stands in place of what is masked, however much that is.
MASK: Final = b"***"
#: Bytes of a line of a value, without white space in it, from which on it is masked
#: where it stands alone: keys have such lines, and ordinary output seldom the same.
TELLING_LINE: Final = 16

#: From where to where something stands, the end not included.
_Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Masks certain texts."""

    #: What is masked, each at least `SHORTEST` bytes long.
    forms: frozenset[bytes] = field(default=frozenset(), repr=False)

    def masker(self) -> Masker:
        """Return a masker for one stream."""
        return Masker(self.forms)

    def apply(self, data: bytes) -> bytes:
        """Return data that is all there as it is when it is masked."""
        masker = self.masker()
        return masker.feed(data) + masker.finish()


#: Masks nothing.
NO_MASK: Final = Mask()


def mask_of(values: Mapping[str, SecretBytes]) -> Mask:
    """Return the mask for the values of secrets, by their names."""
    found = (_forms(value.get_secret_value()) for value in values.values())
    return Mask(forms=frozenset().union(*found))


class Masker:
    """Masks one stream as it comes."""

    def __init__(self, forms: Iterable[bytes]) -> None:
        self._forms = tuple(forms)
        #: Where none of these is, there is none at all.
        self._cores = tuple(form for form in self._forms if _is_core(form, self._forms))
        #: The end of what came, if a form may go on in what is to come.
        self._held = b""
        #: So many of its first bytes are known to be masked.
        self._hidden = 0
        #: Whether what stands before it was masked.
        self._is_open = False

    def feed(self, data: bytes) -> bytes:
        """Take the next part of the stream; return what can be told of it by now."""
        if not self._forms:
            return data
        text = self._held + data if self._held else data
        return self._take(text, self._masked_spans(text), self._begin_of_held(text))

    def finish(self) -> bytes:
        """Return what was held back, now that nothing comes any more.

        The beginning of a value is masked as well, unless it is very short.
        """
        text = self._held
        is_begun = len(text) >= SHORTEST
        spans = [(0, len(text))] if is_begun else self._masked_spans(text)
        rest = self._take(text, spans, len(text))
        self._is_open = False
        return rest

    def _take(self, text: bytes, spans: Iterable[_Span], end: int) -> bytes:
        """Return a text masked up to an end, and hold back what follows."""
        self._held = text[end:]
        if end == 0:
            return b""
        parts: list[bytes] = []
        shown = hidden = 0
        for start, stop in spans:
            if start >= end:
                break
            parts.append(text[shown:start])
            if start > 0 or not self._is_open:
                parts.append(MASK)
            shown, hidden = min(stop, end), max(stop - end, 0)
        self._hidden = hidden
        self._is_open = shown == end
        if not parts:
            return text[:end]
        parts.append(text[shown:end])
        return b"".join(parts)

    def _masked_spans(self, text: bytes) -> Sequence[_Span]:
        """Return what is to be masked in a text, as far as that can be seen by now."""
        found = [(0, self._hidden)] if self._hidden else []
        if any(core in text for core in self._cores):
            for form in self._forms:
                found += _places(form, text)
        return _joined(found)

    def _begin_of_held(self, text: bytes) -> int:
        """Return where the first form begins of which the text has not all yet."""
        begin = len(text)
        for form in self._forms:
            for place in _beginnings(form, text, begin):
                if form.startswith(text[place:]):
                    begin = place
                    break
        return begin


def _beginnings(form: bytes, text: bytes, before: int) -> Iterator[int]:
    """Yield, in their order, the places where a form that goes on might begin."""
    first = max(0, len(text) - len(form) + 1)
    # What is longer than this begins with the form's own beginning: that is quick.
    short = max(first, len(text) - SHORTEST + 1)
    head = form[:SHORTEST]
    place = text.find(head, first)
    while 0 <= place < before:
        yield place
        place = text.find(head, place + 1)
    yield from range(short, before)


def _places(form: bytes, text: bytes) -> Iterator[_Span]:
    """Yield everything that a form takes up in a text, also where it meets itself."""
    place = text.find(form)
    while place >= 0:
        yield place, place + len(form)
        place = text.find(form, place + 1)


def _joined(spans: list[_Span]) -> Sequence[_Span]:
    """Return spans in their order, those that meet made one."""
    joined: list[_Span] = []
    for start, stop in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return joined


def _is_core(form: bytes, forms: Iterable[bytes]) -> bool:
    return not any(other in form for other in forms if other != form)


def _forms(value: bytes) -> Iterator[bytes]:
    """Yield the ways of writing a value by which it gets into output by accident.

    White space around it is none of it: a newline behind it ends a line of the output.
    """
    value = value.strip()
    yield value
    yield quote_from_bytes(value, safe="").encode()
    yield from _in_base64(value)
    for line in value.splitlines():
        words = line.split()
        if len(words) == 1 and len(words[0]) >= TELLING_LINE:
            yield words[0]
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return
    for is_ascii in (True, False):
        yield json.dumps(text, ensure_ascii=is_ascii)[1:-1].encode()


def _in_base64(value: bytes) -> Iterator[bytes]:
    """Yield what base64 makes of a value wherever it stands in what is encoded."""
    for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            encoded = encode(bytes(before) + value)
            # Only letters all of whose six bits are the value's.
            first, last = -(-8 * before // 6), 8 * (before + len(value)) // 6
            yield encoded[first:last]
