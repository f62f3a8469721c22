"""How a Python function is offered to scripts: by the counts of its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

#: How many arguments a function takes at most.
MAX_ARGUMENTS: Final = 16

_POSITIONAL: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)


@dataclass(frozen=True, slots=True)
class Function:
    """A callable, and how many arguments a script may call it with."""

    call: Callable[..., object]
    least: int
    most: int

    @classmethod
    def of(cls, call: Callable[..., object]) -> Self:
        """Read off a callable's signature how many arguments it takes.

        Raises:
            ValueError: if it has no signature to read, or cannot be called by position.
        """
        parameters = inspect.signature(call).parameters.values()
        for parameter in parameters:
            if (
                parameter.kind is parameter.KEYWORD_ONLY
                and parameter.default is parameter.empty
            ):
                text = f"{call!r} needs {parameter.name!r} by name; Rhai has none"
                raise ValueError(text)
        positional = [each for each in parameters if each.kind in _POSITIONAL]
        least = sum(each.default is each.empty for each in positional)
        takes_more = any(each.kind is each.VAR_POSITIONAL for each in parameters)
        return cls(call, least, MAX_ARGUMENTS if takes_more else len(positional))
