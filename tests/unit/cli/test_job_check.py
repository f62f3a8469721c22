"""`horus job check` gives the verdicts of the protocol's vectors."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from horus_celery.statedir import StateDirectory
from horus_celery.statements import dsse
from horus_celery.statements.job import make_job
from horus_celery.statements.keys import read_key_file

VECTORS = Path(__file__).parents[2] / "vectors" / "job_cases.json"
CASES = json.loads(VECTORS.read_text())


def test_job_check_says_what_the_vectors_say(horus, tmp_path):
    trust = tmp_path / "trust.json"
    trust.write_text(json.dumps(CASES["trust"]))
    said = {}
    for case in CASES["cases"]:
        runner = case["runner"]
        journal = case["journal"]
        told = horus(
            *("job", "check", "--trust", trust, "--runner", runner["name"]),
            *("--executors", ",".join(runner["executors"]), "--aud", runner["aud"]),
            *("--contexts", ",".join(runner["contexts"]), "--at", case["now_ms"]),
            *(("--journal", tmp_path / journal) if journal else ()),
            stdin=_text(case["envelope"]),
        )
        assert told.code == (0 if told.out == "accept\n" else 3)
        said[case["name"]] = told.out.strip()
    assert said == {case["name"]: case["expect"] for case in CASES["cases"]}


def _text(envelope):
    return (envelope if isinstance(envelope, str) else json.dumps(envelope)).encode()


def test_what_only_records_can_tell_is_said_beside_the_verdict(horus):
    state = StateDirectory(Path(os.environ["HORUS_STATE_DIR"]))
    horus("init")
    told = {count: _check(horus, state, needs=count) for count in range(3)}
    assert {(one.code, one.out) for one in told.values()} == {(0, "accept\n")}
    assert told[0].err == ""
    assert "it builds on 1 other job: " in told[1].err
    assert "it builds on 2 other jobs: " in told[2].err


def _check(horus, state, *, needs):
    """Check a job that needs so many others as one of the runners would."""
    job = make_job(
        aud="hero",
        caller_id="default",
        context_id="default",
        executor="python",
        payload="",
        now=datetime.now(UTC),
        needs=[f"{number:064}" for number in range(needs)],
    )
    key = read_key_file(state.key_file("default"))
    signed = dsse.to_json(dsse.sign(dsse.JOB, job.body(), [key]))
    runner = ("--runner", "python_runner_1", "--executors", "python", "--aud", "hero")
    trust = ("--trust", state.path / "trust.json")
    return horus("job", "check", *trust, *runner, stdin=signed.encode())
