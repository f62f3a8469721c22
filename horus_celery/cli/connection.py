"""How a command finds its supervisor, and who it is there."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
import httpx

from horus_celery import certificates
from horus_celery.client import Horus
from horus_celery.errors import ConfigurationError
from horus_celery.processes.addresses import read_addresses
from horus_celery.settings import GivenSecret, Settings, load_settings
from horus_celery.statedir import StateDirectory
from horus_celery.statements.keys import KeyPair, read_key_file

_F = TypeVar("_F", bound=Callable[..., object])


def state_option(function: _F) -> _F:
    """Add --state-dir to a command."""
    return click.option(
        "--state-dir",
        type=click.Path(path_type=Path),
        help="The state directory; by default the one of the settings, ~/.horus.",
    )(function)


def json_option(function: _F) -> _F:
    """Add --json to a command."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON, for programs."
    )(function)


def call_options(function: _F) -> _F:
    """Add --url, --state-dir and --json to a command that calls a supervisor."""
    url = click.option(
        "--url", help="The supervisor; by default the one that is up here."
    )
    return url(state_option(json_option(function)))


def signer_options(function: _F) -> _F:
    """Add --context, --caller and --key to a command that signs."""
    option = partial(click.option, default="default", show_default=True)
    context = option("--context", help="Whose data.")
    caller = option("--caller", help="Who asks.")
    key = option("--key", help="Key to sign with: NAME or FILE.")
    return context(caller(key(function)))


def pasted(*words: str, url: str | None = None, state_dir: Path | None = None) -> str:
    """Return a command to paste: it finds what the command at work was given."""
    where = [] if url is None else ["--url", url]
    where += [] if state_dir is None else ["--state-dir", str(state_dir)]
    return shlex.join(["horus", *words, *where])


def read_settings(state_dir: Path | None) -> Settings:
    """Return the settings with this state directory, if one is given."""
    return load_settings(state_dir=state_dir)


def existing_state(state_dir: Path | None) -> StateDirectory:
    """Return the state directory that is meant.

    Raises:
        ConfigurationError: if there is none.
    """
    state = StateDirectory(read_settings(state_dir).state_dir)
    if not state.is_begun():
        raise ConfigurationError(
            f"there is no state directory at {state.path}: {state.command('init')}"
            " makes one"
        )
    return state


def connect(
    *,
    url: str | None,
    state_dir: Path | None,
    key: str | None = None,
    context: str = "default",
    caller: str = "default",
) -> Horus:
    """Return a client for the supervisor that is meant.

    The secret is `HORUS_SECRET`, else one of the settings that opens the context, else
    that of the state directory: never an argument, which everybody on the machine could
    read.

    Args:
        url: Where it is; by default `HORUS_URL`, else what is up on the state
            directory, else what the settings say. `HORUS_CA` names a file with the
            certificates by which another machine's is believed.
        state_dir: Where keys and secrets lie.
        key: The name or the file of the key that signs; without one nothing is signed.
        context: Whose data the jobs work on.
        caller: Who asks.
    """
    settings = read_settings(state_dir)
    state = StateDirectory(settings.state_dir)
    if not state.has_root():
        raise ConfigurationError(
            f"there is no state directory at {state.path}: {state.command('up')} makes"
            " one; to use another machine's, put its root.pub and your key there"
        )
    here = _here(url, settings, state)
    return Horus(
        here.url,
        _secret("user", settings, state, context=context),
        ca=here.ca,
        transport=here.transport,
        key=None if key is None else read_key(state, key),
        root=state.root_public(),
        context=context,
        caller=caller,
        aud=settings.namespace,
    )


def reach(scope: str, *, url: str | None, state_dir: Path | None) -> Horus:
    """Return a client that only calls: it signs nothing, and nothing is to be verified.

    Args:
        scope: Whose secret it takes, unless `HORUS_SECRET` holds one.
        url: Where the supervisor is, as in `connect`.
        state_dir: Where secrets lie.
    """
    settings = read_settings(state_dir)
    state = StateDirectory(settings.state_dir)
    here = _here(url, settings, state)
    return Horus(
        here.url,
        _secret(scope, settings, state),
        ca=here.ca,
        transport=here.transport,
        verify=False,
    )


def read_key(state: StateDirectory, key: str) -> KeyPair:
    """Return the key of that name in the state directory, or in that file."""
    if "/" in key:
        return read_key_file(Path(key))
    path = state.key_file(key)
    if not state.has_key(key):
        raise ConfigurationError(
            f"there is no key {key!r} in {state.keys}: {state.command('key', 'list')}"
            f" shows them, {state.command('key', 'new', key)} makes it"
        )
    return read_key_file(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a supervisor is, and by what it is believed to be the one."""

    url: str
    ca: Path | None = None
    transport: httpx.BaseTransport | None = None


def _here(given: str | None, settings: Settings, state: StateDirectory) -> _Place:
    if named := given or os.environ.get("HORUS_URL"):
        ca = os.environ.get("HORUS_CA")
        return _Place(url=named, ca=Path(ca) if ca else None)
    running = read_addresses(state)
    url = settings.api_url if running is None else running.api
    cert = settings.tls_cert if running is None else running.tls_cert
    if cert is None:
        return _Place(url=url)
    # Our own: it is known by its very certificate, and may be called by an address.
    transport = httpx.HTTPTransport(verify=certificates.pinned(cert))
    return _Place(url=url, transport=transport)


def _secret(
    scope: str, settings: Settings, state: StateDirectory, *, context: str | None = None
) -> str:
    """Return the secret to call with: one for this context, if there are several."""
    if secret := os.environ.get("HORUS_SECRET"):
        return secret
    configured: dict[str, tuple[GivenSecret, ...]] = {
        "user": settings.user_secrets,
        "admin": settings.admin_secrets,
    }
    given = configured[scope]
    fitting = [one for one in given if {"*", context} & set(one.contexts)]
    # That of the state directory is bound to no contexts.
    if not fitting and (not given or state.has_secret(scope)):
        return state.secret(scope)
    return (fitting or given)[0].secret.get_secret_value()
