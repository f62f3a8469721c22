"""Executors besides `python` and `system`, by a real runner at each level."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from horus_celery.lifecycle import Status

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[2] / "examples" / "executors"
LEVELS = ("namespaces", "bwrap", "landlock", "plain")
#: What V does that matters here: it takes a file by its ending, and its arguments.
V = """#!/bin/sh
test "$1" = run || exit 9
case "$2" in *.v) ;; *) exit 8 ;; esac
shift && exec sh "$@"
"""
CONFIG = """
v_path = "{folder}/v"
python_env = "{folder}/env"

[[executors]]
name = "perl"
command = ["perl", "{{script}}", "first"]
suffix = ".pl"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a site brings along: a compiler, a virtual environment, a package."""
    made = tmp_path_factory.mktemp("site")
    (made / "v").write_text(V)
    (made / "v").chmod(0o755)
    subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-m", "venv", "--without-pip", made / "env"], check=True
    )
    (library,) = (made / "env").glob("lib/python*/site-packages")
    (library / "only_there.py").write_text("WORD = 'theirs'")
    metadata = made / "packages" / "horus_awk-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: horus-awk\n")
    (metadata / "entry_points.txt").write_text(
        "[horus.executors]\nawk = horus_awk:kind\n"
    )
    (made / "horus.toml").write_text(CONFIG.format(folder=made))
    for path in (made, *made.parents[:2]):
        path.chmod(0o755)
    return made


@pytest.fixture(scope="module", params=LEVELS)
def runner(request, deployment_at, folder):
    packages = os.pathsep.join([str(folder / "packages"), str(EXAMPLE)])
    deployment = deployment_at(
        request.param,
        HORUS_CONFIG=str(folder / "horus.toml"),
        PYTHONPATH=packages,
    )
    deployment.serve("python", "v", "perl", "awk")
    words = ("-Q", "python,v,perl,awk", "-n", "python_runner_1@%h")
    deployment.start_worker(*words, before=deployment.before)
    return deployment


def test_a_command_of_the_site_runs_scripts_with_its_own_words_before_theirs(runner):
    record = runner.run('print "@ARGV $0\\n"', executor="perl", args=["a b"])
    assert record.status is Status.COMPLETED
    words, _, name = record.result.rstrip().rpartition(" ")
    assert words == "first a b"
    assert name.endswith("/script.pl")


def test_a_script_of_the_site_fails_as_any_other(runner):
    record = runner.run("die 'no way'", executor="perl")
    assert (record.status, record.reason) == (Status.FAILED, "exit_code")
    said = "".join(line.text for line in runner.lines(record))
    assert "no way at /" in said


def test_an_installed_package_runs_scripts(runner):
    record = runner.run("BEGIN { print 6 * 7 }", executor="awk")
    assert record.result == "42\n"


def test_v_compiles_and_runs_a_program(runner):
    record = runner.run("echo $1", executor="v", args=["seven"])
    assert record.result == "seven\n"


def test_python_scripts_find_the_packages_of_their_environment(runner):
    record = runner.run("import only_there, sys; print(only_there.WORD, sys.prefix)")
    assert record.result.startswith("theirs ")
    assert record.result.rstrip().endswith("/env")
