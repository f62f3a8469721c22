"""Whether the files that settings name can be used by this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from horus_celery.errors import ConfigurationError
from horus_celery.node_secrets import require_usable
from horus_celery.settings.lines import Place
from horus_celery.settings.values import REDIS_ADDRESSES, Settings
from horus_celery.store.address import read_address


def unusable(settings: Settings) -> Iterator[tuple[Place, str]]:
    """Yield each setting whose file cannot be used, and what is said of it."""
    if _is_no_directory(settings.state_dir):
        said = "which is no directory: remove it, or choose another"
        yield ("state_dir",), f"names {settings.state_dir}, {said}"
    for name in REDIS_ADDRESSES:
        for option, file in _files_of_redis(getattr(settings, name)):
            if why := _why_unreadable(file):
                yield (name,), f"names {file} as {option}: {why}"
    for name in ("tls_cert", "tls_key"):
        path = getattr(settings, name)
        if path is not None and (why := _why_unreadable(path)):
            yield (name,), f"names {path}, which cannot be read: {why}"
    for secret, kept in settings.node_secrets.items():
        try:
            require_usable(kept.file)
        except ConfigurationError as error:
            yield ("node_secrets", secret, "file"), f"names {error.detail}"
    for index, other in enumerate(settings.supervisors):
        try:
            require_usable(other.secret_file)
        except ConfigurationError as error:
            yield ("supervisors", index, "secret_file"), f"names {error.detail}"
        if other.tls_ca is not None and (why := _why_unreadable(other.tls_ca)):
            place = ("supervisors", index, "tls_ca")
            yield place, f"names {other.tls_ca}, which cannot be read: {why}"


def missing(settings: Settings) -> Iterator[tuple[Place, str]]:
    """Yield each setting for scripts or actors that names what is not there."""
    for index, path in enumerate(settings.sandbox_paths):
        if not os.path.lexists(path):
            yield ("sandbox_paths", index), f"names {path}, which is not there"
    for named, program in _programs(settings):
        if not _is_program(program):
            said = "which is no file that this user may execute"
            yield named, f"names {program}, {said}"
    for named, env in _environments(settings):
        if not _is_program(env / "bin" / "python"):
            said = f"which has no Python: make it with `python3 -m venv {env}`"
            yield named, f"names {env}, {said}"


def _programs(settings: Settings) -> Iterator[tuple[Place, Path]]:
    """Return each program that is named, and where."""
    for name in ("v_path", "hero_cli"):
        if (path := getattr(settings, name)) is not None:
            yield (name,), path
    for index, actor in enumerate(settings.actors):
        if actor.binary_path is not None:
            yield ("actors", index, "binary_path"), actor.binary_path


def _environments(settings: Settings) -> Iterator[tuple[Place, Path]]:
    """Return each virtual environment that is named, and where."""
    if settings.python_env is not None:
        yield ("python_env",), settings.python_env
    for index, actor in enumerate(settings.actors):
        if actor.python_env is not None:
            yield ("actors", index, "python_env"), actor.python_env


def _is_no_directory(path: Path) -> bool:
    try:
        return path.exists() and not path.is_dir()
    except OSError:
        return False


def _files_of_redis(redis_url: str | None) -> Iterator[tuple[str, Path]]:
    tls = None if redis_url is None else read_address(redis_url).tls
    if tls is None:
        return
    named = {
        "ssl_ca_certs": tls.ca_certs,
        "ssl_certfile": tls.certfile,
        "ssl_keyfile": tls.keyfile,
    }
    for option, path in named.items():
        if path is not None:
            yield option, Path(path)


def _why_unreadable(path: Path) -> str:
    try:
        with path.open("rb"):
            return ""
    except OSError as error:
        return os.strerror(error.errno or 0)


def _is_program(path: Path) -> bool:
    try:
        return path.is_file() and os.access(path, os.X_OK)
    except OSError:
        return False
