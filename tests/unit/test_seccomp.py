"""What the filter of system calls decides, also on machines that are not this one."""

from __future__ import annotations

import ctypes.util
import struct
import sys

import pytest

from horus_celery.errors import ConfigurationError
from workers import seccomp
from workers.seccomp import Sockets

try:
    import pyseccomp
except RuntimeError:
    pytest.skip("there is no libseccomp", allow_module_level=True)

ALLOWED = 0x7FFF0000
DENIED = 0x00050001  # with EPERM
UNKNOWN = 0x00050026  # with ENOSYS
#: Calls that programs make all the time.
USUAL = ("read", "write", "openat", "execve", "clone", "wait4", "exit_group", "unshare")
_ARCH = pyseccomp.Arch
CUT = (Sockets.NONE, Sockets.LOCAL)
MACHINES = [
    ("x86_64", _ARCH.X86_64),
    ("x86_64", _ARCH.X86),
    ("x86_64", _ARCH.X32),
    ("aarch64", _ARCH.AARCH64),
    ("aarch64", _ARCH.ARM),
]
_X32_BIT = 0x4000_0000
_AUDIT_X86_64 = _ARCH.X86_64


def answer(program, arch, number, *words):
    """Return what the kernel would do, by the few instructions that a filter has."""
    if arch == _ARCH.X32:
        # The kernel tells them by their numbers.
        arch = _AUDIT_X86_64
        assert number & _X32_BIT
    padded = [*words, *[0] * (6 - len(words))]
    data = struct.pack("<iIQ6Q", number, arch, 0, *padded)
    register = at = 0
    while True:
        code, yes, no, k = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        match code:
            case 0x20:  # load a word
                (register,) = struct.unpack_from("<I", data, k)
            case 0x54:  # and
                register &= k
            case 0x05:  # jump
                at += k
            case 0x15 | 0x25 | 0x35 | 0x45:
                holds = {
                    0x15: register == k,
                    0x25: register > k,
                    0x35: register >= k,
                    0x45: bool(register & k),
                }[code]
                at += yes if holds else no
            case 0x06:  # return
                return k
            case _:
                pytest.fail(f"an instruction that is not known: {code:#x}")


def number_of(arch, call):
    """Return the number of a call; None where the architecture has none."""
    number = pyseccomp.resolve_syscall(arch, call)
    return None if number < 0 else number


@pytest.mark.parametrize(("machine", "arch"), MACHINES)
def test_each_call_that_is_denied_is_denied(machine, arch):
    program = seccomp.compiled(machine)
    calls = (*seccomp.DENIED, *seccomp.MOUNTS)
    numbers = [number_of(arch, call) for call in calls]
    there = [number for number in numbers if number is not None]
    assert len(there) > 30
    assert {answer(program, arch, number) for number in there} == {DENIED}


@pytest.mark.parametrize(("machine", "arch"), MACHINES)
def test_who_has_to_mount_may_do_that_and_nothing_more(machine, arch):
    program = seccomp.compiled(machine, mounts=True)
    for calls, expected in ((seccomp.MOUNTS, ALLOWED), (seccomp.DENIED, DENIED)):
        numbers = [number_of(arch, call) for call in calls]
        there = [number for number in numbers if number is not None]
        assert {answer(program, arch, number) for number in there} == {expected}


@pytest.mark.parametrize(("machine", "arch"), MACHINES)
def test_what_programs_need_is_allowed(machine, arch):
    program = seccomp.compiled(machine)
    for call in USUAL:
        assert answer(program, arch, number_of(arch, call)) == ALLOWED, call


@pytest.mark.parametrize(("machine", "arch"), MACHINES)
@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (0x5412, DENIED),
        (0x541C, DENIED),
        (0xFFFF_FFFF_0000_5412, DENIED),  # of which the kernel takes the lower half
        (0x5401, ALLOWED),
    ],
)
def test_nobody_types_into_a_terminal(machine, arch, request_, expected):
    program = seccomp.compiled(machine)
    number = number_of(arch, "ioctl")
    assert answer(program, arch, number, 0, request_) == expected


