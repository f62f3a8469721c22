"""A workflow may be written by a program, which is run for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from horus_celery.authoring.programs import read_workflow
from horus_celery.errors import ConfigurationError, WorkflowError

EXAMPLES = Path(__file__).parents[3] / "examples"
ETL = """\
from horus_celery.authoring import Workflow

with Workflow("etl") as etl:
    rows = etl.step("rows", run="print(1)")
    etl.step("sum", run="print(2)", after=[rows])

if __name__ == "__main__":
    raise SystemExit("it was run as the main program")
"""


@pytest.fixture
def read(tmp_path):
    def read(text, name="etl.py"):
        path = tmp_path / name
        path.write_text(text)
        return read_workflow(path)

    return read


def test_a_program_leaves_its_workflow(read):
    draft = read(ETL)
    assert draft.name == "etl"
    assert [step.name for step in draft.steps] == ["rows", "sum"]


def test_the_same_workflow_may_have_two_names(read):
    assert read(ETL + "same = etl\n").name == "etl"


def test_every_other_file_is_no_program(read):
    assert read('[steps.a]\nrun = ""\n', "etl.toml").name == "etl"


def test_a_program_finds_what_stands_beside_it(read, tmp_path):
    (tmp_path / "beside_it.py").write_text("SCRIPT = 'print(3)'\n")
    text = (
        "from beside_it import SCRIPT\n"
        "from horus_celery.authoring import Workflow\n"
        "flow = Workflow('x')\nflow.step('a', run=SCRIPT)\n"
    )
    assert read(text).steps[0].payload == "print(3)"


WITH_FILE = """\
from horus_celery.authoring import Workflow

with Workflow("etl") as etl:
    etl.step("load", file="load.py")
"""


@pytest.mark.parametrize("name", ["etl.py", "jobs/etl.py"])
def test_the_files_of_its_scripts_are_named_from_where_it_lies(
    read, tmp_path, monkeypatch, name
):
    (tmp_path / "jobs").mkdir()
    (tmp_path / name).with_name("load.py").write_text("print(4)\n")
    for folder in (tmp_path, tmp_path / "jobs"):
        monkeypatch.chdir(folder)
        assert read(WITH_FILE, name).steps[0].payload == "print(4)\n"


def test_a_file_is_not_looked_for_in_the_current_directory(read, tmp_path, monkeypatch):
    (tmp_path / "load.py").write_text("print('of somebody else')\n")
    (tmp_path / "jobs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        read(WITH_FILE, "jobs/etl.py")
    assert caught.value.detail == (
        f"the step load: cannot read the script {tmp_path}/jobs/load.py: No such file"
        " or directory"
    )


@pytest.mark.parametrize("is_absolute", [True, False])
def test_a_program_may_say_where_the_files_lie(read, tmp_path, is_absolute):
    folder = tmp_path / "jobs" if is_absolute else "jobs"
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "load.py").write_text("print(5)\n")
    text = WITH_FILE.replace('"etl")', f'"etl", folder={str(folder)!r})')
    assert read(text).steps[0].payload == "print(5)\n"


def test_what_is_typed_in_names_files_from_the_current_directory(tmp_path, monkeypatch):
    (tmp_path / "load.py").write_text("print(6)\n")
    monkeypatch.chdir(tmp_path)
    typed: dict[str, Any] = {}
    exec(WITH_FILE, typed)  # noqa: S102 - as an interpreter does with what is typed
    assert typed["etl"].draft().steps[0].payload == "print(6)\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "leaves 0 workflows in its variables"),
        (ETL + "other = Workflow('y')\n", "leaves 2 workflows in its variables"),
        ("x = 1\nx / 0\n", "etl.py line 2 failed: ZeroDivisionError: division by"),
        ("x = 1\nx = (\n", "etl.py line 2 failed: SyntaxError: '(' was never closed"),
        ("x = 1\nraise SystemExit(0)\n", "etl.py line 2 exits before its workflow"),
        (ETL + "import sys\nsys.exit()\n", "etl.py line 10 exits before its workflow"),
        ("import nothing_of_the_kind\n", "line 1 failed: ModuleNotFoundError"),
    ],
)
def test_what_is_wrong_with_a_program_is_told_with_its_line(read, text, said):
    with pytest.raises(ConfigurationError) as refusal:
        read(text)
    assert said in refusal.value.detail


def test_an_example_that_runs_its_workflow_itself_is_a_workflow_to_others(monkeypatch):
    monkeypatch.setenv("HORUS_STATE_DIR", "/nowhere")
    draft = read_workflow(EXAMPLES / "map_reduce.py")
    assert draft.name == "map-reduce"


def test_what_a_program_says_wrongly_of_its_workflow_is_told_as_it_is(read):
    text = (
        "from horus_celery.authoring import Workflow\n"
        "flow = Workflow('x')\nflow.step('a')\n"
    )
    with pytest.raises(ConfigurationError) as refusal:
        read(text)
    assert refusal.value.detail == ("the step a needs one script: pass run=… or file=…")


def test_steps_of_a_program_that_cannot_be_run_are_told(read):
    text = (
        "from horus_celery.authoring import Workflow\n"
        "flow = Workflow('x')\nflow.step('a', run='', after=['a'])\n"
    )
    with pytest.raises(WorkflowError) as refusal:
        read(text)
    assert refusal.value.reason == "workflow.cycle"


def test_a_program_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no\.py: there is none"):
        read_workflow(tmp_path / "no.py")
