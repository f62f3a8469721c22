"""Which runner gets which job, and how many of one runner run at a time."""

import os
import signal
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import psutil
import pytest

from horus_celery import wiring
from horus_celery.bundle import with_keys
from horus_celery.errors import UnavailableError
from horus_celery.lifecycle import Status
from horus_celery.statements import canonical, dsse
from horus_celery.statements.keys import (
    KeyPair,
    key_id,
    read_key_file,
    write_key_file,
)
from horus_celery.trustpost import RedisNoticeboard

pytestmark = pytest.mark.integration

#: The runners besides those that `horus init` makes, and their contexts.
RUNNERS = {
    "x": ["*"],
    "y": ["*"],
    "bound": ["a"],
    "twice": ["a", "c"],
    "late": ["*"],
    "lab": ["lab"],
}
CONTEXTS = ("default", "a", "b", "c", "lab")


@pytest.fixture(scope="module", autouse=True)
def town(deployment):
    """List the runners and contexts of these tests; nobody is bound to `lab` yet."""
    listed = {name: RUNNERS[name] for name in RUNNERS if name != "lab"}
    for name in (*RUNNERS, "guest"):
        write_key_file(deployment.state.runner_key_file(name), KeyPair.generate())
    enlist(deployment, listed)
    deployment.state.reissue(grant_all, now=datetime.now(UTC))


@pytest.fixture(autouse=True)
def nobody_is_left(deployment):
    yield
    deployment.kill_workers()
    # One that was killed looks alive for a while.
    for view in deployment.fleet.list():
        deployment.registry.leave(view.name)


def enlist(deployment, runners):
    def add(body):
        body = with_keys(body, [public_of(deployment, name) for name in runners])
        entries = [
            {**entry_of(deployment, name), "contexts": contexts}
            for name, contexts in runners.items()
        ]
        return {**body, "runners": [*body["runners"], *entries]}

    deployment.state.reissue(add, now=datetime.now(UTC))


def bind(deployment, name, contexts):
    def change(body):
        runners = [
            {**one, "contexts": contexts} if one["name"] == name else one
            for one in body["runners"]
        ]
        return {**body, "runners": runners}

    deployment.state.reissue(change, now=datetime.now(UTC))


def entry_of(deployment, name):
    key = key_id(public_of(deployment, name))
    return {"name": name, "key": key, "executors": ["python"]}


def public_of(deployment, name):
    return read_key_file(deployment.state.runner_key_file(name)).public


def grant_all(body):
    [grant] = body["grants"]
    grants = [{**grant, "context_id": name} for name in CONTEXTS]
    return {**body, "grants": grants}


def start(deployment, *names, concurrency=1):
    return [
        deployment.start_worker(
            "-Q",
            "python",
            f"-c{concurrency}",
            "-n",
            name if "@" in name else f"{name}@%h",
        )
        for name in names
    ]


@contextmanager
def busy(deployment, tmp_path, **facts):
    """Have a job run until the block ends."""
    gate = tmp_path / f"gate{len(list(tmp_path.iterdir()))}"
    os.mkfifo(gate)
    record = deployment.submit(
        "import os, sys; print('on', os.getpid(), flush=True);"
        f" open({str(gate)!r}).read()",
        **facts,
    )
    deployment.until_it_says(record, "on")
    try:
        yield record
    finally:
        with gate.open("w"):
            pass
        assert deployment.over(record).status is Status.COMPLETED


def ran_on(deployment, **facts):
    return deployment.run("print(1)", **facts).ran_on


def bells(deployment, queue="python"):
    dispatcher = wiring.make_dispatcher(deployment.settings)
    return dispatcher.queue_lengths([queue])[queue]


# --- a runner by its name -----------------------------------------------------


def test_a_job_that_names_a_runner_is_run_by_it_whoever_else_is_free(
    deployment, tmp_path
):
    start(deployment, "x", "y")
    for _ in range(3):
        assert ran_on(deployment, runner="x") == "x"
        assert ran_on(deployment, runner="y") == "y"
    with busy(deployment, tmp_path, runner="x") as before:
        waiting = deployment.submit("print(2)", runner="x")
        assert ran_on(deployment, runner="y") == "y"
        assert deployment.status(waiting) is Status.QUEUED
        assert deployment.fleet.get("x").queued == 1
        assert deployment.fleet.get("y").queued == 0
    over = deployment.over(waiting)
    assert over.ran_on == "x"
    assert over.started_at >= deployment.over(before).ended_at


