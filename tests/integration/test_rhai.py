"""Rhai scripts by a real runner, at each level of containment."""

from __future__ import annotations

import json

import pytest

from horus_celery.lifecycle import Status
from horus_celery.statements.job import Limits

pytest.importorskip("horus_rhai", reason="the Rhai engine is not installed")
pytestmark = pytest.mark.integration

LEVELS = ("namespaces", "namespaces of a plain user", "bwrap", "landlock", "plain")
#: What needs more than there is at once, and what grows until there is no more.
AT_ONCE = 'let s = "x"; s.pad(1000000000, "y"); s.len()'
LITTLE_BY_LITTLE = 'let a = []; let i = 0; loop { a.push("0123456789" + i); i += 1; }'


@pytest.fixture(scope="module", params=LEVELS)
def runner(request, deployment_at):
    deployment = deployment_at(request.param)
    deployment.serve("osis", "sal")
    words = ("-Q", "osis,sal", "-n", "python_runner_1@%h")
    deployment.start_worker(*words, before=deployment.before)
    deployment.level = request.param
    return deployment


def test_the_value_of_a_script_is_the_result_and_what_it_prints_the_log(runner):
    record = runner.run('print("said"); #{a: args}', executor="osis", args=["ä b"])
    assert record.status is Status.COMPLETED
    assert json.loads(record.result) == {"a": ["ä b"]}
    assert [line.text for line in runner.lines(record)] == ["said"]


@pytest.mark.parametrize("script", [AT_ONCE, LITTLE_BY_LITTLE])
def test_a_script_that_takes_all_memory_fails_for_that_reason(runner, script):
    limits = {"memory_mb": 64, "cpu_s": 30, "procs": 8, "output_kb": 64}
    record = runner.run(script, executor="sal", limits=Limits.from_wire(limits))
    assert record.status is Status.FAILED
    # What a process says of its end does not come through bubblewrap: it is a race
    # there between the runner, who looks, and the kernel.
    aborted = {("exit_code", 134)} if runner.level == "bwrap" else set()
    assert (record.reason, record.exit_code) in aborted or record.reason == "memory"


def test_a_script_says_where_it_failed(runner):
    faults = {
        "sal": (
            'let a = 1;\nfile_read("n0ne");',
            "file_read: ",
            "(line 2, position 1)",
        ),
        "osis": ("let a = 1;\ndb.set(1);", "db.set(", "(line 2, position 4)"),
    }
    for executor, (script, beginning, end) in faults.items():
        record = runner.run(script, executor=executor)
        assert (record.status, record.exit_code) == (Status.FAILED, 1)
        (said,) = [line.text for line in runner.lines(record)]
        assert said.startswith(beginning)
        assert said.endswith(end)


def test_scripts_of_a_context_share_its_data_and_nothing_else(runner):
    assert runner.run('db.set("k", "v")', executor="osis").reason is None
    assert runner.run('db.get("k")', executor="osis").result == "v"
    assert runner.run('which("horus")', executor="sal").result == ""