_NUMBERS_OF_X86 = {"socket": 359, "socketpair": 360}
_32_BITS = (_ARCH.X86, _ARCH.ARM)
_INET, _UNIX, _TIPC = 2, 1, 30
_OTHER_FAMILIES = sorted({*range(64), 0xFFFF_FFFF} - {1, 2, 10, 16, 17})


@pytest.mark.parametrize(("machine", "arch"), MACHINES)
@pytest.mark.parametrize(
    ("sockets", "made"),
    [
        (Sockets.NONE, set()),
        (Sockets.LOCAL, {("socket", _UNIX)}),
        (Sockets.ANY, {("socket", _UNIX), ("socket", _INET)}),
    ],
)
def test_a_script_makes_the_sockets_that_its_network_has(machine, arch, sockets, made):
    program = seccomp.compiled(machine, sockets=sockets)

    def may(call, family):
        number = number_of(arch, call)
        if number is None:
            # There the library has another call for it, and this one besides.
            number = _NUMBERS_OF_X86[call]
        # Of the first word the kernel takes the lower half.
        whole = answer(program, arch, number, family)
        halved = answer(program, arch, number, family | 1 << 32)
        assert halved in (whole, DENIED)
        return whole == ALLOWED

    asked = [("socket", _UNIX), ("socket", _INET), ("socketpair", _TIPC)]
    assert {one for one in asked if may(*one)} == made
    assert may("socketpair", _UNIX)


@pytest.mark.parametrize(("machine", "arch"), MACHINES)
@pytest.mark.parametrize("mounts", [True, False])
@pytest.mark.parametrize("sockets", [None, *Sockets])
def test_no_script_makes_a_socket_that_no_namespace_holds(
    machine, arch, mounts, sockets
):
    program = seccomp.compiled(machine, mounts=mounts, sockets=sockets)
    for call in ("socket", "socketpair"):
        number = number_of(arch, call) or _NUMBERS_OF_X86[call]
        made = {answer(program, arch, number, family) for family in _OTHER_FAMILIES}
        assert made == {DENIED}
    if sockets not in CUT:
        for family in (1, 2, 10, 16):
            number = number_of(arch, "socket") or _NUMBERS_OF_X86["socket"]
            assert answer(program, arch, number, family) == ALLOWED


@pytest.mark.parametrize("sockets", [None, *Sockets])
@pytest.mark.parametrize("function", [1, 8])
def test_no_socket_is_made_by_the_call_that_no_filter_sees_through(sockets, function):
    program = seccomp.compiled("x86_64", sockets=sockets)
    number = number_of(_ARCH.X86, "socketcall")
    assert answer(program, _ARCH.X86, number, function) == DENIED
    assert answer(program, _ARCH.X86, number, 3) == ALLOWED, "to connect"


@pytest.mark.parametrize(("machine", "arch"), MACHINES)
@pytest.mark.parametrize("sockets", Sockets)
def test_where_there_are_no_namespaces_nobody_makes_one_of_users(
    machine, arch, sockets
):
    program = seccomp.compiled(machine, sockets=sockets)
    for call, usual in (("clone", 17), ("unshare", 0x400)):
        number = number_of(arch, call)
        assert answer(program, arch, number, usual) == ALLOWED
        assert answer(program, arch, number, usual | 0x1000_0000) == DENIED
    assert answer(program, arch, number_of(arch, "clone3"), 0xABC, 88) == UNKNOWN


@pytest.mark.parametrize(("machine", "arch"), MACHINES)
@pytest.mark.parametrize("sockets", Sockets)
def test_what_outlives_a_script_is_denied_where_there_are_no_namespaces(
    machine, arch, sockets
):
    program = seccomp.compiled(machine, sockets=sockets)
    calls = (*seccomp.DENIED, *seccomp.MOUNTS, *seccomp.DENIED_WITHOUT_NAMESPACES)
    numbers = [number_of(arch, call) for call in calls]
    there = [number for number in numbers if number is not None]
    assert {answer(program, arch, number) for number in there} == {DENIED}
    usual = seccomp.compiled(machine)
    queue = number_of(arch, "mq_open")
    assert answer(usual, arch, queue) == ALLOWED


