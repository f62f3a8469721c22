"""What the program bubblewrap is told, where it keeps scripts apart in our place.

A script is put into a box of its own by a program that is started for it, so a Python
script costs the start of an interpreter as well.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers import sandbox
from workers.order import Box, Ceilings, Order

#: Processes of bubblewrap's own that stand above the script: the one that was started,
#: and the first of the job's namespace.
COMPANY: Final = 2
#: Those of them that the kernel counts with the script's.
_INSIDE: Final = 1
#: What runs a script where no zygote can become it.
_PYTHON: Final = (sys.executable, "-I", "-u", "-X", "utf8")
_HOSTED: Final = (*_PYTHON, "-m", "workers.hosted")
#: How much more the kernel lets a process have than the runner lets all of them: who
#: has too much is to be found by the runner, because what the script's own process
#: would say of it, and bubblewrap's account of processor time, do not come through.
_LATER: Final = 2
_KEPT_APART: Final = (
    *("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"),
    *("--die-with-parent", "--new-session"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bubblewrap:
    """What bubblewrap does for every script of this machine."""

    program: str
    #: What sets a limit within the box and then becomes the script.
    limiter: str
    #: What of the machine is shown, and what of that is covered, as its options.
    walls: tuple[str, ...]
    #: Directories of the job's own that have something of that below them.
    below: tuple[str, ...] = ()


def prepared(
    *, shown: tuple[str, ...], hidden: tuple[str, ...], path: str
) -> Bubblewrap:
    """Return what bubblewrap would do here.

    Args:
        shown: Paths of the machine that scripts see.
        hidden: Paths below those that are covered.
        path: Where scripts look up commands.

    Raises:
        FileNotFoundError: if a program for it is not there; names it.
    """
    return Bubblewrap(
        program=_found("bwrap", os.environ.get("PATH", os.defpath)),
        limiter=_found("prlimit", path),
        walls=(*_walls(shown), *_covers(shown, hidden)),
        below=tuple(one for one in sandbox.LINKS if sandbox.shown_below(one, shown)),
    )


def boxed(
    order: Order,
    by: Bubblewrap,
    *,
    host: str | None,
    has_network: bool,
    filtered: str | None,
) -> Order:
    """Return how the same script is run by bubblewrap.

    Limits that count processes would count bubblewrap's own in the wrong namespace, so
    they are set inside.
    """
    room = Path(order.room)
    space = str(order.space)
    options = (
        *(word for one in by.below for word in _own_files(one, space)),
        *by.walls,
        # What it sets is for root to write, of whose processes this may still be one.
        *("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"),
        *_own_files(sandbox.JOB, space),
        *_folders(),
        *("--ro-bind", order.room, sandbox.GIVEN),
        *("--bind", str(room / Path(sandbox.OUT).name), sandbox.OUT),
        *("--remount-ro", "/"),
        *_KEPT_APART,
        *(["--share-net"] if has_network else []),
        *("--chdir", order.cwd),
        *(word for pair in order.env.items() for word in ("--setenv", *pair)),
    )
    limiter = [by.limiter]
    if order.ceilings.processes is not None:
        count = order.ceilings.processes + _INSIDE
        limiter.append(f"--nproc={count}:{count}")
    python = _PYTHON if host is None else (*_HOSTED, host)
    return order._replace(
        interpreter=(*limiter, "--", *(order.interpreter or python)),
        env={},
        cwd="/",
        ceilings=Ceilings(
            memory=order.ceilings.memory * _LATER,
            cpu=order.ceilings.cpu * _LATER,
            processes=None,
        ),
        box=Box(
            program=by.program,
            options=options,
            files=sandbox.introduction(os.geteuid(), os.getegid()),
            # Loaded by bubblewrap itself, which mounts before.
            filter=filtered,
        ),
    )


def _found(name: str, path: str) -> str:
    found = shutil.which(name, path=path)
    if found is None:
        raise FileNotFoundError(f"there is no program {name}")
    return found


def _walls(shown: tuple[str, ...]) -> Iterator[str]:
    for path in shown:
        if path.startswith("/etc/"):
            # A link may lead to where nothing is shown.
            yield from ("--ro-bind-try", str(Path(path).resolve()), path)
        elif Path(path).is_symlink():
            yield from ("--symlink", os.readlink(path), path)  # noqa: PTH115 - as it stands there
        else:
            yield from ("--ro-bind", path, path)
    for device in sandbox.DEVICES:
        yield from ("--dev-bind-try", device, device)
    for link, target in sandbox.LINKS.items():
        if not sandbox.shown_below(link, shown):
            yield from ("--symlink", target, link)


def _covers(shown: tuple[str, ...], hidden: Iterable[str]) -> Iterator[str]:
    for path in map(Path, hidden):
        if path.is_dir() and any(path.is_relative_to(one) for one in shown):
            yield from ("--size", "4096", "--tmpfs", str(path))
            yield from ("--remount-ro", str(path))


def _own_files(place: str, space: str) -> tuple[str, ...]:
    return ("--perms", "0755", "--size", space, "--tmpfs", place)


def _folders() -> Iterator[str]:
    folders = (sandbox.WORK, sandbox.TEMPORARY, sandbox.MEMORY)
    for folder in folders:
        yield from ("--perms", "0700", "--dir", folder)
