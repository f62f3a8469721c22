"""What a script that runs inside Redis is, of those that are ours."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, kw_only=True)
class Script:
    """A program in Lua that scripts of jobs may have run by its name, as it is.

    Its keys are those that were named, and others may only be made by adding to one.
    """

    source: str
    #: Whether it may change what is there.
    writes: bool

    @cached_property
    def digest(self) -> str:
        """By which Redis knows it."""
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
