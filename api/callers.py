"""What each kind of caller gets of each method: the table that docs and tests show."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from api.access import OPENS, Scope
from api.codes import Code
from api.methods import METHODS
from api.site import Procedure

#: The one method that is not in the table of methods: it is made of it.
DISCOVER: Final = "rpc.discover"
#: The cell of a call that is served.
YES: Final = "yes"


class Caller(StrEnum):
    """A kind of caller, by the secret that he sends."""

    NOBODY = "no secret"
    WRONG = "wrong secret"
    REGISTER = "register"
    #: Of the context that the job, or whatever it is, lies in.
    INSIDE = "user, inside"
    #: Of other contexts.
    OUTSIDE = "user, outside"
    ADMIN = "admin"


_SCOPES: Final[Mapping[Caller, Scope]] = MappingProxyType(
    {
        Caller.NOBODY: Scope.NONE,
        Caller.WRONG: Scope.NONE,
        Caller.REGISTER: Scope.REGISTER,
        Caller.INSIDE: Scope.USER,
        Caller.OUTSIDE: Scope.USER,
        Caller.ADMIN: Scope.ADMIN,
    }
)


def cell(procedure: Procedure, caller: Caller) -> str:
    """Say what a caller gets: "yes", the code of an error, or a few words."""
    opened = OPENS[_SCOPES[caller]]
    if procedure.scope not in opened:
        is_unknown = opened == OPENS[Scope.NONE]
        return str(Code.UNAUTHENTICATED if is_unknown else Code.FORBIDDEN)
    return str(procedure.outside) if caller is Caller.OUTSIDE else YES


#: By a method's main name.
EXPECTED: Final[Mapping[str, Mapping[Caller, str]]] = MappingProxyType(
    {
        procedure.name: MappingProxyType(
            {caller: cell(procedure, caller) for caller in Caller}
        )
        for procedure in METHODS
    }
    | {DISCOVER: MappingProxyType(dict.fromkeys(Caller, YES))}
)
