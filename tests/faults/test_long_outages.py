"""Redis hangs for half a minute, and a network swallows all for a whole one."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

import psutil
import pytest

from horus_celery.errors import UnavailableError
from horus_celery.lifecycle import Status
from tests.conftest import RedisServer
from tests.faults.conftest import short_folder
from tests.faults.invariants import Callers, require
from tests.faults.proxy import Proxy
from tests.faults.witness import Witness
from tests.integration.conftest import Deployment, has_a_script
from tests.waiting import within

pytestmark = pytest.mark.integration

#: Seconds for which Redis hangs, and for which the network swallows all.
HANGS = 30
SWALLOWS = 60
#: Seconds until a caller is told that it cannot be had now: 2, and some for a busy
#: machine.
TOLD = 2.5
#: The goals of the programme, in seconds: a runner is back, a lost job starts again.
BACK = 5
REDRIVEN = 30
#: Seconds that jobs take: a short one, and one that is lost in the outage.
SHORT = 2.0
LOST = 8.0


def is_ready(api) -> bool:
    """Whether it says that jobs would be taken and run."""
    return api.http.get(f"{api.url}/readyz").status_code == HTTPStatus.OK


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A deployment whose Redis is going to be away, and who sends it jobs."""

    town: Deployment
    callers: Callers
    begin: Callable[[], object]
    end: Callable[[], object]
    seconds: float

    def is_there(self, worker) -> bool:
        # Our own connections broke as well.
        with suppress(UnavailableError):
            return bool(self.town.beat_of(worker))
        return False

    def are_over(self) -> bool:
        with suppress(UnavailableError):
            return self.callers.are_over()
        return False

    def began(self, record) -> bool:
        return bool(self.callers.runs_of(record))

    def child_of(self, worker) -> psutil.Process:
        """Return the child of the pool that has a script running."""
        children = psutil.Process(worker.pid).children()
        (busy,) = (child for child in children if has_a_script(child))
        return busy


@contextmanager
def hanging(folder):
    """A Redis that hangs."""
    with short_folder() as place:
        server = RedisServer(place)
        server.start()
        town = Deployment(server.url, place)
        try:
            yield Outage(
                town=town,
                callers=Callers(town, Witness(folder)),
                begin=server.pause,
                end=server.resume,
                seconds=HANGS,
            )
        finally:
            server.resume()
            town.close()
            server.kill()


@contextmanager
def swallowing(folder):
    """A network that swallows all."""
    with short_folder() as place:
        server = RedisServer(place)
        server.start()
        proxy = Proxy(server.socket)
        town = Deployment(proxy.url, place)
        try:
            yield Outage(
                town=town,
                callers=Callers(town, Witness(folder)),
                begin=proxy.swallow,
                end=proxy.pass_on_again,
                seconds=SWALLOWS,
            )
        finally:
            proxy.pass_on_again()
            town.close()
            proxy.close()
            server.kill()


def live_through(outage: Outage, api) -> None:
    """See that nothing is lost or doubled by it, and that all is soon as before."""
    town, callers = outage.town, outage.callers
    worker = town.start_worker("-Q", "python", "-c", "3")
    within(BACK, lambda: is_ready(api))
    lost = callers.submit(seconds=LOST, attempts=2)
    within(REDRIVEN, lambda: outage.began(lost))
    child = outage.child_of(worker)
    short = callers.submit(seconds=SHORT, attempts=3)
    long = callers.submit(
        seconds=outage.seconds + SHORT, attempts=3, timeout=timedelta(minutes=5)
    )
    within(REDRIVEN, lambda: outage.began(short) and outage.began(long))
    waiting = [callers.submit(attempts=3) for _ in range(4)]
    payload = callers.witness.payload()
    envelope = town.envelope(payload, attempts=3)
    outage.begin()
    began = time.monotonic()
    child.kill()
    while time.monotonic() - began < outage.seconds:
        asked = time.monotonic()
        error = api.call("create_job", job=envelope)["error"]
        assert (error["code"], error["data"]["retryable"]) == (-32020, True)
        assert time.monotonic() - asked < TOLD
    assert not is_ready(api)
    assert callers.undelivered()
    outage.end()
    back = time.monotonic()
    within(BACK, lambda: is_ready(api) and outage.is_there(worker))
    # What was answered with "try again" may have been taken by Redis when it went on.
    (sent,) = town.store.named(api.ask("create_job", job=envelope))
    callers.note(payload, sent.summary.digest, attempts=3)
    within(REDRIVEN, lambda: all(map(outage.began, (*waiting, sent))))
    assert callers.runs_of(sent)[0].began - back < BACK
    within(REDRIVEN, lambda: len(callers.runs_of(lost)) == 2)
    assert callers.runs_of(lost)[1].began - back < REDRIVEN
    within(REDRIVEN, outage.are_over)
    within(BACK, lambda: not callers.undelivered())
    within(BACK, lambda: not town.processes_below_workers() and not town.rooms())
    require(callers.look())
    once = (short, long, *waiting, sent)
    assert {len(callers.runs_of(record)) for record in once} == {1}
    for record in (*once, lost):
        assert town.status(record) is Status.COMPLETED
    assert worker.poll() is None


def test_a_long_outage_of_redis_or_of_the_network_loses_and_doubles_nothing(
    tmp_path, api_of
):
    for name in ("hangs", "swallows"):
        (tmp_path / name).mkdir()
    with (
        hanging(tmp_path / "hangs") as first,
        swallowing(tmp_path / "swallows") as second,
        # They only wait, so they do so beside each other.
        ThreadPoolExecutor() as beside,
    ):
        both = [
            beside.submit(live_through, outage, api_of(outage.town))
            for outage in (first, second)
        ]
        wait(both)
        for one in both:
            one.result()
