"""Workflows under kill -9 and lost messages: each step runs once, and all end right."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from contextlib import suppress
from datetime import timedelta

import httpx
import psutil
import pytest

from horus_celery.dag.progress import WorkflowStatus
from horus_celery.lifecycle import Status
from horus_celery.store import bell
from horus_celery.store.keys import STEPS, queue

pytestmark = pytest.mark.integration

STEPS_EACH = 50
WIDTH = 5
#: Workflows, and kills. 20 of them take half a minute more than 8, so they run only
#: on demand: `WORKFLOWS_KILLED=20 pytest tests/faults/test_workflows.py`.
KILLS = int(os.environ.get("WORKFLOWS_KILLED", "8"))
#: How long what was killed may keep a workflow waiting.
RESUMED = 10
QUEUES = tuple(queue(bell.QUEUE, step) for step in STEPS)


class Witness:
    """A file into which each script writes its line."""

    def __init__(self, path):
        self._path = path
        path.touch()

    def script(self, run, step):
        line = f"{run} {step}\n"
        return (
            "import os\n"
            f"there = os.open({str(self._path)!r}, os.O_WRONLY | os.O_APPEND)\n"
            f"os.write(there, {line.encode()!r})\n"
        )

    def lines(self):
        return sorted(self._path.read_text().splitlines())


def layered(dice):
    """Return 50 steps in layers, each of which waits for some of the layer before."""
    steps = {}
    for number in range(STEPS_EACH):
        layer, place = divmod(number, WIDTH)
        above = [f"s{layer - 1}.{other}" for other in range(WIDTH) if layer]
        chosen = [one for one in above if dice.random() < 0.4] or above[:1]
        steps[f"s{layer}.{place}"] = chosen
    return steps


def sign(town, witness, run, dice, **facts):
    steps = layered(dice)
    jobs = {name: {"payload": witness.script(run, name), **facts} for name in steps}
    return town.sign(jobs=jobs, **steps)


def require_all(town, witness, signed, *, wait=60):
    """See that all workflows completed, and every step ran once and is proven."""
    for one in signed:
        ending = town.ending_of(one, wait=timedelta(seconds=wait))
        assert ending.record.status is WorkflowStatus.COMPLETED
        for digest in one.digests.values():
            shown = town.supervisor.get(digest)
            assert shown.record.status is Status.COMPLETED
            assert shown.receipt is not None
            assert shown.receipt.status == "completed"
    expected = sorted(
        f"{run} {name}" for run, one in enumerate(signed) for name in one.digests
    )
    assert witness.lines() == expected


@pytest.fixture
def witness(tmp_path):
    return Witness(tmp_path / "witness")


@pytest.fixture(scope="module")
def runner(town):
    return town.start_worker("-Q", "python", "-c", "2")


class Killed:
    """A coordinator's worker that is started again whenever it was killed."""

    def __init__(self, town):
        self._town = town
        self.worker = town.start_coordinator()

    def kill(self):
        self.worker.send_signal(signal.SIGKILL)
        self.worker.wait()
        self.worker = self._town.start_coordinator()


@pytest.fixture(scope="module")
def coordinator(town):
    made = Killed(town)
    # It serves: what follows is about workers that are killed at their work.
    town.redis.lpush(bell.QUEUE, bell.message("0" * 64))
    town.until(lambda: town.redis.llen(bell.QUEUE) == 0)
    return made


def test_coordinator_and_api_are_killed_at_random_moments(
    town, runner, coordinator, api_of, witness
):
    dice = random.Random(1)  # noqa: S311 - a test wants the same each time
    signed = [sign(town, witness, run, dice) for run in range(KILLS)]
    api = api_of(town)
    handed_in = threading.Event()

    def hand_in():
        for one in signed:
            while True:
                with suppress(httpx.TransportError, KeyError):
                    params = {"manifest": one.manifest, "jobs": one.jobs}
                    answer = api.call("workflow.submit", **params)
                    assert answer["result"] == one.id
                    break
        handed_in.set()

    thread = threading.Thread(target=hand_in)
    thread.start()
    for number in range(KILLS):
        # A moment as good as any other.
        threading.Event().wait(dice.uniform(0.1, 1.2))
        if number % 4 == 3:
            api.kill()
            api = api_of(town)
        else:
            coordinator.kill()
    thread.join()
    assert handed_in.is_set()

    require_all(town, witness, signed, wait=60 + 5 * KILLS)


def test_a_killed_coordinator_is_made_up_for_in_time(
    town, runner, coordinator, witness
):
    dice = random.Random(2)  # noqa: S311 - as above
    signed = sign(town, witness, 0, dice)
    town.coordinator.submit(signed.manifest, signed.jobs)
    town.until(lambda: len(witness.lines()) > WIDTH)

    coordinator.kill()
    at = time.monotonic()
    before = len(witness.lines())
    town.until(lambda: len(witness.lines()) > before + WIDTH)

    assert time.monotonic() - at < RESUMED
    require_all(town, witness, [signed])


def test_bells_that_are_lost_are_made_up_for_by_the_sweep(
    town, runner, coordinator, witness
):
    dice = random.Random(3)  # noqa: S311 - as above
    signed = [sign(town, witness, run, dice) for run in range(3)]
    for one in signed:
        town.coordinator.submit(one.manifest, one.jobs)
    for share in (1, 2):
        town.until(lambda share=share: len(witness.lines()) > 40 * share)
        os.kill(coordinator.worker.pid, signal.SIGSTOP)
        before = len(witness.lines())
        # What ends now rings, and nobody hears it.
        town.until(lambda: town.redis.llen(bell.QUEUE) > 0)
        assert town.redis.delete(*QUEUES) == 1
        os.kill(coordinator.worker.pid, signal.SIGCONT)
        at = time.monotonic()
        town.until(lambda before=before: len(witness.lines()) > before + WIDTH)
        assert time.monotonic() - at < RESUMED

    require_all(town, witness, signed)


def test_a_step_whose_runner_is_killed_is_started_again(
    town, runner, coordinator, tmp_path
):
    flag = tmp_path / "started"
    payload = (
        f"import pathlib, time\nflag = pathlib.Path({str(flag)!r})\n"
        "if not flag.exists():\n    flag.touch()\n    time.sleep(600)\nprint('done')\n"
    )
    jobs = {"a": {"payload": payload, "attempts": 2}}
    signed = town.submit_workflow(a=[], b=["a"], jobs=jobs)
    town.until(flag.exists)
    record = town.store.get(signed.digests["a"])
    assert record.status is Status.RUNNING

    for child in psutil.Process(runner.pid).children():
        with suppress(psutil.NoSuchProcess):
            child.kill()

    ending = town.ending_of(signed, wait=timedelta(seconds=40))
    assert ending.record.status is WorkflowStatus.COMPLETED
    over = town.supervisor.get(signed.digests["a"])
    assert (over.record.attempt, over.record.result) == (2, "done\n")
