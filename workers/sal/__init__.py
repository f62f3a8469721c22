"""SAL: the system functions that scripts may call, and the tables they stand in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from workers.sal import (
    download,
    files,
    git,
    kubernetes,
    mycelium,
    nerdctl,
    net,
    packages,
    platforms,
    postgres,
    processes,
    redis,
    text,
    zinit,
)
from workers.sal.session import Net, Power, SalError, Session, session_of
from workers.sal.table import (
    Function,
    Module,
    NoSuchFunction,
    NoSuchProperty,
    SalObject,
)

__all__ = [
    "FUNCTIONS",
    "MODULES",
    "Function",
    "Module",
    "Net",
    "NoSuchFunction",
    "NoSuchProperty",
    "Power",
    "SalError",
    "SalObject",
    "Session",
    "call",
    "session_of",
]

#: Every module, in the order of the documents.
MODULES: Final[tuple[Module, ...]] = (
    files.MODULE,
    download.MODULE,
    packages.MODULE,
    platforms.MODULE,
    processes.MODULE,
    git.MODULE,
    net.MODULE,
    text.MODULE,
    redis.MODULE,
    postgres.MODULE,
    zinit.MODULE,
    mycelium.MODULE,
    nerdctl.MODULE,
    kubernetes.MODULE,
)
#: Every function by its name.
FUNCTIONS: Final[Mapping[str, Function]] = MappingProxyType(
    {one.name: one for module in MODULES for one in module.functions}
)


def call(here: Session, name: str, args: Sequence[object]) -> object:
    """Call a function as a script does.

    Raises:
        NoSuchFunction: if none has that name and takes that many values.
        SalError: if it cannot do what it was asked for.
    """
    function = FUNCTIONS.get(name)
    if function is None or not function.takes(len(args)):
        raise NoSuchFunction(name, args)
    return function.invoke(here, args)
