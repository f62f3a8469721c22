"""Which level of containment scripts get here: the best that works, found by trying."""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from horus_celery.settings import Settings, load_settings
from horus_celery.statedir import StateDirectory
from horus_celery.statements.job import Limits
from workers import containment, sandbox
from workers.containment import Containment
from workers.launch import Command
from workers.nursery import Nursery
from workers.room import Room, private_room

_logger: Final = structlog.get_logger(__name__)

_PATIENCE: Final = timedelta(seconds=10)
_LIMITS: Final = Limits(memory_mb=256, cpu_s=10, procs=16, output_kb=16)
_SCRIPT: Final = "print(1)"
_REMEDY: Final = (
    "let this user make user namespaces, as `horus doctor` says how, or accept it with"
    ' sandbox = "plain" and run only scripts of people whom you trust with this user'
)


def choose(settings: Settings) -> Containment:
    """Return the level that scripts of this node get.

    Where they are not kept apart although the settings do not ask for that, a line in
    the log says why, and what to do.
    """
    if settings.sandbox == containment.PLAIN:
        return containment.plain()
    best = containment.apart(
        shown=sandbox.shown_paths(tuple(map(str, settings.sandbox_paths))),
        hidden=(str(settings.state_dir),),
    )
    fault = fault_of(best, settings.state_dir)
    if fault is None:
        return best
    _logger.warning("scripts are not kept apart", detail=fault, remedy=_REMEDY)
    return containment.plain()


def fault_of(level: Containment, state_dir: Path) -> str | None:
    """Have a script run at a level; return what is in the way, or None.

    Args:
        level: How far it is kept apart.
        state_dir: The node's state directory, which may be missing or unusable.
    """
    nursery = Nursery(level)
    try:
        with ExitStack() as kept:
            room = _enter_room(kept, state_dir, owner=nursery.owner)
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
                    return f"a script there ended with {process.exit_code()}"
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}"
    finally:
        nursery.close()
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


def main() -> None:
    """Print what a runner would choose here, as JSON: for `horus doctor`."""
    settings = load_settings()
    level = containment.apart(shown=sandbox.shown_paths(), hidden=())
    fault = fault_of(level, settings.state_dir)
    chosen = containment.PLAIN if fault or settings.sandbox == "plain" else level.level
    sys.stdout.write(json.dumps({"level": chosen, "fault": fault}) + "\n")


if __name__ == "__main__":
    main()