def test_a_job_for_a_runner_that_nobody_serves_waits_until_it_comes(deployment):
    start(deployment, "x")
    record = deployment.submit("print(1)", runner="late")
    why = deployment.supervisor.why(record.summary.digest)
    assert (why.gate, why.since) == ("runner", record.queued_at)
    assert why.detail == (
        "no live runner: it waits for the runner late, never seen to serve python for"
        " the context default"
    )
    assert deployment.status(record) is Status.QUEUED
    start(deployment, "late")
    over = deployment.over(record)
    assert (over.status, over.ran_on) == (Status.COMPLETED, "late")


def test_it_is_said_since_when_the_runner_is_away(deployment):
    [worker] = start(deployment, "late")
    deployment.end(worker)
    last = deployment.fleet.get("late").last_seen
    record = deployment.submit("print(1)", runner="late")
    why = deployment.supervisor.why(record.summary.digest)
    assert (why.gate, why.since) == ("runner", last)
    assert f"last seen {last.isoformat(timespec='seconds')}" in why.detail
    deployment.supervisor.stop(record.summary.digest)


# --- a runner that is bound to contexts ---------------------------------------


def test_a_bound_runner_gets_no_bell_of_other_contexts(deployment, tmp_path):
    start(deployment, "bound", "x")
    with busy(deployment, tmp_path, runner="x"):
        others = [
            deployment.submit("print(1)", context_id=one) for one in ("b", "default")
        ]
        assert ran_on(deployment, context_id="a") == "bound"
        assert [deployment.status(one) for one in others] == [Status.QUEUED] * 2
        assert bells(deployment) == 2
    assert {deployment.over(one).ran_on for one in others} == {"x"}


def zygote_of(deployment, context_id, *, runner):
    payload = "import os\nprint('the zygote is', os.getppid())"
    return deployment.run(payload, runner=runner, context_id=context_id).result


def test_scripts_of_bound_contexts_are_born_from_a_zygote_each(deployment):
    start(deployment, "twice", "x")
    of_a, of_c = (zygote_of(deployment, each, runner="twice") for each in "ac")
    assert of_a != of_c
    assert zygote_of(deployment, "a", runner="twice") == of_a
    assert zygote_of(deployment, "c", runner="twice") == of_c
    of_a, of_b = (zygote_of(deployment, each, runner="x") for each in "ab")
    assert of_a == of_b


def test_so_are_those_of_a_runner_that_is_bound_while_it_runs(deployment):
    start(deployment, "x")
    before = zygote_of(deployment, "a", runner="x")
    bind(deployment, "x", ["a", "b"])
    try:
        of_a, of_b = (zygote_of(deployment, each, runner="x") for each in "ab")
        assert len({before, of_a, of_b}) == 3
    finally:
        bind(deployment, "x", ["*"])


def test_a_job_of_a_bound_context_is_also_taken_by_a_free_unbound_runner(
    deployment, tmp_path
):
    start(deployment, "bound", "x")
    with busy(deployment, tmp_path, runner="bound", context_id="a"):
        assert ran_on(deployment, context_id="a") == "x"


def test_a_job_of_a_context_says_that_it_waits_for_a_runner_of_it(deployment):
    record = deployment.submit("print(1)", context_id="a")
    why = deployment.supervisor.why(record.summary.digest)
    assert "it waits for a runner of python for the context a" in why.detail
    start(deployment, "bound")
    assert deployment.over(record).ran_on == "bound"


def test_a_running_worker_serves_what_a_new_bundle_gives_it(deployment):
    start(deployment, "x")
    assert ran_on(deployment, context_id="lab") == "x"
    enlist(deployment, {"lab": RUNNERS["lab"]})
    record = deployment.submit("print(1)", context_id="lab")
    assert record.queue == "python.ctx.lab"
    assert deployment.over(record).ran_on == "x"
    start(deployment, "lab")
    [lab] = [one for one in deployment.fleet.list() if one.name == "lab"]
    assert lab.contexts == ("lab",)


