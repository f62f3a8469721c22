"""What one script may reach through SAL, and what its functions keep between calls.

`net` of the job decides what may leave the sandbox; the runner's configuration decides
what may be done to the node (`sal_allow`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar

from workers.herodb import client

#: The variables by which a runner tells them to the process of a script.
NET: Final = "HORUS_NET"
ALLOWED: Final = "HORUS_SAL"
HERODB_URL: Final = "HERODB_URL"


_Words = TypeVar("_Words", bound=StrEnum)


class SalError(Exception):
    """What was asked for could not be done: a plain sentence, with the remedy.

    A script may catch it.
    """


class Net(StrEnum):
    """What of the network a job was granted."""

    NONE = "none"
    HERODB = "herodb"
    HOST = "host"


class Power(StrEnum):
    """What acts on the node, and is off unless the runner's configuration names it."""

    PACKAGES = "packages"
    CONTAINERS = "containers"
    SERVICES = "services"
    SSH = "ssh"


class Database(Protocol):
    """A connection to a HeroDB, or to any server that speaks like a Redis."""

    def call(self, *words: str) -> object:
        """Send a command and return its reply: bytes or text, integer, list, None.

        Raises:
            Exception: if the server refuses or does not answer: one of the session's
                `database_errors`, whose text says why.
        """
        ...


#: Takes what a program wrote while it runs, and which of its streams that is.
Writer = Callable[[bytes, bool], None]


def write_through(data: bytes, is_error: bool) -> None:  # noqa: FBT001 - of a Writer
    """Write what a program wrote to the same stream of this process: the job's log."""
    stream = sys.stderr if is_error else sys.stdout
    stream.flush()
    stream.buffer.write(data)
    stream.buffer.flush()


@dataclass(slots=True, kw_only=True)
class Session:
    """One script's use of SAL."""

    net: Net = Net.NONE
    allowed: frozenset[Power] = frozenset()
    herodb_url: str | None = None
    #: How HeroDB is reached, by its address, and what is raised where it refuses.
    connect: Callable[[str], Database] = client.Database
    database_errors: tuple[type[Exception], ...] = (client.DatabaseError,)
    write: Writer = write_through
    #: The connection to HeroDB, once there is one.
    database: Database | None = None
    #: What the functions of a module keep from call to call, by a name of its own.
    kept: dict[str, Any] = field(default_factory=dict)

    def require_host(self) -> None:
        """Let only a job with `net: host` pass.

        Raises:
            SalError: for every other.
        """
        if self.net is not Net.HOST:
            raise SalError(
                f"this leaves the node, and the job has net: {self.net};"
                " sign it with net: host"
            )

    def require_herodb(self) -> str:
        """Return where the HeroDB of this node is.

        Raises:
            SalError: if the job may not reach it, or if there is none.
        """
        if self.net is Net.NONE:
            raise SalError(
                "this reaches HeroDB, and the job has net: none;"
                " sign it with net: herodb or net: host"
            )
        if not self.herodb_url:
            raise SalError(
                f"{HERODB_URL} is not set: this runner was given no HeroDB;"
                " set herodb_url in its configuration"
            )
        return self.herodb_url

    def require(self, power: Power) -> None:
        """Let only pass what the runner's configuration names.

        Raises:
            SalError: for all else.
        """
        if power not in self.allowed:
            raise SalError(
                f"this acts on the node ({power}), and the runner does not allow it;"
                f' set sal_allow = ["{power}"] in its configuration'
            )


def session_of(
    environment: Mapping[str, str] | None = None,
    *,
    connect: Callable[[str], Database] = client.Database,
    database_errors: tuple[type[Exception], ...] = (client.DatabaseError,),
    write: Writer = write_through,
) -> Session:
    """Read what a script may reach from its environment.

    Raises:
        SalError: if a variable says what nobody knows.
    """
    given = os.environ if environment is None else environment
    words = [one.strip() for one in given.get(ALLOWED, "").split(",") if one.strip()]
    return Session(
        net=_known(Net, given.get(NET, Net.NONE), of=NET),
        allowed=frozenset(_known(Power, one, of=ALLOWED) for one in words),
        herodb_url=given.get(HERODB_URL) or None,
        connect=connect,
        database_errors=database_errors,
        write=write,
    )


def _known(words: type[_Words], word: str, *, of: str) -> _Words:
    try:
        return words(word)
    except ValueError:
        known = ", ".join(words)
        raise SalError(f"{of} names {word!r}; it knows {known}") from None
