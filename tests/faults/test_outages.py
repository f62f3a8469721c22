"""A disk that is full, and a network that breaks, below a deployment that goes on."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from horus_celery.errors import UnavailableError
from horus_celery.lifecycle import Status
from horus_celery.store import connection
from horus_celery.store.connection import connect
from tests.faults.conftest import short_folder
from tests.faults.invariants import Callers, require
from tests.faults.proxy import Proxy
from tests.faults.witness import Witness
from tests.integration.conftest import Deployment
from tests.waiting import within

pytestmark = pytest.mark.integration

#: Seconds until all is normal again, once the fault is over.
NORMAL = 10
#: Seconds until a connection that is cut off has been noticed.
NOTICED = 20


class SmallDisk:
    """A file system of a megabyte that a test fills up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def mount(self) -> None:
        mounted = subprocess.run(  # noqa: S603 - our own words
            ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "horus", str(self.path)],  # noqa: S607 - where it lies differs
            check=False,
            capture_output=True,
        )
        if mounted.returncode != 0:
            pytest.skip("a small disk needs root, and the right to mount one")

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], check=True)  # noqa: S603, S607 - as above

    def fill(self) -> None:
        with pytest.raises(OSError, match="No space left"):
            self._write_on()

    def _write_on(self) -> None:
        with self._filler.open("ab", buffering=0) as filler:
            while filler.write(b"x" * 4096):
                pass

    def empty(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk_and_town(redis_url):
    """A deployment whose state directory, and nothing else, is on a small disk."""
    with short_folder() as folder:
        state = folder / "state"
        state.mkdir(mode=0o700)
        disk = SmallDisk(state)
        disk.mount()
        try:
            town = Deployment(redis_url, folder)
            yield disk, town
            town.close()
        finally:
            disk.unmount()


def test_a_full_disk_starts_nothing_and_forgets_nothing_that_ran(
    disk_and_town, tmp_path
):
    disk, town = disk_and_town
    callers = Callers(town, Witness(tmp_path))
    worker = town.start_worker("-Q", "python", "-c", "2")
    ran = callers.submit(seconds=1.0, attempts=2)
    within(NORMAL, lambda: callers.runs_of(ran))
    disk.fill()
    waiting = [callers.submit(attempts=2) for _ in range(3)]
    within(NORMAL, lambda: "runner degraded" in town.log_of(worker))
    within(NORMAL, lambda: callers.runs_of(ran)[0].ended is not None)
    within(NORMAL, lambda: town.roster.list()[0].phase.value == "starting")
    assert town.status(ran) is Status.RUNNING
    assert {town.status(record) for record in waiting} == {Status.QUEUED}
    assert len(callers.witness.runs()) == 1
    disk.empty()
    within(NORMAL, callers.are_over)
    within(NORMAL, lambda: town.beat_of(worker))
    within(NORMAL, lambda: not callers.undelivered())
    within(NORMAL, lambda: not town.rooms())
    require(callers.look())
    for record in (ran, *waiting):
        assert town.status(record) is Status.COMPLETED
        assert len(callers.runs_of(record)) == 1
    assert "runner no longer degraded" in town.log_of(worker)
    assert os.path.ismount(disk.path)


@pytest.fixture(scope="module")
def proxy(server):
    made = Proxy(server.socket)
    yield made
    made.close()


@pytest.fixture(scope="module")
def far_town(proxy):
    """A deployment that reaches its Redis over a network."""
    with short_folder() as folder:
        made = Deployment(proxy.url, folder)
        made.start_worker("-Q", "python", "-c", "2")
        yield made
        made.close()


def test_a_connection_that_was_idle_for_long_is_not_waited_for(proxy, monkeypatch):
    with connect(proxy.url) as client:
        assert client.ping()
        proxy.forget()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        assert client.ping()
        proxy.forget()
        monkeypatch.setattr(connection, "_IDLE", 0.0)
        assert client.ping()


def has_answered(ask):
    """Ask over connections of ours, which broke as well."""
    with suppress(UnavailableError):
        return bool(ask())
    return False


@pytest.mark.parametrize("how", ["reset", "forget"])
def test_connections_that_break_double_and_lose_nothing(far_town, proxy, how, tmp_path):
    callers = Callers(far_town, Witness(tmp_path))
    (worker,) = far_town.workers
    held = [callers.insist(seconds=2.0, attempts=3, limit=NORMAL) for _ in range(2)]
    within(NORMAL, lambda: len(callers.witness.runs()) == 2)
    for _ in range(3 if how == "reset" else 1):
        getattr(proxy, how)()
        within(NOTICED, lambda: far_town.beat_of(worker))
    callers.insist(attempts=3, limit=NOTICED)
    within(NOTICED, lambda: len(callers.witness.runs()) == 3)
    within(NORMAL, lambda: has_answered(callers.are_over))
    within(NORMAL, lambda: not callers.undelivered())
    within(NORMAL, lambda: not far_town.rooms())
    within(NORMAL, lambda: has_answered(callers.look))
    require(callers.look())
    assert {len(callers.runs_of(record)) for record in held} == {1}
    assert worker.poll() is None
    # Celery's advice on what we do not do is no line for whoever looks for the reason.
    assert "Deprecation" not in far_town.log_of(worker)
