"""The examples of `rpc.discover` are real: they fit the schemas, and each other."""

from __future__ import annotations

import json
from datetime import timedelta

import jsonschema
import pytest

from api.methods import METHODS
from api.openrpc import EXAMPLES
from horus_celery.admission import Gate, admit
from horus_celery.dag.compiler import compile_plan
from horus_celery.instants import from_ms
from horus_celery.statements import dsse
from horus_celery.statements.receipt import Expected, check_receipt
from horus_celery.statements.runner import read_registration, require_fresh
from horus_celery.statements.trust import read_trust
from horus_celery.workflows.submission import read_jobs, read_manifest, require_all

WRITTEN = json.loads(EXAMPLES.read_text())
#: Of the root that signed the bundles of the examples.
ROOT = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"


def params_of(method):
    return WRITTEN[method][0]["params"]


def result_of(method):
    return WRITTEN[method][0]["result"]


@pytest.fixture
def document(client):
    return client.call("rpc.discover")


@pytest.fixture
def trust():
    return read_trust(json.dumps(result_of("trust.get")), bytes.fromhex(ROOT))


def test_every_method_has_an_example_and_nothing_else_has():
    assert WRITTEN.keys() == {one.name for one in METHODS} | {"rpc.discover"}


@pytest.mark.parametrize("method", WRITTEN)
def test_an_example_fits_the_schemas_of_its_method(document, method):
    (shown,) = [one for one in document["methods"] if one["name"] == method]
    assert shown["examples"]
    schemas = {one["name"]: one["schema"] for one in shown["params"]}
    required = {one["name"] for one in shown["params"] if one["required"]}
    for pairing in shown["examples"]:
        given = {one["name"]: one["value"] for one in pairing["params"]}
        # By position none may be left out before another.
        assert list(given) == list(schemas)[: len(given)]
        assert required <= given.keys()
        for name, value in given.items():
            validate(value, schemas[name], document)
        validate(pairing["result"]["value"], shown["result"]["schema"], document)


def test_what_is_wrong_fits_no_schema(document):
    (shown,) = [one for one in document["methods"] if one["name"] == "job.status"]
    broken = {**result_of("job.status"), "status": "asleep"}
    with pytest.raises(jsonschema.ValidationError):
        validate(broken, shown["result"]["schema"], document)


def test_the_job_of_the_examples_was_signed_by_who_was_granted_it(trust):
    envelope = dsse.from_wire(params_of("create_job")["job"], dsse.JOB)
    created = from_ms(json.loads(envelope.body)["created_at"])
    gate = Gate(
        aud="hero", name="r1", executors=None, contexts=None, trust=trust, now=created
    )
    admitted = admit(envelope, gate)
    assert admitted.job.id == result_of("create_job")
    record = result_of("job.get")
    assert record["digest"] == envelope.digest
    assert record["signed_by"] == list(admitted.signed_by)
    assert record["payload"] == admitted.job.payload


def test_the_receipt_of_the_examples_was_signed_by_the_runner(trust):
    record = result_of("job.get")
    receipt = check_receipt(
        json.dumps(result_of("job.receipt")),
        trust=trust,
        expected=Expected(
            digest=record["digest"],
            job_id=record["id"],
            aud="hero",
            executor=record["executor"],
            context_id=record["context_id"],
            runner=None,
        ),
    )
    assert record["receipt"] == result_of("job.receipt")
    assert receipt.runner == record["ran_on"]
    assert receipt.stdout.bytes == len(record["result"])
    (line,) = result_of("job.logs")["lines"]
    assert f"{line['text']}\n" == record["result"] == result_of("job.run")["success"]


def test_the_workflow_of_the_examples_was_signed_by_who_was_granted_it(trust):
    params = params_of("workflow.submit")
    body = json.loads(dsse.from_wire(params["manifest"], dsse.WORKFLOW).body)
    now = from_ms(body["created_at"])
    gate = Gate(aud="hero", trust=trust, now=now)
    submission = read_manifest(params["manifest"], gate, supervisors=())
    jobs = read_jobs(submission, params["jobs"], gate)
    require_all(submission, params["jobs"])

    assert submission.manifest.id == result_of("workflow.submit")
    shown = result_of("workflow.get")
    assert shown["digest"] == submission.digest
    assert shown["signed_by"] == list(submission.signed_by)
    steps = result_of("workflow.status")["steps"].values()
    assert [job.job_id for job in jobs] == [step["job_id"] for step in steps]
    plan = compile_plan(submission.graph).to_wire()
    assert result_of("workflow.explain").items() >= plan.items()


def test_the_registration_of_the_examples_was_signed_by_the_runner(trust):
    envelope = dsse.from_wire(params_of("register_runner")["registration"], dsse.RUNNER)
    said = read_registration(envelope, trust=trust, aud="hero")
    require_fresh(said, said.at + timedelta(seconds=1))
    assert said.name == result_of("register_runner")["name"]


def test_the_bundle_that_is_installed_is_newer(trust):
    newer = json.dumps(params_of("trust.install")["trust"])
    assert read_trust(newer, bytes.fromhex(ROOT)).version == trust.version + 1
    assert result_of("trust.install") == trust.version + 1


def validate(value, schema, document):
    """See that a value fits a schema, as those see it who read the document."""
    whole = {"components": document["components"], **schema}
    jsonschema.Draft202012Validator(whole).validate(value)
