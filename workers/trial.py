"""Which level of containment scripts get here: the best that works, found by trying."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

import structlog

from horus_celery import kernel
from horus_celery.errors import ConfigurationError
from horus_celery.settings import Settings, load_settings
from horus_celery.statedir import StateDirectory
from horus_celery.statements.job import Limits
from workers import cgroup, containment, sandbox, seccomp
from workers.containment import BWRAP, LANDLOCK, NAMESPACES, PLAIN, Containment
from workers.launch import Command
from workers.nursery import Nursery
from workers.room import Room, private_room
from workers.seccomp import Sockets

_logger: Final = structlog.get_logger(__name__)

_PATIENCE: Final = timedelta(seconds=10)
_SCRIPT: Final = "print(1)"
#: The most bytes of what a script that fails has to say.
_SAID: Final = 1024
_LIMITS: Final = Limits(memory_mb=256, cpu_s=10, procs=16, output_kb=16)
#: What a user may have to be allowed for namespaces, by whomever they are made.
_MEND: Final = (
    "let this user make user namespaces (sysctl kernel.apparmor_restrict_unprivileged"
    "_userns=0, user.max_user_namespaces), or give the container CAP_SYS_ADMIN"
)
_MEND_BWRAP: Final = (
    "install bubblewrap 0.8 or newer (apt-get install bubblewrap util-linux), and let"
    " this user make user namespaces"
)
_MEND_LANDLOCK: Final = (
    "boot Linux 5.13 or newer with Landlock (lsm=landlock,... on its command line), and"
    " let the container make its system calls"
)
_ACCEPT: Final = (
    'sandbox = "plain", and run only scripts of people whom you trust with this user'
)
_REMEDIES: Final = MappingProxyType(
    {NAMESPACES: _MEND, BWRAP: _MEND_BWRAP, LANDLOCK: _MEND_LANDLOCK}
)
_BEST_FIRST: Final = (NAMESPACES, BWRAP, LANDLOCK)
#: Who asks for one of these gets it, or no runner.
_NEVER_LOWERED: Final = frozenset({BWRAP, LANDLOCK})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why scripts cannot have a level here."""

    level: str
    detail: str
    remedy: str


def choose(settings: Settings, needed: Iterable[Path] = ()) -> Containment:
    """Return the level that scripts of this node get.

    Args:
        settings: What the deployment chose.
        needed: Paths that they must see besides those of the settings.

    Where they are not kept apart although the settings do not ask for that, a line in
    the log says why, and what to do.

    Raises:
        ConfigurationError: if the settings ask for one level, which does not work.
    """
    if fault := seccomp.own().fault:
        _logger.warning("scripts get every system call", detail=fault)
    faults: list[Fault] = []
    for level in _wanted(settings):
        tried = try_out(level, settings, needed)
        if isinstance(tried, Containment):
            return tried
        faults.append(tried)
    if settings.sandbox in _NEVER_LOWERED:
        raise ConfigurationError(
            f'sandbox = "{settings.sandbox}" does not work here: {faults[0].detail};'
            f" {faults[0].remedy}"
        )
    if faults:
        _logger.warning(
            "scripts are not kept apart",
            detail="; ".join(f"{one.level}: {one.detail}" for one in faults),
            remedy=f"{faults[0].remedy}; or accept it with {_ACCEPT}",
        )
    return replace(containment.plain(), filter=seccomp.own().program)


