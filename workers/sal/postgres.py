"""SAL's functions for PostgreSQL: a connection, and servers in containers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from workers.sal.kinds import Port, Word
from workers.sal.nerdctl import nerdctl
from workers.sal.session import Power, SalError, Session
from workers.sal.table import make_module

if TYPE_CHECKING:
    import psycopg

_KEPT: Final = "postgres.connection"
#: Rows of the largest answer.
MOST_ROWS: Final = 100_000
_SILENCE: Final = 10  # seconds that a connection may take
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_VERSION: Final = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)


def pg_connect(here: Session, url: str) -> None:
    """Connect to a server, by `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.

    Each statement is a transaction of its own.
    """
    here.require_host()
    pg_reset(here)
    with _translated():
        here.kept[_KEPT] = _library().connect(
            url, autocommit=True, connect_timeout=_SILENCE
        )


def pg_ping(here: Session) -> bool:
    """Whether the server still answers."""
    connection = _connection(here)
    try:
        with _translated():
            connection.execute("SELECT 1")
    except SalError:
        return False
    return True


def pg_reset(here: Session) -> None:
    """End the connection, if there is one."""
    here.require_host()
    connection = here.kept.pop(_KEPT, None)
    if connection is not None:
        connection.close()


def pg_execute(here: Session, sql: str, values: list[object] | None = None) -> int:
    """Run a statement, and return how many rows it changed.

    `%s` in it stands for one of the values, which are never read as SQL.
    """
    return max(_executed(here, sql, values).rowcount, 0)


def pg_query(
    here: Session, sql: str, values: list[object] | None = None
) -> list[dict[str, object]]:
    """Run a query, and return its rows, each as a map by column."""
    return _rows(_executed(here, sql, values))


def pg_query_one(
    here: Session, sql: str, values: list[object] | None = None
) -> dict[str, object]:
    """Run a query that has one row, and return that as a map by column.

    It is an error if there is none, or more than one.
    """
    rows = pg_query(here, sql, values)
    if len(rows) != 1:
        raise SalError(f"the query has {len(rows)} rows, and it must be one")
    return rows[0]


def pg_install(
    here: Session,
    container: Word,
    version: Word,
    port: Port,
    user: Word,
    password: str,
) -> None:
    """Start a server in a container, on this port of the node's loopback.

    `containers` must be allowed.
    """
    here.require(Power.CONTAINERS)
    if not _VERSION.fullmatch(version):
        raise SalError(f"{version!r} is no version of the image postgres")
    settings = {"POSTGRES_USER": user, "POSTGRES_PASSWORD": password}
    words = [word for name in settings for word in ("--env", name)]
    place = f"127.0.0.1:{port}:5432"
    image = f"docker.io/library/postgres:{version}"
    # By its environment: what stands in a command line is seen by every user.
    nerdctl(
        here,
        *("run", "--detach", "--name", container, "--publish", place, *words, image),
        env=settings,
    )


def pg_create_database(here: Session, container: Word, user: Word, name: Word) -> None:
    """Make a database on the server in a container (`containers` must be allowed)."""
    here.require(Power.CONTAINERS)
    if not _NAME.fullmatch(name):
        raise SalError(f"{name!r} is no name of a database: letters, digits and _")
    _psql(here, container, user, "postgres", f'CREATE DATABASE "{name}"')


def pg_execute_sql(
    here: Session, container: Word, user: Word, database: Word, sql: str
) -> str:
    """Run SQL on the server in a container, and return what psql writes.

    `containers` must be allowed.
    """
    return _psql(here, container, user, database, sql)


def pg_is_running(here: Session, container: Word) -> bool:
    """Whether the server in a container takes connections (`containers`, as above)."""
    here.require(Power.CONTAINERS)
    try:
        nerdctl(here, "exec", container, "pg_isready", "--quiet")
    except SalError:
        return False
    return True


def _psql(here: Session, container: str, user: str, database: str, sql: str) -> str:
    options = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
    words = ("psql", *options, f"--username={user}", f"--dbname={database}")
    result = nerdctl(here, "exec", "--interactive", container, *words, text=sql)
    return result.stdout


def _library() -> Any:  # noqa: ANN401 - a module
    try:
        import psycopg
    except ImportError:
        raise SalError(
            "psycopg is not installed: pip install 'horus-celery[postgres]'"
        ) from None
    return psycopg


@contextmanager
def _translated() -> Iterator[None]:
    library = _library()
    try:
        yield
    except library.Error as error:
        said = str(error).strip().splitlines() or ["PostgreSQL refuses"]
        raise SalError(said[0]) from None
    except (TypeError, ValueError) as error:
        raise SalError(str(error)) from None


def _connection(here: Session) -> psycopg.Connection[tuple[Any, ...]]:
    here.require_host()
    connection = here.kept.get(_KEPT)
    if connection is None:
        raise SalError("there is no connection: call pg_connect(url) first")
    return cast("psycopg.Connection[tuple[Any, ...]]", connection)


def _executed(
    here: Session, sql: str, values: list[object] | None
) -> psycopg.Cursor[tuple[Any, ...]]:
    connection = _connection(here)
    with _translated():
        return connection.execute(sql.encode(), values)


def _rows(cursor: psycopg.Cursor[tuple[Any, ...]]) -> list[dict[str, object]]:
    if cursor.description is None:
        raise SalError("the statement has no rows; use pg_execute")
    names = [column.name for column in cursor.description]
    with _translated():
        rows = cursor.fetchmany(MOST_ROWS + 1)
    if len(rows) > MOST_ROWS:
        raise SalError(f"the query has more than {MOST_ROWS} rows; use LIMIT")
    return [dict(zip(names, map(_plain, row), strict=True)) for row in rows]


def _plain(value: object) -> object:
    """Turn what a column holds into what scripts know."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, memoryview):
        return bytes(value)
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    # Exact numbers, UUIDs, addresses: they are read from their text.
    return str(value)


MODULE: Final = make_module(
    "postgres",
    """PostgreSQL, with `net: host`.

    The functions of a connection need the extra `postgres` of Horus. Times are texts as
    in ISO 8601, exact numbers and UUIDs texts, intervals seconds. Those that name a
    container need `sal_allow = ["containers"]`.
    """,
    *(pg_connect, pg_ping, pg_reset, pg_execute, pg_query, pg_query_one),
    *(pg_install, pg_create_database, pg_execute_sql, pg_is_running),
)