def test_a_runner_that_a_new_bundle_binds_takes_nothing_else(deployment):
    start(deployment, "x")
    bind(deployment, "x", ["a"])
    try:
        deployment.until(lambda: deployment.fleet.get("x").contexts == ("a",))
        record = deployment.submit("print(1)")
        # Should it have been listening still, the sweep rings once more.
        deployment.until(lambda: bells(deployment) == 1)
        assert ran_on(deployment, context_id="a") == "x"
        assert deployment.status(record) is Status.QUEUED
        start(deployment, "y")
        assert deployment.over(record).ran_on == "y"
    finally:
        bind(deployment, "x", ["*"])


def test_a_runner_takes_up_a_bundle_that_another_node_hangs_out(deployment):
    body = deployment.state.trust_body()
    body["version"] += 1
    body["runners"].append({**entry_of(deployment, "guest"), "contexts": ["guests"]})
    body["grants"].append({**body["grants"][0], "context_id": "guests"})
    body = with_keys(body, [public_of(deployment, "guest")])
    root = read_key_file(deployment.state.root_key)
    signed = dsse.sign(dsse.TRUST, canonical.encode(body), [root])
    board = RedisNoticeboard(deployment.redis, deployment.namespace)
    board.hang(dsse.to_json(signed))
    start(deployment, "x")
    deployment.until(lambda: deployment.state.trust().version == body["version"])
    record = deployment.submit("print(1)", context_id="guests")
    assert record.queue == "python.ctx.guests"
    assert deployment.over(record).ran_on == "x"


# --- whoever is free ----------------------------------------------------------


def test_a_long_job_on_one_runner_does_not_hold_up_the_next(deployment, tmp_path):
    start(deployment, "x", "y")
    with busy(deployment, tmp_path) as first:
        busy_one = deployment.supervisor.get(first.summary.digest).record.ran_on
        free_one = {"x": "y", "y": "x"}[busy_one]
        ran = [ran_on(deployment) for _ in range(4)]
        assert ran == [free_one] * 4


# --- two workers of one runner -------------------------------------------------


def shown(deployment):
    return deployment.fleet.get("python_runner_1").status


@contextmanager
def watching(deployment):
    """Collect how the runner is shown while the block goes on."""
    seen, is_over = set(), threading.Event()

    def watch():
        while not is_over.wait(0.01):
            with suppress(UnavailableError):
                seen.add(shown(deployment))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        is_over.set()
        watcher.join()


def test_a_worker_that_comes_and_goes_does_not_hide_another_of_its_runner(deployment):
    start(deployment, "python_runner_1@a")
    with watching(deployment) as seen:
        [second] = start(deployment, "python_runner_1@b")
        deployment.end(second)
        assert shown(deployment) == "running"
    assert seen == {"running"}


def test_a_runner_whose_workers_all_ended_is_stopped(deployment):
    workers = twins(deployment)
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    for worker in workers:
        assert worker.wait(20) == 0
    assert shown(deployment) == "stopped"


# --- one at a time ------------------------------------------------------------


def twins(deployment):
    """Start two workers of one runner."""
    return start(deployment, "python_runner_1@a", "python_runner_1@b")


def pool_of(worker):
    return [child.pid for child in psutil.Process(worker.pid).children()]


def holder_and_waiter(deployment, record, workers):
    """Return who runs a job, and the other, once it waits with another's bell."""
    script = int(deployment.until_it_says(record, "on").split()[1])
    pool_child = deployment.pool_of(script)
    first, second = workers
    return (first, second) if pool_child in pool_of(first) else (second, first)


def test_two_workers_of_one_runner_run_one_job_at_a_time(deployment, tmp_path):
    twins(deployment)
    log = tmp_path / "log"
    script = (
        "import os\n"
        f"log = os.open({str(log)!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "os.write(log, b'(')\n"
        "for _ in range(20_000): os.getpid()\n"
        "os.write(log, b')')\n"
    )
    records = [deployment.submit(script) for _ in range(8)]
    over = [deployment.over(record) for record in records]
    assert {one.status for one in over} == {Status.COMPLETED}
    assert log.read_text() == "()" * 8


