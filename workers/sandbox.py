"""How a process comes to see nothing of the machine but what its job needs.

A zygote first makes a root directory of what all its scripts see (`make_root`), and the
process that they all stand below enters it (`enter_root`). Each child settles in there
(`settle`), and moves in (`move_in`) once it knows its job, before anything of the
script runs.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final

from horus_celery import kernel
from workers.order import Shelter

#: Where the job finds its things, whatever they are called on the node.
JOB: Final = "/job"
GIVEN: Final = f"{JOB}/given"
WORK: Final = f"{JOB}/work"
OUT: Final = f"{JOB}/out"
#: Where its inputs are if it has none.
NO_INPUTS: Final = f"{JOB}/inputs"
#: What a job's own user and group are called.
_NAME: Final = "job"
TEMPORARY: Final = f"{JOB}/tmp"  # noqa: S108 - the job's own
MEMORY: Final = f"{JOB}/shm"
#: Where the new root grows: a directory that is everywhere, and needed by nobody here.
_ROOT: Final = "/sys"
_OWN: Final = kernel.MS_NOSUID | kernel.MS_NODEV
#: How many files a job may make.
_FILES: Final = 65_536
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
#: Of /etc only what programs look up; what else lies there may be the node's own.
_ETC: Final = (
    *("alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf"),
    *("debian_version", "environment", "fonts", "gai.conf", "host.conf", "hosts"),
    *("inputrc", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias"),
    *("localtime", "magic", "mime.types", "nsswitch.conf", "os-release", "perl"),
    *("pki", "profile", "protocols", "resolv.conf", "services", "ssl", "timezone"),
)
#: The devices that there are.
DEVICES: Final = tuple(
    f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")
)
#: Links, by their places, to what they lead to.
LINKS: Final = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/shm": MEMORY,  # noqa: S108 - the job's own
    "/tmp": TEMPORARY,  # noqa: S108 - the job's own
}
_NO_MORE_USERS: Final = "user/max_user_namespaces"
#: What the kernel answers where a user may make no namespace of users.
_NOT_ALLOWED: Final = frozenset({errno.EPERM, errno.ENOSPC, errno.EUSERS})


def shown_paths(further: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return what every script sees of this machine: its system, and this Python."""
    etc = [f"/etc/{name}" for name in _ETC]
    own = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    wanted = dict.fromkeys([*_SYSTEM, *etc, *own, *further])
    folders: list[str] = []
    for path in wanted:
        is_there = os.path.lexists(path) and path != "/"
        if is_there and not any(f"{path}/".startswith(f"{one}/") for one in folders):
            folders.append(path)
    return tuple(folders)


def shown_below(place: str, shown: Iterable[str]) -> tuple[str, ...]:
    """Return which of what is shown lies there, so that it can be no link."""
    return tuple(path for path in shown if f"{path}/".startswith(f"{place}/"))


@cache
def _overlaid(shown: tuple[str, ...]) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Return which places are no links: with what they show, and what lies below."""
    found = ((place, own, shown_below(place, shown)) for place, own in LINKS.items())
    return tuple(one for one in found if one[2])


def introduction(user: int, group: int) -> Mapping[str, str]:
    """Return the files by which a job's user has a name, by their places."""
    return {
        "/etc/passwd": f"{_NAME}:x:{user}:{group}::{WORK}:/bin/sh\n",
        "/etc/group": f"{_NAME}:x:{group}:\n",
    }


def make_root(shelter: Shelter) -> None:
    """Prepare what the scripts of this process see, in namespaces of its own.

    Its next child is the first process in there, and what all scripts stand below.

    Raises:
        OSError: if the kernel does not let us, naming what it was about.
    """
    flags = (
        kernel.CLONE_NEWNS
        | kernel.CLONE_NEWPID
        | kernel.CLONE_NEWIPC
        | kernel.CLONE_NEWUTS
    )
    if not shelter.has_network:
        flags |= kernel.CLONE_NEWNET
    if shelter.user is None:
        user, group = os.geteuid(), os.getegid()
        kernel.unshare(flags | kernel.CLONE_NEWUSER)
        _map_self(user, group)
    else:
        user = group = shelter.user
        kernel.unshare(flags)
    if not shelter.has_network:
        kernel.bring_loopback_up()
    # What is mounted from here on is seen by nobody else.
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("root", _ROOT, "tmpfs", _OWN, "size=1m,mode=755")
    for path in (*shelter.shown, *DEVICES):
        _show(path)
    for path in shelter.hidden:
        _cover(path)
    overlaid = {place for place, _, _ in _overlaid(shelter.shown)}
    for link, target in LINKS.items():
        if link not in overlaid:
            os.symlink(target, _ROOT + link)
    _introduce(user, group)
    for place in ("/proc", JOB):
        os.mkdir(_ROOT + place)
    # Every job covers it with what is its own.
    kernel.mount(shelter.rooms, _ROOT + JOB, None, kernel.MS_BIND)
    kernel.restrict_mounts(_ROOT, kernel.ATTR_RDONLY | kernel.ATTR_NOSUID)


