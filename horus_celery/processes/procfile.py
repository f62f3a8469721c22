"""Which programs there are: the Procfile's lines for the executors that are wanted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import horus_celery
from horus_celery.errors import ConfigurationError

#: The programs that serve no executor; every other line is an executor's runner.
PLATFORM: Final = ("api", "coordinator", "flower")
_LINE: Final = re.compile(r"([A-Za-z0-9_-]+):\s+(\S.*)")


def find_procfile() -> Path:
    """Return the Procfile: of the installed package, or at the top of the checkout.

    Raises:
        ConfigurationError: if the installation lacks it.
    """
    package = Path(horus_celery.__file__).parent
    for folder in (package, package.parent):
        path = folder / "Procfile"
        if path.is_file():
            return path
    raise ConfigurationError(
        "the Procfile is missing from this installation: install Horus again"
    )


def read_procfile(text: str) -> Mapping[str, Sequence[str]]:
    """Return the command of each program, split as a shell would.

    Raises:
        ConfigurationError: naming the line that is none of a Procfile.
    """
    programs: dict[str, Sequence[str]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.rstrip())
        if found is None or found[1] in programs:
            raise ConfigurationError(f"line {number} of the Procfile cannot be read")
        programs[found[1]] = shlex.split(found[2])
    return programs


def for_executors(
    programs: Mapping[str, Sequence[str]],
    runners: Mapping[str, str],
    *,
    platform: Sequence[str] = PLATFORM,
) -> Mapping[str, Sequence[str]]:
    """Return these of the platform's programs, and the runners of executors.

    Args:
        programs: The lines of the Procfile.
        runners: The name of its runner, by each executor that is to have one; where
            there is no line, it is a Celery worker like any other.
        platform: The programs that serve no executor.
    """
    kept = {name: line for name, line in programs.items() if name in platform}
    served = {
        executor: programs.get(executor) or worker_line(name, [executor])
        for executor, name in runners.items()
    }
    return kept | served


def worker_line(name: str, executors: Iterable[str]) -> list[str]:
    """Return the command line of our own Celery worker as a runner of executors."""
    worker = ["celery", "-A", "horus_celery", "worker", "-Q", ",".join(executors)]
    return [*worker, "-n", f"{name}@%h"]
