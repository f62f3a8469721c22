"""`horus workflow`: what it signs, shows and answers with."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from horus_celery.lifecycle import Status
from horus_celery.statedir import StateDirectory
from horus_celery.statements import dsse
from horus_celery.statements.keys import read_key_file
from tests.coordinator import FakeCoordinator, Refusal

ETL = """\
name = "etl"

[steps.extract]
run = "print(1)"

[steps.clean]
run = "x"
depends_on = ["extract"]
on_failure = "continue"

[steps.count]
run = "y"
depends_on = ["extract"]

[steps.load]
run = "z"
inputs = { ROWS = "clean", N = "count" }
"""


@pytest.fixture
def door(monkeypatch):
    """Where the command line finds whoever stands behind it, as its `answer`."""
    door = SimpleNamespace(answer=None)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = json.dumps(door.answer(json.loads(body))).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("HORUS_URL", f"http://127.0.0.1:{server.server_port}")
    yield door
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def root(horus, state_dir):
    """The root key of a state directory that was just made."""
    horus("init")
    return read_key_file(StateDirectory(state_dir).root_key)


@pytest.fixture
def coordinator(root, door, state_dir):
    """A coordinator that the command line finds, and that the state's root trusts."""
    state = StateDirectory(state_dir)
    caller = read_key_file(state.key_file("default"))
    at = datetime.now(UTC).replace(microsecond=0)
    coordinator = FakeCoordinator(root, caller, at=at)
    door.answer = coordinator.answer
    return coordinator


@pytest.fixture
def etl(tmp_path):
    path = tmp_path / "etl.toml"
    path.write_text(ETL)
    return path


# --- run ---------------------------------------------------------------------------


def test_each_step_has_a_line_when_it_runs_and_when_it_is_over(horus, coordinator, etl):
    coordinator.results = {"load": "42\n"}
    told = horus("workflow", "run", etl)
    assert told.code == 0
    assert told.out.splitlines() == [
        "extract  running",
        "extract  completed  0 ms",
        "clean    running",
        "count    running",
        "clean    completed  0 ms",
        "count    completed  0 ms",
        "load     running",
        "load     completed  0 ms",
        "load: 42",
    ]
    first, last = told.err.splitlines()
    assert first == f"workflow {coordinator.manifest.id}: etl"
    assert re.fullmatch(
        r"completed: 4 completed; 4 verified; took (\d+ ms|\d+\.\d s)", last
    )


@pytest.mark.parametrize("strategy", ["canvas", "reference", None])
def test_who_runs_a_workflow_says_in_which_way(horus, coordinator, etl, strategy):
    said = [] if strategy is None else ["--strategy", strategy]
    assert horus("workflow", "run", etl, *said).code == 0
    assert coordinator.strategy == strategy


@pytest.mark.parametrize("option", ["--json", "--detach"])
def test_what_a_program_prints_is_not_the_answer_of_its_workflow(
    horus, coordinator, tmp_path, option
):
    program = tmp_path / "loud.py"
    program.write_text(
        "from horus_celery.authoring import Workflow\n"
        "print('loud')\n"
        "with Workflow('loud') as flow:\n    flow.step('a', run='')\n"
    )
    told = horus("workflow", "run", program, option)
    assert told.code == 0
    answer = told.out.strip()
    said = json.loads(answer)["workflow_id"] if option == "--json" else answer
    assert said == coordinator.manifest.id
    assert "loud\n" in told.err


def test_a_failure_is_told_with_the_way_to_its_log(horus, coordinator, etl):
    coordinator.ends = {"count": Status.FAILED}
    told = horus("workflow", "run", etl)
    assert told.code == 1
    assert "count    failed     0 ms  exit_code" in told.out.splitlines()
    assert "load     skipped" in told.out.splitlines()
    job, _ = coordinator.job("count")
    assert f"see: horus job logs {job.id}  # count" in told.err.splitlines()
    assert "failed: 2 completed, 1 failed, 1 skipped; 3 verified" in told.err


def test_what_a_supervisor_says_of_a_step_commands_no_terminal(horus, coordinator, etl):
    def say(told):
        evil = {"supervisor": "\x1b[31mnorth", "job_id": "\x1b[2J"}
        steps = {name: {**step, **evil} for name, step in told["steps"].items()}
        return {**told, "steps": steps}

    coordinator.ends = {"count": Status.FAILED}
    coordinator.lies["workflow.status"] = say
    told = horus("workflow", "run", etl)
    assert "count    failed     0 ms  exit_code  at [31mnorth\n" in told.out
    assert "see: horus job logs '[2J'  # count at [31mnorth\n" in told.err
    assert "\x1b" not in told.out + told.err