def enter_root() -> int:
    """Live below that root, where this namespace's processes are seen, and no other.

    Here it is done once: the kernel takes half a millisecond to let go of the old one.
    Scripts can read what /proc/sys sets. Returns a descriptor of the directory where
    that can be set.

    Raises:
        OSError: if the kernel does not let us.
    """
    place = f"{_ROOT}/proc"
    kernel.mount("proc", place, "proc", _OWN | kernel.MS_NOEXEC)
    settings = f"{place}/sys"
    knobs = os.open(settings, os.O_PATH | os.O_DIRECTORY)
    kernel.mount(settings, settings, None, kernel.MS_BIND)
    kernel.restrict_mounts(settings, kernel.ATTR_RDONLY)
    kernel.change_root(_ROOT)
    return knobs


def settle(shelter: Shelter) -> int:
    """Have what every job has, in namespaces of this process alone.

    Returns a descriptor of the directory that jobs have theirs in: nothing else leads
    there any more.

    Args:
        shelter: What the root was made of.

    Raises:
        OSError: if any of it cannot be had.
    """
    user, group = _who(shelter)
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC)
    rooms = os.open(JOB, os.O_PATH | os.O_DIRECTORY)
    options = f"size=1m,nr_inodes={_FILES},mode=755,uid={user},gid={group}"
    kernel.mount("job", JOB, "tmpfs", _OWN, options)
    for folder in (WORK, OUT, TEMPORARY, MEMORY, GIVEN, NO_INPUTS):
        os.mkdir(folder, 0o500 if folder == NO_INPUTS else 0o700)
        os.chown(folder, user, group)
    for overlaid in _overlaid(shelter.shown):
        _put_over(*overlaid)
    return rooms


def move_in(shelter: Shelter, *, knobs: int, rooms: int, room: str, space: int) -> None:
    """Have what is this job's alone, as its user, without privileges from here on.

    Args:
        shelter: What the root was made of.
        knobs: The directory of what /proc/sys sets.
        rooms: The directory that jobs have theirs in.
        room: The job's directory there.
        space: Bytes that the job's files may take.

    Raises:
        OSError: if any of it cannot be had.
    """
    user, group = _who(shelter)
    kernel.mount("job", JOB, None, kernel.MS_REMOUNT | _OWN, f"size={space}")
    kernel.mount(f"/proc/self/fd/{rooms}/{room}", GIVEN, None, kernel.MS_BIND)
    locked = kernel.ATTR_RDONLY | kernel.ATTR_NOSUID | kernel.ATTR_NODEV
    kernel.restrict_mounts(GIVEN, locked)
    if _become(user, group):
        # With a namespace of users of its own a script would have privileges again.
        _set(_NO_MORE_USERS, "0", within=knobs)
    kernel.drop_capabilities()
    kernel.give_up_new_privileges()


def _who(shelter: Shelter) -> tuple[int, int]:
    """Return user and group of a job."""
    if shelter.user is None:
        return os.geteuid(), os.getegid()
    return shelter.user, shelter.user


def _put_over(place: str, own: str, below: tuple[str, ...]) -> None:
    """Put a directory of the job's own over one that has something below it."""
    for path in below:
        target = own + path.removeprefix(place)
        os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
        if os.path.islink(path):
            os.symlink(os.readlink(path), target)
        else:
            _mount_at(path, target)
    kernel.mount(own, place, None, kernel.MS_BIND | kernel.MS_REC)


def _become(user: int, group: int) -> bool:
    """Become the job's user, in a namespace of users where nobody else is.

    False if there can be none of those: then the script cannot make one, either.
    """
    if os.geteuid() != user:
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    try:
        kernel.unshare(kernel.CLONE_NEWUSER)
    except OSError as error:
        if error.errno in _NOT_ALLOWED:
            return False
        raise
    _map_self(user, group)
    return True


def _map_self(user: int, group: int) -> None:
    """Keep user and group as they are, in a namespace of users that was just made."""
    # Else the files by which it is mapped would be root's.
    kernel.set_readable(True)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        _set(f"/proc/self/{name}", text)
    kernel.set_readable(False)


def _set(path: str, text: str, *, within: int | None = None, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_WRONLY | flags, 0o644, dir_fd=within)
    try:
        os.write(descriptor, text.encode("ascii"))
    finally:
        os.close(descriptor)


def _show(path: str) -> None:
    """Show a path of the machine at the same place below the new root."""
    target = _ROOT + path
    os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
    source = path
    if path.startswith("/etc/"):
        # A link may lead to where nothing is shown.
        source = os.path.realpath(path)
    elif os.path.islink(path):
        os.symlink(os.readlink(path), target)
        return
    if os.path.exists(source):
        _mount_at(source, target)


def _mount_at(source: str, target: str) -> None:
    """Show a path at another one as well, with what is mounted below it."""
    if os.path.isdir(source):
        os.makedirs(target, 0o755, exist_ok=True)
    else:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT, 0o644))
    kernel.mount(source, target, None, kernel.MS_BIND | kernel.MS_REC)


def _cover(path: str) -> None:
    """Let nothing be seen of a path, if it would be."""
    if os.path.isdir(_ROOT + path):
        kernel.mount("none", _ROOT + path, "tmpfs", _OWN, "size=4k,mode=755")


def _introduce(user: int, group: int) -> None:
    """Let the job's user have a name; those of the node's users are not told."""
    os.makedirs(f"{_ROOT}/etc", 0o755, exist_ok=True)
    for place, text in introduction(user, group).items():
        _set(_ROOT + place, text, flags=os.O_CREAT)
