"""Which system calls no script gets, at whatever level.

A script has no use for them, and the kernel had many of its faults there. The runner
compiles that once to a program of the kernel's own; the process that scripts are born
from loads it, or bubblewrap.
"""

from __future__ import annotations

import base64
import os
import platform
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from horus_celery.errors import ConfigurationError

if TYPE_CHECKING:
    from pyseccomp import SyscallFilter

#: Each is answered with EPERM.
DENIED: Final = (
    # The kernel's store of keys knows no namespaces.
    *("add_key", "keyctl", "request_key"),
    # Programs and rings that run in the kernel, and views into it.
    *("bpf", "io_uring_enter", "io_uring_register", "io_uring_setup"),
    *("perf_event_open", "userfaultfd"),
    # Other processes.
    *("kcmp", "pidfd_getfd", "process_vm_readv", "process_vm_writev", "ptrace"),
    # What is mounted, and ways around it.
    *("fsconfig", "fsmount", "fsopen", "fspick", "move_mount", "open_by_handle_at"),
    "open_tree",
    # The machine itself.
    *("acct", "delete_module", "finit_module", "init_module", "ioperm", "iopl"),
    *("kexec_file_load", "kexec_load", "quotactl", "reboot", "swapoff", "swapon"),
    # Its clock.
    *("adjtimex", "clock_adjtime", "clock_adjtime64", "clock_settime"),
    *("clock_settime64", "settimeofday", "stime"),
)
#: So are these, but where namespaces are made by who loads the filter: there the kernel
#: gives them to nobody who has no privileges, which is every script.
MOUNTS: Final = ("mount", "mount_setattr", "pivot_root", "umount", "umount2")
#: The families of sockets that programs use: AF_UNIX, AF_INET, AF_INET6, AF_NETLINK and
#: AF_PACKET. Others know no namespaces (AF_VSOCK leads to the host of a virtual machine
#: and to whoever else is in this one), and who asks for one has the kernel load it.
FAMILIES: Final = frozenset({1, 2, 10, 16, 17})
#: Requests of ioctl that put words into a terminal's input: TIOCSTI and TIOCLINUX.
DENIED_REQUESTS: Final = (0x5412, 0x541C)
#: Where a script has no namespaces, these as well: what outlives it, and shares memory
#: with others of its user.
DENIED_WITHOUT_NAMESPACES: Final = ("ipc", "mq_open", "msgget", "semget", "shmget")
#: In a namespace of users of its own a script would have privileges again, and with
#: them much of the kernel that nobody else reaches. The first word says what is made.
_WITH_FLAGS: Final = ("clone", "unshare")
_NEW_USERS: Final = 0x1000_0000
#: There, too, nobody changes others of its user: with the number of the word that says
#: whom a call is about, where 0 is who makes it.
_ABOUT: Final = MappingProxyType(
    {
        "ioprio_set": 1,
        "setpriority": 1,
        "sched_setaffinity": 0,
        "sched_setattr": 0,
        "sched_setparam": 0,
        "sched_setscheduler": 0,
    }
)
#: What the word before that says where it is about all of a user.
_ABOUT_ALL: Final = MappingProxyType({"ioprio_set": 3, "setpriority": 2})
#: The first process of a script's namespaces, which keeps those after it as well.
_KEEPER: Final = 1
_AF_UNIX: Final = 1
#: The call of 32-bit programs that does what its first word says; its others are where
#: no filter can see them.
_MULTIPLEXER: Final = "socketcall"
_ITS_SOCKET: Final = 1
_ITS_SOCKETPAIR: Final = 8
_EPERM: Final = 1
_ENOSYS: Final = 38
#: What the kernel takes of words that are no longer than that.
_WORD: Final = 0xFFFF_FFFF
#: A tree of comparisons, rather than one for each call.
_AS_TREE: Final = 2
#: What programs a machine may run, by the name of the machine.
_ARCHITECTURES: Final = MappingProxyType(
    {"x86_64": ("X86_64", "X86", "X32"), "aarch64": ("AARCH64", "ARM")}
)
_AVAILABLE: Final = Path("/proc/sys/kernel/seccomp/actions_avail")


class Sockets(Enum):
    """Which sockets a script may make, besides pairs of them among its own."""

    NONE = "none"
    #: Those that stay on this machine: of AF_UNIX.
    LOCAL = "local"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a script's process loads."""

    #: In base64; None where there is none.
    program: str | None
    #: Why there is none.
    fault: str | None = None


@cache
def own(*, mounts: bool = False, sockets: Sockets | None = None) -> Filter:
    """Return the filter of this machine, or why there is none.

    Args:
        mounts: Whether who loads it has to mount.
        sockets: Those that a script may make, where the filter is to stand in for
            namespaces.
    """
    try:
        if "errno" not in _AVAILABLE.read_text().split():
            return Filter(program=None, fault="the kernel has no filters")
        program = compiled(platform.machine(), mounts=mounts, sockets=sockets)
    except FileNotFoundError:
        return Filter(program=None, fault="the kernel has no filters")
    except ConfigurationError as error:
        return Filter(program=None, fault=error.detail)
    return Filter(program=base64.b64encode(program).decode())


