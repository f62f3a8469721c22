"""The real command line against a real deployment."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.acceptance

#: Says something, and goes on only when the test has heard it.
WAITS = """\
import os, sys, time
print("heard?", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
print("heard")
"""


def test_a_script_is_run_and_its_receipt_is_told(command):
    told = command("run", "-c", "print('hello')")
    assert told.stdout == "hello\n"
    assert told.returncode == 0
    line = told.stderr.strip()
    assert line.startswith("completed; signed by ")
    assert "verified by supervisor and python_runner_1, queued " in line
    assert line.count("\n") == 0


def test_output_is_shown_while_the_script_runs(start, tmp_path):
    go = tmp_path / "go"
    with start("run", "-c", WAITS, go) as process:
        assert process.stdout.readline() == "heard?\n"
        go.touch()
        assert process.stdout.read() == "heard\n"
    assert process.returncode == 0


def test_a_file_gets_arguments_and_variables_and_its_executor(command, tmp_path):
    script = tmp_path / "say.sh"
    script.write_text('echo "$GREETING $1 $2"; echo oops >&2')
    told = command("run", "--env", "GREETING=good day", script, "--to", "you")
    assert told.stdout == "good day --to you\n"
    assert told.stderr.splitlines()[0] == "oops"
    assert "system_runner_1" in told.stderr


def test_options_may_stand_behind_the_file_and_what_is_none_is_the_scripts(
    command, tmp_path
):
    script = tmp_path / "say"
    script.write_text('echo "$A" "$@"')
    words = ["-c", "--to", "you", "--", "--env", "A=2"]
    told = command("run", script, "--executor=system", "--env", "A=1", *words)
    assert told.stdout == "1 -c --to you --env A=2\n"
    slow = tmp_path / "slow.sh"
    slow.write_text("sleep 30")
    assert command("run", slow, "--timeout", "1").returncode == 124


def test_a_script_may_come_from_standard_input(command):
    assert command("run", "-", input="print(6 * 7)").stdout == "42\n"


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["-c", "raise SystemExit(7)"], 7, "failed: exit code 7; "),
        (["--timeout", "1", "-c", "while True: pass"], 124, "failed: timeout; "),
        (["--net", "host", "-c", "1"], 3, "horus: refused: auth.net: "),
        (["--context", "theirs", "-c", "1"], 3, "horus: refused: auth.context: "),
        (["--env", "PATH=/", "-c", "1"], 3, "horus: refused: schema.env_vars: "),
        (["--executor", "a b", "-c", "1"], 3, "horus: refused: schema.executor: "),
    ],
)
def test_the_exit_code_says_how_it_ended(command, arguments, code, line):
    told = command("run", *arguments)
    assert told.returncode == code
    assert told.stderr.splitlines()[-1].startswith(line)
    assert "Traceback" not in told.stderr


def test_a_script_that_is_no_text_is_refused_without_a_traceback(command):
    told = command("run", "-c", os.fsdecode(b"print('\xff')"))
    assert told.returncode in {1, 3}
    assert told.stderr.startswith("horus: ")
    assert told.stderr.count("\n") == 1


def test_ctrl_c_stops_the_job(start, command):
    code = "import time; print('on', flush=True); time.sleep(600)"
    with start("run", "-c", code) as process:
        assert process.stdout.readline() == "on\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        said = process.stderr.read()
    job_id = said.split()[-1]
    outcome = command("job", "result", job_id, "--json")
    assert json.loads(outcome.stdout)["status"] == "stopped"


def test_a_job_is_shown_in_every_way(command):
    job = json.loads(command("run", "--json", "-c", "print('shown')").stdout)
    assert job["verified"]
    assert job["result"] == "shown\n"
    for name in (job["job_id"], job["digest"]):
        record = json.loads(command("job", "show", name, "--json").stdout)
        assert record["id"] == job["job_id"]
    assert "print('shown')" in command("job", "show", job["job_id"]).stdout
    assert command("job", "logs", job["job_id"]).stdout == "shown\n"
    assert command("job", "logs", "--follow", job["job_id"]).stdout == "shown\n"
    assert command("job", "result", job["job_id"]).stdout == "shown\n"
    assert command("job", "why", job["job_id"]).stdout == "completed\n"
    receipt = json.loads(command("job", "receipt", job["job_id"], "--json").stdout)
    assert receipt["payloadType"] == "application/vnd.horus.receipt.v1+json"
    assert job["digest"] in command("job", "receipt", job["job_id"]).stdout
    listed = json.loads(command("job", "list", "--json", "--limit", "1").stdout)
    assert [each["id"] for each in listed] == [job["job_id"]]
    assert job["job_id"] in command("job", "list", "--status", "completed").stdout
    assert "shown" in command("job", "logs", job["job_id"], "--json").stdout


READ = "import os; print(open(os.environ['HORUS_INPUTS'] + '/N').read() * 2)"


def test_a_job_builds_on_those_before_it(command):
    job = json.loads(command("run", "--json", "-c", "print('$(id)')").stdout)
    for name in (job["job_id"], job["digest"]):
        given = ("--input", f"N={name}", "--needs", name)
        told = command("run", *given, "-c", READ)
        assert (told.returncode, told.stdout) == (0, "$(id)\n$(id)\n\n")
    last = json.loads(command("run", "--json", *given, "-c", READ).stdout)
    receipt = command("job", "receipt", last["job_id"]).stdout
    assert f"name=N from={job['digest']}" in receipt


def test_no_job_builds_on_one_that_failed(command):
    job = json.loads(command("run", "--json", "-c", "raise SystemExit(1)").stdout)
    for given in (("--input", f"N={job['job_id']}"), ("--needs", job["digest"])):
        told = command("run", *given, "-c", "print('ran')")
        assert (told.returncode, told.stdout) == (1, "")
        assert told.stderr == f"horus: job {job['job_id']} failed: exit_code\n"


def test_a_job_that_is_to_be_built_on_is_waited_for(start, command, tmp_path):
    go = tmp_path / "go"
    with start("run", "-c", WAITS, go) as first:
        assert first.stdout.readline() == "heard?\n"
        [job] = json.loads(command("job", "list", "--json", "--limit", "1").stdout)
        with start("run", "--input", f"N={job['id']}", "-c", READ) as second:
            go.touch()
            assert second.stdout.read() == "heard?\nheard\n" * 2 + "\n"
    assert (first.returncode, second.returncode) == (0, 0)


def test_a_job_is_stopped_once_and_deleted_once(command):
    job = json.loads(command("run", "--json", "-c", "1").stdout)["job_id"]
    for _ in range(2):
        assert command("job", "stop", job).stdout == f"{job} completed\n"
    assert command("job", "delete", job).returncode == 0
    told = command("job", "show", job)
    assert told.returncode == 1
    assert told.stderr == f"horus: there is no job {job}\n"


def test_what_comes_from_a_job_s_wrong_name_is_one_line(command):
    told = command("job", "show", "../../etc")
    assert told.returncode in {1, 3}
    assert told.stderr.startswith("horus: ")
    assert told.stderr.count("\n") == 1


def test_a_new_key_signs_as_soon_as_it_is_granted(command):
    command("key", "new", "carol")
    run = (
        "run",
        "--key",
        "carol",
        "--caller",
        "carol",
        "--context",
        "carol",
        "-c",
        "1",
    )
    assert command(*run).returncode == 3
    grant = ("trust", "grant", "--caller", "carol", "--context", "carol")
    assert command(*grant, "--key", "carol").returncode == 0
    assert command(*run).returncode == 0
    keyid = json.loads(command("key", "show", "carol", "--json").stdout)["keyid"]
    assert command("trust", "revoke", keyid).returncode == 0
    assert command(*run).returncode == 3


def test_the_wrong_secret_is_told(command):
    told = command("job", "list", env_more={"HORUS_SECRET": "wrong"})
    assert told.returncode == 1
    assert "secret" in told.stderr
    assert "wrong" not in told.stderr


def test_the_doctor_sees_that_it_is_up(command, shared):
    told = command("doctor")
    assert told.returncode == 0
    assert shared.addresses["url"] in told.stdout


def test_nobody_who_is_no_supervisor_is_believed(command, shared):
    told = command("job", "list", "--url", shared.addresses["flower_url"])
    assert told.returncode == 1
    assert "is no Horus supervisor" in told.stderr


def test_the_demo_shows_all_and_leaves_nothing(start, processes_of, tmp_path):
    began = time.monotonic()
    with start("demo", env_more={"TMPDIR": "/tmp"}) as process:  # noqa: S108 - short
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("Ready after"):
                everything = processes_of(process.pid)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
    took = time.monotonic() - began
    text = "".join(said)
    assert took < 25, "15 s on a machine that does nothing else"
    assert everything.left(within=0.1) == []
    folder = next(line.split()[-1] for line in said if "State directory" in line)
    assert not Path(folder).exists()
    for fact in (
        "step 3 of 3",
        "hello, world, from bash",
        "failed: exit code 7; ",
        "failed: timeout; ",
        "refused by the supervisor: sig.none",
        "rejected: sig.none; refused by python_runner_1",
        "dropped unread by the runner",
        "All went as it should.",
    ):
        assert fact in text
    assert "WRONG" not in text


def test_a_demo_that_was_interrupted_finds_nothing_wrong(start):
    with start("demo", env_more={"TMPDIR": "/tmp"}) as process:  # noqa: S108 - short
        for line in process.stdout:
            if line.startswith("Ready after"):
                process.send_signal(signal.SIGINT)
                break
        assert process.stdout.read().endswith("Ended before all was shown.\n")
        assert process.wait(30) == 130