def test_a_step_that_may_fail_does_not_change_the_exit_code(
    horus, coordinator, tmp_path
):
    path = tmp_path / "a.toml"
    path.write_text(
        '[steps.a]\nrun = ""\non_failure = "continue"\n[steps.b]\nrun = ""\n'
    )
    coordinator.ends = {"a": Status.FAILED}
    assert horus("workflow", "run", path).code == 0


def test_everything_is_signed_by_the_key_that_was_named(
    horus, coordinator, etl, state_dir
):
    assert horus("key", "new", "other").code == 0
    key = read_key_file(StateDirectory(state_dir).key_file("other"))
    told = horus(
        "workflow", "run", etl, "--key", "other", "--context", "c", "--caller", "d"
    )
    assert told.code == 0
    assert coordinator.manifest.context_id == "c"
    assert coordinator.manifest.caller_id == "d"
    (submit,) = (p for m, p in coordinator.calls if m == "workflow.submit")
    envelopes = [dsse.from_wire(submit["manifest"], dsse.WORKFLOW)]
    envelopes += [dsse.from_wire(one, dsse.JOB) for one in submit["jobs"].values()]
    for envelope in envelopes:
        assert dsse.signers(envelope, {key.keyid: key.public}) == {key.keyid}


def test_a_program_is_given_json_and_nothing_else(horus, coordinator, etl):
    coordinator.results = {"load": "42\n"}
    told = horus("workflow", "run", etl, "--json")
    assert told.code == 0
    shown = json.loads(told.out)
    assert shown["workflow_id"] == coordinator.manifest.id
    assert (shown["status"], shown["name"]) == ("completed", "etl")
    assert shown["results"] == {"load": "42\n"}
    assert [one["verified"] for one in shown["steps"].values()] == [True] * 4
    assert shown["steps"]["load"]["job_id"] == coordinator.job("load")[0].id


def test_who_does_not_wait_is_given_the_id(horus, coordinator, etl):
    told = horus("workflow", "run", etl, "--detach")
    assert (told.code, told.err) == (0, "")
    assert told.out == f"{coordinator.manifest.id}\n"
    told = horus("workflow", "run", etl, "--detach", "--json")
    assert json.loads(told.out) == {"workflow_id": coordinator.manifest.id}
    assert "workflow.status" not in coordinator.methods


def test_a_long_work_says_how_far_it_is(horus, coordinator, tmp_path):
    path = tmp_path / "big.toml"
    steps = [f"[steps.s{number}]\nrun = {'x' * 3000!r}\n" for number in range(1000)]
    path.write_text("".join(steps))
    told = horus("workflow", "run", path, "--detach")
    assert told.code == 0
    lines = told.err.splitlines()
    assert lines[:2] == ["signed: 100 of 1,000 jobs", "signed: 200 of 1,000 jobs"]
    assert lines[9] == "signed: 1,000 of 1,000 jobs"
    assert lines[10].startswith("handed in: ")
    assert lines[-1] == "handed in: 1,000 of 1,000 jobs"
    assert len(coordinator.jobs) == 1000


def test_a_refusal_has_the_exit_code_of_one(horus, coordinator, etl):
    def refuse(_):
        raise Refusal(-32014, "workflow.unknown_supervisor")

    coordinator.lies["workflow.submit"] = refuse
    told = horus("workflow", "run", etl)
    assert told.code == 3
    assert told.err.startswith("horus: refused: workflow.unknown_supervisor")


def test_what_cannot_be_run_is_not_even_signed(horus, coordinator, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "steps: {a: {run: '', depends_on: [b]}, b: {run: '', depends_on: [a]}}"
    )
    told = horus("workflow", "run", path)
    assert told.code == 3
    assert "the shortest cycle has 2 steps" in told.err
    assert coordinator.calls == []


def test_a_lie_has_the_exit_code_of_a_failure(horus, coordinator, etl):
    coordinator.ends = {"count": Status.FAILED}

    def lie(answer):
        steps = {
            name: {**one, "status": one["status"].replace("failed", "completed")}
            for name, one in answer["steps"].items()
        }
        return {**answer, "steps": steps}

    coordinator.lies["workflow.status"] = lie
    told = horus("workflow", "run", etl)
    assert told.code == 1
    assert "step count is shown as completed, and its job was failed" in told.err


