"""A workflow over two real deployments, each with a Redis and a runner of its own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from horus_celery import wiring
from horus_celery.dag.progress import WorkflowStatus
from horus_celery.lifecycle import Status
from horus_celery.settings import load_settings
from horus_celery.statements.job import InputRef
from horus_celery.statements.keys import KeyPair
from horus_celery.store.base import Filter
from tests.integration.conftest import TOP

pytestmark = pytest.mark.integration

NORTH = {"supervisor": "north"}
RUNNER = "north_runner_1"
HORUS = (sys.executable, "-c", "from horus_celery.cli import main; main()")


@pytest.fixture(scope="module")
def home(deployment):
    """The deployment that coordinates; its bundle lists the runner in the north."""
    key = KeyPair.generate()
    deployment.north_key = key
    deployment.state.reissue(
        lambda body: {
            **body,
            "keys": {**body["keys"], key.keyid: key.public.hex()},
            "runners": [
                *body["runners"],
                {
                    "name": RUNNER,
                    "key": key.keyid,
                    "executors": ["python"],
                    "contexts": ["*"],
                },
            ],
        },
        now=datetime.now(UTC),
    )
    deployment.start_worker("-Q", "python", "-c", "2")
    return deployment


@pytest.fixture(scope="module")
def north(home, make_deployment):
    """Another one of the same root, bundle and namespace."""
    made = make_deployment(HORUS_NAMESPACE=home.namespace)
    for name in ("root.pub", "trust.json"):
        shutil.copy(home.state.path / name, made.state.path / name)
    made.state.runner_key_file(RUNNER).write_text(f"{home.north_key.seed.hex()}\n")
    made.state.runner_key_file(RUNNER).chmod(0o600)
    made.namespace = home.namespace
    made.start_worker("-Q", "python", "-c", "2", "-n", f"{RUNNER}@%h")
    return made


@pytest.fixture(scope="module")
def way(home, north, lasting_api_of):
    """The API of the north, and a coordinator at home which knows the way there."""
    web = lasting_api_of(north)
    secret = home.folder / "north.secret"
    secret.write_text(f"{north.state.secret('user')}\n")
    secret.chmod(0o600)
    (home.state.path / "horus.toml").write_text(
        f'[[supervisors]]\nname = "north"\nurl = "{web.url}"\n'
        f'secret_file = "{secret}"\n'
    )
    home.settings = load_settings(env=home.env)
    known = wiring.make_others(home.settings)
    vars(home)["coordinator"] = wiring.make_coordinator(
        home.settings, home.supervisor, home.conductor, others=known
    )
    home.start_coordinator("-l", "INFO")
    yield web
    for one in known.values():
        one.close()


def test_steps_run_where_they_are_sent_and_all_results_come_home(home, north, way):
    jobs = {name: {"payload": f"print({name!r})"} for name in "abcd"}
    signed = home.submit_workflow(a=[], b=NORTH, c=NORTH, d=[], jobs=jobs)

    ending = home.ending_of(signed)

    assert ending.record.status is WorkflowStatus.COMPLETED
    assert ending.results == {name: f"{name}\n" for name in "abcd"}
    ran_on = {
        name: (north if name in "bc" else home).supervisor.get(digest).record.ran_on
        for name, digest in signed.digests.items()
    }
    assert ran_on == dict.fromkeys("ad", "python_runner_1") | dict.fromkeys(
        "bc", RUNNER
    )


def test_results_travel_with_their_receipts_and_are_checked_there(home, north, way):
    def reads(name, code):
        def make(digests):
            source = {"from": digests[name], "max_bytes": 100}
            payload = (
                "import os, pathlib\n"
                'rows = pathlib.Path(os.environ["HORUS_INPUTS"], "rows").read_text()\n'
                f"print({code})"
            )
            rows = {"rows": InputRef.from_wire(source)}
            return {"payload": payload, "inputs": rows}

        return make

    jobs = {
        "a": {"payload": "print(2)"},
        "b": reads("a", "int(rows) * 3"),
        "c": reads("b", "int(rows) * 7"),
    }
    signed = home.submit_workflow(
        a=[], b={**NORTH, "depends_on": ["a"]}, c=["b"], jobs=jobs
    )

    ending = home.ending_of(signed)

    assert ending.results == {"c": "42\n"}
    (used,) = north.supervisor.get(signed.digests["b"]).receipt.inputs
    assert used.source == signed.digests["a"]


def test_while_the_north_is_away_its_steps_wait_and_nothing_else_does(home, north, way):
    way.kill()
    jobs = {name: {"payload": f"print({name!r})"} for name in "ab"}
    signed = home.submit_workflow(a=[], b=NORTH, jobs=jobs)

    def says_so():
        step = home.coordinator.status(signed.id).steps
        return [one.reason for one in step] == [
            None,
            "the supervisor north does not answer",
        ]

    home.until(lambda: home.steps_of(signed)["a"] == "completed")
    home.until(says_so)
    assert home.steps_of(signed)["b"] == "pending"

    way.start()

    assert home.ending_of(signed).record.status is WorkflowStatus.COMPLETED


def test_a_stop_reaches_the_north(home, north, way):
    jobs = {"a": {"payload": "import time; print(1, flush=True); time.sleep(60)"}}
    signed = home.submit_workflow(a=NORTH, jobs=jobs)
    digest = signed.digests["a"]

    def runs():
        records = north.supervisor.list(Filter(), limit=10)
        return any(
            one.record.summary.digest == digest and one.record.status is Status.RUNNING
            for one in records
        )

    home.until(runs)

    home.coordinator.stop(signed.id)

    assert home.ending_of(signed).record.status is WorkflowStatus.STOPPED
    assert home.steps_of(signed) == {"a": "stopped"}
    assert north.supervisor.get(digest).record.status is Status.STOPPED


def test_the_proof_of_what_ran_in_the_north_is_found_at_home(home, north, way):
    signed = home.submit_workflow(a=NORTH, jobs={"a": {"payload": "print(1)"}})

    assert home.ending_of(signed).record.status is WorkflowStatus.COMPLETED

    shown = home.supervisor.get(signed.digests["a"])
    assert shown.record.ran_on == RUNNER
    assert shown.receipt is not None


# --- run again, by the command line ---------------------------------------------------

#: What a step's script begins with: it notes that it was started.
BEGINNING = """\
import os, pathlib
def read(name):
    return int(pathlib.Path(os.environ["HORUS_INPUTS"], name).read_text())
