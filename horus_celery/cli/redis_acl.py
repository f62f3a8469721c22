"""`horus redis-acl`: the users of a Redis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import click

from horus_celery.cli import output
from horus_celery.cli.connection import state_option
from horus_celery.errors import ConfigurationError
from horus_celery.redis_acl import User, hashed, user_lines
from horus_celery.settings import load_settings
from horus_celery.store.address import read_address

#: A password is a line, not a film.
_MAX_BYTES: Final = 4096


@click.command()
@click.option("--namespace", help="The namespace; by default that of the settings.")
@click.option(
    "--executors",
    metavar="A,B",
    help="Every executor, on whatever machine; by default those of the settings.",
)
@click.option(
    "--database",
    type=click.IntRange(min=0),
    help="The number of the database; by default that of redis_url.",
)
@click.option(
    "--password",
    "files",
    metavar="USER=FILE",
    multiple=True,
    help="The file that holds the password of a user; only its hash is printed.",
)
@state_option
def command(
    *,
    namespace: str | None,
    executors: str | None,
    database: int | None,
    files: tuple[str, ...],
    state_dir: Path | None,
) -> None:
    """Print the users of a Redis, with the least that each may do.

    The lines are for Redis's ACL file. Where no password is given stands a word that
    Redis refuses: the SHA-256 of the password goes there.
    """
    settings = load_settings(
        state_dir=state_dir, namespace=namespace, executors=executors
    )
    managed = () if executors else (actor.executor for actor in settings.actors)
    lines = user_lines(
        namespace=settings.namespace,
        executors=tuple(dict.fromkeys((*settings.executors, *managed))),
        database=_database(settings.redis_url) if database is None else database,
        passwords=_passwords(files),
    )
    output.text(lines)


def _database(redis_url: str | None) -> int:
    return 0 if redis_url is None else read_address(redis_url).database


def _passwords(files: Iterable[str]) -> Mapping[User, str]:
    passwords = {}
    for given in files:
        name, _, path = given.partition("=")
        if name not in set(User) or not path:
            raise ConfigurationError(
                f"--password takes USER=FILE, with {', '.join(User)} as USER"
            )
        passwords[User(name)] = hashed(_read(Path(path)))
    return passwords


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        lines = text.decode("utf-8").splitlines()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        lines = []
    if len(lines) != 1 or len(text) > _MAX_BYTES:
        raise ConfigurationError(f"{path} does not hold one line, the password")
    return lines[0]
