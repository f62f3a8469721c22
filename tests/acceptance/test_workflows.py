"""Workflows on a real deployment, from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
HORUS = (sys.executable, "-c", "from horus_celery.cli import main; main()")

HALF = """\
name = "half"

[steps.rows]
run = "print(41)"

[steps.sum]
inputs = { ROWS = "rows" }
run = '''
import os
print(int(open(os.environ["HORUS_INPUTS"] + "/ROWS").read()) + 1, "but no disk")
raise SystemExit(3)
'''

[steps.report]
depends_on = ["sum"]
run = ""

[steps.alarm]
depends_on = ["sum"]
when = "one_failed"
run = "print('sum failed')"
"""


@pytest.fixture
def horus(shared):
    """Run a command on the shared deployment."""

    def run(*words, **options):
        return subprocess.run(  # noqa: S603 - our own command
            [*HORUS, *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=shared.state_dir.parent,
            env=environment_for(shared),
            **options,
        )

    return run


def environment_for(deployment):
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HORUS_URL": deployment.addresses["url"],
        "HORUS_STATE_DIR": str(deployment.state_dir),
    }


@pytest.fixture
def half(tmp_path):
    path = tmp_path / "half.toml"
    path.write_text(HALF)
    return str(path)


def steps_of(done):
    shown = json.loads(done.stdout)
    return {name: one["status"] for name, one in shown["steps"].items()}


def test_what_failed_runs_again_with_the_results_of_what_completed(horus, half):
    first = horus("workflow", "run", half, "--json")
    assert first.returncode == 1, first.stderr
    assert steps_of(first) == {
        "rows": "completed",
        "sum": "failed",
        "report": "skipped",
        "alarm": "completed",
    }
    workflow_id = json.loads(first.stdout)["workflow_id"]

    again = horus("workflow", "rerun", workflow_id, "--json")

    assert again.returncode == 1, again.stderr
    assert steps_of(again) == {"sum": "failed", "report": "skipped"}
    shown = json.loads(again.stdout)
    assert shown["workflow_id"] != workflow_id
    assert shown["steps"]["sum"]["verified"]
    # It was given the result of the first run, whose step did not run again.
    logs = horus("job", "logs", shown["steps"]["sum"]["job_id"])
    assert logs.stdout == "42 but no disk\n"


def test_whoever_interrupts_it_stops_the_workflow(shared, horus, tmp_path):
    path = tmp_path / "long.yaml"
    path.write_text(
        "steps:\n"
        "  first: {executor: system, run: sleep 60}\n"
        "  second: {run: '', depends_on: [first]}\n"
    )
    running = subprocess.Popen(  # noqa: S603 - our own command
        [*HORUS, "workflow", "run", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment_for(shared),
    )
    assert running.stdout is not None
    assert running.stdout.readline().startswith("first   running")
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "stopped workflow " in told
    jobs = json.loads(horus("job", "list", "--status", "running", "--json").stdout)
    assert [one for one in jobs if one["payload"] == "sleep 60"] == []


def test_a_workflow_that_no_grant_covers_is_refused_as_a_whole(horus, tmp_path):
    path = tmp_path / "net.toml"
    path.write_text('[steps.a]\nrun = ""\n[steps.b]\nrun = ""\nnet = "host"\n')
    told = horus("workflow", "run", str(path))
    assert told.returncode == 3
    assert "refused: auth.net: " in told.stderr
    assert "the job of step b" in told.stderr