def test_a_job_that_waits_for_its_slot_runs_when_the_other_is_over(
    deployment, tmp_path
):
    twins(deployment)
    with busy(deployment, tmp_path) as first:
        second = deployment.submit("print(2)")
        # The other worker has taken the bell, and rung again for whoever is free.
        deployment.until(lambda: bells(deployment) == 1)
        assert deployment.status(second) is Status.QUEUED
    over = deployment.over(second)
    assert over.started_at >= deployment.over(first).ended_at


def test_a_waiting_bell_holds_nobody_else_up(deployment, tmp_path):
    twins(deployment)
    with busy(deployment, tmp_path):
        second = deployment.submit("print(2)")
        deployment.until(lambda: bells(deployment) == 1)
        start(deployment, "x")
        assert deployment.over(second).ran_on == "x"


def test_a_waiting_bell_is_not_lost_with_who_holds_it(deployment, tmp_path):
    workers = twins(deployment)
    with busy(deployment, tmp_path) as first:
        _, waiter = holder_and_waiter(deployment, first, workers)
        second = deployment.submit("print(2)")
        deployment.until(lambda: bells(deployment) == 1)
        deployment.end(waiter, signal.SIGKILL)
    assert deployment.over(second).status is Status.COMPLETED


def test_a_worker_that_waits_for_a_slot_ends_when_it_is_told_to(deployment, tmp_path):
    workers = twins(deployment)
    with busy(deployment, tmp_path) as first:
        _, waiter = holder_and_waiter(deployment, first, workers)
        second = deployment.submit("print(2)")
        deployment.until(lambda: bells(deployment) == 1)
        deployment.end(waiter)
        assert waiter.returncode == 0
        assert deployment.status(first) is Status.RUNNING
        assert deployment.status(second) is Status.QUEUED
    assert deployment.over(second).status is Status.COMPLETED


def test_a_slot_is_free_again_when_its_holder_is_killed(deployment):
    workers = twins(deployment)
    first = deployment.submit(
        "import os, time; print('on', os.getpid(), flush=True); time.sleep(600)"
    )
    holder, _ = holder_and_waiter(deployment, first, workers)
    second = deployment.submit("print(2)")
    deployment.until(lambda: bells(deployment) == 1)
    deployment.end(holder, signal.SIGKILL)
    assert deployment.over(second).status is Status.COMPLETED
    deployment.supervisor.stop(first.summary.digest)


@pytest.mark.parametrize("of_the_pool", [False, True])
def test_nothing_of_a_killed_holders_job_runs_beside_the_next(deployment, of_the_pool):
    workers = twins(deployment)
    # What a script starts does not end by itself when the runner is killed.
    first = deployment.submit(
        "import os, subprocess, time\n"
        "left = subprocess.Popen(['sleep', '600'])\n"
        "print('on', os.getpid(), left.pid, flush=True); time.sleep(600)"
    )
    holder, _ = holder_and_waiter(deployment, first, workers)
    _, script, left = deployment.until_it_says(first, "on").split()
    second = deployment.submit(
        f"try: print(open('/proc/{left}/stat').read().split()[2])\n"
        "except OSError: print('gone')"
    )
    deployment.until(lambda: bells(deployment) == 1)
    if of_the_pool:
        os.kill(deployment.pool_of(int(script)), signal.SIGKILL)
    else:
        deployment.end(holder, signal.SIGKILL)
    # It may wait to be reaped, but it has ended.
    assert deployment.over(second).result in ("gone\n", "Z\n")
    deployment.supervisor.stop(first.summary.digest)


def test_a_worker_with_two_slots_runs_two_jobs_at_a_time(deployment, tmp_path):
    start(deployment, "python_runner_1@a", "python_runner_1@b", concurrency=2)
    with busy(deployment, tmp_path), busy(deployment, tmp_path):
        third = deployment.submit("print(3)")
        deployment.until(lambda: bells(deployment) == 1)
        assert deployment.status(third) is Status.QUEUED
    assert deployment.over(third).status is Status.COMPLETED


def test_a_script_inherits_no_slot(deployment):
    start(deployment, "x")
    said = deployment.run(
        "import os\n"
        "for one in os.listdir('/proc/self/fd'):\n"
        "    try: print(os.readlink(f'/proc/self/fd/{one}'))\n"
        "    except OSError: pass\n"
    ).result
    assert "slots" not in said
