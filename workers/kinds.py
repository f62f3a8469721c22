"""How the scripts of an executor are run: by a program, by a host, or by this Python.

A host is a module of which a zygote has learnt everything before a script is born: its
`run(path, args)` runs the script in the child's own process and returns the exit code.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Final

import horus_celery
import workers
from horus_celery import executors
from horus_celery.errors import ConfigurationError
from horus_celery.redis_server import find_server
from horus_celery.settings import OwnExecutor, Settings, load_settings
from horus_celery.settings.kinds import SCRIPT
from workers.launch import SYSTEM_PATH

#: What the Rhai engine is built from.
_ENGINE: Final = Path(workers.__file__ or "").with_name("rhai_engine")
#: Which of its versions have what the hosts of scripts import.
_ENGINE_VERSION: Final = "0.2"
_NO_VARIABLES: Final[Mapping[str, str]] = MappingProxyType({})
#: What runs scripts in Python's own process: without it the zygote's Python does.
HOSTS: Final = "workers.hosts"
#: What of an interpreter's own environment a Python script is spared.
_ISOLATED: Final = ("-I", "-u", "-X", "utf8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How the scripts of one executor are run.

    With neither a program nor a host, the Python that runs the runner runs them.
    """

    #: The program and its arguments before the script's file.
    program: tuple[str, ...] | None = None
    #: Its arguments behind the script's file, and before those of the job.
    behind: tuple[str, ...] = ()
    #: The name of the module that runs them.
    host: str | None = None
    #: What the name of the script's file ends in.
    suffix: str = ""
    #: Variables of its own, which a job cannot set.
    variables: Mapping[str, str] = field(default_factory=lambda: _NO_VARIABLES)
    #: Paths of the machine that it needs besides those that every script sees.
    shown: tuple[Path, ...] = ()


def find(name: str, settings: Settings) -> Kind:
    """Return how the scripts of an executor are run here.

    Raises:
        ConfigurationError: if there is no such executor, or what it needs is not here:
            naming that, and the remedy.
    """
    executors.require(settings, [name])
    if name in _OURS:
        return _OURS[name](settings)
    for own in settings.executor_commands:
        if own.name == name:
            return _of_command(own)
    return _installed(name, settings)


def hosted(module: str, **variables: str) -> Kind:
    """Return the kind of a host of ours."""
    return Kind(
        host=f"{HOSTS}.{module}",
        variables=variables,
        # Where a program keeps scripts apart, an interpreter of its own runs the host.
        shown=_own_packages(),
    )


def by_program(
    words: tuple[str, ...], *, behind: tuple[str, ...] = (), suffix: str = ""
) -> Kind:
    """Return the kind of a program that is looked up where scripts look for commands.

    Raises:
        FileNotFoundError: if it is not there.
    """
    found = shutil.which(words[0], path=SYSTEM_PATH)
    if found is None:
        raise FileNotFoundError(words[0])
    return Kind(
        program=(found, *words[1:]),
        behind=behind,
        suffix=suffix,
        shown=(Path(found).resolve().parent,),
    )


def _python(settings: Settings) -> Kind:
    if settings.python_env is None:
        return Kind()
    python = settings.python_env / "bin" / "python"
    if not python.is_file():
        raise ConfigurationError(
            f"python_env has no Python in {python}: make it with"
            f" `python3 -m venv {settings.python_env}`"
        )
    return Kind(
        program=(str(python), *_ISOLATED),
        # Its own library lies where it was made from.
        shown=(settings.python_env, python.resolve().parent.parent),
    )


def _system(_: Settings) -> Kind:
    try:
        return by_program(("bash",))
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no bash in {SYSTEM_PATH}: install it"
        ) from None


def _v(settings: Settings) -> Kind:
    word = "v" if settings.v_path is None else str(settings.v_path)
    try:
        # The name says to V that it is a program of its language.
        return by_program((word, "run"), suffix=".v")
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no program {word!r}, which compiles the scripts of v: install V,"
            ' and name it by v_path = "/PATH/TO/v"'
        ) from None