@pytest.mark.usefixtures("coordinator")
def test_a_wrong_file_is_told_with_its_line(horus, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('[steps.a]\nrn = ""\n')
    told = horus("workflow", "run", path)
    assert told.code == 1
    assert "a.toml line 2: the step a: rn is no key (did you mean run?)" in told.err


# --- explain -----------------------------------------------------------------------


def test_a_plan_is_explained_without_any_supervisor(horus, etl):
    told = horus("workflow", "explain", etl)
    assert told.code == 0
    assert (
        told.out
        == """\
steps          4
edges          4
depth          3
width          2
messages       8
canvas         yes
critical path  extract -> clean -> load
group  after extract: clean, count
chord  load after 2: clean, count
"""
    )


def test_chains_are_explained(horus, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('[steps.a]\nrun = ""\n[steps.b]\nrun = ""\ndepends_on = ["a"]\n')
    assert "chain  a -> b\n" in horus("workflow", "explain", path).out


def test_it_is_told_why_a_workflow_is_no_canvas(horus, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "steps: {a: {run: ''}, b: {run: '', depends_on: [a], when: all_done}}"
    )
    told = horus("workflow", "explain", path)
    assert "canvas         no: step b has the rule all_done\n" in told.out
    shown = json.loads(horus("workflow", "explain", path, "--json").out)
    assert shown["canvas"] == "rule"


def test_a_plan_is_drawn(horus, etl):
    assert horus("workflow", "explain", etl, "--format", "dot").out.startswith(
        "digraph"
    )
    told = horus("workflow", "explain", etl, "--format", "mermaid")
    assert told.out.startswith("flowchart LR")


def test_a_program_is_given_the_plan_and_its_pictures(horus, etl):
    shown = json.loads(horus("workflow", "explain", etl, "--json").out)
    assert shown["canvas"] is None
    assert shown["critical_path"] == ["extract", "clean", "load"]
    assert shown["dot"].startswith("digraph")
    assert shown["mermaid"].startswith("flowchart")


def test_a_workflow_that_was_handed_in_is_explained_by_its_manifest(
    horus, coordinator, etl
):
    assert horus("workflow", "run", etl, "--detach").code == 0
    told = horus("workflow", "explain", coordinator.manifest.id)
    assert told.out == horus("workflow", "explain", etl).out


# --- others ------------------------------------------------------------------------


@pytest.fixture
def begun(horus, coordinator, etl):
    assert horus("workflow", "run", etl, "--detach").code == 0
    return coordinator.manifest.id


def test_the_steps_of_a_workflow_are_shown(horus, coordinator, begun):
    told = horus("workflow", "status", begun)
    assert told.code == 0
    lines = told.out.splitlines()
    assert lines[:3] == [
        f"workflow_id  {begun}",
        "name         etl",
        "status       running",
    ]
    heads, first = lines[lines.index("") + 1 :][:2]
    assert heads == "step\tstatus\treason\tsupervisor\tstarted_at\tended_at\tjob_id"
    assert first.startswith("extract\tpending")
    shown = json.loads(horus("workflow", "status", begun, "--json").out)
    assert shown["steps"].keys() == set(coordinator.graph.names)


def test_workflows_are_listed(horus, coordinator, begun):
    told = horus("workflow", "list", "--status", "running", "--limit", "5")
    heads, row = (line.split("\t") for line in told.out.splitlines())
    assert heads[:3] == ["id", "name", "status"]
    assert row[:5] == [begun, "etl", "running", "4", "0"]
    assert coordinator.calls[-1] == ("workflow.list", {"status": "running", "limit": 5})
    (shown,) = json.loads(horus("workflow", "list", "--json").out)
    assert shown["id"] == begun
    assert horus("workflow", "list", "--status", "pending").code == 2


def test_a_workflow_is_stopped(horus, coordinator, begun):
    assert horus("workflow", "stop", begun).out == f"{begun} stopped\n"
    shown = json.loads(horus("workflow", "stop", begun, "--json").out)
    assert shown["steps"]["load"]["status"] == "skipped"


def test_a_workflow_is_deleted(horus, coordinator, begun):
    assert horus("workflow", "delete", begun).out == f"{begun} deleted\n"
    assert horus("workflow", "delete", begun, "--json").out == "true\n"
    assert coordinator.calls[-1] == ("workflow.delete", {"workflow_id": begun})


def test_a_result_is_waited_for_and_proven(horus, coordinator, begun):
    coordinator.results = {"load": "42\n"}
    told = horus("workflow", "result", begun)
    assert told.code == 0
    assert told.out.splitlines()[-1] == "load: 42"
    assert "4 verified" in told.err
    shown = json.loads(horus("workflow", "result", begun, "--json").out)
    assert shown["results"] == {"load": "42\n"}


def test_a_result_tells_how_long_the_workflow_took(horus, coordinator, begun):
    coordinator.took = timedelta(hours=2, seconds=5)
    told = horus("workflow", "result", begun)
    assert told.err.splitlines()[-1].endswith("; took 2:00:05")


def test_a_result_that_nobody_signed_is_not_shown(horus, coordinator, begun):
    coordinator.lies["jobs.list"] = lambda page: [
        {**one, "result": "x"} for one in page
    ]
    told = horus("workflow", "result", begun)
    assert told.code == 1
    assert "42" not in told.out


def test_a_workflow_that_no_caller_signed_has_no_result(horus, coordinator, etl, begun):
    assert horus("key", "new", "other").code == 0
    assert horus("workflow", "run", etl, "--detach", "--key", "other").code == 0
    told = horus("workflow", "result", coordinator.manifest.id)
    assert told.code == 3
    assert "signed by no key that counts here" in told.err


# --- rerun -------------------------------------------------------------------------


@pytest.fixture
def failed(horus, coordinator, etl, root, door):
    """A workflow of which one step failed, and who takes in the next one."""
    coordinator.ends = {"count": Status.FAILED}
    assert horus("workflow", "run", etl).code == 1
    later = FakeCoordinator(root, at=coordinator.at)
    known = {coordinator.digest, coordinator.manifest.id}

    def answer(call):
        is_known = call["params"].get("workflow_id") in known
        return (coordinator if is_known else later).answer(call)

    door.answer = answer
    return SimpleNamespace(first=coordinator, later=later, id=coordinator.manifest.id)


def test_what_failed_runs_again_behind_what_completed(horus, failed):
    told = horus("workflow", "rerun", failed.id)
    assert told.code == 0
    assert told.err.splitlines()[:4] == [
        "count    failed     runs again",
        "load     skipped    runs again",
        "extract  completed  is kept",
        "clean    completed  is kept",
    ]
    assert set(failed.later.jobs) == {"count", "load"}
    count, digest = failed.later.job("count")
    assert count.needs == (failed.first.job("extract")[1],)
    load, _ = failed.later.job("load")
    assert load.needs == (digest, failed.first.job("clean")[1])
    assert load.inputs["ROWS"].source == failed.first.job("clean")[1]
    assert "load   completed  0 ms" in told.out.splitlines()


def test_the_difference_can_be_seen_before(horus, failed):
    told = horus("workflow", "rerun", failed.first.digest, "--dry-run")
    assert (told.code, told.out) == (0, "")
    assert "count    failed     runs again" in told.err
    shown = horus("workflow", "rerun", failed.id, "--dry-run", "--json")
    assert json.loads(shown.out) == {
        "again": {"count": "failed", "load": "skipped"},
        "kept": {"extract": "completed", "clean": "completed"},
    }
    assert "workflow.submit" not in failed.later.methods


def test_a_mended_file_says_what_runs_again(horus, failed, etl):
    etl.write_text(ETL.replace('run = "y"', 'run = "mended"'))
    told = horus("workflow", "rerun", failed.id, "--file", etl)
    assert told.code == 0
    assert set(failed.later.jobs) == {"count", "load"}
    count, _ = failed.later.job("count")
    assert count.payload == "mended"
    assert count.needs == (failed.first.job("extract")[1],)


def test_the_rerun_is_its_own_workflow(horus, failed):
    told = horus("workflow", "rerun", failed.id, "--detach")
    assert told.out == f"{failed.later.manifest.id}\n"
    assert failed.later.manifest.id != failed.id


def test_a_workflow_that_is_not_over_is_not_run_again(horus, coordinator, etl):
    assert horus("workflow", "run", etl, "--detach").code == 0
    told = horus("workflow", "rerun", coordinator.manifest.id)
    assert told.code == 1
    assert "is running: wait for its end" in told.err


def test_a_workflow_of_which_nothing_failed_is_not_run_again(horus, coordinator, etl):
    assert horus("workflow", "run", etl).code == 0
    told = horus("workflow", "rerun", coordinator.manifest.id)
    assert told.code == 1
    assert "there is nothing to run again" in told.err


def test_what_another_key_signed_is_not_signed_again(horus, failed):
    assert horus("key", "new", "other").code == 0
    told = horus("workflow", "rerun", failed.id, "--key", "other")
    assert told.code == 3
    assert "the manifest was signed by no key that counts here" in told.err
    assert "workflow.submit" not in failed.later.methods


def test_a_completion_that_is_not_proven_is_not_built_upon(horus, failed):
    def forge(records):
        return [{**one, "result": "forged"} for one in records]

    failed.first.lies["jobs.list"] = forge
    told = horus("workflow", "rerun", failed.id)
    assert told.code == 1
    assert "result" in told.err
    assert "workflow.submit" not in failed.later.methods


def test_a_supervisor_without_the_jobs_is_told(horus, failed):
    failed.first.lies["workflow.get"] = lambda told: {**told, "jobs": {}}
    told = horus("workflow", "rerun", failed.id)
    assert told.code == 1
    assert "does not have all jobs" in told.err
