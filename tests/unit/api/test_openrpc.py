"""What `rpc.discover` says is what the site does."""

import inspect
import re

import pytest
from pydantic import TypeAdapter

from api.methods import METHODS
from horus_celery import __version__
from horus_celery.errors import NotFoundError
from horus_celery.lifecycle import Status

NAMES = [name for one in METHODS for name in (one.name, *one.aliases)]


@pytest.fixture
def document(client):
    return client.call("rpc.discover")


@pytest.fixture
def methods(document):
    return {method["name"]: method for method in document["methods"]}


def test_exactly_the_methods_of_the_table_are_shown(methods):
    assert list(methods) == [*NAMES, "rpc.discover"]


def test_the_head_says_what_this_is(document):
    assert document["openrpc"].startswith("1.")
    assert document["info"]["version"] == __version__
    assert document["info"]["title"]


@pytest.mark.parametrize("procedure", METHODS, ids=lambda one: one.name)
def test_a_method_is_shown_as_it_is_checked(procedure, methods):
    shown = methods[procedure.name]
    taken = list(inspect.signature(procedure.function).parameters.values())[1:]
    assert [one["name"] for one in shown["params"]] == [one.name for one in taken]
    for content, parameter in zip(shown["params"], taken, strict=True):
        assert content["required"] == (parameter.default is parameter.empty)
        assert content["description"] or content["name"] == "job"
        if not content["required"]:
            assert content["schema"]["default"] == parameter.default
    assert shown["summary"]
    assert shown["result"]["schema"]
    assert shown["tags"] == [{"$ref": f"#/components/tags/{procedure.scope.value}"}]


@pytest.mark.parametrize(
    ("alias", "name"), [(alias, one.name) for one in METHODS for alias in one.aliases]
)
def test_an_alias_is_shown_as_its_method(alias, name, methods):
    shown = dict(methods[alias])
    assert shown.pop("x-alias-of") == name
    assert {**shown, "name": name} == methods[name]


def test_every_reference_leads_somewhere(document):
    for reference in references(document):
        place = document
        assert reference.startswith("#/")
        for step in reference[2:].split("/"):
            place = place[step]
        assert place


def test_every_method_names_its_errors(methods, document):
    shown = methods["create_job"]["errors"]
    names = {one["$ref"].rpartition("/")[2] for one in shown}
    assert {"malformed", "signature", "not_covered", "time", "conflict"} <= names
    assert document["components"]["errors"]["malformed"]["code"] == -32010


def test_a_job_that_goes_while_its_end_is_awaited_is_an_error_of_run(
    methods, world, client, monkeypatch
):
    def gone(digest, **_):
        raise NotFoundError(f"there is no job {digest}")

    monkeypatch.setattr(world.store, "get", gone)
    error = client.error("job.run", job=world.envelope(), wait=0.01)
    assert error["code"] == -32004
    shown = methods["job.run"]["errors"]
    assert {"$ref": "#/components/errors/not_found"} in shown


def test_that_a_secret_called_too_often_is_an_error_of_every_method(
    methods, document, world, make_client
):
    limited = make_client(world, rate_limit=1)
    for name, shown in methods.items():
        call = {"jsonrpc": "2.0", "method": name, "id": 1}
        code = limited.post([call] * 4)[-1]["error"]["code"]
        names = [one["$ref"].rpartition("/")[2] for one in shown["errors"]]
        assert code == -32022
        assert code in {document["components"]["errors"][one]["code"] for one in names}


def test_the_limits_of_parameters_are_shown(methods):
    params = {one["name"]: one["schema"] for one in methods["job.run"]["params"]}
    assert params["wait"] == {
        "default": 60,
        "maximum": 300,
        "minimum": 0,
        "title": "Wait",
        "type": "number",
    } or params["wait"] == {
        "default": 60,
        "maximum": 300,
        "minimum": 0,
        "type": "number",
    }
    assert (params["priority"]["minimum"], params["priority"]["maximum"]) == (0, 9)


@pytest.mark.parametrize("name", ["*", "lab", "a b", "-a", "", "é"])
def test_a_pattern_is_shown_as_it_is_checked(methods, client, secrets, name):
    params = {one["name"]: one["schema"] for one in methods["add_secret"]["params"]}
    assert params["contexts"]["default"] == ["*"]
    pattern = params["contexts"]["items"]["pattern"]
    given = {"scope": "user", "contexts": [name]}
    answer = client.answer("add_secret", secret=secrets["admin"][0], **given)
    assert ("result" in answer) == bool(re.search(pattern, name))


def test_every_status_may_be_asked_for(methods):
    params = {one["name"]: one["schema"] for one in methods["jobs.list"]["params"]}
    (choice, _) = params["status"]["anyOf"]
    assert choice["enum"] == [status.value for status in Status]


def test_what_is_answered_is_what_is_shown(world, client):
    world.beat()
    record = world.claim(world.submit())
    world.print(record, "hello")
    world.settle(record, result="41")
    for procedure in METHODS:
        given = inspect.signature(procedure.function).parameters
        if "job" in given:
            params = {"job": world.envelope()}
            if "wait" in given:
                continue  # nobody would run it
        elif "job_id" in given:
            params = {"job_id": record.summary.id}
        else:
            params = {}
        answer = client.answer(procedure.name, **params)
        if "result" in answer:
            kind = inspect.get_annotations(procedure.function, eval_str=True)["return"]
            TypeAdapter(kind).validate_python(answer["result"])


def references(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)
