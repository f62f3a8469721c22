"""HeroDB in a real server: contexts that are kept, and scripts that are served."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from horus_celery.api_secrets.shelf import RedisShelf
from horus_celery.herodb.estate import RedisEstate
from horus_celery.herodb.keyring import Keyring
from horus_celery.herodb.layout import Layout
from horus_celery.herodb.scripts import Script
from horus_celery.herodb.steward import Steward
from horus_celery.store.connection import connect
from tests.conftest import FrozenClock
from workers.herodb.client import Database
from workers.herodb.service import HeroDb
from workers.osis import scripts

MASTER = bytes(range(32))
SCRIPTS = {
    "put": Script(source="return redis.call('SET', KEYS[1], ARGV[1])", writes=True),
    "see": Script(source="return redis.call('GET', KEYS[1])", writes=False),
    "liar": Script(source="return redis.call('SET', KEYS[1], '1')", writes=False),
    "stray": Script(source="return redis.call('GET', ARGV[1])", writes=True),
}


class Estate:
    """HeroDB of one namespace in a server, with as many jobs as a test wants."""

    def __init__(self, url: str, namespace: str, folder: Path, jobs: ExitStack) -> None:
        self.url = url
        self.clock = FrozenClock()
        self.layout = Layout(namespace=namespace)
        self.client = connect(url)
        self.steward = self.another_steward()
        self.keyring = Keyring(folder / "keys")
        self.service = HeroDb(
            url=url,
            database=0,
            layout=self.layout,
            master=MASTER,
            keyring=self.keyring,
            clock=self.clock,
            scripts={**scripts.SCRIPTS, **SCRIPTS},
            patience=timedelta(seconds=2),
        )
        self._folder = folder
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._jobs = jobs
        self._count = 0

    def another_steward(self, master: bytes = MASTER) -> Steward:
        return Steward(
            RedisEstate(self.client, self.layout),
            RedisShelf(self.client, self.layout.contexts),
            self.layout,
            master=master,
            database=0,
            clock=self.clock,
        )

    def job(self, context: str) -> Path:
        """Begin a job of a context, and return its socket."""
        self.steward.ensure(context)
        self._count += 1
        name = f"job{self._count}"
        self._jobs.enter_context(
            self.service.serving(context, name, self._descriptor, owner=None)
        )
        return self._folder / name

    def end_jobs(self) -> None:
        self._jobs.close()

    def database(self, context: str, *, timeout: float = 20) -> Database:
        """Return a script's connection in a job of its own."""
        database = Database(f"unix://{self.job(context)}", timeout=timeout)
        self._jobs.callback(database.close)
        return database

    def close(self) -> None:
        self._jobs.close()
        os.close(self._descriptor)
        self.client.close()


@pytest.fixture
def make_estate(namespace):
    made = []
    # Not under the test's name, which may be too long for a unix socket.
    with tempfile.TemporaryDirectory(prefix="horus-") as folder, ExitStack() as jobs:

        def make(url):
            estate = Estate(url, namespace, Path(folder), jobs)
            made.append(estate)
            return estate

        yield make
        for estate in made:
            estate.close()


@pytest.fixture
def estate(make_estate, private_redis):
    return make_estate(private_redis.url)
