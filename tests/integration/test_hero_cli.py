"""The Hero CLI runs beside a Redis that is its job's alone."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from horus_celery.redis_server import find_server

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
#: Tells how it was called, whether its Redis answers, and how it wants to end.
HERO = """#!/bin/bash
echo "$# ${1##*/} $(cat "$1")"
exec 3<>/dev/tcp/127.0.0.1/6379
printf 'SET left here\\r\\n' >&3
head -c 5 <&3
ls -A "$HOME"
test -w "$HOME" && echo "$HOME"
exit "${HERO_EXIT:-0}"
"""
#: Runs something in a network of its own, as a sandbox does.
APART = """
import os, socket, sys
from horus_celery import kernel
if "machine" not in sys.argv[1]:
    kernel.unshare(0x40000000)
if "up" in sys.argv[1]:
    kernel.bring_loopback_up()
sys.path.insert(0, os.getcwd())
from workers.hosts import hero_cli
if "taken" in sys.argv[1]:
    held = socket.create_server(hero_cli.ADDRESS)
hero_cli.rehearse()
code = hero_cli.run(sys.argv[2], sys.argv[3:])
try:
    socket.create_connection(hero_cli.ADDRESS)
except OSError:
    print("gone", file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture
def apart(tmp_path):
    """Run a script by a stand-in for the Hero CLI, in a network of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root makes a network namespace without a user namespace")
    hero = tmp_path / "hero"
    hero.write_text(HERO)
    hero.chmod(0o755)
    script = tmp_path / "script"
    script.write_text("!!play.echo content:hi")

    def run(*args, loopback="up", **further):
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "HORUS_HERO_CLI": str(hero),
            "HORUS_HERO_REDIS": str(find_server().path),
            **further,
        }
        return subprocess.run(  # noqa: S603 - our own argv
            [sys.executable, "-c", APART, loopback, str(script), *args],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_it_gets_one_file_and_a_redis_and_a_home_of_its_own(apart, tmp_path):
    ran = apart()
    assert (ran.returncode, ran.stderr) == (0, "gone\n")
    call, answer, file, home = ran.stdout.split("\n")[:4]
    assert call == "1 script.hero !!play.echo content:hi"
    assert answer.strip() == "+OK"
    assert file == "script.hero"
    assert Path(home) != tmp_path
    assert not Path(home).exists()


def test_its_exit_code_is_that_of_the_job(apart):
    assert apart(HERO_EXIT="7").returncode == 7


def test_two_jobs_at_a_time_have_a_redis_each(apart):
    with ThreadPoolExecutor() as threads:
        both = [threads.submit(apart) for _ in range(2)]
    assert [one.result().returncode for one in both] == [0, 0]


def test_it_takes_no_arguments(apart):
    ran = apart("x=1")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "no arguments" in ran.stderr


@pytest.mark.parametrize("variable", ["HORUS_HERO_CLI", "HORUS_HERO_REDIS"])
def test_a_program_that_is_not_there_is_named(apart, variable):
    ran = apart(**{variable: "/not/there"})
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"{variable} names no program" in ran.stderr


def test_a_redis_that_does_not_start_is_told_of(apart):
    ran = apart(HORUS_HERO_REDIS="/bin/false")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "does not start" in ran.stderr


def test_it_is_not_run_where_somebody_answers_already(apart):
    ran = apart(loopback="up, and taken")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "something answers on 127.0.0.1:6379 already" in ran.stderr


def test_it_is_not_run_in_the_network_of_the_machine(apart):
    if len(Path("/proc/net/route").read_text().splitlines()) == 1:
        pytest.skip("this machine has no network")
    ran = apart(loopback="of the machine")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "has the network of its machine" in ran.stderr


def test_it_is_not_run_for_a_job_that_was_granted_the_network(apart):
    ran = apart(HORUS_NET="host")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "has the network of its machine" in ran.stderr


def test_it_is_not_run_without_a_loopback(apart):
    ran = apart(loopback="down")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "no loopback" in ran.stderr
