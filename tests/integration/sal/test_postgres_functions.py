"""SAL's functions for PostgreSQL, on a real server if there is one here."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from workers import sal

pytestmark = pytest.mark.integration
#: Where Debian puts what it keeps off PATH.
_PLACES = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), None]
_SOCKET = "host"


def found(name):
    places = (shutil.which(name, path=place and str(place)) for place in _PLACES)
    return next((place for place in places if place), None)


def as_nobody_of_note():
    """Return what runs a program as another user: PostgreSQL refuses to be root's."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.fixture(scope="module")
def server():
    """A server on a unix socket, for the tests of this file."""
    programs = {name: found(name) for name in ("initdb", "pg_ctl")}
    if None in programs.values():
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="hpg-"))
    folder.chmod(0o777)
    data = folder / "data"

    def run(name, *words):
        command = [*as_nobody_of_note(), programs[name], "-D", str(data), *words]
        subprocess.run(  # noqa: S603 - our own argv
            command, check=True, stdout=subprocess.DEVNULL, cwd=folder
        )

    run("initdb", "--no-sync", "--auth=trust", "--username=horus", "--encoding=UTF8")
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
    yield f"postgresql://horus@/postgres?{_SOCKET}={folder}"
    run("pg_ctl", "-w", "-m", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.fixture
def pg(script, server):
    """A script that is connected."""
    assert script("pg_connect", server) is None
    script("pg_execute", "CREATE TEMPORARY TABLE people (name text, age int)")
    yield script
    script("pg_reset")


def test_rows_are_written_and_read(pg):
    insert = "INSERT INTO people VALUES (%s, %s), ('Bob', 2)"
    assert pg("pg_execute", insert, ["Ada'; DROP TABLE people --", 1]) == 2
    rows = pg("pg_query", "SELECT * FROM people ORDER BY age")
    assert rows == [
        {"name": "Ada'; DROP TABLE people --", "age": 1},
        {"name": "Bob", "age": 2},
    ]


def test_one_row_is_one_row(pg):
    query = "SELECT %s::text AS word, 1 + 1 AS two"
    assert pg("pg_query_one", query, ["a"]) == {"word": "a", "two": 2}
    for query, count in (("SELECT 1 WHERE false", 0), ("VALUES (1), (2)", 2)):
        with pytest.raises(sal.SalError, match=f"has {count} rows, and it must be one"):
            pg("pg_query_one", query)


def test_every_kind_of_value_comes_as_scripts_know_it(pg):
    row = pg(
        "pg_query_one",
        "SELECT null AS n, true AS b, 1.5::float8 AS f, 0.1::numeric AS d,"
        " date '2026-01-02' AS day, interval '1 minute' AS i, '\\x00ff'::bytea AS raw,"
        " array[1, 2] AS a, '{\"k\": [1]}'::jsonb AS j,"
        " '00000000-0000-0000-0000-000000000001'::uuid AS u, inet '10.0.0.1' AS ip",
    )
    assert row == {
        "n": None,
        "b": True,
        "f": 1.5,
        "d": "0.1",
        "day": "2026-01-02",
        "i": 60.0,
        "raw": b"\x00\xff",
        "a": [1, 2],
        "j": {"k": [1]},
        "u": "00000000-0000-0000-0000-000000000001",
        "ip": "10.0.0.1",
    }


@pytest.mark.parametrize("name", ["pg_execute", "pg_query", "pg_query_one"])
def test_what_the_server_refuses_is_told(pg, name):
    with pytest.raises(
        sal.SalError, match=f'^{name}: relation "nothing" does not exist'
    ):
        pg(name, "SELECT * FROM nothing")
    with pytest.raises(sal.SalError, match=f"^{name}: "):
        pg(name, "SELECT %s", [])
    with pytest.raises(sal.SalError, match=f"^{name}: "):
        pg(name, "SELECT %s", [object()])
    assert pg("pg_ping") is True


def test_a_statement_without_rows_is_no_query(pg):
    with pytest.raises(sal.SalError, match="the statement has no rows; use pg_execute"):
        pg("pg_query", "CREATE TEMPORARY TABLE t ()")


def test_each_statement_stands_for_itself(pg, server):
    pg("pg_execute", "CREATE TABLE kept (a int)")
    pg("pg_connect", server)
    assert pg("pg_execute", "DROP TABLE kept") == 0


def test_an_ended_connection_is_noticed(pg):
    assert pg("pg_ping") is True
    pg.session.kept["postgres.connection"].close()
    assert pg("pg_ping") is False


def test_after_a_reset_one_has_to_connect(pg):
    assert pg("pg_reset") is None
    for name, args in (("pg_ping", []), ("pg_execute", ["SELECT 1"])):
        with pytest.raises(
            sal.SalError, match="there is no connection: call pg_connect"
        ):
            pg(name, *args)


def test_a_server_that_is_not_there_is_told(script, tmp_path):
    with pytest.raises(sal.SalError, match=r"^pg_connect: "):
        script("pg_connect", f"postgresql://horus@/postgres?host={tmp_path}")
    with pytest.raises(sal.SalError, match=r"^pg_connect: "):
        script("pg_connect", "no address = at all")