def compiled(
    machine: str, *, mounts: bool = False, sockets: Sockets | None = None
) -> bytes:
    """Return the program for a kind of machine.

    Args:
        machine: What the machine calls itself.
        mounts: Whether calls of `MOUNTS` pass.
        sockets: Which sockets a script may make, where it has no namespaces, and
            nothing else of theirs; None leaves all that to namespaces, or to nobody.

    Raises:
        ConfigurationError: if there can be none; names what is missing.
    """
    try:
        # It looks for the library when it is imported.
        import pyseccomp  # noqa: PLC0415
    except RuntimeError:
        raise ConfigurationError(
            "there is no libseccomp: apt-get install libseccomp2"
        ) from None
    if machine not in _ARCHITECTURES:
        raise ConfigurationError(f"there is none for machines of the kind {machine}")
    made = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    made.remove_arch(pyseccomp.Arch.NATIVE)
    for name in _ARCHITECTURES[machine]:
        made.add_arch(getattr(pyseccomp.Arch, name))
    for name in DENIED if mounts else (*DENIED, *MOUNTS):
        _deny(made, name)
    for request in DENIED_REQUESTS:
        same = pyseccomp.Arg(1, pyseccomp.MASKED_EQ, _WORD, request)
        _deny(made, "ioctl", same)
    if mounts:
        # Where the runner is no root, it is of the script's own user, and what limits
        # it limits every script that it bears.
        keeper = pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _WORD, _KEEPER)
        _deny_limits(made, keeper)
    if sockets in {None, Sockets.ANY}:
        _deny_families(made)
    if sockets is not None:
        _stand_in_for_namespaces(made, sockets)
    made.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, _AS_TREE)
    return _exported(made)


def _stand_in_for_namespaces(made: SyscallFilter, sockets: Sockets) -> None:
    import pyseccomp  # noqa: PLC0415 - as above

    for name in DENIED_WITHOUT_NAMESPACES:
        _deny(made, name)
    for name in _WITH_FLAGS:
        users = pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _NEW_USERS, _NEW_USERS)
        _deny(made, name, users)
    # Its flags are where no filter can see them; programs then make the call before it.
    made.add_rule(pyseccomp.ERRNO(_ENOSYS), "clone3")
    for name, word in _ABOUT.items():
        _deny(made, name, pyseccomp.Arg(word, pyseccomp.NE, 0))
    for name, everybody in _ABOUT_ALL.items():
        _deny(made, name, pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _WORD, everybody))
    # A runner whose limits somebody sets to 0 is gone.
    _deny_limits(made, pyseccomp.Arg(0, pyseccomp.NE, 0))
    if sockets is Sockets.ANY:
        return
    far = pyseccomp.Arg(0, pyseccomp.NE, _AF_UNIX)
    _deny(made, "socket", *([far] if sockets is Sockets.LOCAL else []))
    _deny(made, "socketpair", far)
    for what in (_ITS_SOCKET, _ITS_SOCKETPAIR):
        _deny(made, _MULTIPLEXER, pyseccomp.Arg(0, pyseccomp.EQ, what))


def _deny_families(made: SyscallFilter) -> None:
    import pyseccomp  # noqa: PLC0415 - as above

    known = max(FAMILIES)
    beyond = pyseccomp.Arg(0, pyseccomp.GT, known)
    others = (
        pyseccomp.Arg(0, pyseccomp.EQ, family)
        for family in range(known)
        if family not in FAMILIES
    )
    for family in (beyond, *others):
        _deny(made, "socket", family)
        _deny(made, "socketpair", family)
    # 32-bit programs have had calls of their own for that since 2016.
    for what in (_ITS_SOCKET, _ITS_SOCKETPAIR):
        _deny(made, _MULTIPLEXER, pyseccomp.Arg(0, pyseccomp.EQ, what))


def _deny_limits(made: SyscallFilter, whose: object) -> None:
    import pyseccomp  # noqa: PLC0415 - as above

    # The call tells limits as well, where it is given no new ones.
    _deny(made, "prlimit64", whose, pyseccomp.Arg(2, pyseccomp.NE, 0))


def _deny(made: SyscallFilter, call: str, *words: object) -> None:
    import pyseccomp  # noqa: PLC0415 - as above

    try:
        made.add_rule(pyseccomp.ERRNO(_EPERM), call, *words)
    except OSError:
        raise ConfigurationError(
            f"libseccomp does not know {call}: it has to be 2.5.2 or newer"
        ) from None


def _exported(made: SyscallFilter) -> bytes:
    descriptor = os.memfd_create("filter")
    with os.fdopen(descriptor, "w+b") as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()
