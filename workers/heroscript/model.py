"""What a script says: actions, each with its parameters and arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from workers.heroscript.parameters import NOTHING, Parameters

#: Of an action that nobody has given another; 0 comes first.
USUAL_PRIORITY: Final = 10


class ActionType(StrEnum):
    """What the marks before an action's name say."""

    DAL = "dal"
    SAL = "sal"
    MACRO = "macro"
    WAL = "wal"


#: By how many exclamation marks each is written.
MARKS: Final[Mapping[str, ActionType]] = MappingProxyType(
    {
        "!": ActionType.DAL,
        "!!": ActionType.SAL,
        "!!!": ActionType.MACRO,
        "!!!!": ActionType.WAL,
    }
)
#: Who has the actions that name nobody.
NOBODY: Final = "core"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing that a script wants done."""

    #: Its place in the text, from 1.
    id: int
    actor: str
    name: str
    actiontype: ActionType = ActionType.SAL
    priority: int = USUAL_PRIORITY
    params: Parameters = NOTHING
    #: What was written directly before it, without the slashes.
    comments: str = ""
    #: What it came to, as far as it was done.
    result: Parameters = NOTHING
    cid: str = ""
    #: Its only status.
    done: bool = False
    #: Where it stands in the text, from 1.
    line: int = field(default=1, compare=False)

    @property
    def full_name(self) -> str:
        """Who is to do it, and what."""
        return f"{self.actor}.{self.name}"
