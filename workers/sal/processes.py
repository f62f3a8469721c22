"""SAL's functions that run programs and look at processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, Self

from workers.sal.kinds import KINDS, Environment, Seconds, Words
from workers.sal.programs import CommandResult, Program, succeeded
from workers.sal.session import SalError, Session
from workers.sal.table import SalObject, make_module

_PROC: Final = Path("/proc")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
#: The kinds of the entries that `run_with_options` takes.
_OPTIONS: Final[Mapping[str, str]] = {
    "silent": "bool",
    "ignore_errors": "bool",
    "env": "Environment",
    "cwd": "Path",
    "input": "str",
    "timeout": "Seconds",
}


class Command(SalObject):
    """A command that is to be run by `execute`; each of the others returns it."""

    def __init__(self, here: Session, words: list[str]) -> None:
        self._here = here
        self._words = words
        self._is_silent = False
        self._dies = True
        self._env: dict[str, str] = {}
        self._cwd: Path | None = None
        self._input = ""
        self._timeout: timedelta | None = None

    def silent(self) -> Self:
        """Keep what it writes out of the job's log."""
        return self.log(on=False)

    def log(self, on: bool) -> Self:  # noqa: FBT001 - says it at the call
        """Have what it writes in the job's log, or not; at first it is."""
        self._is_silent = not on
        return self

    def die(self, on: bool) -> Self:  # noqa: FBT001 - says it at the call
        """Make it an error if the exit code is not 0, or not; at first it is."""
        self._dies = on
        return self

    def ignore_errors(self) -> Self:
        """Return the result whatever the exit code is."""
        return self.die(on=False)

    def env(self, variables: Environment) -> Self:
        """Add variables to its environment."""
        self._env.update(variables)
        return self

    def cwd(self, path: Path) -> Self:
        """Run it in this directory."""
        self._cwd = path
        return self

    def input_(self, text: str) -> Self:
        """Give it this text as its standard input; else that is empty."""
        self._input = text
        return self

    def timeout(self, seconds: Seconds) -> Self:
        """End it, with all that it started, after this time: its code is then 124."""
        self._timeout = seconds
        return self

    def execute(self) -> CommandResult:
        """Run it to its end."""
        program = Program(
            words=self._words,
            env=self._env,
            cwd=self._cwd,
            input=self._input.encode(),
            timeout=self._timeout,
            write=None if self._is_silent else self._here.write,
        )
        result = program.run()
        return succeeded(self._words, result) if self._dies else result

    methods = (
        *(silent, log, die, ignore_errors, env, cwd, input_, timeout),
        execute,
    )


class ProcessInfo(SalObject):
    """A process, as it was when it was looked at."""

    def __init__(self, *, pid: int, name: str, command: str, memory: int) -> None:
        self._pid = pid
        self._name = name
        self._command = command
        self._memory = memory

    @property
    def pid(self) -> int:
        """Its number."""
        return self._pid

    @property
    def name(self) -> str:
        """The name of its program."""
        return self._name

    @property
    def command(self) -> str:
        """Its whole command line. It is Horus's own."""
        return self._command

    @property
    def memory(self) -> int:
        """How many bytes of memory it has. It is Horus's own."""
        return self._memory

    properties = (pid, name, command, memory)


def run(here: Session, command: Words) -> Command:
    """Return a command that `.execute()` runs.

    A string is split into words as a shell would, but no shell runs it: `|`, `>`, `*`
    and `$` mean nothing. An array is taken word by word.
    """
    return Command(here, command)


def run_command(here: Session, command: Words) -> CommandResult:
    """Run a command; what it writes is in the job's log.

    It is an error if the exit code is not 0.
    """
    return Command(here, command).execute()


def run_silent(here: Session, command: Words) -> CommandResult:
    """Run a command; what it writes stays out of the job's log.

    It is an error if the exit code is not 0.
    """
    return Command(here, command).silent().execute()


def run_with_options(
    here: Session, command: Words, options: dict[str, object]
) -> CommandResult:
    """Run a command as a map says.

    Its keys are silent, ignore_errors, env, cwd, input and timeout, each of them as the
    method of that name.
    """
    given = {name: _option(name, value) for name, value in options.items()}
    asked = Command(here, command)
    if given.pop("silent", False):
        asked.silent()
    if given.pop("ignore_errors", False):
        asked.ignore_errors()
    for name, value in given.items():
        asked.rhai_call(name, [value])
    return asked.execute()


def kill(here: Session, pattern: str) -> int:
    """End every process whose command line contains the pattern; say how many.

    The script and what it stands below are spared.
    """
    if not pattern.strip():
        raise SalError("the pattern is empty: it would end everything")
    spared = _lineage()
    count = 0
    for one in _matching(pattern):
        if one.pid in spared:
            continue
        with suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGKILL)
            count += 1
    return count


def process_list(here: Session, pattern: str = "") -> list[ProcessInfo]:
    """Return the processes whose command line contains the pattern; all for `""`."""
    return list(_matching(pattern))


def process_get(here: Session, pattern: str) -> ProcessInfo:
    """Return the one process whose command line contains the pattern.

    It is an error if there is none, or more than one.
    """
    found = list(_matching(pattern))
    if len(found) != 1:
        count = f"{len(found)} processes match" if found else "no process matches"
        raise SalError(f"{count} {pattern!r}, and it must be one")
    return found[0]


def _option(name: str, value: object) -> object:
    if name not in _OPTIONS:
        raise SalError(f"there is no option {name}; there are {', '.join(_OPTIONS)}")
    try:
        KINDS[_OPTIONS[name]].read(value)
    except ValueError as error:
        raise SalError(f"{name} {error}") from None
    return value


def _matching(pattern: str) -> Iterator[ProcessInfo]:
    for pid in sorted(int(one.name) for one in _PROC.iterdir() if one.name.isdigit()):
        # It may end while it is looked at.
        with suppress(ProcessLookupError, FileNotFoundError):
            found = _info(pid)
            if pattern in found.command:
                yield found


def _info(pid: int) -> ProcessInfo:
    place = _PROC / str(pid)
    name = (place / "comm").read_text(errors="replace").rstrip("\n")
    words = (place / "cmdline").read_text(errors="replace").rstrip("\0").split("\0")
    resident = int((place / "statm").read_text().split()[1])
    command = " ".join(words) or f"[{name}]"
    return ProcessInfo(pid=pid, name=name, command=command, memory=resident * _PAGE)


def _lineage() -> frozenset[int]:
    """Return this process and those that it stands below."""
    found: set[int] = set()
    pid = os.getpid()
    while pid and pid not in found:
        found.add(pid)
        try:
            stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
        except OSError:
            break  # one that is hidden from here
        # The name, in parentheses, may hold anything.
        pid = int(stat.rpartition(")")[2].split()[1])
    return frozenset(found)


MODULE: Final = make_module(
    "processes",
    """Programs and processes.

    SAL's own documents do not name the methods of what `run` returns: these are
    Horus's. Of each stream 4 MiB are kept; the log gets all of it. What a command
    leaves running ends with the job at the latest. `which` is of the module files.
    """,
    *(run, run_command, run_silent, run_with_options),
    *(kill, process_list, process_get),
    objects=(Command, CommandResult, ProcessInfo),
)
