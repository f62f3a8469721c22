"""What Python's standard library does not ask of the Linux kernel, each as one call.

Every function raises `OSError`, naming what it was about.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from typing import Final

CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWUTS: Final = 0x0400_0000
CLONE_NEWIPC: Final = 0x0800_0000
CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWPID: Final = 0x2000_0000
CLONE_NEWNET: Final = 0x4000_0000

MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_REMOUNT: Final = 0x20
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x4_0000

ATTR_RDONLY: Final = 0x1
ATTR_NOSUID: Final = 0x2
ATTR_NODEV: Final = 0x4

_MNT_DETACH: Final = 0x2
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
#: The same number on every machine that Linux 5.12 runs on.
_SYS_MOUNT_SETATTR: Final = 442
#: Likewise, those of Landlock.
_SYS_LANDLOCK_CREATE_RULESET: Final = 444
_SYS_LANDLOCK_ADD_RULE: Final = 445
_SYS_LANDLOCK_RESTRICT_SELF: Final = 446
_LANDLOCK_VERSION: Final = 1
_LANDLOCK_BENEATH: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_PR_CAPBSET_DROP: Final = 24
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2
#: Bytes of an instruction of a filter.
_INSTRUCTION: Final = 8
#: Bits that a set of capabilities may have in this form.
_CAPABILITIES: Final = 64
_CAPABILITY_VERSION_3: Final = 0x2008_0522
_CAPABILITY_HEADER: Final = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
_NO_CAPABILITIES: Final = (ctypes.c_uint32 * 6)()
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1

_libc: Final = ctypes.CDLL(None, use_errno=True)
#: The same, for calls that are too short to let other threads run meanwhile.
_held_libc: Final = ctypes.PyDLL(None, use_errno=True)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)
#: That for Landlock, of which each script has many.
_landlock: Final = _held_libc["syscall"]
_landlock.argtypes = (ctypes.c_long,) * 5


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns", ctypes.c_uint64),
    )


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scopes", ctypes.c_uint64),
    )


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_void_p))


class Beneath(ctypes.Structure):
    """What rules of Landlock allow: rights, and the descriptor of a place."""

    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("place", ctypes.c_int32))


def unshare(flags: int) -> None:
    """Give this process namespaces of its own; of processes, to its next child."""
    _require(_libc.unshare(flags), "unshare")


def mount(
    source: str, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    """Mount a file system, or show a path at another place."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        flags,
        None if options is None else options.encode(),
    )
    _require(result, f"mount {target}")


def restrict_mounts(path: str, attributes: int) -> None:
    """Restrict a mount and all below it; what is restricted already stays so."""
    wanted = _MountAttributes(set=attributes)
    result = _libc.syscall(
        _SYS_MOUNT_SETATTR,
        _AT_FDCWD,
        os.fsencode(path),
        _AT_RECURSIVE,
        ctypes.byref(wanted),
        ctypes.sizeof(wanted),
    )
    _require(result, f"mount_setattr {path}")


def change_root(path: str) -> None:
    """Make a mount the root, and let go of the old one for good."""
    os.chdir(path)
    # The old root comes to lie over the new one, from where it is taken away.
    _require(_libc.pivot_root(b".", b"."), f"pivot_root {path}")
    _require(_libc.umount2(b".", _MNT_DETACH), "umount2")
    os.chdir("/")


def bring_loopback_up() -> None:
    """Let processes of this network namespace reach each other by 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def drop_capabilities() -> None:
    """Give up every capability, also for what is executed later."""
    drop = _held_libc.prctl
    for number in range(_CAPABILITIES):
        if drop(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            # The kernel knows no more of them, or there are none to give up.
            break
    _require(_held_libc.capset(_CAPABILITY_HEADER, _NO_CAPABILITIES), "capset")


def give_up_new_privileges() -> None:
    """Let no program that is executed from here on gain any privilege."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def filter_calls(program: bytes) -> None:
    """Have each system call of this process pass a filter, and of all it becomes.

    New privileges were given up before.
    """
    instructions = ctypes.create_string_buffer(program)
    filtering = _Filter(
        length=len(program) // _INSTRUCTION, program=ctypes.addressof(instructions)
    )
    result = _libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filtering), 0, 0
    )
    _require(result, "prctl PR_SET_SECCOMP")


def landlock_version() -> int:
    """Return which version of Landlock there is, counted from 1."""
    version = _landlock(_SYS_LANDLOCK_CREATE_RULESET, 0, 0, _LANDLOCK_VERSION, 0)
    return _not_negative(version, "landlock_create_ruleset")


def make_ruleset(*, files: int, network: int, scopes: int) -> int:
    """Return a descriptor of rules of Landlock that allow nothing of all this yet."""
    wanted = _Ruleset(files=files, network=network, scopes=scopes)
    # What an older kernel does not know is zero, and then it does not mind.
    size = ctypes.sizeof(wanted)
    place = ctypes.addressof(wanted)
    made = _landlock(_SYS_LANDLOCK_CREATE_RULESET, place, size, 0, 0)
    return _not_negative(made, "landlock_create_ruleset")


def allow_beneath(ruleset: int, beneath: Beneath) -> None:
    """Let rules allow something of a file or a folder, and all that lies in there."""
    place = ctypes.addressof(beneath)
    rule = _landlock(_SYS_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_BENEATH, place, 0)
    _require(rule, "landlock_add_rule")


def restrict_self(ruleset: int, flags: int) -> None:
    """Live by rules of Landlock from here on, with all that comes of this thread.

    New privileges were given up before.
    """
    result = _landlock(_SYS_LANDLOCK_RESTRICT_SELF, ruleset, flags, 0, 0)
    _require(result, "landlock_restrict_self")


def look_at(pid: int) -> tuple[str, bool] | None:
    """Return what a process is called, and whether a signal has stopped it.

    None if it is gone, or nothing is told of it.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - imports nothing
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return None
    # The name stands in parentheses and may hold anything.
    name, _, rest = text.partition("(")[2].rpartition(")")
    return name, rest.split()[0] in {"T", "t"}


def die_with_parent(number: int) -> None:
    """Have the kernel send this signal when the thread that forked us is gone."""
    _prctl(_PR_SET_PDEATHSIG, number)


def go_first() -> None:
    """Have the kernel end us, and our children, first where it has no more memory.

    With root's privileges nobody takes that back.

    Raises:
        OSError: if there is nowhere to say it.
    """
    with open("/proc/self/oom_score_adj", "wb", 0) as place:  # noqa: PTH123 - a zygote shall not import pathlib
        place.write(b"1000")


def become_subreaper() -> None:
    """Let orphans below this process become its children instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_readable(readable: bool) -> None:  # noqa: FBT001 - says it at the call
    """Say whether processes of the same user may look into this one."""
    _prctl(_PR_SET_DUMPABLE, int(readable))


def set_name(name: str) -> None:
    """Say what this process is called; of more than 15 letters the first are used."""
    text = ctypes.create_string_buffer(name.encode())
    _require(_held_libc.prctl(_PR_SET_NAME, text, 0, 0, 0), "prctl PR_SET_NAME")


def _prctl(option: int, value: int) -> None:
    _require(_held_libc.prctl(option, value, 0, 0, 0), f"prctl {option}")


def _not_negative(result: int, what: str) -> int:
    _require(min(result, 0), what)
    return result


def _require(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
