"""What is wrong with a state directory: each fault with its remedy."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from horus_celery.bundle import WantedRunner, unmet
from horus_celery.errors import ConfigurationError, HorusError
from horus_celery.statedir.files import exists, is_named, require_private, words
from horus_celery.statedir.layout import SCOPES, Layout
from horus_celery.statements.keys import read_key_file
from horus_celery.statements.trust import Trust

#: A unix socket's path has 107 bytes at most; servers add a few of their own.
MAX_SOCKET_PATH: Final = 100
FOLDERS: Final = ("keys", "runners", "secrets", "redis", "logs", "run", "herodb")
FILES: Final = ("root.key", "root.pub", "trust.json", "journal.db", "horus.toml")


def check_place(state: Layout) -> None:
    """See that this can be, or become, a state directory; nothing is made.

    Raises:
        ConfigurationError: saying why it cannot, and what to do.
    """
    socket = len(os.fsencode(state.redis_socket))
    if socket > MAX_SOCKET_PATH:
        raise ConfigurationError(
            f"the state directory's path is too long for a unix socket in it by"
            f" {socket - MAX_SOCKET_PATH} bytes: choose a shorter one with"
            f" --state-dir ({state.path})"
        )
    if exists(state.path):
        _check_folder(state)
    elif state.path.is_symlink():
        raise ConfigurationError(
            f"the state directory {state.path} is a link to what is not there:"
            " make that, or choose another with --state-dir"
        )
    else:
        above = next(filter(exists, state.path.parents))
        if not above.is_dir():
            raise ConfigurationError(
                f"the state directory {state.path} cannot be made: {above} is no"
                " directory; choose another with --state-dir"
            )


def faults(state: Layout, runners: Sequence[WantedRunner]) -> Iterator[str]:
    """Say of every file that is here and cannot be used what is wrong with it.

    What is not here and can be made is no fault. Each names its remedy.
    """
    yield from _faults_of_the_root(state)
    for scope in SCOPES:
        if is_named(state.secret_file(scope)):
            yield from _faults(partial(state.secret, scope))
    if is_named(state.seal_file):
        yield from _faults(state.seal)
    if is_named(state.herodb_master_file):
        yield from _faults(state.herodb_master)
    for path in sorted(state.keys.glob("*.key")):
        yield from _faults_of_a_key(path, "restore it from a backup, or remove it")
    trust = _readable_trust(state)
    yield from _faults_of_the_runners(state, trust, [one.name for one in runners])
    if trust is not None and not state.has_root_key():
        yield from _faults_of_the_entries(state, trust, runners)
    yield from _faults_of_the_bundle(state)


def served(executors: Sequence[str], contexts: Sequence[str] | None) -> str:
    """Say whom a runner serves."""
    bound = f" in {', '.join(contexts)}" if contexts and "*" not in contexts else ""
    return f"{', '.join(executors)}{bound}"


def _check_folder(state: Layout) -> None:
    """See that the directory is for this user alone, and for nothing else."""
    for path in (state.path, *(state.path / name for name in FOLDERS)):
        if is_named(path) and not path.is_dir():
            raise ConfigurationError(
                f"{path} is no directory: remove it, or choose another state"
                " directory with --state-dir"
            )
    found = state.path.stat()
    if found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"the state directory {state.path} belongs to another user:"
            " choose another with --state-dir"
        )
    try:
        names = set(os.listdir(state.path))  # noqa: PTH208 - only the names matter
    except OSError as error:
        raise ConfigurationError(
            f"cannot look into the state directory {state.path}: {words(error)};"
            " mend its mode, or choose another with --state-dir"
        ) from None
    if not exists(state.root_pub) and names - {*FOLDERS, *FILES}:
        raise ConfigurationError(
            f"{state.path} holds other things and is no state directory of Horus:"
            " choose an empty or new one with --state-dir"
        )
    if names and stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigurationError(
            f"others may look into the state directory {state.path}:"
            f" chmod 700 {shlex.quote(str(state.path))}"
        )


def _faults_of_the_root(state: Layout) -> Iterator[str]:
    has_trust = exists(state.trust_file)
    has_pub = is_named(state.root_pub)
    if state.has_root_key():
        remedy = (
            "restore it from a backup"
            if has_pub or has_trust
            else "remove it to have a new one made"
        )
        broken = list(_faults_of_a_key(state.root_key, remedy))
        yield from broken
        if has_pub and not broken:
            yield from _faults(state.require_pair)
    elif not has_trust and has_pub:
        yield (
            f"there is no trust bundle {state.trust_file}, and {state.root_key} that"
            " signs one is not here: bring the trust.json from where it is kept"
        )
    elif has_trust and not has_pub:
        yield f"{state.root_pub} is missing: put the root's public key there"
    elif has_pub:
        yield from (
            f"{fault}; restore it from a backup" for fault in _faults(state.root_public)
        )


def _readable_trust(state: Layout) -> Trust | None:
    with suppress(ConfigurationError):
        return state.trust()
    return None


def _faults_of_the_runners(
    state: Layout, trust: Trust | None, names: Sequence[str]
) -> Iterator[str]:
    listed = {} if trust is None else {one.name: one.key for one in trust.runners}
    wanted = [state.runner_key_file(name) for name in names]
    found = state.path.glob("runners/*.key")
    for path in sorted({*wanted, *found}):
        name = path.stem
        command = state.command("trust", "revoke", name)
        revoke = f"{command} to have a new key made"
        remedy = (
            f"restore it from a backup, or {revoke} at the next start"
            if name in listed or trust is None
            else "remove it to have a new one made"
        )
        if is_named(path):
            broken = list(_faults_of_a_key(path, remedy))
            yield from broken
            if broken or path not in wanted:
                continue
            if name in listed and listed[name] != read_key_file(path).keyid:
                yield (
                    f"{path} is not the key that the trust bundle lists for {name}:"
                    f" put the right one there, or {revoke} at the next start"
                )
        elif name in listed:
            yield (
                f"{path} is missing, though the trust bundle knows this runner:"
                f" put it back, or {revoke} at the next start"
            )
        if trust and name not in listed and not state.has_root_key():
            yield (
                f"the trust bundle does not know the runner {name}, and"
                f" {state.root_key} that signs one which does is not here: `horus"
                f" init` where it is kept, and bring trust.json and {name}.key here"
            )


def _faults_of_the_entries(
    state: Layout, trust: Trust, runners: Sequence[WantedRunner]
) -> Iterator[str]:
    for wanted in unmet(trust.to_wire(), runners):
        entry = trust.runner(wanted.name)
        if entry is not None:
            yield (
                f"the trust bundle lists the runner {entry.name} for"
                f" {served(entry.executors, entry.contexts)}, the settings want it"
                f" for {served(wanted.executors, wanted.contexts)}, and"
                f" {state.root_key} that signs another is not here: change the"
                " settings, or `horus init` with them where it is kept, and bring"
                " trust.json here"
            )


def _faults_of_the_bundle(state: Layout) -> Iterator[str]:
    if is_named(state.trust_file) and exists(state.root_pub):
        yield from _faults(partial(_require_newest, state))
    elif exists(state.journal):
        yield from _faults(state.remembered_version)


def _require_newest(state: Layout) -> None:
    version, remembered = state.trust().version, state.remembered_version()
    if version < remembered:
        raise ConfigurationError(
            f"the trust bundle {state.trust_file} has version {version}, but this"
            f" node has already believed version {remembered}: install that one or"
            " a newer one"
        )


def _faults(check: Callable[[], object]) -> Iterator[str]:
    try:
        check()
    except HorusError as error:
        yield error.detail


def _faults_of_a_key(path: Path, remedy: str) -> Iterator[str]:
    try:
        require_private(path)
    except ConfigurationError as error:
        yield error.detail
        return
    yield from (f"{fault}; {remedy}" for fault in _faults(partial(read_key_file, path)))
