"""A workflow over two real deployments, each with a Redis and a runner of its own."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime

import pytest

from horus_celery import wiring
from horus_celery.dag.progress import WorkflowStatus
from horus_celery.lifecycle import Status
from horus_celery.settings import load_settings
from horus_celery.statements.job import InputRef
from horus_celery.statements.keys import KeyPair
from horus_celery.store.base import Filter

pytestmark = pytest.mark.integration

NORTH = {"supervisor": "north"}
RUNNER = "north_runner_1"


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


@pytest.fixture
def way(home, north, api_of):
    """The API of the north, and a coordinator at home which knows the way there."""
    web = api_of(north)
    secret = home.folder / "north.secret"
    secret.write_text(f"{north.state.secret('user')}\n")
    secret.chmod(0o600)
    others = [{"name": "north", "url": web.url, "secret_file": str(secret)}]
    home.env["HORUS_SUPERVISORS"] = json.dumps(others)
    home.settings = load_settings(env=home.env)
    known = wiring.make_others(home.settings)
    vars(home)["coordinator"] = wiring.make_coordinator(
        home.settings, home.supervisor, home.conductor, others=known
    )
    worker = home.start_coordinator("-l", "INFO")
    yield web
    home.end(worker)
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
