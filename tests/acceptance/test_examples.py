"""Every example does what it says, against a real deployment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
HORUS = (sys.executable, "-c", "from horus_celery.cli import main; main()")
#: What stops and starts runners has a deployment of its own.
CHANGES = {
    "administration.sh": """\
deployment: hero
runner: python_runner_1
stopped
lines of its log: 1
added: True
removed: True
still there: False
""",
}
SAYS = {
    "create_get_list.py": """\
result: {'success': 'done\\n'}
logs: [('stdout', 'done')]
status: completed
ran on: system_runner_1
listed: True
deleted: True
""",
    "create_start_poll.py": "created\ncompleted {'success': '42\\n'}\n",
    "fire_and_forget.py": "1 squared is 1\n2 squared is 4\n3 squared is 9\n",
    "follow_output.py": """\
stdout: step 1
stdout: step 2
stdout: step 3
stderr: no disk
failed with exit code 7, verified
""",
    "stop_delete_list.py": """\
listed: True
ended: stopped
deleted: True
gone: Not found
""",
    "from_curl.sh": "completed: {'success': 'from curl\\n'}\n",
    "map_reduce.py": "completed with 10 words\n",
}
#: How the steps of each workflow end, and what it gives.
WORKFLOWS = {
    "etl.toml": (
        dict.fromkeys(["extract", "clean", "rejects", "load"], "completed"),
        {"load": "3 rows loaded, sum 49; 2 rejected\n"},
    ),
    "alarm.yaml": (
        {
            "measure": "completed",
            "check": "failed",
            "alarm": "completed",
            "clear": "skipped",
            "report": "completed",
        },
        {"report": "checked\n"},
    ),
    "release.yaml": (
        dict.fromkeys(["build", "lint", "test", "deploy"], "completed"),
        {"deploy": "23\nbytes of 1.2 deployed\n"},
    ),
    "fallback.toml": (
        {
            "mirror": "completed",
            "archive": "skipped",
            "broken": "failed",
            "repair": "completed",
            "convert": "completed",
            "publish": "completed",
        },
        {"publish": "published\n"},
    ),
}


def said_by(name, deployment):
    """Run an example and return what it prints."""
    if name.endswith(".sh") and shutil.which("curl") is None:
        pytest.skip("there is no curl on the path")
    path = ROOT / "examples" / name
    done = subprocess.run(  # noqa: S603 - our own example
        [sys.executable, path] if path.suffix == ".py" else [path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=deployment.state_dir.parent,
        env=environment_for(deployment),
    )
    assert not done.stderr, done.stderr
    assert done.returncode == 0
    return done.stdout


@pytest.mark.parametrize("name", SAYS)
def test_an_example_says_what_it_should(shared, name):
    # The two streams of a script reach its log in an order of their own.
    said = said_by(name, shared)
    assert sorted(said.splitlines()) == sorted(SAYS[name].splitlines())


@pytest.mark.parametrize("name", CHANGES)
def test_an_example_that_changes_a_deployment_says_what_it_should(up, name):
    deployment = up("--port", "0", "--executors", "python")
    assert said_by(name, deployment) == CHANGES[name]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_ends_as_it_should(shared, name):
    done = subprocess.run(  # noqa: S603 - our own command
        [*HORUS, "workflow", "run", str(ROOT / "examples" / name), "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=shared.state_dir.parent,
        env=environment_for(shared),
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    statuses, results = WORKFLOWS[name]
    steps = shown["steps"]
    assert {name: one["status"] for name, one in steps.items()} == statuses
    assert {name for name, one in steps.items() if one["verified"]} == {
        name for name, status in statuses.items() if status != "skipped"
    }
    assert (shown["status"], shown["results"]) == ("completed", results)


def environment_for(deployment):
    scripts = Path(sys.executable).parent
    return {
        "PATH": os.pathsep.join([str(scripts), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "HORUS_URL": deployment.addresses["url"],
        "HORUS_STATE_DIR": str(deployment.state_dir),
    }


def test_every_example_is_run_and_short():
    examples = {path.name: path for path in (ROOT / "examples").iterdir()}
    # Those of executors are run where the executors are tested.
    others = {"__pycache__", "executors"}
    known = SAYS.keys() | CHANGES.keys() | WORKFLOWS.keys()
    assert examples.keys() - others == known
    for name in known:
        assert len(examples[name].read_text().splitlines()) < 45
