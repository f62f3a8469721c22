"""SAL's functions that say which machine this is."""

from __future__ import annotations

import platform
from typing import Final

from workers.sal.session import SalError, Session
from workers.sal.table import make_module

_ARM: Final = frozenset({"aarch64", "arm64", "armv7l", "armv6l"})
_X86: Final = frozenset({"x86_64", "amd64", "i386", "i686"})


def platform_is_osx(here: Session) -> bool:
    """Whether this is macOS."""
    return platform.system() == "Darwin"


def platform_is_linux(here: Session) -> bool:
    """Whether this is Linux."""
    return platform.system() == "Linux"


def platform_is_arm(here: Session) -> bool:
    """Whether its processor is an ARM."""
    return platform.machine().lower() in _ARM


def platform_is_x86(here: Session) -> bool:
    """Whether its processor is one of Intel's family."""
    return platform.machine().lower() in _X86


def platform_check_linux_x86(here: Session) -> None:
    """Fail unless this is Linux on x86."""
    if not (platform_is_linux(here) and platform_is_x86(here)):
        raise SalError(f"this needs Linux on x86, and {_told()}")


def platform_check_macos_arm(here: Session) -> None:
    """Fail unless this is macOS on ARM."""
    if not (platform_is_osx(here) and platform_is_arm(here)):
        raise SalError(f"this needs macOS on ARM, and {_told()}")


def _told() -> str:
    return f"this is {platform.system()} on {platform.machine()}"


MODULE: Final = make_module(
    "platforms",
    """Which machine this is.""",
    *(platform_is_osx, platform_is_linux, platform_is_arm, platform_is_x86),
    *(platform_check_linux_x86, platform_check_macos_arm),
)
