"""Flask-JSONRPC as its source says it, whatever else its wheel holds.

For Python 3.13 and later its wheels bring a compiled form beside the source. Nobody can
import that: one of its classes follows one that has slots, and mypyc refuses this when
the module is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import (
    SOURCE_SUFFIXES,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from types import ModuleType
from typing import Final

LIBRARY: Final = "flask_jsonrpc"


class FromSource(MetaPathFinder):
    """Finds the modules of the library, and of them only the sources."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != LIBRARY:
            return None
        for entry in sys.path if path is None else path:
            finder = FileFinder(entry, (SourceFileLoader, SOURCE_SUFFIXES))
            spec = finder.find_spec(fullname)
            if spec is not None and spec.loader is not None:
                return spec
        return None


sys.meta_path.insert(0, FromSource())

from flask_jsonrpc import JSONRPC  # noqa: E402 - found by what stands above
from flask_jsonrpc.exceptions import (  # noqa: E402
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    JSONRPCError,
    MethodNotFoundError,
    ParseError,
)
from flask_jsonrpc.site import JSONRPCSite  # noqa: E402
from flask_jsonrpc.views import JSONRPCView  # noqa: E402

__all__ = [
    "JSONRPC",
    "InternalError",
    "InvalidParamsError",
    "InvalidRequestError",
    "JSONRPCError",
    "JSONRPCSite",
    "JSONRPCView",
    "MethodNotFoundError",
    "ParseError",
]