def _hero(settings: Settings) -> Kind:
    allowed = ",".join(settings.sal_allow)
    if settings.hero_cli is None:
        return hosted("hero", HORUS_SAL=allowed)
    cli = settings.hero_cli
    if not os.access(cli, os.X_OK):
        raise ConfigurationError(
            f"hero_cli names {cli}, which is no program: mend it, or leave it out to"
            " have the scripts of hero run by Horus itself"
        )
    redis = find_server().path
    kind = hosted("hero_cli", HORUS_HERO_CLI=str(cli), HORUS_HERO_REDIS=str(redis))
    return replace(kind, shown=(*kind.shown, cli.resolve().parent, redis.parent))


def _rhai(host: str) -> Callable[[Settings], Kind]:
    def kind(settings: Settings) -> Kind:
        if not _has_engine():
            raise ConfigurationError(
                f"the scripts of {host} need the Rhai engine {_ENGINE_VERSION}, which"
                f" is built from Rust: `{sys.executable} -m pip install {_ENGINE}` adds"
                " it where there is cargo"
            )
        allowed = ",".join(settings.sal_allow)
        return hosted(host, HORUS_SAL=allowed)

    return kind


def _has_engine() -> bool:
    """Whether the engine is here, and not one of an earlier version of Horus."""
    try:
        found = importlib.metadata.version("horus-rhai")
    except importlib.metadata.PackageNotFoundError:
        return False
    return found.startswith(f"{_ENGINE_VERSION}.")


_OURS: Final[Mapping[str, Callable[[Settings], Kind]]] = MappingProxyType(
    {
        "python": _python,
        "system": _system,
        "osis": _rhai("osis"),
        "sal": _rhai("sal"),
        "hero": _hero,
        "v": _v,
    }
)


def _of_command(own: OwnExecutor) -> Kind:
    at = own.command.index(SCRIPT)
    try:
        return by_program(
            own.command[:at], behind=own.command[at + 1 :], suffix=own.suffix
        )
    except FileNotFoundError:
        raise ConfigurationError(
            f"the executor {own.name} needs the program {own.command[0]!r}, which is"
            f" not in {SYSTEM_PATH}: install it, or write its whole path"
        ) from None


def _installed(name: str, settings: Settings) -> Kind:
    """Return what an installed package says of its executor.

    Raises:
        ConfigurationError: if that cannot be used.
    """
    entry, *others = entry_points(group=executors.GROUP, name=name)
    if others:
        values = ", ".join(repr(one.value) for one in (entry, *others))
        raise ConfigurationError(
            f"several installed packages add the executor {name} (entry points"
            f" {values}): uninstall all but one of them"
        )
    try:
        made = entry.load()(settings)
    except ConfigurationError:
        raise
    except Exception as error:  # noqa: BLE001 - it is somebody else's
        made = type(error).__name__
    if not isinstance(made, Kind):
        raise ConfigurationError(
            f"the executor {name} of the entry point {entry.value!r} cannot be used: it"
            f" must be called with the settings and return a workers.kinds.Kind, and"
            f" gave {made!r}"
        )
    return made


def main() -> None:
    """Print for each executor why it cannot be served here, as JSON: for doctors."""
    settings = load_settings()
    told = {name: _fault_of(name, settings) for name in executors.names(settings)}
    sys.stdout.write(json.dumps(told) + "\n")


def _fault_of(name: str, settings: Settings) -> str | None:
    try:
        find(name, settings)
    except ConfigurationError as error:
        return error.detail
    return None


@cache
def _own_packages() -> tuple[Path, ...]:
    """Return where our own packages lie."""
    return tuple(
        Path(one.__file__ or "").resolve().parent for one in (horus_celery, workers)
    )


if __name__ == "__main__":
    main()
