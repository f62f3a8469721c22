"""Every example does what it says, against a real deployment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
SAYS = {
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
}


@pytest.mark.parametrize("name", SAYS)
def test_an_example_says_what_it_should(shared, name):
    if name.endswith(".sh") and shutil.which("curl") is None:
        pytest.skip("there is no curl on the path")
    path = ROOT / "examples" / name
    done = subprocess.run(  # noqa: S603 - our own example
        [sys.executable, path] if path.suffix == ".py" else [path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=shared.state_dir.parent,
        env=environment_for(shared),
    )
    assert (done.returncode, done.stderr) == (0, "")
    # The two streams of a script reach its log in an order of their own.
    assert sorted(done.stdout.splitlines()) == sorted(SAYS[name].splitlines())


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
    assert examples.keys() - {"__pycache__"} == SAYS.keys()
    for name in SAYS:
        assert len(examples[name].read_text().splitlines()) < 45
