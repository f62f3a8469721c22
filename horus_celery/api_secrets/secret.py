"""What a secret of the API is, and which text is one."""

from __future__ import annotations

import math
import string
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

ADMIN: Final = "admin"
USER: Final = "user"
REGISTER: Final = "register"
#: What a secret may open.
SCOPES: Final = (ADMIN, USER, REGISTER)
#: The word for every context.
ALL: Final = "*"
MIN_BITS: Final = 128
#: So many bits written in base64.
MIN_CHARS: Final = 22
MAX_CHARS: Final = 512
#: So many different letters the shortest one has at least.
MIN_LETTERS: Final = 8
#: What random bits are usually written in, the fewest letters first.
_ALPHABETS: Final = (
    string.digits,
    string.digits + "abcdef",
    string.digits + "ABCDEF",
    string.digits + string.ascii_lowercase,
    string.digits + string.ascii_uppercase,
)
_BASE64: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A secret that stands in the configuration or in the state directory."""

    scope: str
    secret: str = field(repr=False)
    contexts: tuple[str, ...] = (ALL,)
    #: The setting or the file, for a person.
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret as far as it is remembered: what it opens, and its digest."""

    id: str
    scope: str
    #: None is all of them.
    contexts: frozenset[str] | None
    digest: bytes = field(repr=False)
    #: Whether it is known to be given somewhere: its removal has to be remembered then.
    is_given: bool = field(default=False, compare=False)
    #: Of one that was added: no two additions have the same, also of the same text.
    serial: str = field(default="", compare=False)

    def shown_contexts(self) -> list[str]:
        """Return its contexts as they are written, "*" being all."""
        return [ALL] if self.contexts is None else sorted(self.contexts)


def bound_to(contexts: Iterable[str]) -> frozenset[str] | None:
    """Read contexts as they are written: None is all of them."""
    names = frozenset(contexts)
    return None if ALL in names else names


def fault_of(
    secret: str, *, otherwise: str = "leave it out to have one made"
) -> str | None:
    """Say what is wrong with the text of a secret, without a word of it.

    Args:
        secret: The text.
        otherwise: How to have a secret made instead.
    """
    if not (secret.isascii() and secret.isprintable() and " " not in secret):
        return "must be printable ASCII letters without spaces"
    if len(secret) > MAX_CHARS:
        return f"must have at most {MAX_CHARS} letters"
    if len(set(secret)) < MIN_LETTERS or most_bits(secret) < MIN_BITS:
        return (
            f"is too easy to guess: at least {MIN_BITS} random bits, such as those of"
            f" `openssl rand -base64 32`, or {otherwise}"
        )
    return None


def most_bits(secret: str) -> float:
    """Return how many random bits a text can hold, by the letters it is written in."""
    letters = set(secret)
    sizes = (len(one) for one in _ALPHABETS if letters <= set(one))
    return len(secret) * math.log2(next(sizes, _BASE64))