def try_out(
    level: str, settings: Settings, needed: Iterable[Path] = ()
) -> Containment | Fault:
    """Return a level that keeps scripts apart, or why it does not work here."""
    further = dict.fromkeys([*settings.sandbox_paths, *needed])
    shown = sandbox.shown_paths(tuple(map(str, further)))
    hidden = (str(settings.state_dir),)
    if level == NAMESPACES:
        made = containment.apart(shown=shown, hidden=hidden)
    elif level == LANDLOCK:
        made = containment.fenced(shown=shown, hidden=hidden)
        filters = {one: seccomp.own(sockets=one).program for one in Sockets}
        made = replace(made, filters=MappingProxyType(filters))
    elif os.geteuid() == 0:
        return Fault(
            level=level,
            detail="under root its scripts would be root's to the kernel",
            remedy='run the runner as a plain user, or set sandbox = "auto"',
        )
    else:
        try:
            made = containment.boxed(shown=shown, hidden=hidden)
        except FileNotFoundError as error:
            return Fault(level=level, detail=str(error), remedy=_REMEDIES[level])
    made = replace(made, filter=seccomp.own(mounts=level == NAMESPACES).program)
    detail = fault_of(made, settings.state_dir)
    if detail is None:
        return made
    return Fault(level=level, detail=detail, remedy=_REMEDIES[level])


def fault_of(level: Containment, state_dir: Path) -> str | None:
    """Have a script run at a level; return what is in the way, or None.

    Args:
        level: How far it is kept apart.
        state_dir: The node's state directory, which may be missing or unusable.
    """
    try:
        with ExitStack() as kept:
            room = _enter_room(kept, state_dir, owner=level.user)
            nursery = Nursery(level, rooms=room.path.parent)
            kept.callback(nursery.close)
            command = Command(
                interpreter=None,
                places=nursery.places(room),
                args=(),
                env={},
                room=room,
                limits=_LIMITS,
                has_network=False,
                context_id=None,
            )
            with closing(nursery.start(command)) as process:
                is_over = process.has_ended(within=_PATIENCE)
                process.kill()
                if (fault := process.fault()) is not None:
                    raise fault
                if not is_over or process.exit_code() != 0:
                    ended_with = f"a script there ended with {process.exit_code()}"
                    return _last_line(process.stderr) or ended_with
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}"
    return None


def _enter_room(kept: ExitStack, state_dir: Path, *, owner: int | None) -> Room:
    """Have a room among those of jobs, where it is swept up if this process is killed.

    Nobody has looked at the state directory yet: nothing is made there that is not
    swept, and what is wrong with it is no finding of a trial.
    """
    try:
        rooms = StateDirectory(state_dir).rooms
        return kept.enter_context(private_room(rooms, _SCRIPT, owner=owner))
    except OSError:
        folder = tempfile.TemporaryDirectory(prefix="horus-trial-")
        place = Path(kept.enter_context(folder))
        return kept.enter_context(private_room(place, _SCRIPT, owner=owner))


def _last_line(stderr: int) -> str:
    """Return the last line of what a script, or who was to start it, has said."""
    with suppress(BlockingIOError):
        lines = os.read(stderr, _SAID).decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")
    return ""


def main() -> None:
    """Print what a runner would choose here, as JSON: for `horus doctor`."""
    settings = load_settings()
    tried = {level: try_out(level, settings) for level in _BEST_FIRST}
    works = [level for level, one in tried.items() if isinstance(one, Containment)]
    faults: list[Fault] = []
    # As `choose` does; it would raise where there is no level.
    level = None if settings.sandbox in _NEVER_LOWERED else PLAIN
    cuts_network = False
    for wanted in _wanted(settings):
        found = tried[wanted]
        if isinstance(found, Containment):
            level = wanted
            cuts_network = found.cuts_network
            break
        faults.append(found)
    said = {
        "level": level,
        "cuts_network": cuts_network,
        "works": works,
        "faults": [asdict(one) for one in faults],
        "cgroup": cgroup.fault_of(cgroup.own_group()),
        "filter": seccomp.own().fault,
        "landlock": _landlock_version(),
    }
    sys.stdout.write(json.dumps(said) + "\n")


def _landlock_version() -> int | None:
    try:
        return kernel.landlock_version()
    except OSError:
        return None


def _wanted(settings: Settings) -> tuple[str, ...]:
    """Return the levels that the settings would have, the best first."""
    match settings.sandbox:
        case containment.PLAIN:
            return ()
        case containment.BWRAP | containment.LANDLOCK as level:
            return (level,)
        case _:
            return _BEST_FIRST


if __name__ == "__main__":
    main()
