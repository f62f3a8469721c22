"""The document of `rpc.discover`, judged by the official tools of OpenRPC.

They are npm packages, pinned with their hashes in `tests/openrpc`; where node is absent
these tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from horus_celery.instants import to_ms
from horus_celery.statedir import StateDirectory
from horus_celery.statements import canonical, dsse
from horus_celery.statements.job import make_job
from horus_celery.statements.keys import read_key_file
from tests.signing import sign_workflow

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(
        shutil.which("node") is None, reason="node is not here: OpenRPC's tools need it"
    ),
]

TOOLS = Path(__file__).parents[1] / "openrpc"
DEADLINE = 300.0  # seconds
#: As much of OpenRPC as test-coverage reads.
OLDER = "1.2.6"
ACTORS = "".join(
    f'[[actors]]\nid = "{name}"\nexecutor = "python"\n' for name in ("spare", "leaving")
)


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """The tools with their packages, in a folder of their own."""
    folder = tmp_path_factory.mktemp("openrpc")
    for path in TOOLS.iterdir():
        shutil.copy(path, folder)
    run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
    return folder


@pytest.fixture
def live(up, state_dir):
    """A deployment that has runners to start and stop."""
    (state_dir.parent / "horus.toml").write_text(ACTORS)
    return Live(up())


def run(*words, cwd, stdin="", env=None):
    """Run a command to its end and return what it printed."""
    done = subprocess.run(  # noqa: S603 - our own argv
        words,
        cwd=cwd,
        input=stdin,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Live:
    """A deployment that is up, and what its methods can be called with."""

    def __init__(self, deployment):
        self.url = deployment.addresses["url"]
        self.state = StateDirectory(deployment.state_dir)
        self.secrets = {
            scope: self.state.secret(scope) for scope in ("admin", "user", "register")
        }
        self.over = self.ask("create_job", job=self.job("print(42)"))
        self.ask("job.result", job_id=self.over)

    def ask(self, method, **params):
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        headers = {"Authorization": f"Bearer {self.secrets['admin']}"}
        answer = httpx.post(self.url, json=call, headers=headers, timeout=90).json()
        assert "result" in answer, answer
        return answer["result"]

    def job(self, payload):
        job = make_job(
            aud="hero",
            caller_id="default",
            context_id="default",
            executor="python",
            payload=payload,
            now=datetime.now(UTC),
        )
        key = read_key_file(self.state.key_file("default"))
        return dsse.to_wire(dsse.sign(dsse.JOB, job.body(), [key]))

    def registration(self, name):
        body = {
            "v": 1,
            "aud": "hero",
            "name": name,
            "executor": "python",
            "contexts": ["*"],
            "concurrency": 1,
            "nonce": uuid.uuid4().hex,
            "at": to_ms(datetime.now(UTC)),
        }
        key = read_key_file(self.state.runner_key_file(name))
        return dsse.to_wire(dsse.sign(dsse.RUNNER, canonical.encode(body), [key]))

    def newer_trust(self):
        body = self.state.trust_body()
        body |= {"version": body["version"] + 1, "issued_at": to_ms(datetime.now(UTC))}
        key = read_key_file(self.state.root_key)
        return dsse.to_wire(dsse.sign(dsse.TRUST, canonical.encode(body), [key]))

    def job_id_for(self, method):
        """Return a job that this may be done with."""
        match method:
            case "job.start":
                return self.ask("jobs.create", job=self.job("print(1)"))
            case "job.stop":
                return self.ask(
                    "create_job", job=self.job("import time; time.sleep(9)")
                )
            case "job.delete":
                return self.ask("jobs.create", job=self.job("print(2)"))
            case _:
                return self.over

    def sign(self):
        """Sign a workflow of the two steps that the examples have."""
        usual = {"aud": "hero", "caller_id": "default", "context_id": "default"}
        return sign_workflow(
            {"rows": [], "sum": ["rows"]},
            key=read_key_file(self.state.key_file("default")),
            now=datetime.now(UTC),
            manifest=usual,
            job={**usual, "executor": "python"},
        )

    def workflow_id_for(self, method):
        """Return a workflow that this may be done with."""
        self.signed = self.sign()
        if method == "workflow.add_jobs":
            return self.ask("workflow.create", manifest=self.signed.manifest)
        if method == "workflow.start":
            made = self.ask("workflow.create", manifest=self.signed.manifest)
            self.ask("workflow.add_jobs", workflow_id=made, jobs=self.signed.jobs)
            return made
        params = {"manifest": self.signed.manifest, "jobs": self.signed.jobs}
        return self.ask("workflow.submit", **params)

    def context_for(self, method):
        """Return a context of HeroDB that this may be done with."""
        name = method.removeprefix("herodb.")
        if name == "create_context":
            return name
        self.ask("herodb.create_context", context=name)
        if name not in {"add_user", "create_key"}:
            spare = {"context": name, "name": "spare"}
            self.ask("herodb.add_user", **spare, role="read")
            for kind in ("secret", "age", "sign"):
                self.ask("herodb.create_key", **spare, kind=kind)
        return name

    def value_for(self, method, parameter, shown):
        """Return what stands here for the value that an example shows."""
        match parameter:
            case "job":
                return self.job("print(6 * 7)")
            case "job_id":
                return self.job_id_for(method)
            case "workflow_id":
                return self.workflow_id_for(method)
            case "manifest":
                self.signed = self.sign()
                return self.signed.manifest
            case "jobs":
                # Those of the manifest or the workflow before it.
                return self.signed.jobs
            case "name":
                return "leaving" if method == "remove_runner" else "spare"
            case "registration":
                return self.registration("spare")
            case "trust":
                return self.newer_trust()
            case "id":
                return self.ask("add_secret", scope="user")["id"]
            case "context":
                return self.context_for(method)
            case _:
                return shown

    def document(self):
        """Return the document with examples that are true here."""
        document = self.ask("rpc.discover")
        for method in document["methods"]:
            name = method.get("x-alias-of", method["name"])
            for pairing in method["examples"]:
                for one in pairing["params"]:
                    one["value"] = self.value_for(name, one["name"], one["value"])
        return document


def test_the_document_is_valid_to_the_official_validator(tools, shared):
    call = {"jsonrpc": "2.0", "id": 1, "method": "rpc.discover"}
    document = httpx.post(shared.addresses["url"], json=call).json()["result"]
    assert (
        run("node", "validate.js", cwd=tools, stdin=json.dumps(document)) == "valid\n"
    )


def test_the_validator_refuses_what_is_none(tools):
    broken = subprocess.run(
        ["node", "validate.js"],  # noqa: S607 - as the shell finds it
        cwd=tools,
        input=json.dumps({"openrpc": "1.3.2", "info": {}, "methods": [{}]}),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert broken.returncode == 1
    assert "meta-schema" in broken.stdout


def test_a_live_server_answers_as_the_document_says(tools, live):
    document = live.document()
    document |= {"openrpc": OLDER, "servers": [{"name": "live", "url": live.url}]}
    told = run(
        *("node", "coverage.js"),
        cwd=tools,
        stdin=json.dumps(document),
        env={"HORUS_SECRETS": json.dumps(live.secrets)},
    )
    found = json.loads(told.splitlines()[-1])
    assert found["failures"] == []
    assert found["counts"]["ExamplesRule"] == len(document["methods"])
    assert found["counts"]["JunkRule"] > 10 * len(document["methods"])
