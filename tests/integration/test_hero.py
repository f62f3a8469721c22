"""HeroScript by a real runner, at each level of containment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from horus_celery.lifecycle import Status

pytestmark = pytest.mark.integration

LEVELS = ("namespaces", "bwrap", "landlock", "plain")
#: What keeps data, runs a program, and uses what came of both.
SCRIPT = """
!!db.set key:greeting value:hello
!!db.get key:greeting result:said
!!osis.model model:note fields:'title:string' index:title
!!osis.create model:note title:{said}
!!sal.run_command command:'echo from a program' result:ran
!!play.echo content:'{said} {ran}'
!!osis.find model:note field:title value:hello
"""
#: What of the Hero CLI matters here: it takes one file, and looks for its Redis.
CLI = """#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/6379
printf 'PING\\r\\n' >&3
head -c 5 <&3
cat "$1"
"""


@pytest.fixture(scope="module", params=LEVELS)
def runner(request, deployment_at):
    deployment = deployment_at(request.param)
    deployment.serve("hero")
    deployment.grant(nets=["none", "herodb"])
    words = ("-Q", "hero", "-n", "python_runner_1@%h")
    deployment.start_worker(*words, before=deployment.before)
    return deployment


def texts(runner, record):
    return [line.text for line in runner.lines(record)]


def test_a_script_uses_the_data_of_its_context_and_programs(runner):
    record = runner.run(SCRIPT, executor="hero", net="herodb")
    assert record.status is Status.COMPLETED, texts(runner, record)
    assert [one["title"] for one in json.loads(record.result)] == ["hello"]
    ran, said = texts(runner, record)
    assert ran == "from a program"
    assert said.startswith('hello {"stdout": "from a program\\n"')


def test_a_script_that_nobody_does_fails_before_anything_is_done(runner):
    script = "!!play.echo content:never\n!!play.ecco content:x"
    record = runner.run(script, executor="hero")
    assert (record.status, record.reason) == (Status.FAILED, "exit_code")
    assert texts(runner, record) == [
        "nobody does play.ecco (line 2); did you mean play.echo?"
    ]


def test_a_job_that_may_not_reach_the_data_is_told_so(runner):
    record = runner.run("!!db.get key:x", executor="hero", net="none")
    assert (record.status, record.reason) == (Status.FAILED, "exit_code")
    (said,) = texts(runner, record)
    assert "sign it with `net: herodb`" in said


@pytest.fixture(scope="module", params=LEVELS)
def cli(request, deployment_at, tmp_path_factory):
    """A runner that is told where the Hero CLI is."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "hero").write_text(CLI)
    (folder / "hero").chmod(0o755)
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    deployment = deployment_at(request.param, HORUS_HERO_CLI=str(folder / "hero"))
    deployment.serve("hero")
    words = ("-Q", "hero", "-n", "python_runner_1@%h")
    deployment.start_worker(*words, before=deployment.before)
    return deployment, request.param


def test_the_hero_cli_runs_a_script_only_where_its_redis_is_the_jobs_alone(cli):
    runner, level = cli
    record = runner.run("!!play.echo content:hi", executor="hero", net="none")
    if level not in {"landlock", "plain"}:
        assert record.status is Status.COMPLETED, texts(runner, record)
        assert record.result == "+PONG!!play.echo content:hi"
        return
    if len(Path("/proc/net/route").read_text().splitlines()) == 1:
        pytest.skip("this machine has no network")
    assert (record.status, record.reason) == (Status.FAILED, "exit_code")
    assert "has the network of its machine" in texts(runner, record)[-1]
