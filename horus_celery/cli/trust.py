"""`horus trust`: show and change whom this deployment believes."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from horus_celery.bundle import with_grant, with_keys
from horus_celery.cli import output
from horus_celery.cli.connection import (
    call_options,
    existing_state,
    json_option,
    reach,
    read_key,
    state_option,
)
from horus_celery.errors import ConfigurationError
from horus_celery.statedir import StateDirectory
from horus_celery.statements import dsse
from horus_celery.statements.keys import is_registrable, key_id, read_public_key_file
from horus_celery.statements.trust import Trust

_PUBLIC: Final = re.compile(r"[0-9a-f]{64}")
_KEYID: Final = re.compile(r"[0-9a-f]{32}")


@click.group()
def command() -> None:
    """Show and change whom this deployment believes.

    Every change is a new version of the trust bundle, signed with the root key; the
    supervisor and the runners of this node take it up by themselves.
    """


@command.command()
@state_option
@json_option
def show(*, state_dir: Path | None, as_json: bool) -> None:
    """Show the trust bundle, after its signature was checked."""
    _show(existing_state(state_dir).trust(), as_json=as_json)


@command.command()
@click.option("--context", required=True, help="Whose data the jobs work on.")
@click.option("--caller", required=True, help="Who asks.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    required=True,
    help="May sign: a NAME of `horus key list`, a key id of the bundle, 64 hex digits"
    " of a public key, or a FILE with them.",
)
@click.option("--threshold", type=click.IntRange(1, 8), default=1, show_default=True)
@click.option("--executors", metavar="A,B", default="*", show_default=True)
@click.option("--nets", metavar="A,B", default="none,herodb", show_default=True)
@click.option("--max-timeout", type=click.IntRange(1, 86400), default=86400)
@click.option(
    "--secrets",
    metavar="A,B",
    default="",
    help="Secrets of the nodes that jobs may name.",
)
@state_option
@json_option
def grant(
    *,
    context: str,
    caller: str,
    keys: tuple[str, ...],
    threshold: int,
    executors: str,
    nets: str,
    max_timeout: int,
    secrets: str,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Let keys sign jobs of a caller in a context."""
    state = existing_state(state_dir)
    publics = list(dict.fromkeys(_public(state, key) for key in keys))
    if threshold > len(publics):
        raise click.UsageError("--threshold asks for more keys than there are")
    entry = {
        "context_id": context,
        "caller_id": caller,
        "keys": [key_id(public) for public in publics],
        "threshold": threshold,
        "executors": _words(executors),
        "nets": _words(nets),
        "max_timeout": max_timeout,
        "secrets": _words(secrets),
    }
    trust = state.reissue(
        lambda body: with_grant(body, entry, keys=publics), now=datetime.now(UTC)
    )
    _show(trust, as_json=as_json)


@command.command()
@click.argument("name", metavar="KEYID|RUNNER")
@state_option
@json_option
def revoke(*, name: str, state_dir: Path | None, as_json: bool) -> None:
    """Believe a key, or a runner, no more.

    Grants that cannot be met without the key go with it.
    """
    trust = existing_state(state_dir).revoke(name, now=datetime.now(UTC))
    _show(trust, as_json=as_json)


@command.command(name="add-key")
@click.argument("key", metavar="NAME|PUBLIC|FILE")
@state_option
@json_option
def add_key(*, key: str, state_dir: Path | None, as_json: bool) -> None:
    """Make a public key known; it may sign nothing before it is granted something."""
    state = existing_state(state_dir)
    public = _public(state, key)
    trust = state.reissue(lambda body: with_keys(body, [public]), now=datetime.now(UTC))
    _show(trust, as_json=as_json)


@command.command()
@state_option
@json_option
def renew(*, state_dir: Path | None, as_json: bool) -> None:
    """Sign the trust bundle as it is once more, so that it is valid for longer."""
    trust = existing_state(state_dir).reissue(lambda body: body, now=datetime.now(UTC))
    _show(trust, as_json=as_json)


@command.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@call_options
def install(
    *, file: Path, url: str | None, state_dir: Path | None, as_json: bool
) -> None:
    """Give the trust bundle in FILE to a supervisor, which takes a newer one only.

    It must be signed by the root key that the supervisor knows.
    """
    envelope = dsse.read(_read(file), dsse.TRUST)
    with reach("admin", url=url, state_dir=state_dir) as client:
        version = client.call("trust.install", trust=dsse.to_wire(envelope))
    if as_json:
        output.data(version)
    else:
        output.note(f"version {version} of the trust bundle is installed")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {file}: {os.strerror(error.errno or 0)}"
        ) from None


def _public(state: StateDirectory, key: str) -> bytes:
    """Return the public key that a person means.

    Raises:
        ConfigurationError: if there is none, or it is none that can be trusted.
    """
    if _PUBLIC.fullmatch(key):
        public = bytes.fromhex(key)
        if not is_registrable(public):
            raise ConfigurationError(f"{key} is no valid public key: check its digits")
        return public
    if _KEYID.fullmatch(key):
        listed = state.trust().keys.get(key)
        if listed is None:
            raise ConfigurationError(
                f"the trust bundle has no key {key}: give the public key instead"
            )
        return bytes.fromhex(listed)
    if "/" in key:
        return read_public_key_file(Path(key))
    return read_key(state, key).public


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _show(trust: Trust, *, as_json: bool) -> None:
    if as_json:
        output.data(trust.to_wire())
        return
    now = datetime.now(UTC)
    ends = f"{trust.expires_at:%Y-%m-%d %H:%M} UTC"
    output.fields(
        [
            ("deployment", trust.aud),
            ("version", trust.version),
            ("signed", f"{trust.issued_at:%Y-%m-%d %H:%M} UTC"),
            ("ends", f"{ends}, EXPIRED" if trust.is_expired(now) else ends),
        ]
    )
    output.line()
    output.table(
        [
            "context",
            "caller",
            "keys",
            "threshold",
            "executors",
            "nets",
            "max timeout",
            "secrets",
        ],
        [
            [
                grant.context_id,
                grant.caller_id,
                ", ".join(grant.keys),
                grant.threshold,
                ", ".join(grant.executors),
                ", ".join(grant.nets),
                f"{grant.max_timeout.total_seconds():.0f} s",
                ", ".join(grant.secrets),
            ]
            for grant in trust.grants
        ],
    )
    output.line()
    output.table(
        ["runner", "key", "executors", "contexts"],
        [
            [one.name, one.key, ", ".join(one.executors), ", ".join(one.contexts)]
            for one in trust.runners
        ],
    )
