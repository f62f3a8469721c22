"""Runs Rhai scripts over the data of the job's context: the names `db` and `osis`."""

from __future__ import annotations

import os

from horus_rhai import tell_of_no_memory

from workers.herodb.client import Database, DatabaseError
from workers.osis.database import Db
from workers.osis.errors import OsisError
from workers.osis.objects import Objects
from workers.osis.scripting import Osis
from workers.rhai import Host, ScriptFault


class _Late:
    """The data of the context, opened when a script first asks for it."""

    def __init__(self) -> None:
        self._database: Database | None = None

    def call(self, *words: str | bytes | int) -> object:
        """Give one command.

        Raises:
            ScriptFault: if the job may not.
            DatabaseError: if it is refused.
        """
        if self._database is None:
            url = os.environ.get("HERODB_URL")
            if url is None:
                raise ScriptFault(
                    "this reaches HeroDB, and the job has net: none; sign it with net:"
                    " herodb or net: host"
                )
            self._database = Database(url)
        return self._database.call(*words)


_late = _Late()
_host = Host(
    {},
    {"db": Db(_late.call), "osis": Osis(Objects(_late.call))},
    faults=(DatabaseError, OsisError),
)
run = _host.run
say_no_memory_to = tell_of_no_memory
rehearse = _host.rehearse
warm_up = _host.warm_up