with open({starts!r}, "a") as starts:
    print({name!r}, file=starts)
"""


class Story:
    """A workflow in a file, which commands at home run and run again."""

    def __init__(self, horus, folder):
        self._horus = horus
        self._starts = folder / "starts"
        self._mended = folder / "mended"
        self._file = folder / "story.yaml"

    def run(self, **steps):
        """Run steps; one whose script says BROKEN fails there until it is mended."""
        broken = f"if not os.path.exists({str(self._mended)!r}): raise SystemExit(3)"
        for name, step in steps.items():
            beginning = BEGINNING.format(starts=str(self._starts), name=name)
            step["run"] = beginning + step["run"].replace("BROKEN", broken)
        self._file.write_text(json.dumps({"steps": steps}))
        return self._horus("workflow", "run", self._file, "--json")

    def run_again(self, workflow_id):
        """Return what the command said and, as a program is told it, its end."""
        done = self._horus("workflow", "rerun", workflow_id)
        (again,) = re.findall("^workflow (.*): story$", done.stderr, re.MULTILINE)
        return done, told(self._horus("workflow", "result", again, "--json"))

    def mend(self):
        self._mended.touch()

    def starts(self):
        """Return which steps were started since one last asked."""
        started = self._starts.read_text().split()
        self._starts.unlink()
        return sorted(started)


@pytest.fixture(scope="module")
def horus(home, way, lasting_api_of):
    """Run a command against the supervisor at home."""
    url = lasting_api_of(home).url

    def run(*words):
        return subprocess.run(  # noqa: S603 - our own command
            [*HORUS, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=home.folder,
            env={**home.env, "PYTHONPATH": str(TOP), "HORUS_URL": url},
        )

    return run


@pytest.fixture
def story(horus, tmp_path):
    return Story(horus, tmp_path)


def told(done):
    """Return what a command told a program."""
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def ends_of(ending):
    """Return how each step ended, and whether that is proven."""
    steps = ending["steps"].items()
    return {name: (one["status"], one["verified"]) for name, one in steps}


def sources_of(deployment, step):
    """Return what a receipt says a step was given, as digests of jobs by name."""
    receipt = deployment.supervisor.get(step["job_id"]).receipt
    return {one.name: one.source for one in receipt.inputs}


COMPLETED, SKIPPED = ("completed", True), ("skipped", False)


def test_a_step_at_home_runs_again_behind_one_that_completed_in_the_north(
    home, north, horus, story
):
    first = story.run(
        rows={"run": "print(6)"},
        product={
            **NORTH,
            "inputs": {"ROWS": "rows"},
            "run": "print(read('ROWS') * 7)",
        },
        check={
            "inputs": {"PRODUCT": "product"},
            "run": "BROKEN\nprint(read('PRODUCT'))",
        },
        report={
            **NORTH,
            "inputs": {"PRODUCT": "product", "CHECK": "check"},
            "run": "print(read('PRODUCT') + read('CHECK'))",
        },
    )
    before = told(first)
    assert first.returncode == 1
    assert ends_of(before) == {
        "rows": COMPLETED,
        "product": COMPLETED,
        "check": ("failed", True),
        "report": SKIPPED,
    }
    assert story.starts() == ["check", "product", "rows"]
    product = before["steps"]["product"]["job_id"]
    receipt = told(horus("job", "receipt", product, "--json"))

    story.mend()
    again, after = story.run_again(before["workflow_id"])

    assert again.returncode == 0, again.stderr
    assert again.stderr.splitlines()[:4] == [
        "check    failed     runs again",
        "report   skipped    runs again",
        "rows     completed  is kept",
        "product  completed  is kept",
    ]
    assert "report: 84\n" in again.stdout
    assert ends_of(after) == {"check": COMPLETED, "report": COMPLETED}
    assert story.starts() == ["check", "report"]
    # The proof of the first run is what both were given on.
    digest = told(horus("job", "show", product, "--json"))["digest"]
    assert sources_of(home, after["steps"]["check"])["PRODUCT"] == digest
    assert sources_of(north, after["steps"]["report"])["PRODUCT"] == digest
    assert told(horus("job", "receipt", product, "--json")) == receipt


def test_a_step_in_the_north_runs_again_behind_those_that_completed(
    home, north, horus, story
):
    first = story.run(
        rows={"run": "print(6)"},
        factor={**NORTH, "run": "print(7)"},
        product={
            **NORTH,
            "inputs": {"ROWS": "rows", "FACTOR": "factor"},
            "run": "BROKEN\nprint(read('ROWS') * read('FACTOR'))",
        },
        report={
            "inputs": {"FACTOR": "factor", "PRODUCT": "product"},
            "run": "print(read('FACTOR'), read('PRODUCT'))",
        },
    )
    before = told(first)
    assert first.returncode == 1
    # Of what does not complete elsewhere no proof is brought home.
    assert ends_of(before) == {
        "rows": COMPLETED,
        "factor": COMPLETED,
        "product": ("failed", False),
        "report": SKIPPED,
    }
    assert story.starts() == ["factor", "product", "rows"]

    # Once more in vain: what completed at first is behind the third run, too.
    again, between = story.run_again(before["workflow_id"])

    assert again.returncode == 1
    failed = between["steps"]["product"]["job_id"]
    assert f"see: horus job logs {failed}  # product at north" in again.stderr
    assert story.starts() == ["product"]

    story.mend()
    last, after = story.run_again(between["workflow_id"])

    for one in (again, last):
        assert one.stderr.splitlines()[:2] == [
            "product  failed     runs again",
            "report   skipped    runs again",
        ]
    assert again.stderr.splitlines()[2:4] == [
        "rows     completed  is kept",
        "factor   completed  is kept",
    ]
    assert last.returncode == 0, last.stderr
    assert "report: 7 42\n" in last.stdout
    assert ends_of(after) == {"product": COMPLETED, "report": COMPLETED}
    assert story.starts() == ["product", "report"]
    factor = before["steps"]["factor"]["job_id"]
    digest = told(horus("job", "show", factor, "--json"))["digest"]
    assert sources_of(north, after["steps"]["product"])["FACTOR"] == digest
    assert sources_of(home, after["steps"]["report"])["FACTOR"] == digest


def test_whoever_looks_at_home_for_output_of_the_north_is_told_where_it_lies(
    horus, story
):
    factor = told(story.run(factor={**NORTH, "run": "print(7)"}))["steps"]["factor"]
    shown = horus("job", "logs", factor["job_id"])
    assert (shown.returncode, shown.stdout) == (1, "")
    assert (
        "there is nothing here: that of a step lies at the supervisor" in shown.stderr
    )