@pytest.mark.parametrize(("machine", "arch"), MACHINES)
@pytest.mark.parametrize(
    ("call", "words", "expected"),
    [
        ("prlimit64", (0, 7, 0xABC), ALLOWED),
        ("prlimit64", (77, 7, 0, 0xABC), ALLOWED),  # which only looks
        ("prlimit64", (77, 7, 0xABC), DENIED),
        ("setpriority", (0, 0, 19), ALLOWED),
        ("setpriority", (0, 77, 19), DENIED),
        ("setpriority", (2, 0, 19), DENIED),  # all of the user's
        ("setpriority", (2 | 1 << 32, 0, 19), DENIED),
        ("ioprio_set", (1, 0, 7), ALLOWED),
        ("ioprio_set", (1, 77, 7), DENIED),
        ("ioprio_set", (3, 0, 7), DENIED),
        ("sched_setscheduler", (0, 5, 0xABC), ALLOWED),
        ("sched_setscheduler", (77, 5, 0xABC), DENIED),
        ("sched_setparam", (77, 0xABC), DENIED),
        ("sched_setattr", (77, 0xABC, 0), DENIED),
        ("sched_setaffinity", (0, 8, 0xABC), ALLOWED),
        ("sched_setaffinity", (77, 8, 0xABC), DENIED),
    ],
)
def test_nobody_changes_what_others_have(machine, arch, call, words, expected):
    program = seccomp.compiled(machine, sockets=Sockets.ANY)
    if arch in _32_BITS:
        words = [word & 0xFFFF_FFFF for word in words]
    assert answer(program, arch, number_of(arch, call), *words) == expected


@pytest.mark.parametrize(("machine", "arch"), MACHINES)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((1, 7, 0xABC), DENIED),
        ((1 | 1 << 32, 7, 0xABC), DENIED),  # of which the kernel takes the lower half
        ((1, 7, 0, 0xABC), ALLOWED),  # which only looks
        ((0, 7, 0xABC), ALLOWED),
        ((77, 7, 0xABC), ALLOWED),
    ],
)
def test_nobody_limits_the_first_process_of_its_namespaces(
    machine, arch, words, expected
):
    program = seccomp.compiled(machine, mounts=True)
    assert answer(program, arch, number_of(arch, "prlimit64"), *words) == expected


def test_another_kind_of_machine_has_none():
    with pytest.raises(ConfigurationError, match="riscv64"):
        seccomp.compiled("riscv64")


@pytest.fixture
def fresh(monkeypatch):
    seccomp.own.cache_clear()
    yield monkeypatch
    seccomp.own.cache_clear()


def test_without_the_library_there_is_none_and_the_remedy_is_said(fresh):
    fresh.delitem(sys.modules, "pyseccomp")
    fresh.setattr(ctypes.util, "find_library", lambda name: None)
    own = seccomp.own()
    assert own.program is None
    assert own.fault is not None
    assert "apt-get install libseccomp2" in own.fault


def test_a_library_that_is_too_old_is_named(fresh):
    def unknown(_, name):
        if name == "mount_setattr":
            raise OSError
        return 1

    fresh.setattr(pyseccomp, "resolve_syscall", unknown)
    own = seccomp.own()
    assert own.program is None
    assert own.fault is not None
    assert "does not know mount_setattr" in own.fault


@pytest.mark.parametrize("text", [None, "kill_process allow\n"])
def test_a_kernel_without_filters_gets_none(fresh, tmp_path, text):
    available = tmp_path / "actions_avail"
    if text is not None:
        available.write_text(text)
    fresh.setattr(seccomp, "_AVAILABLE", available)
    assert seccomp.own().fault == "the kernel has no filters"
