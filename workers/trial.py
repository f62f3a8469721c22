"""Which level of containment scripts get here: the best that works, found by trying."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from horus_celery.settings import Settings, load_settings
from horus_celery.statements.job import Limits
from workers import containment, sandbox
from workers.containment import Containment
from workers.launch import Command
from workers.nursery import Nursery
from workers.room import private_room

_logger: Final = structlog.get_logger(__name__)

_PATIENCE: Final = timedelta(seconds=10)
_LIMITS: Final = Limits(memory_mb=256, cpu_s=10, procs=16, output_kb=16)


def choose(settings: Settings) -> Containment:
    """Return the level that scripts of this node get.

    Where they are not kept apart although the settings do not ask for that, a line in
    the log says why.
    """
    if settings.sandbox == containment.PLAIN:
        return containment.plain()
    best = containment.apart(
        shown=sandbox.shown_paths(tuple(map(str, settings.sandbox_paths))),
        hidden=(str(settings.state_dir),),
    )
    fault = fault_of(best)
    if fault is None:
        return best
    _logger.warning("scripts are not kept apart", detail=fault)
    return containment.plain()


def fault_of(level: Containment) -> str | None:
    """Have a script run at a level; return what is in the way, or None."""
    nursery = Nursery(level)
    folder = Path(tempfile.mkdtemp(prefix="horus-trial-"))
    try:
        with private_room(
            folder,
            "print(1)",
            owner=nursery.owner,
            is_written_to=not nursery.has_own_files,
        ) as room:
            places = nursery.places(room)
            command = Command(
                interpreter=None,
                places=places,
                args=(),
                env={},
                room=room,
                limits=_LIMITS,
                has_network=False,
                context_id="",
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
        shutil.rmtree(folder)
    return None


def main() -> None:
    """Print what a runner would choose here, as JSON: for `horus doctor`."""
    level = containment.apart(shown=sandbox.shown_paths(), hidden=())
    fault = fault_of(level)
    settings = load_settings()
    chosen = containment.PLAIN if fault or settings.sandbox == "plain" else level.level
    sys.stdout.write(json.dumps({"level": chosen, "fault": fault}) + "\n")


if __name__ == "__main__":
    main()
