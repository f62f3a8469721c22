"""What a script may use of a machine that it sees all of, by the kernel's Landlock.

A zygote surveys once what all its scripts may use (`surveyed`). Each child lays down
the rules for that (`settled`), and closes itself in (`close_in`) once it knows its job,
before anything of the script runs.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from horus_celery import kernel
from horus_celery.kernel import Beneath
from workers import sandbox
from workers.order import Fence

EXECUTE: Final = 1 << 0
WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
MAKE_CHAR: Final = 1 << 6
MAKE_BLOCK: Final = 1 << 11
REFER: Final = 1 << 13
TRUNCATE: Final = 1 << 14
IOCTL_DEV: Final = 1 << 15
RESOLVE_UNIX: Final = 1 << 16
#: What there is to be allowed of files, with the version that brought it: the first
#: brought the first thirteen.
_FILES: Final = (
    (1, REFER - 1),
    (2, REFER),
    (3, TRUNCATE),
    (5, IOCTL_DEV),
    (9, RESOLVE_UNIX),
)
#: To bind and to connect, of TCP.
_NETWORK: Final = ((4, 0b11),)
#: Abstract sockets and signals stay among those who live by the same rules.
_SCOPES: Final = ((6, 0b11),)
#: What can be allowed of a file that is no folder.
_OF_FILES: Final = (
    EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV | RESOLVE_UNIX
)
#: Shown as well, as nothing can be put in their place: a program that finds one and may
#: not read it has no name for its user, or gives up.
_IN_SIGHT: Final = ("/etc/group", "/etc/passwd", "/etc/gitconfig")
#: Sockets among it may be connected to, as where it is shown in namespaces.
READ: Final = EXECUTE | READ_FILE | READ_DIR | RESOLVE_UNIX
#: Processes are for looking at; to change them is for who keeps them.
_LOOK: Final = READ_FILE | READ_DIR
_USE: Final = READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV
_OWN: Final = ((1 << 17) - 1) & ~(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV)
#: From this version on the kernel may be told not to log what it refuses.
_HUSHED_SINCE: Final = 7
_HUSHED: Final = 1
_OWN_FOLDERS: Final = ("work", "out")
_PATH: Final = os.O_PATH | os.O_CLOEXEC
_FOLDER: Final = _PATH | os.O_DIRECTORY | os.O_NOFOLLOW


class Rights(NamedTuple):
    """What a version of Landlock forbids whoever is not allowed it."""

    files: int
    network: int
    scopes: int


class Grounds(NamedTuple):
    """What all scripts of one zygote may use, as the kernel takes it."""

    rights: Rights
    places: tuple[Beneath, ...]
    #: What is allowed of a room, and of a script's own folders in there, once they are
    #: known.
    given: Beneath
    own: Beneath
    #: What the kernel is told when a script comes to live by its rules.
    flags: int


def forbidden(version: int, *, has_network: bool) -> Rights:
    """Return all that a version forbids a script, but for what its rules allow."""
    return Rights(
        files=_known(_FILES, version),
        network=0 if has_network else _known(_NETWORK, version),
        scopes=_known(_SCOPES, version),
    )


def allowed(fence: Fence) -> Iterator[tuple[str, int]]:
    """Yield the places that every script may use, by their real paths, and how.

    What lies below another one of them is not named again.
    """
    hidden = tuple(os.path.realpath(path) for path in fence.hidden)
    real = dict.fromkeys(os.path.realpath(path) for path in (*fence.shown, *_IN_SIGHT))
    for path in real:
        if not any(is_below(path, one) for one in real if one != path):
            yield from ((place, READ) for place in _around(path, hidden))
    yield "/proc", _LOOK
    yield from ((device, _USE) for device in sandbox.DEVICES)


def is_below(path: str, folder: str) -> bool:
    """Whether a path is that of a folder, or of what lies in it."""
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def surveyed(fence: Fence, *, version: int) -> Grounds:
    """Find and hold what all scripts of this process may use.

    Args:
        fence: What that is.
        version: Of Landlock, as the kernel has it.
    """
    rights = forbidden(version, has_network=fence.has_network)
    return Grounds(
        rights=rights,
        places=tuple(_held(allowed(fence), rights.files)),
        given=Beneath(rights=READ & rights.files),
        own=Beneath(rights=_OWN & rights.files),
        flags=_HUSHED if version >= _HUSHED_SINCE else 0,
    )


def settled(grounds: Grounds) -> int:
    """Return a descriptor of the rules of a script that has no room yet.

    Raises:
        OSError: if there can be none.
    """
    rules = kernel.make_ruleset(**grounds.rights._asdict())
    for place in grounds.places:
        kernel.allow_beneath(rules, place)
    return rules


def close_in(grounds: Grounds, rules: int, *, room: str) -> None:
    """Use nothing from here on but what the rules allow, and a room.

    Args:
        grounds: What the rules were made of.
        rules: Their descriptor.
        room: The directory of the job.

    Raises:
        OSError: if the kernel does not let us.
    """
    # Who calls this closes all that it holds later, at once.
    grounds.given.place = folder = os.open(room, _FOLDER)
    kernel.allow_beneath(rules, grounds.given)
    for name in _OWN_FOLDERS:
        grounds.own.place = os.open(name, _FOLDER, dir_fd=folder)
        kernel.allow_beneath(rules, grounds.own)
    kernel.restrict_self(rules, grounds.flags)


def _known(brought: Iterable[tuple[int, int]], version: int) -> int:
    return sum(rights for since, rights in brought if version >= since)


def _around(path: str, hidden: tuple[str, ...]) -> Iterator[str]:
    """Yield what lies there but for what is hidden.

    Folders that lead to that are not among it: who may list one, may list all below.
    """
    if any(is_below(path, one) for one in hidden):
        return
    if not any(is_below(one, path) for one in hidden):
        yield path
        return
    with os.scandir(path) as entries:
        for entry in entries:
            # Where a link leads to is allowed there, or not at all.
            if not entry.is_symlink():
                yield from _around(entry.path, hidden)


def _held(places: Iterable[tuple[str, int]], known: int) -> Iterator[Beneath]:
    for path, rights in places:
        try:
            place = os.open(path, _PATH)
        except OSError:
            continue  # as the device of a terminal, which not every machine has
        is_folder = stat.S_ISDIR(os.fstat(place).st_mode)
        usable = rights & known & (-1 if is_folder else _OF_FILES)
        yield Beneath(rights=usable, place=place)
