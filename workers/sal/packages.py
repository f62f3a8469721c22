"""SAL's functions for the packages of the node: apt's."""

from __future__ import annotations

import platform
import re
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar

from workers.sal.kinds import Word
from workers.sal.programs import CommandResult, Program, output_of, succeeded
from workers.sal.session import Power, SalError, Session
from workers.sal.table import make_module

_T = TypeVar("_T")

#: What must never be asked: nobody is there to answer.
_QUIET: Final = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
#: A lock of apt may be held by another; apt waits this long for it itself.
_LOCK: Final = "DPkg::Lock::Timeout=60"
_LONGEST: Final = timedelta(hours=1)
_DEBUG: Final = "packages.debug"
_INSTALLED: Final = "ii "
#: What apt's programs read; without it they know nothing, and do not say so.
_DATABASE: Final = Path("/var/lib/dpkg")
_LISTS: Final = Path("/var/lib/apt/lists")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+](:[a-z0-9-]+)?(=[\w.+:~-]+)?")


def package_install(here: Session, name: Word) -> CommandResult:
    """Install a package; one that is installed stays."""
    here.require(Power.PACKAGES)
    here.require_host()
    return apt(here, "install", _package(name))


def package_remove(here: Session, name: Word) -> CommandResult:
    """Remove a package; one that is not installed is removed already."""
    here.require(Power.PACKAGES)
    return apt(here, "remove", _package(name))


def package_update(here: Session) -> CommandResult:
    """Fetch the lists of the packages that there are."""
    here.require(Power.PACKAGES)
    here.require_host()
    return apt(here, "update")


def package_upgrade(here: Session) -> CommandResult:
    """Install newer versions of all packages."""
    here.require(Power.PACKAGES)
    here.require_host()
    return apt(here, "upgrade")


def package_list(here: Session) -> list[str]:
    """Return the names of the installed packages, in order."""
    lines = _asked("dpkg-query", "-W", "-f=${db:Status-Abbrev} ${Package}\n")
    found = (line.split() for line in lines.splitlines() if line.startswith(_INSTALLED))
    return _known(sorted({words[-1] for words in found}), by=_DATABASE)


def package_search(here: Session, query: Word) -> list[str]:
    """Return the names of packages whose name or description matches, in order."""
    lines = _asked("apt-cache", "search", "--", query).splitlines()
    return _known(sorted({line.partition(" ")[0] for line in lines if line}), by=_LISTS)


def package_is_installed(here: Session, name: Word) -> bool:
    """Whether a package is installed."""
    words = ["dpkg-query", "-W", "-f=${db:Status-Abbrev}", "--", name]
    result = Program(words=words, env=_QUIET).run()
    # It ends with 1 for a package that nobody knows.
    if result.code not in {0, 1}:
        succeeded(words, result)
    is_installed = result.success and result.stdout.startswith(_INSTALLED)
    return _known(is_installed, by=_DATABASE)


def package_set_debug(here: Session, on: bool) -> bool:  # noqa: FBT001 - as SAL has it
    """Have what apt says in the job's log from now on, or not. Returns `on`."""
    here.kept[_DEBUG] = on
    return on


def package_platform(here: Session) -> str:
    """Return which system this is, as in `debian` or `ubuntu`."""
    try:
        return platform.freedesktop_os_release()["ID"]
    except (OSError, KeyError):
        raise SalError(
            "this system does not say what it is in /etc/os-release"
        ) from None


def apt(here: Session, *words: str) -> CommandResult:
    """Let apt-get do something, without questions.

    Raises:
        SalError: if it fails.
    """
    verb, *names = words
    given = ["apt-get", "--yes", "--option", _LOCK, verb, *(["--"] if names else [])]
    write = here.write if here.kept.get(_DEBUG) else None
    program = Program(words=[*given, *names], env=_QUIET, timeout=_LONGEST, write=write)
    return succeeded(given, program.run())


def _package(name: str) -> str:
    """Let only a name pass: apt also takes patterns, files, and `name-` for removal."""
    if not _NAME.fullmatch(name):
        raise SalError(f"{name!r} is no name of a package")
    return name


def _known(answer: _T, *, by: Path) -> _T:
    """Return an answer, unless it is none because nobody could look it up."""
    if answer or by.exists():
        return answer
    raise SalError(
        f"the packages of the node are not shown to scripts, for there is no {by} here;"
        f' set sandbox_paths = ["{_DATABASE}", "{_LISTS}", "/etc/apt"] in the'
        " runner's configuration"
    )


def _asked(*words: str) -> str:
    return output_of(Program(words=words, env=_QUIET))


MODULE: Final = make_module(
    "packages",
    """The packages of the node, by apt.

    What changes them is off unless the runner's configuration says
    `sal_allow = ["packages"]`, and is apt's to refuse where the script is not root.
    What a sandbox hides from scripts is unknown to them, until `sandbox_paths` shows
    `/var/lib/dpkg`, and for a search `/var/lib/apt/lists` and `/etc/apt`.
    """,
    *(package_install, package_remove, package_update, package_upgrade, package_list),
    *(package_search, package_is_installed, package_set_debug, package_platform),
)
