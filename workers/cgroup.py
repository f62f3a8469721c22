"""A cgroup for each job, where one was delegated to its runner.

The kernel then limits what all processes of a job use together, without a look at them,
and ends all of them by one word.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from horus_celery.statements.job import Limits
from workers.containment import Containment
from workers.room import has_owner

_logger: Final = structlog.get_logger(__name__)

#: Where the runner's own processes are: a cgroup has processes or children.
LEAF: Final = "runner"
_JOB: Final = "job-"
_NEEDED: Final = frozenset({"memory", "pids"})
#: Marks of systemd at a cgroup that is left to whoever runs in it.
_MARKS: Final = ("user.delegate", "trusted.delegate")
_MB: Final = 1024 * 1024
#: What a job's processes need besides the memory that it counts, as one of them does.
_HEADROOM: Final = 16 * _MB
#: How often whoever was forked meanwhile is moved as well.
_ROUNDS: Final = 100
#: How long killed processes may take to go.
_GRACE: Final = timedelta(seconds=2)
_MS: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The cgroup of one job."""

    path: Path
    #: A descriptor: a process that writes 0 there has moved in.
    door: int

    def had_no_memory(self) -> bool:
        """Whether the kernel ended its processes because they got no more memory."""
        events = (self.path / "memory.events").read_text().split()
        return int(dict(zip(events[::2], events[1::2], strict=True))["oom_kill"]) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Makes the cgroups of jobs below one that was delegated."""

    base: Path
    containment: Containment

    @contextmanager
    def of_job(self, name: str, limits: Limits) -> Iterator[Group]:
        """Make the cgroup of a job for a block, and end whoever is left in it.

        Args:
            name: The name of the job's room, which tells whose it is.
            limits: What the job may use.

        Raises:
            OSError: if it cannot be made.
        """
        path = self.base / f"{_JOB}{name}"
        path.mkdir()
        try:
            memory = limits.memory_mb * _MB
            # The job's own file system is memory, too.
            files = memory if self.containment.is_apart else 0
            _write(path / "memory.max", memory + files + _HEADROOM)
            _write(path / "memory.oom.group", 1)
            with suppress(FileNotFoundError):  # where the kernel has no swap
                _write(path / "memory.swap.max", 0)
            _write(path / "pids.max", limits.procs + self.containment.company)
            door = os.open(path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
            try:
                yield Group(path=path, door=door)
            finally:
                os.close(door)
        finally:
            _remove(path)


def remove_abandoned(base: Path) -> None:
    """Remove the cgroups of processes that are gone, and end who is left in them.

    Raises:
        OSError: if the kernel does not let us.
    """
    for left in base.glob(f"{_JOB}*"):
        if not has_owner(left.name.removeprefix(_JOB)):
            with suppress(FileNotFoundError):  # another one was here before
                _remove(left)


def own_group(proc: Path = Path("/proc/self")) -> Path | None:
    """Return the cgroup whose children are this runner's to make, if it is delegated.

    None where there is no cgroup v2.
    """
    lines = (proc / "cgroup").read_text().splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None:
        return None
    for line in (proc / "mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        if source.startswith("cgroup2 "):
            root, place = mount.split()[3:5]
            with suppress(ValueError):
                found = Path(place, Path(own).relative_to(root))
                return found.parent if found.name == LEAF else found
    return None


def fault_of(base: Path | None) -> str | None:
    """Return why jobs can have no cgroups of their own below one; None if they can."""
    if base is None:
        return "there is no cgroup v2"
    missing = _NEEDED - set((base / "cgroup.controllers").read_text().split())
    if missing:
        return f"cgroup v2 does not control {' and '.join(sorted(missing))} there"
    if not any(_is_marked(base, mark) for mark in _MARKS):
        return "no cgroup is delegated (Delegate=yes in the unit of the runner)"
    for name in ("", "cgroup.procs", "cgroup.subtree_control"):
        if not os.access(base / name, os.W_OK):
            return f"{base / name} cannot be written"
    return None


def move_in(base: Path) -> None:
    """Make room for jobs: with all that runs there, this process moves to a leaf.

    Raises:
        OSError: if the kernel does not let us.
    """
    leaf = base / LEAF
    leaf.mkdir(exist_ok=True)
    for _ in range(_ROUNDS):
        pids = (base / "cgroup.procs").read_text().split()
        for pid in pids:
            with suppress(ProcessLookupError):  # it has ended
                _write(leaf / "cgroup.procs", pid)
        if pids:
            continue
        try:
            _write(base / "cgroup.subtree_control", "+memory +pids")
        except OSError as error:
            # Somebody was forked there since.
            if error.errno != errno.EBUSY:
                raise
        else:
            return
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(base))


def take() -> Path | None:
    """Return the cgroup below which jobs of this runner get theirs; None is nothing.

    What runners left there that are gone is removed.
    """
    base = own_group()
    if base is None or fault_of(base) is not None:
        return None
    try:
        move_in(base)
        remove_abandoned(base)
    except OSError as error:
        _logger.warning(
            "jobs get no cgroups", error=error.strerror, path=error.filename
        )
        return None
    return base


def _is_marked(base: Path, mark: str) -> bool:
    with suppress(OSError):
        return os.getxattr(base, mark) == b"1"
    return False


def _remove(path: Path) -> None:
    """Remove a cgroup, and whoever is in it."""
    _write(path / "cgroup.kill", 1)
    if _wait_until_empty(path / "cgroup.events"):
        path.rmdir()
    else:
        _logger.error("processes cannot be killed", cgroup=path.name)


def _wait_until_empty(events: Path) -> bool:
    with events.open() as file:
        changed = select.poll()
        changed.register(file, select.POLLPRI)
        while True:
            file.seek(0)
            if "populated 0" in file.read():
                return True
            if not changed.poll(_GRACE / _MS):
                return False


def _write(path: Path, value: object) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)
