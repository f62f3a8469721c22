"""The Rhai scripting language as an engine for Python."""

from __future__ import annotations

from horus_rhai._native import (
    RHAI_VERSION,
    CancelToken,
    Engine,
    Script,
    __version__,
    tell_of_no_memory,
)
from horus_rhai.errors import (
    NoSuchFunction,
    NoSuchProperty,
    RhaiError,
    RhaiLimitError,
    RhaiSyntaxError,
    RhaiTerminated,
    RhaiValueError,
)
from horus_rhai.function import Function

__all__ = [
    "RHAI_VERSION",
    "CancelToken",
    "Engine",
    "Function",
    "NoSuchFunction",
    "NoSuchProperty",
    "RhaiError",
    "RhaiLimitError",
    "RhaiSyntaxError",
    "RhaiTerminated",
    "RhaiValueError",
    "Script",
    "__version__",
    "tell_of_no_memory",
]
