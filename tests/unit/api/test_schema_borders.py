"""What a schema of `rpc.discover` allows is taken, and what it does not is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from api.access import Scope
from api.methods import METHODS
from api.openrpc import EXAMPLES

WRITTEN = json.loads(EXAMPLES.read_text())
#: Statements are answered by reasons of their own, whatever they are; and no schema can
#: say that a secret is easy to guess.
OTHERS = {"job", "jobs", "manifest", "registration", "trust", "secret"}
INVALID_PARAMS = -32602
LETTERS = ("a", "é", "\U0001f600")
WORDS = ("", "a", "A", "*", "-a", "a b", "a\0", "é", "aé", "0", "null", "_", "a_.@:-")


def borders(schema: dict[str, Any]) -> Iterator[Any]:
    """Yield what fits a schema just so, and what just does not."""
    yield from (None, True, False, 0, 1, 1.5, -1, 10**30, [], [None], {}, {"a": 1})
    yield from WORDS
    for one in schema.get("anyOf", []):
        yield from borders(one)
    for word in schema.get("enum", []):
        yield from (word, word.upper(), f"{word} ", word[:-1])
    for name in ("minimum", "maximum"):
        if name in schema:
            yield from (schema[name] - 1, schema[name], schema[name] + 1)
            yield str(schema[name])
    for name in {"minLength", "maxLength"} & schema.keys():
        for size in (schema[name] - 1, schema[name], schema[name] + 1):
            yield from (letter * size for letter in LETTERS)
    if "pattern" in schema:
        yield from ("a" * size for size in (127, 128, 129))
    items = list(borders(schema["items"])) if schema.get("items") else []
    yield from ([one] for one in items)
    for name in {"minItems", "maxItems"} & schema.keys():
        for size in (schema[name] - 1, schema[name], schema[name] + 1):
            yield ["a"] * size


def different(values: Iterator[Any]) -> list[Any]:
    """Return each value once; 1 and True are two."""
    return list({json.dumps(value): value for value in values}.values())


@pytest.mark.parametrize("is_named", [True, False], ids=["by name", "by position"])
@pytest.mark.parametrize("procedure", METHODS, ids=lambda one: one.name)
def test_a_parameter_is_checked_as_it_is_shown(
    procedure, is_named, world, make_client, secrets
):
    client = make_client(world, rate_limit=10**9)
    document = client.call("rpc.discover")
    (shown,) = [one for one in document["methods"] if one["name"] == procedure.name]
    scope = Scope.REGISTER if procedure.scope is Scope.REGISTER else Scope.ADMIN
    usual = {
        one["name"]: WRITTEN[procedure.name][0]["params"].get(
            one["name"], one["schema"].get("default")
        )
        for one in shown["params"]
    }
    for parameter in shown["params"]:
        name, schema = parameter["name"], parameter["schema"]
        if name in OTHERS:
            continue
        judge = jsonschema.Draft202012Validator(
            {"components": document["components"], **schema}
        )
        for value in different(borders(schema)):
            given = {**usual, name: value}
            call = {"jsonrpc": "2.0", "method": procedure.name, "id": 1}
            call["params"] = given if is_named else list(given.values())
            error = client.post(call, secret=secrets[scope][0]).get("error")
            is_refused = (
                error is not None
                and error["code"] == INVALID_PARAMS
                and error["data"]["detail"].startswith((f"{name}:", f"{name}."))
            )
            assert is_refused != judge.is_valid(value), (name, value, error)
