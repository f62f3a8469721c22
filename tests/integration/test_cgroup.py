"""What the kernel does by the cgroups of jobs, where one is delegated to a runner."""

from __future__ import annotations

import os
import signal
import textwrap
import threading
import time
import uuid
from contextlib import contextmanager
from datetime import timedelta

import pytest

from horus_celery.lifecycle import Status
from horus_celery.processes.tree import is_running
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import Limits
from horus_celery.statements.receipt import Receipt
from workers import cgroup

LEVELS = ("plain", "landlock", "namespaces", "bwrap")
#: Starts a command in the cgroup that is named first.
JOIN = ("/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"')


def top():
    """Return the cgroup of this process, if one could be delegated below it."""
    own = cgroup.own_group()
    if own is None:
        return None, "there is no cgroup v2 here"
    given = (own / "cgroup.subtree_control").read_text().split()
    if not {"memory", "pids"} <= set(given):
        return None, f"{own} gives no child the controllers of memory and pids"
    if not os.access(own, os.W_OK):
        return None, f"{own} cannot be written"
    return own, ""


@contextmanager
def delegated():
    """Make a cgroup as systemd leaves it to a unit with Delegate=yes."""
    above, reason = top()
    if above is None:
        pytest.skip(reason)
    made = above / f"horus-test-{uuid.uuid4().hex[:8]}"
    made.mkdir()
    try:
        os.setxattr(made, "user.delegate", b"1")
        yield made
    finally:
        (made / "cgroup.kill").write_text("1")
        end = time.monotonic() + 5
        while "populated 1" in (made / "cgroup.events").read_text():
            assert time.monotonic() < end, "somebody is left there"
            threading.Event().wait(0.02)
        for below in made.glob("*/"):
            below.rmdir()
        made.rmdir()


@pytest.fixture(scope="module", params=LEVELS)
def runner(request, deployment_at):
    with delegated() as unit:
        deployment = deployment_at(request.param)
        before = [*JOIN, str(unit), *deployment.before]
        deployment.start_worker("-Q", "python,system", "-c2", before=before)
        deployment.unit = unit
        yield deployment
        deployment.kill_workers()


def limits(**chosen):
    usual = {"memory_mb": 64, "cpu_s": 30, "procs": 16, "output_kb": 64}
    return Limits.from_wire({**usual, **chosen})


def receipt_of(record):
    return Receipt.from_wire(
        canonical.parse(dsse.read(record.receipt, dsse.RECEIPT).body)
    )


def groups_of_jobs(runner):
    return [one.name for one in runner.unit.iterdir() if one.name.startswith("job-")]


def test_the_receipt_says_it(runner):
    record = runner.run("print(1)")
    assert record.status is Status.COMPLETED, runner.lines(record)
    assert receipt_of(record).sandbox in {f"{one}+cgroup" for one in LEVELS}


def test_memory_that_belongs_to_no_process_counts(runner):
    # The runner, which looks at processes and file systems, would not see it.
    record = runner.run(
        """
import os
for number in range(10):
    descriptor = os.memfd_create(str(number))
    for _ in range(40):
        os.write(descriptor, bytes(1 << 20))
print("all of it")
""",
        limits=limits(memory_mb=64),
    )
    assert (record.status, record.reason) == (Status.FAILED, "memory")
    assert record.exit_code == 137
    assert groups_of_jobs(runner) == []
    assert runner.run("print(1)").result == "1\n"


def test_there_are_no_more_processes_than_the_job_may_have(runner):
    record = runner.run(
        textwrap.dedent(
            """
            import os, time
            count = 0
            try:
                while count < 60:
                    if os.fork() == 0:
                        time.sleep(60)
                        os._exit(0)
                    count += 1
            except BlockingIOError:
                pass
            print(count)
            """
        ),
        limits=limits(procs=16),
    )
    assert (record.status, record.result) == (Status.COMPLETED, "15\n")


def test_nothing_is_left_of_what_hides(runner):
    record = runner.run(
        "(setsid sh -c 'sleep 300 & sleep 300' &) ; sleep 300",
        executor="system",
        timeout=timedelta(seconds=1),
    )
    assert (record.status, record.reason) == (Status.FAILED, "timeout")
    assert groups_of_jobs(runner) == []


def test_a_job_has_a_group_and_the_runner_is_in_none_of_them(runner):
    record = runner.submit("echo on; sleep 300", executor="system")
    runner.until_it_says(record, "on")
    (group,) = groups_of_jobs(runner)
    assert (runner.unit / group / "cgroup.procs").read_text().split()
    assert (runner.unit / cgroup.LEAF / "cgroup.procs").read_text().split()
    assert (runner.unit / "cgroup.procs").read_text() == ""
    runner.supervisor.stop(record.summary.digest)
    assert runner.over(record).status is Status.STOPPED
    assert groups_of_jobs(runner) == []


def test_what_hides_from_a_child_that_was_killed_ends_before_the_next_job(runner):
    # Without an environment and a session by which it could be found.
    record = runner.submit(
        "(env -i setsid sleep 300 > /dev/null 2>&1 &); echo on; sleep 300",
        executor="system",
    )
    runner.until_it_says(record, "on")
    (group,) = groups_of_jobs(runner)
    child = int(group.removeprefix("job-").partition("-")[0])
    os.kill(child, signal.SIGKILL)
    runner.until(lambda: not is_running(child))
    assert runner.run("print(1)").status is Status.COMPLETED
    assert groups_of_jobs(runner) == []
    assert runner.over(record).reason == "worker_lost"
