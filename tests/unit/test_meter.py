"""How a job's processes are measured, and how often."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest

from horus_celery.statements.job import Limits
from workers.meter import Excess, Meter, usage_below

#: A process with two children, one of which has a megabyte more and a thread.
TREE = """
import os, sys, threading, time
if os.fork() == 0:
    x = os.urandom(20 << 20)
    threading.Thread(target=time.sleep, args=[60], daemon=True).start()
    os.write(1, b"x")
    time.sleep(60)
if os.fork() == 0:
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    os._exit(0)
os.wait()
os.write(1, b"y")
time.sleep(60)
"""


class Kept:
    """A script's process as far as a meter knows it."""

    def __init__(self, keeper, used_before=0.0, company=0):
        self.keeper = keeper
        self.company = company
        self.used_before = timedelta(seconds=used_before)
        self.woken = 0

    def wake(self):
        self.woken += 1


def limits(**chosen):
    usual = {"memory_mb": 1024, "cpu_s": 60, "procs": 64, "output_kb": 1}
    return Limits.from_wire({**usual, **chosen})


@contextmanager
def running(code):
    with subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-I", "-c", code], stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            for pid in [*children(process.pid), process.pid]:
                os.kill(pid, 9)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123
        return [int(one) for one in file.read().split()]


@pytest.fixture(scope="module")
def tree():
    with running(TREE) as process:
        assert process.stdout is not None
        assert process.stdout.read(2) in (b"xy", b"yx")
        yield process.pid


def test_what_stands_below_counts_together(tree):
    usage = usage_below(tree, enough=1 << 40)
    assert usage.memory > 20 << 20
    assert usage.count == 2, "one child, and its thread"


def test_processor_time_of_those_that_ended_counts(tree):
    assert usage_below(tree, enough=1 << 40).cpu.total_seconds() >= 0.1


ZOMBIES = """
import os, time
def leave_dead():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
leave_dead()
if os.fork() == 0:
    leave_dead()
    leave_dead()
    os.write(1, b"x")
    time.sleep(60)
time.sleep(60)
"""


def test_the_dead_count_unless_it_is_the_keeper_who_has_to_take_them_away():
    with running(ZOMBIES) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        usage = usage_below(process.pid, enough=1 << 40)
    assert usage.count == 3, "a child with two dead ones of its own"


def test_what_others_used_before_does_not_count(tree):
    used = usage_below(tree, enough=1 << 40).cpu
    less = usage_below(tree, enough=1 << 40, before=timedelta(seconds=0.1)).cpu
    assert less < used
    limit = limits(cpu_s=1)
    assert Meter(Kept(tree, used_before=-10), limit).look() is Excess.CPU
    assert Meter(Kept(tree), limit).look() is None


def test_who_tells_the_end_is_woken_at_every_look(tree):
    process = Kept(tree)
    meter = Meter(process, limits())
    meter.look()
    meter.look()
    assert process.woken == 2


def test_nothing_is_used_below_a_process_that_is_gone():
    usage = usage_below(2**22 + 1, enough=1)
    assert (usage.memory, usage.count) == (0, 0)


@pytest.mark.parametrize(
    ("chosen", "excess"),
    [
        ({}, None),
        ({"memory_mb": 16}, Excess.MEMORY),
        ({"procs": 1}, Excess.PROCESSES),
    ],
)
def test_a_limit_that_is_passed_is_said(tree, chosen, excess):
    assert Meter(Kept(tree), limits(**chosen)).look() is excess


def test_processes_that_are_none_of_the_jobs_do_not_count(tree):
    assert Meter(Kept(tree, company=1), limits(procs=1)).look() is None


def test_the_nearer_a_limit_the_sooner_is_the_next_look(tree):
    far = Meter(Kept(tree), limits(memory_mb=1_000_000))
    near = Meter(Kept(tree), limits(memory_mb=64))
    far.look()
    near.look()
    now = time.monotonic()
    assert near.due - now < far.due - now <= 0.1
