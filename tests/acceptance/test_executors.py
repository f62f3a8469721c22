"""Every executor of ours, by a real `horus up`: the examples of the documentation."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess

import pytest

from tests.acceptance.conftest import HORUS, ROOT, Up, clean_environment, make_folder

pytestmark = pytest.mark.acceptance

PAGE = (ROOT / "docs" / "executors.md").read_text()
_BLOCK = re.compile(r"```\w+\n(.*?)```", re.DOTALL)
HAS_RHAI = importlib.util.find_spec("horus_rhai") is not None


def sections():
    """Return the first block of each executor's section, and what comes of it."""
    for text in PAGE.split("\n## ")[1:]:
        name = re.match("`([a-z]+)`\n", text)
        if name:
            script, result, *_ = _BLOCK.findall(text)
            yield name[1], (script, result)


EXAMPLES = dict(sections())
LACKING = {
    "osis": None if HAS_RHAI else "the Rhai engine is not installed",
    "sal": None if HAS_RHAI else "the Rhai engine is not installed",
    "v": None if shutil.which("v") else "there is no V compiler",
}
SERVED = [name for name in EXAMPLES if LACKING.get(name) is None]


@pytest.fixture(scope="module")
def deployment():
    folder = make_folder()
    up = Up(folder / "s", "--port", "0", "--executors", ",".join(SERVED))
    yield up
    up.close()
    shutil.rmtree(folder)


def run(deployment, *words):
    return subprocess.run(  # noqa: S603 - our own command
        [*HORUS, "run", "--state-dir", str(deployment.state_dir), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean_environment(),
    )


def test_every_executor_of_ours_has_an_example():
    named = re.findall(r"^\| \[`([a-z]+)`\]", PAGE, re.MULTILINE)
    assert list(EXAMPLES) == named == ["python", "system", "osis", "sal", "hero", "v"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_an_executor_gives_what_it_says(deployment, name):
    if why := LACKING.get(name):
        pytest.skip(why)
    script, result = EXAMPLES[name]
    done = run(deployment, "--executor", name, "-c", script)
    assert (done.stdout, done.returncode) == (result, 0), done.stderr


FAULTS = [
    ("osis", "let x = nope;", "Variable not found: nope (line 1, position 9)"),
    ("osis", "let x = ;", "(line 1, position 9)"),
    ("osis", 'osis.new("n0ne")', 'osis.model("n0ne", #{fields: …})'),
    ("sal", "\nimport 'x' as y;", "line 2"),
    ("sal", 'file_read("n0ne")', "n0ne"),
    ("hero", "!!play.ecco content:a", "nobody does play.ecco (line 1)"),
    ("python", "raise SystemExit('no way')", "no way"),
    ("system", "echo no way >&2; exit 1", "no way"),
]


@pytest.mark.parametrize(("name", "script", "said"), FAULTS)
def test_a_script_that_fails_says_why_and_ends_with_its_code(
    deployment, name, script, said
):
    if why := LACKING.get(name):
        pytest.skip(why)
    done = run(deployment, "--executor", name, "-c", script)
    assert done.returncode == 1
    assert said in done.stderr


ENDLESS = [
    ("python", "while True: pass"),
    ("system", "while :; do :; done"),
    ("osis", "loop {}"),
    ("sal", "sleep(300)"),
]


@pytest.mark.parametrize(("name", "script"), ENDLESS)
def test_a_script_of_any_executor_ends_when_its_time_is_up(deployment, name, script):
    if why := LACKING.get(name):
        pytest.skip(why)
    done = run(deployment, "--executor", name, "--timeout", "1", "-c", script)
    assert done.returncode == 124
