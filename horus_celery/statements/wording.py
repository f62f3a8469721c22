"""In which words a wrong value is told: those of JSON, not those of Python.

No text holds the value itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pydantic_core import ErrorDetails

#: By pydantic's name of the fault; in braces, what pydantic knows of the limit.
_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "missing": "is missing",
        "extra_forbidden": "is unknown",
        "bool_type": "must be true or false",
        "int_type": "must be an integer",
        "float_type": "must be a number",
        "string_type": "must be a string",
        "list_type": "must be a list",
        "tuple_type": "must be a list",
        "dict_type": "must be an object",
        "model_type": "must be an object",
        "literal_error": "must be {expected}",
        "greater_than_equal": "must be at least {ge}",
        "less_than_equal": "must be at most {le}",
        "string_too_long": "is too long: at most {max_length} characters",
        "string_too_short": "is too short: at least {min_length} characters",
        "too_long": "has too many items: at most {max_length}",
        "too_short": "has too few items: at least {min_length}",
    }
)


def say(fault: ErrorDetails) -> str:
    """Say what is wrong with a value, to be read behind its name."""
    words = _WORDS.get(fault["type"])
    if words is None:
        return fault["msg"].replace("Input should be", "must be")
    return words.format_map(fault.get("ctx", {}))
