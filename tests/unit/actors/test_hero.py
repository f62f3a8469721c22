"""The host `hero` runs the script of a file in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers.hosts import hero

ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(tmp_path):
    """Run a script in a process of its own, and return that and the result."""

    def run(script, *args, **variables):
        (tmp_path / "script").write_bytes(script.encode("utf-8", "surrogateescape"))
        (tmp_path / "result").unlink(missing_ok=True)
        environment = {"HORUS_RESULT": str(tmp_path / "result"), **variables}
        words = ["workers.hosts.hero", str(tmp_path / "script"), *args]
        ran = subprocess.run(  # noqa: S603 - our own argv
            [sys.executable, "-m", "workers.hosted", *words],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        result = tmp_path / "result"
        return ran, result.read_text() if result.exists() else None

    return run


def test_a_script_says_something_and_has_a_result(run):
    ran, result = run("!!play.echo content:one\n!!play.echo content:'é\n  two'")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "one\né two\n"
    assert result == "é two"


def test_the_result_is_that_of_the_last_action(run):
    ran, result = run("!!play.echo content:one\n!!session.env_set key:a val:b")
    assert (ran.stdout, result) == ("one\n", "")


def test_a_script_without_actions_has_an_empty_result(run):
    ran, result = run("Only text.")
    assert (ran.returncode, ran.stdout, result) == (0, "", "")


def test_arguments_are_replacements_in_the_text(run):
    ran, _ = run("!!play.echo content:'@name ${name} {name}'", "name=it")
    assert ran.stdout == "it it it\n"


@pytest.mark.parametrize(
    ("script", "args", "said"),
    [
        (
            "!!play.echo content:never\n!!play.ecco",
            (),
            "nobody does play.ecco (line 2); did you mean play.echo?\n",
        ),
        (
            "!!a.b.c",
            (),
            (
                "a.b.c has more than two parts: an action is `actor.name`"
                " (line 1, column 1)\n"
            ),
        ),
        ("\n!!play.echo", (), "play.echo lacks content: what is written (line 2)\n"),
        ("!!x.y\n\udcff", (), "the script is no UTF-8 text (line 2)\n"),
        (
            "!!play.echo content:x",
            ("word",),
            (
                "an argument of a HeroScript is NAME=VALUE, which replaces @NAME,"
                " ${NAME} and {NAME} in its text; 'word' is none\n"
            ),
        ),
    ],
)
def test_a_script_that_cannot_be_run_says_why_and_nothing_else(run, script, args, said):
    ran, result = run(script, *args)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", said)
    assert result is None


def test_what_was_done_before_a_failure_was_said(run):
    ran, result = run("!!play.echo content:one\n!!db.get key:k\n!!play.echo content:x")
    assert (ran.returncode, ran.stdout, result) == (1, "one\n", None)
    assert ran.stderr.startswith("db.get: the job cannot reach HeroDB")
    assert ran.stderr.endswith("(line 2)\n")


def test_functions_of_the_system_are_actors_too(run, tmp_path):
    ran, result = run(
        "!!sal.file_write path:'@here/note' text:'two words'\n"
        "!!sal.run_command command:'wc -c @here/note' result:ran\n"
        "!!play.echo content:'{ran}'\n"
        "!!sal.file_read path:'@here/note'\n"
        "!!sal.exist path:'@here/none' result:is-there\n"
        "!!sal.file_read path:'@here/none'\n",
        f"here={tmp_path}",
    )
    assert '"success": true' in ran.stdout
    assert (tmp_path / "note").read_text() == "two words"
    assert (ran.returncode, result) == (1, None)
    assert "sal.file_read: " in ran.stderr
    assert ran.stderr.endswith("(line 6)\n")


def test_it_is_rehearsed_in_silence(capsys):
    hero.rehearse()
    assert capsys.readouterr() == ("", "")


def test_what_a_rehearsal_sets_is_not_set_for_a_script(tmp_path, capsys):
    (tmp_path / "script").write_text("!!play.echo content:'{name} {said} {list}'")
    hero.rehearse()
    hero.warm_up()
    assert hero.run(str(tmp_path / "script"), []) == 0
    assert capsys.readouterr().out == "{name} {said} {list}\n"


def test_it_brings_nothing_into_a_zygote_that_takes_long():
    code = "import sys, workers.hosts.hero; print(*sys.modules)"
    ran = subprocess.run(  # noqa: S603 - our own argv
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    brought = set(ran.stdout.split())
    assert not brought & {"pydantic", "celery", "redis", "httpx", "nacl", "asyncio"}
    assert {"workers.heroscript.reading", "workers.actors.jobs"} <= brought
